"""Bytes that lie somewhere in a file of the host: a layer, a config, a manifest."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CHUNK = 1 << 20
_LARGEST_DOCUMENT = 16 << 20
"""Bytes. Registries take manifests of at most 4 MiB (OCI distribution-spec)."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A part of a file, or all of it."""

    file: Path
    offset: int
    size: int

    def chunks(self) -> Iterator[bytes]:
        """Its bytes, in pieces of at most 1 MiB. Raises EOFError when the file is shorter."""
        with self.file.open("rb") as file:
            file.seek(self.offset)
            left = self.size
            while left:
                chunk = file.read(min(left, _CHUNK))
                if not chunk:
                    raise EOFError("it ends early")
                yield chunk
                left -= len(chunk)

    def document(self) -> bytes:
        """All of a JSON document. Raises ValueError when it is too large to be one, EOFError."""
        if self.size > _LARGEST_DOCUMENT:
            raise ValueError(f"a document of {self.size} bytes")
        return b"".join(self.chunks())


def whole(file: Path) -> Blob:
    """All of *file*. Raises OSError."""
    return Blob(file, 0, os.stat(file).st_size)
