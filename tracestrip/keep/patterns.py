"""Globs over the image's paths, for rules and for ld.so.conf.

`*`, `?` and `[…]` match within one name, `**` any number of directories. A pattern is absolute. A symlink on the way is
followed.
"""

import fnmatch
import re
from collections.abc import Iterator

from tracestrip.errors import UsageError
from tracestrip.rootfs.tree import Entry, Tree, join
from tracestrip.rootfs.walk import walk

_MAGIC = re.compile(rb"[*?\[]")


def matches(tree: Tree, pattern: bytes) -> Iterator[bytes]:
    """The paths that *pattern* may stand for; one without magic is given as it is, there or not. Raises UsageError."""
    return _matches(tree, b"/", split_pattern(pattern))


def fits(path: bytes, pattern: bytes) -> bool:
    """Whether *path* itself matches *pattern*. Raises UsageError."""
    return _fits(split_pattern(path), split_pattern(pattern))


def split_pattern(pattern: bytes) -> list[bytes]:
    """The names in an absolute pattern. Raises UsageError for a relative one."""
    if not pattern.startswith(b"/"):
        raise UsageError(f"{pattern.decode('utf-8', 'replace')}: a pattern is an absolute path of the image: start it with /")
    return [name for name in pattern.split(b"/") if name]


def _matches(tree: Tree, directory: bytes, names: list[bytes]) -> Iterator[bytes]:
    if not names:
        yield directory
        return
    name, *rest = names
    if name == b"**":
        yield from _matches(tree, directory, rest)
        for entry in _children(tree, directory):
            if entry.is_directory:
                yield from _matches(tree, entry.path, names)
            elif not rest:
                yield entry.path
    elif _MAGIC.search(name):
        for entry in _children(tree, directory):
            if fnmatch.fnmatchcase(entry.path.rpartition(b"/")[2], name):
                yield from _matches(tree, entry.path, rest)
    else:
        yield from _matches(tree, join(directory, name), rest)


def _children(tree: Tree, directory: bytes) -> list[Entry]:
    found = walk(tree, directory).entry
    if found is None or not found.is_directory:
        return []
    entries = (tree.entry(join(found.path, name)) for name in tree.names(found.path))
    return [entry for entry in entries if entry is not None]


def _fits(names: list[bytes], pattern: list[bytes]) -> bool:
    if not pattern:
        return not names
    if pattern[0] == b"**":
        return any(_fits(names[skipped:], pattern[1:]) for skipped in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], pattern[0]) and _fits(names[1:], pattern[1:])
