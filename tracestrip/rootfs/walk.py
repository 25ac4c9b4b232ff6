"""A path walked on the tree as the kernel would walk it: path_resolution(7)."""

from collections import deque
from dataclasses import dataclass

from tracestrip.rootfs.tree import Entry, Kind, Tree, join, parent

_MOST_SYMLINKS = 40  # MAXSYMLINKS, path_resolution(7)


@dataclass(frozen=True, slots=True)
class Walk:
    """What a walk met."""

    entry: Entry | None
    """The file that the path leads to; None where it leads nowhere."""
    links: tuple[Entry, ...]
    """The symlinks that were followed, in order."""
    directories: tuple[bytes, ...]
    """Directories that were passed by "..": needed, though they do not lie above the file."""
    directory: Entry | None
    """The directory in which the last name was looked up; None where the walk broke off before."""


def walk(tree: Tree, path: bytes, *, follow: bool = True, root: bytes = b"/") -> Walk:
    """Walk the absolute *path*. A symlink in the last component counts as followed if *follow*.

    *root*: where absolute symlinks start, and what ".." does not leave: chroot(2).
    """
    names = deque(path.split(b"/"))
    follow = follow or path.endswith(b"/")
    links: list[Entry] = []
    passed: list[bytes] = []
    current = tree.entry(b"/")
    while names:
        name = names.popleft()
        if name in (b"", b"."):
            continue
        if current is None or not current.is_directory:
            return Walk(None, tuple(links), tuple(passed), None)
        if name == b"..":
            passed.append(current.path)
            current = current if current.path == root else tree.entry(parent(current.path))
            continue
        entry = tree.entry(join(current.path, name))
        last = not any(names)
        if entry is None:
            return Walk(None, tuple(links), tuple(passed), current if last else None)
        if entry.kind is Kind.SYMLINK and (follow or not last):
            links.append(entry)
            if len(links) > _MOST_SYMLINKS:
                return Walk(None, tuple(links), tuple(passed), None)
            names.extendleft(reversed(entry.target.split(b"/")))
            if entry.target.startswith(b"/"):
                current = tree.entry(root)
            continue
        if last:
            return Walk(entry, tuple(links), tuple(passed), current)
        current = entry
    return Walk(current, tuple(links), tuple(passed), current)
