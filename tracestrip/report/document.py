"""A report that was written, read again, as far as a path is explained by it. Anybody may have edited it."""

import json
import posixpath
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from tracestrip.errors import UsageError
from tracestrip.report.report import SCHEMA_VERSION
from tracestrip.structured import structured

_MOST_SYMLINKS = 40  # MAXSYMLINKS, path_resolution(7)


class ProcessDocument(TypedDict):
    """Who used something."""

    pid: int
    program: str


class ReasonDocument(TypedDict):
    """Why a path stayed."""

    rule: str
    of: NotRequired[str]
    first_used_by: NotRequired[ProcessDocument]
    during: NotRequired[str]


class KeptDocument(TypedDict):
    """A path that stayed."""

    path: str
    type: str
    reasons: list[ReasonDocument]
    target: NotRequired[str]
    package: NotRequired[str]
    round: NotRequired[int]


class GoneDocument(TypedDict):
    """A path that went. Only its path is known where the image was a directory."""

    path: str
    type: NotRequired[str]
    target: NotRequired[str]
    package: NotRequired[str]
    excluded_by: NotRequired[str]
    used: NotRequired[list[ReasonDocument]]


RulesDocument = TypedDict(
    "RulesDocument",
    {"include": list[str], "exclude": list[str], "keep": str, "packages": list[str], "with": list[str], "widen": list[str]},
)
"""What the user said of paths."""

_NO_RULES: RulesDocument = {"include": [], "exclude": [], "keep": "used", "packages": [], "with": [], "widen": []}


class _Source(TypedDict):
    name: str


class _Exercise(TypedDict):
    probes: list[Any]


class _Round(TypedDict):
    missed: list[str]
    unasked: list[str]


class _Verification(TypedDict):
    held_out: list[str]
    rounds: list[_Round]


class _Report(TypedDict):
    schema_version: int
    source: _Source
    exercises: list[_Exercise]
    rules: NotRequired[RulesDocument]
    verification: _Verification | None
    kept: list[KeptDocument]
    removed: list[GoneDocument] | None


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """What a report tells of paths."""

    image: str
    """Its name."""
    probes: int
    """How many there were."""
    rules: RulesDocument
    kept: dict[str, KeptDocument]
    gone: dict[str, GoneDocument] | None
    """None: nobody has counted what was there."""
    held_out: tuple[str, ...]
    """Probes of the verification."""
    missed: frozenset[str]
    """In the last round of the verification; so is the next one."""
    unasked: frozenset[str]

    def resolved(self, path: str) -> str:
        """Where *path* lies, behind the image's symlinks: /bin/sh is /usr/bin/sh. The last name is left as it is."""
        names, place, followed = deque(path.rstrip("/").split("/")), "/", 0
        while names:
            name = names.popleft()
            if name == "..":
                place = posixpath.dirname(place)
            if name in ("", ".", ".."):
                continue
            here = posixpath.join(place, name)
            target = self._target(here)
            if target is None or not names or followed == _MOST_SYMLINKS:
                place = here
                continue
            followed += 1
            names.extendleft(reversed(target.split("/")))
            place = "/" if target.startswith("/") else place
        return place

    def _target(self, path: str) -> str | None:
        entry = self.kept.get(path) or (self.gone or {}).get(path)
        return None if entry is None else entry.get("target")


def read_report(path: Path) -> WrittenReport:
    """The report in a file. Raises UsageError when it is none."""
    try:
        return _written(json.loads(path.read_bytes()))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}: name a file that --report wrote") from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UsageError(f"{path}: it is no report of this version of tracestrip: make it again with --report") from error


def _written(document: Any) -> WrittenReport:
    report = structured(_Report, document)
    if report["schema_version"] != SCHEMA_VERSION:
        raise ValueError(report["schema_version"])
    verification = report["verification"]
    last = verification["rounds"][-1] if verification else _Round(missed=[], unasked=[])
    rules = report.get("rules", _NO_RULES)
    if not all(pattern.startswith("/") for pattern in rules["exclude"]):
        raise ValueError(rules["exclude"])
    return WrittenReport(
        image=report["source"]["name"],
        probes=sum(len(exercise["probes"]) for exercise in report["exercises"]),
        rules=rules,
        kept={entry["path"]: entry for entry in report["kept"]},
        gone=None if report["removed"] is None else {entry["path"]: entry for entry in report["removed"]},
        held_out=tuple(verification["held_out"]) if verification else (),
        missed=frozenset(last["missed"]),
        unasked=frozenset(last["unasked"]),
    )
