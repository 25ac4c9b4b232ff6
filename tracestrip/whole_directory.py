"""Directories that appear whole or not at all, and get what is added to them in the right order."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from tracestrip.errors import EnvironmentLack
from tracestrip.whole_file import give_name, unnamed_file

Write = Callable[[str, Iterable[bytes]], None]


@contextmanager
def whole_directory(path: Path) -> Iterator[Write]:
    """Yields a function that writes a file, given its name in the directory and its content.

    A directory that is not there, or is empty and no mount point, appears at the end with all files, by rename(2). Into one
    that is there each file is brought at the end, in the order of writing and replacing one of its name, so that what names
    the others comes last; a lock keeps other runs out meanwhile. Until then the files have no names (O_TMPFILE, open(2)).
    Raises EnvironmentLack.
    """
    try:
        with ExitStack() as stack:
            path = path.resolve()
            is_new = not path.exists() or not (any(path.iterdir()) or path.is_mount())
            if not is_new:
                fcntl.flock(stack.enter_context(_directory(path)), fcntl.LOCK_EX)
            files: dict[str, IO[bytes]] = {}
            hidden = path.with_name(f".{path.name}.{os.getpid()}.partial")

            def write(name: str, content: Iterable[bytes]) -> None:
                place = path.parent if is_new else path
                file = stack.enter_context(unnamed_file(place, place / f".{len(files)}.{os.getpid()}.partial"))
                for chunk in content:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
                files[name] = file

            yield write
            if is_new:
                stack.callback(shutil.rmtree, hidden, ignore_errors=True)
                _bring(files, hidden)
                hidden.rename(path)
            else:
                _bring(files, path)
    except OSError as error:
        raise EnvironmentLack(f"{path}: cannot be written: {error.strerror}: choose another place with room") from error


def _bring(files: dict[str, IO[bytes]], top: Path) -> None:
    for name, file in files.items():
        place = top / name
        place.parent.mkdir(parents=True, exist_ok=True)
        hidden = place.with_name(f".{place.name}.{os.getpid()}.partial")
        give_name(file, place, hidden)
        with _directory(place.parent) as directory:
            os.fsync(directory)


@contextmanager
def _directory(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
