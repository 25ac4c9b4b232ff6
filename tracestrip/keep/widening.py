"""Static widening: files that nothing used, kept since they belong to something; each says what it belongs to."""

import difflib
from collections.abc import Iterable
from typing import TypeVar

from tracestrip.errors import UsageError
from tracestrip.keep.keepset import KeepSet, Reason
from tracestrip.keep.packages import Packages, entries_of, path_index
from tracestrip.rootfs.tree import Tree, join, parent

_SHARED = (b"bug", b"doc", b"doc-base", b"gtk-doc", b"help", b"info", b"lintian", b"locale", b"man")
DOCUMENTATION = tuple(top + name + b"/" for top in (b"/usr/share/", b"/usr/local/share/") for name in _SHARED)
"""What nobody reads in a container: widening leaves it out."""

NO_USE = frozenset({
    "always kept", "workdir", "volume", "mount point", "checked", "readlink", "directory of", "symlink to", "removed",
    "included", "package", "preset", "widened package", "widened directory", "entry of",
})  # fmt: skip
"""Reasons that do not say that the file's content was used."""

_NEEDED = ("ldd of", "interpreter of", "dlopen note of")
"""Reasons that say so where the file that they speak of was used."""


def keep_package(keep: KeepSet, tree: Tree, name: str, packages: Packages) -> None:
    """All files of a package, documentation too. Raises UsageError for one that is not installed."""
    if name not in packages:
        close = difflib.get_close_matches(name, packages, 3)
        none = f"it has {len(packages)}, of which none is called like that"
        there = f"is it {' or '.join(map(_shown, close))}?" if close else none
        remedy = there if packages else "it has no database of dpkg, apk or rpm: use --include"
        raise UsageError(f"--keep-package {_shown(name)}: the image has no such package: {remedy}")
    for entry in entries_of(tree, packages[name]):
        keep.add_path(entry.path, Reason("package", name.encode("utf-8", "surrogateescape")))


def widen_packages(keep: KeepSet, tree: Tree, packages: Packages) -> None:
    """The other files of packages of which one was used."""
    owners = path_index(tree, packages)
    for name in sorted({owners[path] for path in _used(keep) if path in owners}):
        for entry in entries_of(tree, packages[name]):
            if not entry.is_directory and not entry.path.startswith(DOCUMENTATION):
                keep.add_path(entry.path, Reason("widened package", name.encode("utf-8", "surrogateescape")))


def widen_directories(keep: KeepSet, tree: Tree) -> None:
    """The other files in directories of which one was used; not those below."""
    for directory in sorted({parent(path) for path in _used(keep)}):
        if (directory + b"/").startswith(DOCUMENTATION):
            continue
        for name in tree.names(directory):
            entry = tree.entry(join(directory, name))
            if entry is not None and not entry.is_directory:
                keep.add_path(entry.path, Reason("widened directory", directory))


def _used(keep: KeepSet) -> set[bytes]:
    files = (kept for kept in keep if not kept.entry.is_directory)
    return used_paths((kept.entry.path, reason.rule, reason.of) for kept in files for reason in kept.reasons)


_Path = TypeVar("_Path", bytes, str)


def used_paths(reasons: Iterable[tuple[_Path, str, _Path | None]]) -> set[_Path]:
    """Files whose content was used in a run, and what they need; not what only files need that were added by widening.

    *reasons*: (path, rule, of) of files.
    """
    used: set[_Path] = set()
    needed: dict[_Path, list[_Path]] = {}
    for path, rule, of in reasons:
        if rule in _NEEDED and of is not None:
            needed.setdefault(of, []).append(path)
        elif rule not in NO_USE:
            used.add(path)
    waiting = list(used)
    while waiting:
        new = set(needed.get(waiting.pop(), ())) - used
        used |= new
        waiting += new
    return used


def _shown(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
