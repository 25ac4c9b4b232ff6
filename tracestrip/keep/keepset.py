"""The kept set: which paths of the image stay, each with its reasons."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from tracestrip.observer.wire import Observation, Process, Use
from tracestrip.rootfs.tree import Entry, Kind, Tree, join, parent
from tracestrip.rootfs.walk import walk

RUNTIME_MOUNTS = (b"/proc", b"/sys", b"/dev")
"""An engine mounts these over the image: what is used there is not the image's."""

ALWAYS_KEPT = (
    b"/", b"/etc/passwd", b"/etc/group", b"/etc/nsswitch.conf", b"/tmp",
    *RUNTIME_MOUNTS, b"/etc/hosts", b"/etc/hostname", b"/etc/resolv.conf",
)  # fmt: skip

OPENING = frozenset({"executed", "interpreted", "opened", "linked", "renamed"})
"""Kinds of use that need the file's content; `--keep opened` counts these only."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a path stays."""

    rule: str
    """A kind of `wire.Use`, or: always kept, directory of, symlink to, ldd of, interpreter of, included, workdir, volume,
    mount point, package, widened package, widened directory, preset, dlopen note of, entry of
    (a directory that the stripped image listed)."""
    of: bytes | None = None
    """The path that the rule speaks of."""
    process: Process | None = None
    """Who used it first."""
    during: str = ""
    """What the target was being put through then."""


@dataclass(slots=True)
class Kept:
    """One path that stays."""

    entry: Entry
    reasons: list[Reason] = field(default_factory=list)
    round: int = 0
    """The round of repair in which it came; 0: it was there before."""
    _known: set[tuple[str, bytes | None]] = field(default_factory=set)

    def add(self, reason: Reason) -> None:
        """Unless one like it is there. A directory needs to be told of one of its many names only."""
        key = (reason.rule, None if reason.rule == "directory of" else reason.of)
        if key not in self._known:
            self._known.add(key)
            self.reasons.append(reason)


