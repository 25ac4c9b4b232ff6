"""What an exercise of the stripped image gave, beside what the same one gave on the original."""

import difflib
import os
import re
from collections.abc import Iterator
from itertools import islice

from tracestrip.errors import UsageError
from tracestrip.exercise.exercise import Answer, Exercised, Fault
from tracestrip.observer.written import Written

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

    def _different(self, what: str, before: Written | None, after: Written | None) -> Iterator[Fault]:
        if before is None or after is None:
            raise ValueError(f"{what} was not kept")
        if (before.length, before.digest) == (after.length, after.digest):
            return
        whole = before.is_whole and after.is_whole
        if whole and self._compared(before.last) == self._compared(after.last):
            return
        remedy = "let --ignore match what may differ" if whole else "what is so long must be the same: --ignore cannot be used"
        yield Fault(f"{what} is another one", remedy, _difference(before, after))

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


def _difference(before: Written, after: Written) -> bytes:
    """Of their ends, where they are long."""
    if before.last == after.last:
        return f"they differ before what is kept of them: {before.length} bytes in the original, {after.length} here".encode()
    ours, theirs = before.last.splitlines(), after.last.splitlines()
    pairs = zip(ours, theirs, strict=False)
    same = next((at for at, pair in enumerate(pairs) if pair[0] != pair[1]), min(len(ours), len(theirs)))
    window = slice(max(0, same - 1), same + _MOST_LINES)
    shown = difflib.unified_diff(_lines(ours[window]), _lines(theirs[window]), "original", "stripped", lineterm="", n=1)
    lines = [line[:_WIDTH] for line in islice(shown, _MOST_LINES)]
    return "\n".join(lines or ["they differ in the ends of their lines only"]).encode()


def _lines(lines: list[bytes]) -> list[str]:
    return [line.decode("utf-8", "backslashreplace") for line in lines]


def _compiled(pattern: str) -> re.Pattern[bytes]:
    try:
        return re.compile(os.fsencode(pattern), re.MULTILINE)
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(f"--ignore {pattern!r}: {error}: write a regular expression of Python") from error
