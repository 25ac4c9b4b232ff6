"""The merged view of an image's layers: path → Entry, as the layers themselves say it.

Paths are absolute bytes without "." , ".." or a symlink on the way; `walk.py` makes them from what a process asked for.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tracestrip.errors import ImageError


class Kind(Enum):
    """The types of file that an image can hold."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    CHARACTER = "character device"
    BLOCK = "block device"
    FIFO = "fifo"


@dataclass(frozen=True, slots=True)
class Content:
    """Where the bytes of a regular file lie on the host."""

    file: Path
    offset: int
    extents: tuple[tuple[int, int], ...] | None = None
    """For a sparse file: (position, length) of the parts that are stored, one behind the other. The rest is zeros."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in the image and the file behind it."""

    path: bytes
    kind: Kind
    mode: int
    """Permission bits with setuid, setgid and sticky."""
    uid: int
    gid: int
    size: int
    """Bytes of a regular file, 0 for others."""
    mtime: int
    """Nanoseconds since the epoch."""
    target: bytes = b""
    """Of a symlink."""
    device: tuple[int, int] = (0, 0)
    """(major, minor)."""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    inode: Hashable = None
    """Equal for the names that are hard links to one file; None where there is one name only."""
    content: Content | None = None

    @property
    def is_directory(self) -> bool:
        return self.kind is Kind.DIRECTORY


class Tree(ABC):
    """The merged view. It is read-only, and may read lazily what it is asked for."""

    warnings: tuple[str, ...] = ()
    """What is strange about the image and was settled by a rule."""

    @abstractmethod
    def entry(self, path: bytes) -> Entry | None:
        """The entry at *path*, whose directories are all real ones; None where there is none."""

    @abstractmethod
    def names(self, path: bytes) -> list[bytes]:
        """The names in the directory *path*, sorted; empty where there is no such directory."""

    def walk(self, top: bytes = b"/") -> Iterator[Entry]:
        """*top* and all that is below it, directories before what they hold."""
        waiting = [top]  # no recursion: a path may have 2,000 directories
        while waiting:
            path = waiting.pop()
            entry = self.entry(path)
            if entry is None:
                continue
            yield entry
            if entry.is_directory:
                waiting += [join(path, name) for name in reversed(self.names(path))]

    def read(self, entry: Entry, limit: int = -1) -> bytes:
        """The first *limit* bytes of a regular file, all by default. Raises ImageError when they cannot be read."""
        return b"".join(chunks(entry, limit if limit >= 0 else entry.size))


def join(directory: bytes, name: bytes) -> bytes:
    """The path of *name* in *directory*."""
    return directory + name if directory == b"/" else directory + b"/" + name


def parent(path: bytes) -> bytes:
    """The directory that holds *path*; "/" for itself."""
    return path.rpartition(b"/")[0] or b"/"


_CHUNK = 1 << 20


def chunks(entry: Entry, limit: int | None = None) -> Iterator[bytes]:
    """The bytes of a regular file, in pieces of at most 1 MiB. Raises ImageError when it is shorter than its entry says."""
    content, left = entry.content, entry.size if limit is None else min(limit, entry.size)
    if content is None or not left:
        return
    stored = content.extents if content.extents is not None else ((0, entry.size),)
    at = 0
    with content.file.open("rb") as file:
        file.seek(content.offset)
        for position, length in (*stored, (entry.size, 0)):
            while at < position and left:
                hole = min(position - at, _CHUNK, left)
                yield bytes(hole)
                at, left = at + hole, left - hole
            end = position + length
            while at < end and left:
                chunk = file.read(min(end - at, _CHUNK, left))
                if not chunk:
                    raise ImageError(f"{content.file}: it ended early: it was changed while tracestrip read it")
                yield chunk
                at, left = at + len(chunk), left - len(chunk)
