"""How much of a package database is read: it is the image's own word, and a small one can stand for gigabytes of paths."""

import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO

from tracestrip.image.damage import damage
from tracestrip.rootfs.tree import Entry, Kind, Tree

_LARGEST = 256 << 20
"""Bytes of one file."""
_MOST = {"packages": 400_000, "paths": 4 << 20, "lines": 8 << 20, "bytes": 512 << 20}
"""Of all databases of an image together; a hundred times what large images have."""
_PATH_MAX = 4096  # with the NUL at its end, path_resolution(7)
_IMPOSSIBLE = re.compile(rb"\0|/\.\.?(?:/|\Z)|/[^/]{256}")
_REMEDY = "build the image again, or leave out --keep-package and --widen package"


@contextmanager
def database_damage(path: bytes) -> Iterator[None]:
    """Raises ImageError, which names the database at *path*, for all that goes wrong; also where memory is too small for it."""
    with damage(f"{path.decode('utf-8', 'replace')} of the image", _REMEDY):
        try:
            yield
        except struct.error as error:
            raise ValueError("it ends early") from error
        except MemoryError as error:
            raise ValueError("it takes more memory than there is") from error


def read_database(tree: Tree, entry: Entry | None) -> bytes:
    """All of a regular file, nothing of what is none. Raises ValueError for a file that is too large."""
    if entry is None or entry.kind is not Kind.FILE:
        return b""
    if entry.size > _LARGEST:
        raise ValueError(f"it has {entry.size} bytes: no package database has so many")
    return tree.read(entry)


class DatabaseLimits:
    """What the databases of one image may still list. Methods raise ValueError where that is not enough."""

    def __init__(self) -> None:
        self._left = dict(_MOST)

    def spend(self, what: str, number: int) -> None:
        """*what*: packages, paths, lines or bytes."""
        self._left[what] -= number
        if self._left[what] < 0:
            raise ValueError(f"the image's package databases have more than {_MOST[what]:,} {what} with it")

    def lines(self, content: bytes) -> Iterator[bytes]:
        """The lines of a text, without their ends: one by one, since as objects they take many times its size."""
        self.spend("bytes", len(content))
        self.spend("lines", content.count(b"\n") + 1)
        return (line.removesuffix(b"\n") for line in BytesIO(content))

    def paths(self, parts: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
        """The paths of a package, without those that no file can have, and those that are not absolute or go by "..".

        *parts*: each path in two, which need no slash between them: one long directory may be said to hold many files.
        """
        self.spend("packages", 1)
        found = []
        for directory, name in parts:
            size = len(directory) + len(name)
            self.spend("paths", 1)
            self.spend("bytes", size)
            path = directory + name if size < _PATH_MAX else b""
            if path.startswith(b"/") and not _IMPOSSIBLE.search(path):
                found.append(path)
        return found
