"""Writes a tree into a directory, for the run; what is published never comes from there.

The writer is a child process whose root *is* the destination: no name, whatever it is, leads out of it.
"""

import ctypes
import errno
import os
import signal
from pathlib import Path
from typing import NoReturn

from tracestrip.errors import EnvironmentLack
from tracestrip.rootfs.tree import Entry, Kind, Tree

_DEVICE_BITS = {Kind.CHARACTER: 0o020000, Kind.BLOCK: 0o060000, Kind.FIFO: 0o010000}
_PR_SET_PDEATHSIG = 1


def extract(tree: Tree, destination: Path) -> None:
    """Write all of *tree* into *destination*, an empty directory. Raises EnvironmentLack (no space, no root)."""
    report, report_end = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        os.close(report)
        _write_all(tree, destination, report_end)
    os.close(report_end)
    try:
        with open(report, "rb") as pipe:
            failure = pipe.read()
        _, status = os.waitpid(child, 0)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    if failure or status:
        reason = os.fsdecode(failure) or f"the writer ended with status {status}"
        raise EnvironmentLack(f"{destination}: the image cannot be extracted: {reason}: set TMPDIR to a place with room")


def _write_all(tree: Tree, destination: Path, report: int) -> NoReturn:
    status = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _write_entries(tree, destination)
        status = 0
    except BaseException as error:
        os.write(report, os.fsencode(f"{type(error).__name__}: {error}"))
    finally:
        os._exit(status)


def _write_entries(tree: Tree, destination: Path) -> None:
    sources: dict[Path, int] = {}
    for entry in tree.walk():
        if entry.content is not None and entry.content.file not in sources:
            sources[entry.content.file] = os.open(entry.content.file, os.O_RDONLY | os.O_CLOEXEC)
    os.chroot(destination)
    os.chdir("/")
    os.umask(0)
    written: dict[object, bytes] = {}
    directories = []
    for entry in tree.walk():
        first = written.get(entry.inode) if entry.inode is not None else None
        if first is not None:
            os.link(first, entry.path, follow_symlinks=False)
            continue
        if entry.inode is not None:
            written[entry.inode] = entry.path
        _create(entry, sources)
        _set_metadata(entry)
        if entry.is_directory:
            directories.append(entry)
    for entry in reversed(directories):
        _set_time(entry)


def _create(entry: Entry, sources: dict[Path, int]) -> None:
    match entry.kind:
        case Kind.DIRECTORY:
            if entry.path != b"/":
                os.mkdir(entry.path, 0o700)
        case Kind.SYMLINK:
            os.symlink(entry.target, entry.path)
        case Kind.FILE:
            _write_file(entry, sources)
        case Kind.CHARACTER | Kind.BLOCK | Kind.FIFO:
            os.mknod(entry.path, _DEVICE_BITS[entry.kind] | 0o600, os.makedev(*entry.device))


def _write_file(entry: Entry, sources: dict[Path, int]) -> None:
    output = os.open(entry.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if entry.content is None:
            return
        source, offset, left = sources[entry.content.file], entry.content.offset, entry.size
        if entry.content.extents is not None:
            os.ftruncate(output, entry.size)
            for position, length in entry.content.extents:
                os.lseek(output, position, os.SEEK_SET)
                _copy(source, offset, output, length)
                offset += length
        else:
            _copy(source, offset, output, left)
    finally:
        os.close(output)


def _copy(source: int, offset: int, output: int, left: int) -> None:
    while left:
        count = os.sendfile(output, source, offset, left)
        if not count:
            raise EOFError("the layer ended early")
        offset, left = offset + count, left - count


def _set_metadata(entry: Entry) -> None:
    """Owner before mode (chown clears setuid) and before security.capability, which it drops."""
    os.chown(entry.path, entry.uid, entry.gid, follow_symlinks=False)
    if entry.kind is not Kind.SYMLINK:
        os.chmod(entry.path, entry.mode)
    for name, value in entry.xattrs:
        try:
            os.setxattr(entry.path, name, value, follow_symlinks=False)
        except OSError as error:
            # The run needs capabilities; labels of another policy and the like are only kept for the result.
            if name == b"security.capability" or error.errno not in (errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL, errno.ERANGE):
                raise
    _set_time(entry)


def _set_time(entry: Entry) -> None:
    os.utime(entry.path, ns=(entry.mtime, entry.mtime), follow_symlinks=False)
