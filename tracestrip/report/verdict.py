"""What a verification has to tell, of one that failed above all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tracestrip import __version__
from tracestrip.errors import ExerciseError, TracestripError, VerificationError
from tracestrip.image.image import Image
from tracestrip.observer.wire import text
from tracestrip.report.advice import covering, exclude_options
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


def refusal(stripped: str, verification: Verification, exclude: Sequence[str], consequence: str = "") -> TracestripError:
    """What ends a command whose result fails: one line, and the differences above it.

    *exclude*: the patterns of --exclude. *consequence*: what follows, and ": ".
    """
    if verification.unrepeatable is not None:
        remedy = "an exercise that leaves something behind, as in a --mount, cannot be verified: see --no-verify"
        what = f"the original fails, too, when it is run again ({verification.unrepeatable})"
        return ExerciseError(f"{what}: {consequence}{remedy}", verification.unrepeatable.output)
    last = verification.rounds[-1]
    repairs = verification.repairs
    after = f" after {repairs} round{'s' * (repairs != 1)} of repair" if repairs else ""
    remedy = last.faults[0].remedy if last.faults[0].remedy.startswith("let ") else "see the difference above"
    remedy = _remedy((*last.missed, *last.unasked), exclude) or remedy
    what = f"{stripped}: the stripped image fails where the original does not{after}: {last.faults[0].what}"
    return VerificationError(f"{what}: {consequence}{remedy}", _difference(verification))


def _remedy(lacked: tuple[bytes, ...], exclude: Sequence[str]) -> str:
    """What to do about the paths that are missing; nothing where there are none. Nothing else brings back what is excluded."""
    patterns = [covering(path, exclude) for path in lacked]
    excluding = list(dict.fromkeys(pattern for covers in patterns for pattern in covers))
    parts = [f"leave out {exclude_options(excluding)}"] if excluding else []
    if not all(patterns):
        parts.append(f"let the exercise use what {'else ' if excluding else ''}is missing, or --include it")
    return "; ".join(parts)


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
