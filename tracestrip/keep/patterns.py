"""Globs over the image's paths, for rules and for ld.so.conf.

`*`, `?` and `[…]` match within one name, `**` any number of directories. A pattern is absolute. A symlink on the way is
followed.
"""

import fnmatch
import re
from collections.abc import Iterator

from tracestrip.errors import UsageError
from tracestrip.keep.keepset import RUNTIME_MOUNTS
from tracestrip.rootfs.tree import Entry, Tree, join
from tracestrip.rootfs.walk import walk

_MAGIC = re.compile(rb"[*?\[]")


def matches(tree: Tree, pattern: bytes) -> Iterator[bytes]:
    """The paths that *pattern* may stand for; one without magic is given as it is, there or not. Raises UsageError.

    `**` goes into nothing that an engine mounts over the image.
    """
    return _matches(tree, b"/", split_pattern(pattern))


def fits(path: bytes, pattern: bytes) -> bool:
    """Whether *path* itself matches *pattern*. Raises UsageError."""
    return _fits(split_pattern(path), split_pattern(pattern))


def resolved(tree: Tree, pattern: bytes) -> bytes:
    """*pattern* with its directories as they lie in the image, where symlinks lead to them; up to the first with magic."""
    names = split_pattern(pattern)
    plain = next((at for at, name in enumerate(names) if _MAGIC.search(name)), len(names) - 1)
    place = walk(tree, b"/" + b"/".join(names[:plain])).entry if names else None
    return pattern if place is None else join(place.path, b"/".join(names[plain:]))


def split_pattern(pattern: bytes) -> list[bytes]:
    """The names in an absolute pattern. Raises UsageError for a relative one."""
    if not pattern.startswith(b"/"):
        raise UsageError(f"{pattern.decode('utf-8', 'replace')}: a pattern is an absolute path of the image: start it with /")
    return [name for name in pattern.split(b"/") if name]


def _matches(tree: Tree, top: bytes, pattern: list[bytes]) -> Iterator[bytes]:
    waiting = [(top, 0)]  # no recursion: a path may have 2,000 directories
    seen = set(waiting)  # two ** reach a directory in many ways
    while waiting:
        directory, at = waiting.pop()
        if at == len(pattern):
            yield directory
            continue
        name, further = pattern[at], []
        if name == b"**":
            further.append((directory, at + 1))
            for entry in _children(tree, directory):
                if entry.is_directory and entry.path not in RUNTIME_MOUNTS:
                    further.append((entry.path, at))
                elif at + 1 == len(pattern):
                    yield entry.path
        elif _MAGIC.search(name):
            paths = (entry.path for entry in _children(tree, directory))
            further += [(path, at + 1) for path in paths if fnmatch.fnmatchcase(path.rpartition(b"/")[2], name)]
        else:
            further.append((join(directory, name), at + 1))
        for step in further:
            if step not in seen:
                seen.add(step)
                waiting.append(step)


def _children(tree: Tree, directory: bytes) -> list[Entry]:
    found = walk(tree, directory).entry
    if found is None or not found.is_directory:
        return []
    entries = (tree.entry(join(found.path, name)) for name in tree.names(found.path))
    return [entry for entry in entries if entry is not None]


def _fits(names: list[bytes], pattern: list[bytes]) -> bool:
    reached = _skipped({0}, pattern)  # how much of the pattern the names so far may have used up
    for name in names:
        stay = {at for at in reached if pattern[at : at + 1] == [b"**"]}
        go = {at + 1 for at in reached - stay if at < len(pattern) and fnmatch.fnmatchcase(name, pattern[at])}
        reached = _skipped(stay | go, pattern)
    return len(pattern) in reached


def _skipped(reached: set[int], pattern: list[bytes]) -> set[int]:
    """With those behind each ** there, which may stand for nothing."""
    for at, name in enumerate(pattern):
        if at in reached and name == b"**":
            reached.add(at + 1)
    return reached
