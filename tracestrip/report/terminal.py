"""What a person sees: progress on stderr while it runs, a table on stdout at the end."""

from pathlib import Path
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tracestrip.recording import Recording
from tracestrip.report.report import Report, totals_of_kept
from tracestrip.report.verdict import Verdict
from tracestrip.verify import Verification


class Progress:
    """The step that is under way, on a terminal; nothing elsewhere."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        # No refresh thread: this process forks.
        self._live = Live(console=self._console, transient=True, auto_refresh=False)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def step(self, text: str) -> None:
        """Say what is being done now."""
        if self._console.is_terminal:
            self._live.update(Text(f"… {text}", style="dim"), refresh=True)


def print_table(report: Report) -> None:
    """The totals of a run, on stdout; its warnings before them, on stderr."""
    for warning in report.warnings:
        Console(stderr=True, soft_wrap=True).print(Text(f"warning: {warning}", style="yellow"))
    before, after = report.source_totals, totals_of_kept(report.keep)
    table = Table(title=Text(report.result or ""), title_justify="left", show_edge=False, pad_edge=False, title_style="bold")
    for heading, justify in (("", "left"), ("original", "right"), ("stripped", "right"), ("", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    table.add_row("files", _count(before.entries), _count(after.entries), _share(before.entries, after.entries))
    table.add_row("size", size(before.bytes), size(after.bytes), _share(before.bytes, after.bytes))
    console = Console(soft_wrap=True)
    console.print(table)
    rules = count_rules(report)
    console.print(Text(f"kept: {', '.join(f'{count:,} {_LABELS.get(rule, rule)}' for rule, count in rules)}", style="dim"))
    calls = sum(recording.observation.calls for recording in report.recordings)
    told = [_exercised(recording) for recording in report.recordings]
    console.print(Text(f"{', '.join(told)}, {calls:,} file calls seen, {report.seconds:.1f} s", style="dim"))
    console.print(_proof(report.verification))


def print_recording(recording: Recording, output: Path) -> None:
    """What `observe` has written, on stdout."""
    seen = f"{len(recording.observation.uses):,} uses of files in {recording.observation.calls:,} calls"
    Console(soft_wrap=True).print(Text(f"{output}: {_exercised(recording)}, {seen}"))


def print_verdict(verdict: Verdict) -> None:
    """Of `verify`, on stdout."""
    console = Console(soft_wrap=True)
    console.print(Text(f"{verdict.stripped.name} does what {verdict.original.name} does"))
    console.print(_proof(verdict.verification))


def _exercised(recording: Recording) -> str:
    probes = len(recording.exercised.probes)
    how = "the command ended by itself" if recording.exercised.is_job else f"{probes} probe{'s' * (probes != 1)} passed"
    return how + (f" in each of {recording.runs} runs" if recording.runs > 1 else "")


def _proof(verification: Verification | None) -> Text:
    """The line that says how far the result can be trusted."""
    if verification is None:
        return Text("UNPROVEN: the result was not run", style="bold red")
    parts = ["verified: the result does the same"]
    if verification.checks.probes:
        count = len(verification.checks.probes)
        parts.append(f"{count} held-out probe{'s' * (count != 1)} passed")
    if verification.checks.compare_output:
        parts.append("the outputs are equal")
    added = sum(len(round_.added) for round_ in verification.rounds)
    if added:
        rounds = verification.repairs
        parts.append(f"repaired in {rounds} round{'s' * (rounds != 1)}: {added:,} paths were missing")
    if verification.passed_by_chance:
        parts.append("at the second try, with nothing changed")
    missed = len(verification.rounds[-1].missed)
    if missed:
        parts.append(f"{missed:,} paths were asked for in vain, without harm")
    return Text(", ".join(parts), style="yellow" if added else "green")


_LABELS = {
    "symlink to": "symlinks on the way",
    "directory of": "directories on the way",
    "ldd of": "libraries by ldd",
    "interpreter of": "interpreters",
    "package": "of whole packages",
    "widened package": "of widened packages",
    "widened directory": "of widened directories",
    "preset": "of presets",
    "dlopen note of": "named by dlopen notes",
    "entry of": "listed",
}


def count_rules(report: Report) -> list[tuple[str, int]]:
    """(rule, paths): each kept path counted under its first reason, the most frequent rule first."""
    counts: dict[str, int] = {}
    for kept in report.keep:
        rule = kept.reasons[0].rule
        counts[rule] = counts.get(rule, 0) + 1
    return sorted(counts.items(), key=lambda pair: -pair[1])


def size(count: int | None) -> str:
    """Bytes for people, in powers of ten as engines print them."""
    if count is None:
        return "-"
    if count < 10**6:
        return f"{count / 10**3:.1f} kB"
    return f"{count / 10**6:.2f} MB"


def _count(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def _share(before: int | None, after: int | None) -> str:
    return f"{100 * after / before:.1f} %" if before and after is not None else ""
