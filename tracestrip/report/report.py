"""What a run has to tell: the JSON report, whose shape is versioned."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tracestrip import __version__
from tracestrip.exercise.exercise import Answer
from tracestrip.image.image import LayerArchive
from tracestrip.keep.choice import Rules
from tracestrip.keep.keepset import KeepSet
from tracestrip.observer.wire import text
from tracestrip.recording import Recording
from tracestrip.rootfs.tree import Entry, Kind
from tracestrip.source import Source
from tracestrip.trial import refused_tracers
from tracestrip.verify import Verification

SCHEMA_VERSION = 2
UNKNOWN_DIGEST = "sha256:" + 64 * "0"


@dataclass(frozen=True, slots=True)
class Totals:
    """Of an image: how many names it has, and the bytes of its files (hard links counted once)."""

    entries: int | None
    """None where counting would mean to read a whole host."""
    bytes: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """One finished run."""

    source: Source
    source_totals: Totals
    result: str | None
    """Where the stripped image is; None where nothing was published."""
    result_digest: str | None
    """Of its config."""
    result_manifest: str | None
    """Digest of its OCI manifest; None where it has none."""
    layer: LayerArchive
    command: tuple[str, ...]
    """Of the result."""
    recordings: tuple[Recording, ...]
    keep: KeepSet
    rules: Rules
    paths: Mapping[str, Any]
    """What `paths_document` gives; empty where no report is written."""
    doubts: tuple[str, ...]
    """What is strange about the image's package databases."""
    verification: Verification | None
    """None: nobody has run the result."""
    seconds: float

    @property
    def warnings(self) -> tuple[str, ...]:
        """For a person: what is strange, what is unproven."""
        unproven = ("the result is unproven: it was not run (--no-verify)",) if self.verification is None else ()
        by_chance = self.verification is not None and self.verification.passed_by_chance
        chance = ("the result failed once, with nothing missing, and passed when it was tried again",) if by_chance else ()
        unrepeatable = self.verification.unrepeatable if self.verification is not None else None
        again = (f"the original failed when it was run again: {unrepeatable}",) if unrepeatable else ()
        tracers = (warning for recording in self.recordings for warning in refused_tracers(recording.observation))
        return (*unproven, *chance, *again, *tracers, *self.source.tree.warnings, *self.doubts)

    def summary(self) -> dict[str, Any]:
        """All but the paths, ready for JSON."""
        image, before, after = self.source.image, self.source_totals, totals_of_kept(self.keep)
        return {
            "schema_version": SCHEMA_VERSION,
            "tracestrip": __version__,
            "source": {
                "name": image.name,
                "digest": image.digest,
                "manifest": image.manifest_digest,
                "entries": before.entries,
                "bytes": before.bytes,
            },
            "result": None if self.result is None else {
                "name": self.result,
                "digest": self.result_digest,
                "manifest": self.result_manifest,
                "entries": after.entries,
                "bytes": after.bytes,
                "layer": {"digest": self.layer.diff_id, "bytes": self.layer.size},
            },
            "command": list(self.command),
            "rules": _rules(self.rules),
            "exercises": [_exercise(recording) for recording in self.recordings],
            "warnings": list(self.warnings),
            "verified": self.verification is not None and self.verification.passed,
            "verification": None if self.verification is None else verification_document(self.verification),
            "calls": sum(recording.observation.calls for recording in self.recordings),
            "seconds": round(self.seconds, 3),
        }  # fmt: skip

    def to_json(self) -> str:
        """The whole report. Bytes of a path that are not UTF-8 stand as lone surrogates (PEP 383)."""
        return json.dumps({**self.summary(), **self.paths}, indent=1) + "\n"


def totals_of(source: Source) -> Totals:
    """Of an image; not of a directory, which may be a whole host."""
    return Totals(None, None) if source.is_directory else _totals(source.tree.walk())


def totals_of_kept(keep: KeepSet) -> Totals:
    """Of a kept set."""
    return _totals(kept.entry for kept in keep)


def _totals(entries: Iterable[Entry]) -> Totals:
    count, files = 0, {}
    for entry in entries:
        count += 1
        if entry.kind is Kind.FILE:
            files[entry.inode or entry.path] = entry.size
    return Totals(count, sum(files.values()))


def verification_document(verification: Verification) -> dict[str, Any]:
    """Ready for JSON."""
    checks = verification.checks
    return {
        "passed": verification.passed,
        "held_out": list(checks.probes),
        "compared_output": checks.compare_output,
        "original_failed_again": None if verification.unrepeatable is None else str(verification.unrepeatable),
        "rounds": [
            {
                "faults": [{"what": fault.what, "output": text(fault.output[-_OUTPUT:])} for fault in round_.faults],
                "missed": list(map(text, round_.missed)),
                "unasked": list(map(text, round_.unasked)),
                "added": list(map(text, round_.added)),
            }
            for round_ in verification.rounds
        ],
    }


_OUTPUT = 4096  # bytes


def _rules(rules: Rules) -> dict[str, Any]:
    """By the names of the options."""
    return {
        "include": list(rules.include),
        "exclude": list(rules.exclude),
        "keep": "opened" if rules.opened_only else "used",
        "packages": list(rules.packages),
        "with": list(rules.presets),
        "widen": sorted(rules.widen),
    }


def _exercise(recording: Recording) -> dict[str, Any]:
    exercised = recording.exercised
    return {
        "command": list(recording.arguments),
        "target": "job" if exercised.is_job else "service",
        "probes": [_answer(answer) for answer in exercised.probes],
        "commands": [_answer(answer) for answer in exercised.commands],
        "runs": recording.runs,
        "calls": recording.observation.calls,
    }


def _answer(answer: Answer) -> dict[str, Any]:
    return {"command": answer.command, "attempts": answer.attempts, "seconds": round(answer.seconds, 3)}
