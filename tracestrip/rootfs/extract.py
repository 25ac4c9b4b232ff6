"""Writes a tree into a directory, for the run; what is published never comes from there.

The writers are child processes whose root *is* the destination: no name, whatever it is, leads out of it. There are two
or more, since nearly all of the time is the kernel's.
"""

import ctypes
import errno
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from tracestrip.errors import EnvironmentLack
from tracestrip.rootfs.tree import Entry, Kind, Tree, parent
from tracestrip.signals import held, let_through

_DEVICE_BITS = {Kind.CHARACTER: 0o020000, Kind.BLOCK: 0o060000, Kind.FIFO: 0o010000}
_PR_SET_PDEATHSIG = 1
_MOST_WRITERS = 4
_SMALL = 1 << 16  # bytes; read and write are quicker than sendfile(2) for these
_XATTR_REFUSALS = (
    errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL, errno.ERANGE, errno.ENOSPC, errno.E2BIG, errno.EDQUOT,
)  # fmt: skip


def extract(tree: Tree, destination: Path) -> None:
    """Write all of *tree* into *destination*, an empty directory. Raises EnvironmentLack (no space, no root)."""
    report, report_end = os.pipe2(os.O_CLOEXEC)
    with held() as before:
        child = _start(lambda: _write_all(tree, destination), report_end)
        os.close(report_end)
        try:
            with let_through(before), open(report, "rb") as pipe:
                failure = pipe.read()
        except BaseException:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise
        _, status = os.waitpid(child, 0)
    if failure or status:
        reason = os.fsdecode(failure) or f"the writer ended with status {status}"
        raise EnvironmentLack(f"{destination}: the image cannot be extracted: {reason}: set TMPDIR to a place with room")


def _start(work: Callable[[], None], report: int) -> int:
    """The pid of a child that does *work*, says on *report* what went wrong, and dies with this process."""
    this = os.getpid()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == this:
            work()
            status = 0
    except BaseException as error:
        os.write(report, os.fsencode(f"{type(error).__name__}: {error} "))
    finally:
        os._exit(status)


def _write_all(tree: Tree, destination: Path) -> None:
    """Directories, then the files in them by several processes, then hard links, then what is said of directories."""
    directories: list[Entry] = []
    files: dict[bytes, list[Entry]] = {}
    links: list[tuple[bytes, bytes]] = []
    first_names: dict[object, bytes] = {}
    for entry in tree.walk():
        if entry.is_directory:
            directories.append(entry)
        elif entry.inode is not None and first_names.setdefault(entry.inode, entry.path) != entry.path:
            links.append((first_names[entry.inode], entry.path))
        else:
            files.setdefault(parent(entry.path), []).append(entry)
    sources = _open_sources(files)
    os.chroot(destination)
    os.chdir("/")
    os.umask(0)
    for directory in directories:
        if directory.path != b"/":
            os.mkdir(directory.path, 0o700)
    _write_files(list(files.values()), sources)
    for first, other in links:
        os.link(first, other, follow_symlinks=False)
    for directory in reversed(directories):
        _describe(directory)


def _open_sources(files: dict[bytes, list[Entry]]) -> dict[Path, int]:
    """The layers, opened while their names still lead to them."""
    found = {entry.content.file for together in files.values() for entry in together if entry.content is not None}
    return {file: os.open(file, os.O_RDONLY | os.O_CLOEXEC) for file in found}


def _write_files(groups: Sequence[list[Entry]], sources: dict[Path, int]) -> None:
    """Each directory's files by one writer: two in the same one wait for each other."""
    report, report_end = os.pipe2(os.O_CLOEXEC)
    writers = max(2, min(len(os.sched_getaffinity(0)), _MOST_WRITERS))

    def write(share: Sequence[list[Entry]]) -> None:
        for group in share:
            for entry in group:
                _write(entry, sources)

    children = [_start(lambda number=number: write(groups[number::writers]), report_end) for number in range(writers)]  # type: ignore[misc]
    os.close(report_end)
    with open(report, "rb") as pipe:
        failure = pipe.read()
    statuses = [os.waitpid(child, 0)[1] for child in children]
    if failure or any(statuses):
        raise RuntimeError(os.fsdecode(failure).strip() or f"a writer ended with one of the statuses {statuses}")


def _write(entry: Entry, sources: dict[Path, int]) -> None:
    match entry.kind:
        case Kind.FILE:
            _write_file(entry, sources)
            return
        case Kind.SYMLINK:
            os.symlink(entry.target, entry.path)
        case _:
            os.mknod(entry.path, _DEVICE_BITS[entry.kind] | 0o600, os.makedev(*entry.device))
    _describe(entry)


def _write_file(entry: Entry, sources: dict[Path, int]) -> None:
    output = os.open(entry.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, entry.mode)
    try:
        if entry.content is not None:
            source, offset = sources[entry.content.file], entry.content.offset
            if entry.content.extents is not None:
                os.ftruncate(output, entry.size)
                for position, length in entry.content.extents:
                    os.lseek(output, position, os.SEEK_SET)
                    _copy(source, offset, output, length)
                    offset += length
            else:
                _copy(source, offset, output, entry.size)
        if entry.uid or entry.gid:
            os.chown(output, entry.uid, entry.gid)
            os.chmod(output, entry.mode)  # chown(2) clears setuid
        _set_attributes(output, entry)
        os.utime(output, ns=(entry.mtime, entry.mtime))
    finally:
        os.close(output)


def _copy(source: int, offset: int, output: int, left: int) -> None:
    if left <= _SMALL:
        content = os.pread(source, left, offset)
        if len(content) < left:
            raise EOFError("the layer ended early")
        written = os.write(output, content)
        offset, left = offset + written, left - written
    while left:
        count = os.sendfile(output, source, offset, left)
        if not count:
            raise EOFError("the layer ended early")
        offset, left = offset + count, left - count


def _describe(entry: Entry) -> None:
    """Owner before mode (chown clears setuid) and before security.capability, which it drops; times last."""
    os.chown(entry.path, entry.uid, entry.gid, follow_symlinks=False)
    if entry.kind is not Kind.SYMLINK:
        os.chmod(entry.path, entry.mode)
    _set_attributes(entry.path, entry)
    os.utime(entry.path, ns=(entry.mtime, entry.mtime), follow_symlinks=False)


def _set_attributes(file: bytes | int, entry: Entry) -> None:
    for name, value in entry.xattrs:
        try:
            os.setxattr(file, name, value, follow_symlinks=isinstance(file, int))
        except OSError as error:
            # Labels of another policy and the like are only kept for the result; but the run needs all valid capabilities.
            needed = name == b"security.capability" and error.errno != errno.EINVAL
            if needed or error.errno not in _XATTR_REFUSALS:
                raise
