"""--include and --exclude. A directory stands for all that is below it."""

from tracestrip.errors import UsageError
from tracestrip.keep.keepset import KeepSet, Reason
from tracestrip.keep.patterns import fits, matches
from tracestrip.rootfs.tree import Tree


def include(keep: KeepSet, tree: Tree, pattern: bytes) -> None:
    """Keep all that *pattern* matches. Raises UsageError when it matches nothing: a rule that does nothing is a mistake."""
    matched = False
    for path in sorted(set(matches(tree, pattern))):
        entry = keep.add_path(path, Reason("included", pattern))
        for below in tree.walk(entry.path) if entry and entry.is_directory else ():
            keep.add_entry(below, Reason("included", pattern))
        matched = matched or entry is not None
    if not matched:
        raise UsageError(f"--include {pattern.decode('utf-8', 'replace')}: the image has no such path: correct the pattern")


def exclude(keep: KeepSet, pattern: bytes) -> None:
    """Drop all kept paths that *pattern* matches, with what is below them. Raises UsageError for a relative pattern."""
    for path in [kept.entry.path for kept in keep]:
        if fits(path, pattern):
            keep.exclude(path, pattern)
