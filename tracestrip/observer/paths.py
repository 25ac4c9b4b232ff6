"""What a path means to the process that asks for it, read from outside while that process stands still.

/proc here is the one of the observer's own pid namespace: in another one the same number is another process.
"""

import ctypes
import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import NamedTuple, Self

from tracestrip.observer import linux
from tracestrip.observer.mountinfo import origin

_AT_FDCWD = -100
_MOST_SYMLINKS = 40  # MAXSYMLINKS, path_resolution(7)


class Led(NamedTuple):
    """Where a path leads."""

    end: bytes | None
    """The file's own name in the sandbox, without symlinks; None where there is none."""
    links: tuple[bytes, ...]
    """The symlinks on the way, by their own names."""
    lasting: bool
    """Whether it leads there until a name is moved: it exists, and no link of /proc is on the way."""


def root_of(pid: int) -> bytes:
    """The directory that the process has as its root: chroot(2). Raises ProcessLookupError when it is gone."""
    return _link(pid, "root")


def own_numbers(pid: int) -> tuple[int, int]:
    """Pid and thread ID in its own pid namespace, which is the one of the /proc that it sees. Raises OSError."""
    with open(f"/proc/{pid}/status", "rb") as file:
        fields = dict(line.split(b":", 1) for line in file.read().splitlines() if b":" in line)
    return int(fields[b"NStgid"].split()[-1]), int(fields[b"NSpid"].split()[-1])


def directory_of(pid: int, directory: int | None) -> bytes:
    """Name of the directory that *directory*, a raw argument, is a descriptor of; of the working directory for None.

    Raises NotADirectoryError where it is none (a pipe, a socket), ProcessLookupError when the process is gone.
    """
    number = _AT_FDCWD if directory is None else ctypes.c_int(directory).value
    base = _link(pid, "cwd" if number == _AT_FDCWD else f"fd/{number}")
    if not base.startswith(b"/"):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), base)
    return base


def below(directory: bytes, path: bytes) -> bytes:
    """*path* as one below *directory*, an absolute one too; symlinks and ".." stay as they are."""
    return directory.rstrip(b"/") + b"/" + path.lstrip(b"/") if path else directory


class Home(NamedTuple):
    """What a process of the sandbox starts with."""

    init: int
    """Pid 1 of the sandbox."""
    root: int
    """A descriptor of its root directory."""

    @classmethod
    def of(cls, init: int) -> Self:
        """Raises OSError when the process is gone."""
        return cls(init, os.open(f"/proc/{init}/root", os.O_PATH | os.O_CLOEXEC))


