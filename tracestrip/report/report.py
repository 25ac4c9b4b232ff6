"""What a run has to tell: the JSON report, whose shape is versioned."""

import json
from dataclasses import dataclass
from typing import Any

from tracestrip import __version__
from tracestrip.exercise.exercise import Exercised
from tracestrip.image.image import Image
from tracestrip.keep.keepset import KeepSet, Kept, Reason

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Totals:
    """Of an image: how many names it has, and the bytes of its files (hard links counted once)."""

    entries: int | None
    """None where counting would mean to read a whole host."""
    bytes: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """One finished run."""

    source: Image
    source_totals: Totals
    result: str
    """Where the stripped image is."""
    result_digest: str
    """Of its config."""
    result_manifest: str | None
    """Digest of its OCI manifest; None where it has none."""
    layer_digest: str
    layer_bytes: int
    command: tuple[str, ...]
    exercised: Exercised
    keep: KeepSet
    calls: int
    warnings: tuple[str, ...]
    seconds: float

    def result_totals(self) -> Totals:
        """Of the stripped image."""
        return totals(self.keep)

    def summary(self) -> dict[str, Any]:
        """All but the kept paths, ready for JSON."""
        return {
            "schema_version": SCHEMA_VERSION,
            "tracestrip": __version__,
            "source": {
                "name": self.source.name,
                "digest": self.source.digest,
                "manifest": self.source.manifest_digest,
                "entries": self.source_totals.entries,
                "bytes": self.source_totals.bytes,
            },
            "result": {
                "name": self.result,
                "digest": self.result_digest,
                "manifest": self.result_manifest,
                "entries": self.result_totals().entries,
                "bytes": self.result_totals().bytes,
                "layer": {"digest": self.layer_digest, "bytes": self.layer_bytes},
            },
            "command": list(self.command),
            "target": "job" if self.exercised.is_job else "service",
            "probes": [
                {"command": probe.command, "attempts": probe.attempts, "seconds": round(probe.seconds, 3)}
                for probe in self.exercised.probes
            ],
            "warnings": list(self.warnings),
            "verified": False,
            "calls": self.calls,
            "seconds": round(self.seconds, 3),
        }

    def to_json(self) -> str:
        """The whole report. Bytes of a path that are not UTF-8 stand as lone surrogates (PEP 383)."""
        document = self.summary() | {"kept": [_kept(kept) for kept in self.keep]}
        return json.dumps(document, indent=1) + "\n"


def totals(keep: KeepSet) -> Totals:
    """Of a kept set."""
    files = {kept.entry.inode or kept.entry.path: kept.entry.size for kept in keep}
    return Totals(len(keep), sum(files.values()))


def _kept(kept: Kept) -> dict[str, Any]:
    entry = kept.entry
    return {
        "path": _text(entry.path),
        "type": entry.kind.value,
        "bytes": entry.size,
        "reasons": [_reason(reason) for reason in kept.reasons],
    }


def _reason(reason: Reason) -> dict[str, Any]:
    document: dict[str, Any] = {"rule": reason.rule}
    if reason.of is not None:
        document["of"] = _text(reason.of)
    if reason.process is not None:
        document["first_used_by"] = {"pid": reason.process.pid, "program": _text(reason.process.program)}
    return document


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
