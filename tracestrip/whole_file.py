"""Files that appear whole or not at all."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tracestrip.errors import EnvironmentLack
from tracestrip.signals import hold


def take_room(file: IO[bytes], size: int) -> None:
    """Make sure that *size* bytes can be written into *file*, where it lies on a disk. Raises OSError when they cannot."""
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        os.posix_fallocate(file.fileno(), 0, size)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that gets its name only when it is complete and on the disk; it replaces one that is there.

    Until then it has no name (O_TMPFILE, open(2)), so that nothing is left of it even after SIGKILL; where the file system
    cannot do that, it has a hidden one. A symlink is followed; a pipe or a device, as /dev/stdout, is written into as it is.
    Raises EnvironmentLack when it cannot be written.
    """
    try:
        if is_stream(path):
            with path.open("wb") as file:
                yield file
            return
        path = path.resolve()
        hidden = path.with_name(f".{path.name}.{os.getpid()}.partial")
        with unnamed_file(path.parent, hidden) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            give_name(file, path, hidden)
    except OSError as error:
        raise EnvironmentLack(f"{path}: cannot be written: {error.strerror}: choose another place with room") from error


def is_stream(path: Path) -> bool:
    """Whether *path* is there as something that cannot be replaced, only written into."""
    return path.is_char_device() or path.is_fifo() or path.parent == Path("/dev/fd")


@contextmanager
def unnamed_file(directory: Path, hidden: Path) -> Iterator[IO[bytes]]:
    """A file to write in the file system of *directory*, which has no name, or is called *hidden*, and goes if it gets none."""
    try:
        file = open(os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666), "wb")  # noqa: SIM115 - below
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
            raise
        file = hidden.open("xb")
    with file:
        try:
            yield file
        finally:
            hidden.unlink(missing_ok=True)


def give_name(file: IO[bytes], path: Path, hidden: Path) -> None:
    """Call an unnamed file *path*, replacing one that is there; *hidden* in between. Raises OSError.

    From here on an interrupt comes too late.
    """
    hold()
    if isinstance(file.name, int):
        # With a descriptor Python calls linkat(2), which can follow /proc's link; link(2) cannot.
        hidden.unlink(missing_ok=True)
        os.link(f"/proc/self/fd/{file.fileno()}", hidden, src_dir_fd=file.fileno())
        try:
            hidden.rename(path)
        finally:
            hidden.unlink(missing_ok=True)
    else:
        Path(file.name).rename(path)
