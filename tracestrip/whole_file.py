"""Files that appear whole or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tracestrip.errors import EnvironmentLack


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
        try:
            with _unnamed(path.absolute().parent, hidden) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if not hidden.exists():
                    # With a descriptor Python calls linkat(2), which can follow /proc's link; link(2) cannot.
                    os.link(f"/proc/self/fd/{file.fileno()}", hidden, src_dir_fd=file.fileno())
            hidden.rename(path)
        finally:
            hidden.unlink(missing_ok=True)
    except OSError as error:
        raise EnvironmentLack(f"{path}: cannot be written: {error.strerror}: choose another place with room") from error


def is_stream(path: Path) -> bool:
    """Whether *path* is there as something that cannot be replaced, only written into."""
    return path.is_char_device() or path.is_fifo() or path.parent == Path("/dev/fd")


def _unnamed(directory: Path, hidden: Path) -> IO[bytes]:
    try:
        return open(os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666), "wb")
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
            raise
        return hidden.open("xb")
