"""What a path means to the process that asks for it, read from outside while that process stands still.

/proc here is the one of the observer's own pid namespace: in another one the same number is another process.
"""

import ctypes
import os
import re

from tracestrip.observer import linux

_AT_FDCWD = -100
_MAGIC_LINK = re.compile(rb"/proc/(self|thread-self)/(exe|cwd|root|fd/\d+)(/.*)?\Z", re.DOTALL)


def absolute(pid: int, path: bytes, directory: int | None, *, in_directory: bool = False) -> bytes | None:
    """*path* as an absolute one inside the sandbox, symlinks and ".." left as they are.

    *directory* is a descriptor of the process, as the raw argument of the call; None is its working directory.
    *in_directory* treats an absolute path as one below the directory (RESOLVE_IN_ROOT of openat2(2)).
    None where it names no file (a descriptor of a pipe or a socket). Raises ProcessLookupError when the process is gone.
    """
    if path.startswith(b"/") and not in_directory:
        root = _link(pid, "root")
        return path if root == b"/" else root + path
    number = _AT_FDCWD if directory is None else ctypes.c_int(directory).value
    base = _link(pid, "cwd" if number == _AT_FDCWD else f"fd/{number}")
    if not base.startswith(b"/"):
        return None
    return base.rstrip(b"/") + b"/" + path.lstrip(b"/") if path else base


def lead(pid: int, path: bytes, *, follow: bool) -> bytes | None:
    """Where the absolute *path* leads now in the sandbox of process *pid*; None where it leads nowhere."""
    magic = _MAGIC_LINK.match(path)
    if magic:
        target = _link(pid, os.fsdecode(magic[2]))
        path = target + (magic[3] or b"")
    try:
        descriptor = open_inside(pid, path, os.O_PATH | (0 if follow else os.O_NOFOLLOW))
    except ProcessLookupError:
        raise
    except OSError:
        return None
    try:
        return os.readlink(b"/proc/self/fd/%d" % descriptor)
    finally:
        os.close(descriptor)


def open_inside(pid: int, path: bytes, flags: int) -> int:
    """A descriptor of the absolute *path* in the mount namespace of process *pid*. Raises OSError."""
    root = os.open(f"/proc/{pid}/task/{pid}/root", os.O_PATH | os.O_CLOEXEC)
    try:
        return linux.open_in_root(root, path, flags)
    finally:
        os.close(root)


def _link(pid: int, name: str) -> bytes:
    try:
        return os.readlink(b"/proc/%d/%s" % (pid, os.fsencode(name)))
    except FileNotFoundError as error:
        if os.path.exists(f"/proc/{pid}"):
            return b""
        raise ProcessLookupError(pid) from error
