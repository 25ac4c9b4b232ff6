"""A run's temporary directory: gone at its end, and cleared by the next run after a `kill -9`."""

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tracestrip.errors import EnvironmentLack
from tracestrip.observer.cgroups import records_in, remove_cgroups
from tracestrip.signals import held, let_through

_PREFIX = "tracestrip-"


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """An empty directory below TMPDIR (/var/tmp by default), locked while its owner lives. Raises EnvironmentLack."""
    place = Path(os.environ.get("TMPDIR") or "/var/tmp").absolute()  # noqa: S108 - mkdtemp makes a private directory there
    with held() as before:
        try:
            _clear_abandoned(place)
            path, lock = _made(place)
        except OSError as error:
            raise EnvironmentLack(f"{place}: no temporary directory can be made: {error.strerror}: set TMPDIR") from error
        try:
            with let_through(before):
                yield path
        finally:
            _remove(path)
            os.close(lock)


@contextmanager
def working_directory(scratch: Path, name: str) -> Iterator[Path]:
    """An empty directory in *scratch* that goes with its block: a run may have written gigabytes."""
    path = scratch / name
    path.mkdir()
    try:
        yield path
    finally:
        _remove(path)


def _made(place: Path) -> tuple[Path, int]:
    """A new directory and its lock. Before it is locked, another run may take it for an abandoned one."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        with suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists():
                return path, lock
            os.close(lock)


def _clear_abandoned(place: Path) -> None:
    for path in place.glob(_PREFIX + "*"):
        # The owner's lock goes with the owner, however it ends.
        with suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                status = os.fstat(lock)
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if status.st_uid == os.geteuid() and status.st_mode & 0o777 == 0o700:
                    _remove(path)
            finally:
                os.close(lock)


def _remove(path: Path) -> None:
    """The sandboxes' control groups first.

    rm(1), since an image may have directories deeper than Python's recursion and than PATH_MAX.
    """
    for record in records_in(path):
        remove_cgroups(record)
    subprocess.run(["rm", "-rf", "--one-file-system", "--", path], stderr=subprocess.DEVNULL, check=False)
