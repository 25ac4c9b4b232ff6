"""Where things are mounted in an image: names looked up, and made, by pid 1 before anything else runs there.

This process's root is the image's, and nothing of the host is left in its mount namespace: so the kernel lets no name lead
out. The walk is our own, since what is missing is to be made, through symlinks that lead to nothing as well.
"""

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

_MOST_SYMLINKS = 40  # MAXSYMLINKS, path_resolution(7)


class Place(NamedTuple):
    """A file or directory of the sandbox."""

    path: bytes
    """Its own name, without symlinks."""
    descriptor: int
    """Of it, with O_PATH."""


@contextmanager
def find_place(path: bytes, *, directory: bool) -> Iterator[Place]:
    """The absolute *path* without its symlinks; made, as a directory or an empty file, where it is missing.

    Raises OSError: ELOOP for too many symlinks, EXDEV for what lies in a file system of the kernel's or is the root itself.
    """
    names, found, followed = deque(path.split(b"/")), [b""], 0
    while names:
        name = names.popleft()
        if name in (b"", b"."):
            continue
        if name == b"..":
            found = found[:-1] or [b""]
            continue
        target = _looked_up(b"/".join([*found, name]), directory=directory or any(names))
        if target is None:
            found.append(name)
            continue
        followed += 1
        if followed > _MOST_SYMLINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        names.extendleft(reversed(target.split(b"/")))
        if target.startswith(b"/"):
            found = [b""]
    if found[1:2] in ([], [b"proc"], [b"sys"]):
        raise OSError(errno.EXDEV, f"it leads to {os.fsdecode(b'/'.join(found) or b'/')}", path)
    own = b"/".join(found)
    descriptor = os.open(own, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield Place(own, descriptor)
    finally:
        os.close(descriptor)


def _looked_up(path: bytes, *, directory: bool) -> bytes | None:
    """Where the symlink *path* leads; None for what is none, which is there afterwards."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        if directory:
            os.mkdir(path, 0o755)
        else:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644))
        return None
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(path)
    if directory and not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return None
