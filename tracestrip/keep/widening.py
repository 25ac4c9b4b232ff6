"""Static widening: files that nothing used, kept since they belong to something; each says what it belongs to."""

import difflib

from tracestrip.errors import UsageError
from tracestrip.keep.keepset import KeepSet, Reason
from tracestrip.keep.packages import Packages, entries_of, path_index
from tracestrip.rootfs.tree import Tree, join, parent

_SHARED = (b"bug", b"doc", b"doc-base", b"gtk-doc", b"help", b"info", b"lintian", b"locale", b"man")
DOCUMENTATION = tuple(top + name + b"/" for top in (b"/usr/share/", b"/usr/local/share/") for name in _SHARED)
"""What nobody reads in a container: widening leaves it out."""

_NO_USE = frozenset({
    "always kept", "workdir", "volume", "mount point", "checked", "readlink", "directory of", "symlink to", "removed",
    "included", "package", "preset", "widened package", "widened directory",
})  # fmt: skip
"""Reasons that do not say that the file's content was used."""


def keep_package(keep: KeepSet, tree: Tree, name: str, packages: Packages) -> None:
    """All files of a package, documentation too. Raises UsageError for one that is not installed."""
    if name not in packages:
        close = difflib.get_close_matches(name, packages, 3)
        there = f"is it {' or '.join(close)}?" if close else f"it has {len(packages)}, of which none is called like that"
        remedy = there if packages else "it has no database of dpkg, apk or rpm: use --include"
        raise UsageError(f"--keep-package {name}: the image has no such package: {remedy}")
    for entry in entries_of(tree, packages[name]):
        keep.add_path(entry.path, Reason("package", name.encode("utf-8", "surrogateescape")))


def widen_packages(keep: KeepSet, tree: Tree, packages: Packages) -> None:
    """The other files of packages of which one was used."""
    owners = path_index(tree, packages)
    for name in {owners[path] for path in _used(keep) if path in owners}:
        for entry in entries_of(tree, packages[name]):
            if not entry.is_directory and not entry.path.startswith(DOCUMENTATION):
                keep.add_path(entry.path, Reason("widened package", name.encode("utf-8", "surrogateescape")))


def widen_directories(keep: KeepSet, tree: Tree) -> None:
    """The other files in directories of which one was used; not those below."""
    for directory in {parent(path) for path in _used(keep)}:
        if (directory + b"/").startswith(DOCUMENTATION):
            continue
        for name in tree.names(directory):
            entry = tree.entry(join(directory, name))
            if entry is not None and not entry.is_directory:
                keep.add_path(entry.path, Reason("widened directory", directory))


def _used(keep: KeepSet) -> list[bytes]:
    """Paths of files whose content was used in a run, or is needed by such a file."""
    return [
        kept.entry.path
        for kept in keep
        if not kept.entry.is_directory and any(reason.rule not in _NO_USE for reason in kept.reasons)
    ]
