"""What stays: the observations, what the user's rules add and take away, and the libraries of all that."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tracestrip.errors import ImageError
from tracestrip.keep.dlopen_notes import add_dlopened
from tracestrip.keep.keepset import OPENING, KeepSet
from tracestrip.keep.ldd import Libraries, Loader
from tracestrip.keep.packages import Packages, installed_packages, path_index
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
        self._libraries: dict[int, Libraries] = {}
        self._noted: dict[int, set[bytes]] = {}
        self._add_ruled(KeepSet(tree))  # a rule that cannot be is told before anything runs
        self._is_ruled = False
        self.warnings: tuple[str, ...] = ()

    @property
    def rules(self) -> Rules:
        return self._rules

    @cached_property
    def packages(self) -> Packages:
        """By the image's own database. Raises ImageError when it is damaged."""
        return installed_packages(self._tree)

    def owners(self) -> dict[bytes, str]:
        """The package of each path, for a report: a damaged database is no more than a warning there."""
        try:
            return path_index(self._tree, self.packages)
        except ImageError as error:
            what, _ = error.parts
            self.warnings = (*self.warnings, f"the report tells no packages: {what}")
            return {}

    def add(self, observation: Observation, mount_points: tuple[bytes, ...]) -> None:
        """What was used in a run of the original, with these mounts over it."""
        self.keep.add_observation(observation, mount_points, OPENING if self._rules.opened_only else None)

    def complete(self, loaders: Sequence[Loader]) -> None:
        """Bring the kept set to its end. *loaders*: one for each surroundings that a target had, the same ones each time."""
        keep = self.keep
        if not self._is_ruled:
            self._is_ruled = True
            self._add_ruled(keep)
        self._add_libraries(loaders)
        if "package" in self._rules.widen:
            widen_packages(keep, self._tree, self.packages)
        if "directory" in self._rules.widen:
            widen_directories(keep, self._tree)
        self._add_libraries(loaders)
        if "dlopen" in self._rules.widen:
            known = -1
            while known != len(keep):
                known = len(keep)
                for number, loader in enumerate(loaders):
                    add_dlopened(keep, self._tree, loader.library_path, self._noted.setdefault(number, set()))
                self._add_libraries(loaders)
        self.exclude()

    def _add_libraries(self, loaders: Sequence[Loader]) -> None:
        known = -1
        while known != len(self.keep):
            known = len(self.keep)
            for number, loader in enumerate(loaders):
                self._libraries.setdefault(number, Libraries(self._tree)).add_to(self.keep, loader)

    def exclude(self) -> None:
        """Take away what the user does not want, whatever used it."""
        for pattern in self._rules.exclude:
            exclude(self.keep, self._tree, raw(pattern))

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