class View:
    """The files of the sandbox as one process sees them. A context manager; raises OSError when the process is gone."""

    def __init__(self, pid: int, home: Home, directories: set[bytes], *, rooted: bool, mounted: bool) -> None:
        """*rooted*: a process may have a root of its own; *mounted*: mounts of its own.

        *directories* are known to be no symlinks, and need no look; those that are found out are added.
        """
        self._pid, self._home, self._mounted = pid, home, mounted
        self._directories = directories
        self._root, self._descriptor = b"/", home.root
        if rooted or mounted:
            self._root = root_of(pid)
            self._descriptor = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._descriptor != self._home.root:
            os.close(self._descriptor)

    def lead(self, path: bytes, root: bytes, *, follow: bool) -> Led:
        """Where the absolute *path* leads now. *root*: where absolute symlinks start, and what ".." can't leave."""
        led = self._straight(path, follow=follow) or self._walk(path, root, follow=follow)
        if not self._mounted:
            return led
        return led._replace(end=led.end and self._origin(led.end), links=tuple(map(self._origin, led.links)))

    def read(self, path: bytes, root: bytes, length: int) -> bytes:
        """The first bytes of the regular file that *path* leads to; none where there is no such file."""
        with suppress(OSError), self._opened(self._walk(path, root, follow=True).end or b"") as descriptor:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                with open(f"/proc/self/fd/{descriptor}", "rb") as file:
                    return file.read(length)
        return b""

    def is_special(self, path: bytes, root: bytes) -> bool:
        """Whether *path* leads to a FIFO or a device, whose open may wait."""
        with suppress(OSError), self._opened(self._walk(path, root, follow=True).end or b"") as descriptor:
            mode = os.fstat(descriptor).st_mode
            return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
        return False

    def _straight(self, path: bytes, *, follow: bool) -> Led | None:
        """Where no symlink is on the way, or nothing at the end, one look tells; else None.

        Without symlinks the file's name is *path* itself, but for dots and slashes, which are left to the walk.
        """
        try:
            descriptor = self._open(path, os.O_PATH | (0 if follow else os.O_NOFOLLOW), linux.RESOLVE_NO_SYMLINKS)
        except (FileNotFoundError, NotADirectoryError):
            return Led(None, (), lasting=False)
        except OSError:
            return None
        os.close(descriptor)
        if b"//" in path or b"/." in path or path.endswith(b"/"):
            return None
        above = os.path.dirname(path)
        while above not in self._directories:
            self._directories.add(above)
            above = os.path.dirname(above)
        return Led(path, (), lasting=True)

    def _walk(self, path: bytes, root: bytes, *, follow: bool) -> Led:
        """As the kernel does, name by name: path_resolution(7), proc_pid_fd(5)."""
        names = deque(path.split(b"/"))
        follow = follow or path.endswith(b"/")
        current, lasting, followed = b"/", True, 0
        links: list[bytes] = []
        try:
            while names:
                name = names.popleft()
                if name in (b"", b"."):
                    continue
                if name == b"..":
                    current = current if current == root else os.path.dirname(current)
                    continue
                candidate = below(current, name)
                last = not any(names)
                if candidate in self._directories or (last and not follow):
                    current = candidate
                    continue
                target = self._target(candidate)
                if target is None:
                    current = candidate
                    if not last:
                        self._directories.add(candidate)
                    continue
                followed += 1
                if followed > _MOST_SYMLINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                lasting = lasting and not candidate.startswith(b"/proc/")
                links.append(candidate)
                names.extendleft(reversed(target.split(b"/")))
                if target.startswith(b"/"):
                    current = root
            os.close(self._open(current, os.O_PATH | os.O_NOFOLLOW))
        except OSError:
            return Led(None, tuple(links), lasting=False)
        return Led(current, tuple(links), lasting)

    def _target(self, name: bytes) -> bytes | None:
        """What the symlink *name* says to the process; None where it is no symlink. Raises OSError where it is nothing."""
        descriptor = self._open(name, os.O_PATH | os.O_NOFOLLOW)
        try:
            if not stat.S_ISLNK(os.fstat(descriptor).st_mode):
                return None
            if name in (b"/proc/self", b"/proc/thread-self"):
                group, thread = own_numbers(self._pid)
                return b"%d" % group if name == b"/proc/self" else b"%d/task/%d" % (group, thread)
            return os.readlink(b"", dir_fd=descriptor)
        finally:
            os.close(descriptor)

    def _origin(self, name: bytes) -> bytes:
        with suppress(OSError), self._opened(name) as descriptor:
            return origin(name, descriptor, self._pid, self._home.init)
        return name

    @contextmanager
    def _opened(self, name: bytes) -> Iterator[int]:
        descriptor = self._open(name, os.O_PATH | os.O_NOFOLLOW)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _open(self, path: bytes, flags: int, resolve: int = 0) -> int:
        """*path* is absolute in the sandbox; a process may have kept a directory from outside of its own root."""
        if self._root == b"/":
            return linux.open_in_root(self._descriptor, path, flags, resolve)
        if path == self._root or path.startswith(self._root + b"/"):
            return linux.open_in_root(self._descriptor, path[len(self._root) :] or b"/", flags, resolve)
        return linux.open_in_root(self._home.root, path, flags, resolve)


def _link(pid: int, name: str) -> bytes:
    try:
        return os.readlink(f"/proc/{pid}/{name}".encode())
    except FileNotFoundError as error:
        if os.path.exists(f"/proc/{pid}"):
            return b""
        raise ProcessLookupError(pid) from error
