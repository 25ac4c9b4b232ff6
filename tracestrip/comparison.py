"""What an exercise of the stripped image gave, beside what the same one gave on the original."""

import difflib
import re
from collections.abc import Iterator
from itertools import islice

from tracestrip.errors import UsageError
from tracestrip.exercise.exercise import Answer, Exercised, Fault

_MOST_LINES = 40
_WIDTH = 200


class Comparison:
    """Compares what was written, but for what matches one of the patterns."""

    def __init__(self, ignore: tuple[str, ...]) -> None:
        """*ignore*: regular expressions (re of Python) over whole outputs; ^ and $ match at lines. Raises UsageError."""
        self._ignored = [_compiled(pattern) for pattern in ignore]

    def faults(self, original: Exercised, stripped: Exercised) -> Iterator[Fault]:
        """The outputs that differ. Answers to the same command, in the same order, are compared."""
        if original.is_job and stripped.is_job:
            yield from self._different("the target's output", original.output, stripped.output)
        for option, ours, theirs in (
            ("probe", original.probes, stripped.probes),
            ("--exec", original.commands, stripped.commands),
        ):
            for before, after in _pairs(ours, theirs):
                yield from self._different(f"the output of {option} {before.command!r}", before.output, after.output)

    def _different(self, what: str, before: bytes | None, after: bytes | None) -> Iterator[Fault]:
        if before is None or after is None:
            remedy = "pipe it through sha256sum"
            yield Fault(f"{what} is too long to be compared (more than 16 MiB)", remedy)
            return
        if self._compared(before) != self._compared(after):
            yield Fault(f"{what} is another one", "let --ignore match what may differ", _difference(before, after))

    def _compared(self, output: bytes) -> bytes:
        for pattern in self._ignored:
            output = pattern.sub(b"", output)
        return output


def _pairs(before: tuple[Answer, ...], after: tuple[Answer, ...]) -> Iterator[tuple[Answer, Answer]]:
    """Of the same command. Those that failed have no answer; that is told already."""
    waiting = list(after)
    for answer in before:
        found = next((other for other in waiting if other.command == answer.command), None)
        if found is not None:
            waiting.remove(found)
            yield answer, found


def _difference(before: bytes, after: bytes) -> bytes:
    shown = difflib.unified_diff(_lines(before), _lines(after), "original", "stripped", lineterm="", n=1)
    return "\n".join(line[:_WIDTH] for line in islice(shown, _MOST_LINES)).encode()


def _lines(output: bytes) -> list[str]:
    return output.decode("utf-8", "backslashreplace").splitlines()[: 10 * _MOST_LINES]


def _compiled(pattern: str) -> re.Pattern[bytes]:
    try:
        return re.compile(pattern.encode(), re.MULTILINE)
    except re.error as error:
        raise UsageError(f"--ignore {pattern!r}: {error}: write a regular expression of Python") from error