class KeepSet:
    """Grows by uses and rules; every path has its directories, and every symlink that led to it."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._covered: tuple[bytes, ...] = RUNTIME_MOUNTS
        self._kept: dict[bytes, Kept] = {}
        self.round = 0
        """Of repair: what is added from now on came in it."""
        self.excluded: dict[bytes, bytes] = {}
        """Paths that a pattern removed, and the pattern."""

    def __iter__(self) -> Iterator[Kept]:
        """Sorted by path."""
        return (self._kept[path] for path in sorted(self._kept))

    def __contains__(self, path: bytes) -> bool:
        return path in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def paths(self) -> frozenset[bytes]:
        """All that stay."""
        return frozenset(self._kept)

    def add_always_kept(self, workdir: bytes, volumes: tuple[bytes, ...]) -> None:
        """What an engine needs or mounts over: it would make a missing directory, but not with its owner and mode."""
        for path in ALWAYS_KEPT:
            self.add_path(path, Reason("always kept"))
        self.add_path(workdir, Reason("workdir"))
        for volume in volumes:
            self.add_path(volume, Reason("volume"))

    def add_observation(
        self, observation: Observation, mount_points: tuple[bytes, ...], kinds: frozenset[str] | None = None
    ) -> None:
        """*mount_points*: what the user mounted over the image then. *kinds*: only uses of these; None for all."""
        with self._covering(mount_points):
            for use in observation.uses:
                if kinds is None or use.kind in kinds:
                    self._add_use(use)

    def add_listed(self, observation: Observation, mount_points: tuple[bytes, ...], stripped: Tree) -> None:
        """All that *stripped*, which was observed, lacks in the directories that were listed there."""
        listed = [use for use in observation.uses if use.kind == "listed"]
        with self._covering(mount_points):
            for use in listed:
                if use.resolved is not None:
                    for name in sorted(set(self._tree.names(use.resolved)) - set(stripped.names(use.resolved))):
                        self.add_path(join(use.resolved, name), Reason("entry of", use.resolved, use.process, use.during))

    def add_path(
        self, path: bytes, reason: Reason, *, follow: bool = True, creates: bool = False, root: bytes = b"/"
    ) -> Entry | None:
        """Keep what *path* leads to and everything on the way; what that is, None where it leads nowhere in the image.

        *creates*: then the directory that the name would be made in stays too. *root*: of the walk.
        """
        found = walk(self._tree, path, follow=follow, root=root)
        end = found.entry or (found.directory if creates else None)
        for link in found.links:
            if self._is_mounted_over(link.path):
                return None
            # Also where it dangles in the image: it may lead to a mount, or to what the run itself makes.
            self._add(link, replace(reason, rule="symlink to", of=end.path if end else link.target))
        if end is None or self._is_mounted_over(end.path):
            return None
        for passed in found.directories:
            self._add_directories(passed, end.path)
        self._add(end, reason if found.entry else replace(reason, rule="directory of", of=path))
        return found.entry

    def add_entry(self, entry: Entry, reason: Reason) -> None:
        """Keep an entry of the tree, with its directories."""
        self._add(entry, reason)

    def exclude(self, fits: Callable[[bytes], bool], pattern: bytes) -> None:
        """Drop each path that fits, with all that is below it, since *pattern* says so."""
        dropped: set[bytes] = set()
        for path in sorted(self._kept):  # directories before what they hold
            if parent(path) in dropped or fits(path):
                dropped.add(path)
        for path in dropped - {b"/"}:
            del self._kept[path]
            self.excluded[path] = pattern

    def files(self) -> list[Entry]:
        """Regular files whose content counts: opened, executed, included, or a library of such a file."""
        weak = {"always kept", "checked", "directory of", "symlink to"}
        return [
            kept.entry
            for kept in self
            if kept.entry.kind is Kind.FILE and any(reason.rule not in weak for reason in kept.reasons)
        ]

    @contextmanager
    def _covering(self, mount_points: tuple[bytes, ...]) -> Iterator[None]:
        """What is used below them within the block is not the image's; they themselves stay."""
        for point in mount_points:
            self.add_path(point, Reason("mount point"))
        ends = [walk(self._tree, point).entry for point in mount_points]
        self._covered = (*RUNTIME_MOUNTS, *mount_points, *(end.path for end in ends if end is not None))
        try:
            yield
        finally:
            self._covered = RUNTIME_MOUNTS

    def _add_use(self, use: Use) -> None:
        reason = Reason(use.kind, None, use.process, use.during)
        self.add_path(use.path, reason, follow=use.follow, creates=use.creates, root=use.root)
        # In the running sandbox a symlink, mount or rename may have led elsewhere than the image alone would.
        for path in use.links:
            link = self._tree.entry(path)
            if link is not None and link.kind is Kind.SYMLINK and not self._is_mounted_over(path):
                self._add(link, replace(reason, rule="symlink to", of=use.resolved or link.target))
        if use.resolved is not None and not self._is_mounted_over(use.resolved):
            entry = self._tree.entry(use.resolved)
            if entry is not None:
                self._add(entry, reason)

    def _add(self, entry: Entry, reason: Reason) -> None:
        kept = self._kept.setdefault(entry.path, Kept(entry, [], self.round))
        kept.add(reason)
        if entry.path != b"/":
            self._add_directories(parent(entry.path), entry.path)

    def _add_directories(self, path: bytes, holds: bytes) -> None:
        while path not in self._kept:
            entry = self._tree.entry(path)
            if entry is None:
                return
            self._kept[path] = Kept(entry, [], self.round)
            self._kept[path].add(Reason("directory of", holds))
            path = parent(path)

    def _is_mounted_over(self, path: bytes) -> bool:
        return any(path.startswith(point + b"/") for point in self._covered)
