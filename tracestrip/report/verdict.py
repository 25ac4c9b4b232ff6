"""What a verification has to tell, of one that failed above all."""

from dataclasses import dataclass
from typing import Any

from tracestrip import __version__
from tracestrip.errors import VerificationError
from tracestrip.image.image import Image
from tracestrip.observer.wire import text
from tracestrip.report.report import SCHEMA_VERSION, verification_document
from tracestrip.verify import Verification

_MOST_PATHS = 20
_MOST_OUTPUT = 1000
"""Bytes that are shown of what one probe, or the target, wrote last."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of `tracestrip verify`: the second image does what the first one does."""

    original: Image
    stripped: Image
    verification: Verification

    def summary(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "schema_version": SCHEMA_VERSION,
            "tracestrip": __version__,
            "original": {"name": self.original.name, "digest": self.original.digest},
            "stripped": {"name": self.stripped.name, "digest": self.stripped.digest},
            "verified": self.verification.passed,
            "verification": verification_document(self.verification),
        }


def refusal(stripped: str, verification: Verification, consequence: str = "") -> VerificationError:
    """What ends a command whose result fails: one line, and the differences above it. *consequence*: what follows, and ": "."""
    last = verification.rounds[-1]
    repairs = sum(1 for round_ in verification.rounds if round_.added)
    after = f" after {repairs} round{'s' * (repairs != 1)} of repair" if repairs else ""
    remedy = last.faults[0].remedy if last.faults[0].remedy.startswith("let ") else "see the difference above"
    remedy = "let the exercise use what is missing, or --include it" if last.missed or last.unasked else remedy
    what = f"{stripped}: the stripped image fails where the original does not{after}: {last.faults[0].what}"
    return VerificationError(f"{what}: {consequence}{remedy}", _difference(verification))


def _difference(verification: Verification) -> bytes:
    last = verification.rounds[-1]
    lines: list[bytes] = []
    for fault in last.faults:
        lines += [fault.what.encode("utf-8", "backslashreplace"), *fault.output[-_MOST_OUTPUT:].splitlines()]
    lines += _listed(b"asked for in vain, and in the original:", last.missed)
    lines += _listed(b"missing, and used by the original in the same exercise:", last.unasked)
    return b"\n".join(lines)


def _listed(title: bytes, paths: tuple[bytes, ...]) -> list[bytes]:
    if not paths:
        return []
    more = [b"  and %d more" % (len(paths) - _MOST_PATHS)] if len(paths) > _MOST_PATHS else []
    return [title, *(b"  " + _shown(path) for path in paths[:_MOST_PATHS]), *more]


def _shown(path: bytes) -> bytes:
    return text(path).encode("utf-8", "backslashreplace")
