"""--include and --exclude. A directory stands for all that is below it."""

from tracestrip.errors import UsageError
from tracestrip.keep.keepset import KeepSet, Reason
from tracestrip.keep.patterns import fits, matches, resolved
from tracestrip.rootfs.tree import Tree
from tracestrip.rootfs.walk import walk


def include(keep: KeepSet, tree: Tree, pattern: bytes) -> None:
    """Keep all that *pattern* matches. Raises UsageError when it matches nothing: a rule that does nothing is a mistake."""
    matched = covered = False
    for path in sorted(set(matches(tree, pattern))):
        entry = keep.add_path(path, Reason("included", pattern))
        for below in tree.walk(entry.path) if entry and entry.is_directory else ():
            keep.add_entry(below, Reason("included", pattern))
        named = walk(tree, path, follow=False).entry  # a symlink may lead nowhere, or into a mount
        matched = matched or (named is not None and named.path in keep)
        covered = covered or named is not None
    if not matched:
        nowhere, mounted = "the image has no such path: correct the pattern", "an engine mounts its own over that: leave it out"
        why = mounted if covered else nowhere
        raise UsageError(f"--include {pattern.decode('utf-8', 'replace')}: {why}")


def exclude(keep: KeepSet, tree: Tree, pattern: bytes) -> None:
    """Drop all kept paths that *pattern* matches, with what is below them. Raises UsageError for a relative pattern.

    Symlinks are followed in the part before the first *, ? or [ , but for its last name.
    """
    patterns = {pattern, resolved(tree, pattern)}
    keep.exclude(lambda path: any(fits(path, one) for one in patterns), pattern)
