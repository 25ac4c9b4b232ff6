"""The members of a tar archive, one after the other, as Go's archive/tar sees them, which the engines read with.

tarfile parses the headers. What it takes for the end, reads without bound or understands otherwise is settled here.
"""

import os
import tarfile
from collections.abc import Iterator
from typing import Self

from tracestrip.image.blob import Blob
from tracestrip.image.tar_header import Header

_LARGEST_HEADER = 1 << 20
"""Bytes of a member's long names, PAX records and sparse map together; of each of them in Go (maxSpecialFileSize)."""


def tar_members(blob: Blob) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Each member and the bytes that are stored of it, rounded up to blocks. `offset_data` counts from the blob's start.

    Names are UTF-8 with surrogate escapes (PEP 383). Raises tarfile.TarError, ValueError and others of their family on
    damage.
    """
    if blob.size == 0:
        return  # an empty layer of some builders
    with _Window(blob) as window, _Archive(fileobj=window, encoding="utf-8", errors="surrogateescape") as archive:  # type: ignore[arg-type]
        while (member := archive.next()) is not None:
            stored = archive.offset - member.offset_data
            if member.size < 0 or stored < 0:
                raise tarfile.ReadError(f"the size {member.size} of {member.name!r}")
            if archive.offset > blob.size:
                raise EOFError(f"it ends in {member.name!r}")
            _check_sparse(member, stored)
            yield member, stored
            archive.members = []  # type: ignore[attr-defined] # it would keep every header
            window.left = _LARGEST_HEADER
        window.left = _LARGEST_HEADER
        # A header that tarfile cannot read it takes for the end; the real one is two blocks of zeros, or of the file.
        window.seek(archive.offset)
        if window.read(2 * tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError(f"no header at byte {archive.offset}")


def _check_sparse(member: tarfile.TarInfo, stored: int) -> None:
    """The parts of a sparse file lie in order, inside of the file and of what is stored."""
    sparse: list[tuple[int, int]] = getattr(member, "sparse", None) or []
    at = total = 0
    for position, length in sparse:
        if length and not at <= position <= position + length <= member.size:
            raise tarfile.ReadError(f"the sparse map of {member.name!r}")
        at, total = position + length, total + length
    if total > stored:
        raise tarfile.ReadError(f"the sparse map of {member.name!r}")


class _Archive(tarfile.TarFile):
    """Global PAX headers are for nothing, as in Go: tarfile would give all that follows their owner, times and names."""

    tarinfo = Header

    @property  # type: ignore[override]
    def pax_headers(self) -> dict[str, str]:
        return {}

    @pax_headers.setter
    def pax_headers(self, value: dict[str, str]) -> None:
        pass


class _Window:
    """A part of a file, as a file of its own, from which only headers are read."""

    def __init__(self, blob: Blob) -> None:
        self._file = os.open(blob.file, os.O_RDONLY | os.O_CLOEXEC)
        self._start, self._size, self._at = blob.offset, blob.size, 0
        self.name = str(blob.file)
        self.mode = "rb"
        self.left = _LARGEST_HEADER
        """Bytes that may still be read of this member's headers."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int) -> int:
        if offset < 0:
            raise tarfile.ReadError("a negative size")
        self._at = offset
        return offset

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self.left:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self.left -= size
        content = os.pread(self._file, max(0, min(size, self._size - self._at)), self._start + self._at)
        self._at += len(content)
        return content
