"""Cuts a layer out of a tree: the chosen entries with the headers and bytes of the image's own layers.

The same entries give the same bytes: sorted by path, PAX where the old format cannot say it, no user names (they are
looked up by number in a container), hard links in one direction.
"""

import errno
import hashlib
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from tracestrip.errors import EnvironmentLack, ImageError
from tracestrip.image.image import LayerArchive
from tracestrip.rootfs.tree import Entry, Kind, chunks

_TYPES = {
    Kind.FILE: tarfile.REGTYPE,
    Kind.DIRECTORY: tarfile.DIRTYPE,
    Kind.SYMLINK: tarfile.SYMTYPE,
    Kind.CHARACTER: tarfile.CHRTYPE,
    Kind.BLOCK: tarfile.BLKTYPE,
    Kind.FIFO: tarfile.FIFOTYPE,
}


def pack(entries: Iterable[Entry], file: Path, latest: int | None = None) -> LayerArchive:
    """Write a layer archive of *entries* to *file*; what is younger than *latest*, in seconds since the epoch, gets that time.

    Raises OSError; ImageError when a source changed meanwhile, EnvironmentLack when there is no room.
    """
    digest = hashlib.sha256()
    size = 0
    try:
        with file.open("wb") as output:
            for piece in _archive(entries, None if latest is None else latest * 10**9):
                digest.update(piece)
                size += output.write(piece)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise EnvironmentLack(f"{file}: {error.strerror}: set TMPDIR to a place with room for the layer") from error
    return LayerArchive(file, 0, size, f"sha256:{digest.hexdigest()}")


def _archive(entries: Iterable[Entry], latest: int | None) -> Iterator[bytes]:
    first_names: dict[object, bytes] = {}
    for entry in sorted(entries, key=lambda entry: entry.path):
        if entry.path == b"/" and _is_plain_root(entry):
            continue
        first = first_names.get(entry.inode) if entry.inode is not None else None
        yield _header(entry, entry.mtime if latest is None else min(entry.mtime, latest), first)
        if first is None:
            if entry.inode is not None:
                first_names[entry.inode] = entry.path
            if entry.kind is Kind.FILE:
                yield from chunks(entry)
                yield bytes(-entry.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _is_plain_root(entry: Entry) -> bool:
    """The root that every engine makes by itself. What is said of it elsewhere is a matter of chance."""
    return (entry.mode, entry.uid, entry.gid, entry.xattrs) == (0o755, 0, 0, ())


def _header(entry: Entry, mtime: int, linked: bytes | None) -> bytes:
    header = tarfile.TarInfo(_text(entry.path[1:]) or ".")
    header.type = tarfile.LNKTYPE if linked else _TYPES[entry.kind]
    header.mode, header.uid, header.gid = entry.mode, entry.uid, entry.gid
    header.size = 0 if linked else entry.size
    header.linkname = _text(linked[1:] if linked else entry.target)
    header.devmajor, header.devminor = entry.device
    seconds, fraction = divmod(mtime, 10**9)
    header.mtime = seconds
    exact_time = {"mtime": _seconds(mtime)} if fraction else {}
    header.pax_headers = exact_time | {f"SCHILY.xattr.{_attribute(name, entry)}": _text(value) for name, value in entry.xattrs}
    return header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _attribute(name: bytes, entry: Entry) -> str:
    """A PAX record's keyword; pax(1p)."""
    try:
        if b"=" in name:
            raise ValueError("=")
        return name.decode()
    except ValueError as error:
        raise ImageError(f"{_text(entry.path)!r}: no archive can have its extended attribute {name!r}: remove it") from error


def _seconds(nanoseconds: int) -> str:
    """A time with its fraction, as PAX writes it."""
    whole, fraction = divmod(abs(nanoseconds), 10**9)
    return f"{'-' if nanoseconds < 0 else ''}{whole}.{fraction:09d}".rstrip("0")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
