"""What stays: the observations, what the user's rules add and take away, and the libraries of all that."""

from dataclasses import dataclass
from functools import cached_property

from tracestrip.keep.dlopen_notes import add_dlopened
from tracestrip.keep.keepset import OPENING, KeepSet
from tracestrip.keep.ldd import Libraries, Run
from tracestrip.keep.packages import Packages, installed_packages
from tracestrip.keep.patterns import split_pattern
from tracestrip.keep.presets import add_preset
from tracestrip.keep.rules import exclude, include
from tracestrip.keep.widening import keep_package, widen_directories, widen_packages
from tracestrip.observer.wire import Observation, raw
from tracestrip.rootfs.tree import Tree


@dataclass(frozen=True, slots=True)
class Rules:
    """What the user says of paths, beside the exercise."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    opened_only: bool = False
    packages: tuple[str, ...] = ()
    """Of the image's own package database: all their files stay."""
    presets: tuple[str, ...] = ()
    widen: frozenset[str] = frozenset()
    """package, directory, dlopen."""


class Choice:
    """A kept set that grows by observations and is completed by the rules."""

    def __init__(self, rules: Rules, tree: Tree) -> None:
        """Raises UsageError for a rule that the image has nothing for."""
        self.keep = KeepSet(tree)
        self._rules, self._tree = rules, tree
        self._libraries = Libraries(tree)
        self._noted: set[bytes] = set()
        self._add_ruled(KeepSet(tree))  # a rule that cannot be is told before anything runs
        self._is_ruled = False

    @cached_property
    def packages(self) -> Packages:
        """By the image's own database. Raises ImageError when it is damaged."""
        return installed_packages(self._tree)

    def add(self, observation: Observation) -> None:
        """What was used in a run of the original."""
        self.keep.add_observation(observation, OPENING if self._rules.opened_only else None)

    def complete(self, run: Run, library_path: bytes) -> None:
        """Bring the kept set to its end. *run* is for the image's own loaders, *library_path* the target's LD_LIBRARY_PATH."""
        keep = self.keep
        if not self._is_ruled:
            self._is_ruled = True
            self._add_ruled(keep)
        self._libraries.add_to(keep, run, library_path)
        if "package" in self._rules.widen:
            widen_packages(keep, self._tree, self.packages)
        if "directory" in self._rules.widen:
            widen_directories(keep, self._tree)
        self._libraries.add_to(keep, run, library_path)
        if "dlopen" in self._rules.widen:
            known = -1
            while known != len(keep):
                known = len(keep)
                add_dlopened(keep, self._tree, library_path, self._noted)
                self._libraries.add_to(keep, run, library_path)
        self.exclude()

    def exclude(self) -> None:
        """Take away what the user does not want, whatever used it."""
        for pattern in self._rules.exclude:
            exclude(self.keep, raw(pattern))

    def _add_ruled(self, keep: KeepSet) -> None:
        packages = self.packages if self._rules.packages or "package" in self._rules.widen else {}
        for pattern in self._rules.include:
            include(keep, self._tree, raw(pattern))
        for preset in self._rules.presets:
            add_preset(keep, self._tree, preset)
        for name in self._rules.packages:
            keep_package(keep, self._tree, name, packages)
        for pattern in self._rules.exclude:
            split_pattern(raw(pattern))
