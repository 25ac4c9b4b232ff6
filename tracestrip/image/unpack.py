"""Layers and archives as plain tar archives, their digests checked on the way.

Compressed ones are unpacked into the room, whatever they say they are: their first bytes tell.
"""

import gzip
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Protocol

from tracestrip.errors import ImageError
from tracestrip.image.blob import Blob, whole
from tracestrip.image.damage import damage
from tracestrip.image.image import LayerArchive
from tracestrip.image.room import Room

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdFile
else:
    from backports.zstd import ZstdFile

_CHUNK = 1 << 20
_SAVE_AGAIN = "save or copy the image again"
_SKIPPABLE_FRAMES = tuple(number.to_bytes(4, "little") for number in range(0x184D2A50, 0x184D2A60))  # RFC 8878, 3.1.2


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


_DECOMPRESSORS: tuple[tuple[tuple[bytes, ...], Callable[[IO[bytes]], _Readable]], ...] = (
    ((b"\x1f\x8b",), lambda source: gzip.GzipFile(fileobj=source)),
    ((b"\x28\xb5\x2f\xfd", *_SKIPPABLE_FRAMES), ZstdFile),
)
"""By the first bytes. Both read several streams one after the other; zstd's window, and so its memory, is at most 128 MiB."""


def plain_archive(file: Path, room: Room) -> Path:
    """*file*, or what it is when unpacked. Raises ImageError, EnvironmentLack."""
    with damage(str(file), _SAVE_AGAIN):
        blob = whole(file)
        if _decompressor(blob) is None:
            return file
        unpacked = room.file()
        with unpacked.open("wb") as output:
            for chunk in _plain(blob, room, str(file), None):
                output.write(chunk)
        return unpacked


def layer_archive(blob: Blob, diff_id: str | None, room: Room, called: str, digest: str | None = None) -> LayerArchive:
    """The layer in *blob*, whose compressed bytes have the *digest*, and its archive the *diff_id*, if they are known.

    Raises ImageError, which names the layer as *called*, EnvironmentLack.
    """
    with damage(called, _SAVE_AGAIN):
        compressed = _hash(digest) if digest else None
        plain = _hash(diff_id or "sha256:")
        if _decompressor(blob) is None:
            room.take(blob.size, called)
            archive = blob
            if compressed is not None and digest == diff_id:
                compressed = plain
            for chunk in blob.chunks():
                plain.update(chunk)
                if compressed is not None and compressed is not plain:
                    compressed.update(chunk)
        else:
            unpacked = room.file()
            with unpacked.open("wb") as output:
                for chunk in _plain(blob, room, called, compressed):
                    plain.update(chunk)
                    output.write(chunk)
            archive = whole(unpacked)
    if compressed is not None and f"{compressed.name}:{compressed.hexdigest()}" != digest:
        raise ImageError(f"{called}: its bytes have the digest {compressed.name}:{compressed.hexdigest()}: {_SAVE_AGAIN}")
    found = f"{plain.name}:{plain.hexdigest()}"
    if diff_id not in (None, found):
        raise ImageError(f"{called}: its archive is {found}, not {diff_id} as the config says: {_SAVE_AGAIN}")
    return LayerArchive(archive.file, archive.offset, archive.size, found)


def _hash(digest: str) -> "hashlib._Hash":
    """A hash of the digest's kind."""
    algorithm = digest.partition(":")[0]
    if algorithm not in ("sha256", "sha512"):
        raise ValueError(f"{digest!r} is no digest of sha256 or sha512")
    return hashlib.new(algorithm)


def _decompressor(blob: Blob) -> Callable[[IO[bytes]], _Readable] | None:
    with blob.file.open("rb") as file:
        start = os.pread(file.fileno(), min(blob.size, 8), blob.offset)
    return next((opener for magics, opener in _DECOMPRESSORS if start.startswith(magics)), None)


def _plain(blob: Blob, room: Room, called: str, compressed: "hashlib._Hash | None") -> Iterator[bytes]:
    """The unpacked bytes, as many as there is room for; *compressed* is fed with those that were read."""
    opener = _decompressor(blob)
    with blob.file.open("rb", buffering=0) as file:
        source = _Part(file, blob, compressed)
        reader = opener(source) if opener else source  # type: ignore[arg-type]
        while chunk := reader.read(_CHUNK):
            room.take(len(chunk), called)
            yield chunk
        source.drain()


class _Part:
    """A blob as a file that is read from its start to its end, and hashed meanwhile."""

    def __init__(self, file: IO[bytes], blob: Blob, digest: "hashlib._Hash | None") -> None:
        self._file, self._left, self._digest = file, blob.size, digest
        file.seek(blob.offset)

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(chunk)
        if self._digest is not None:
            self._digest.update(chunk)
        return chunk

    def drain(self) -> None:
        """Hash what the decompressor did not want."""
        while self.read(_CHUNK):
            pass
