"""What a person sees: progress on stderr while it runs, a table on stdout at the end."""

from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tracestrip.report.report import Report


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
    before, after = report.source_totals, report.result_totals()
    table = Table(title=Text(report.result), title_justify="left", show_edge=False, pad_edge=False, title_style="bold")
    for heading, justify in (("", "left"), ("original", "right"), ("stripped", "right"), ("", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    table.add_row("files", _count(before.entries), _count(after.entries), _share(before.entries, after.entries))
    table.add_row("size", size(before.bytes), size(after.bytes), _share(before.bytes, after.bytes))
    console = Console(soft_wrap=True)
    console.print(table)
    rules = count_rules(report)
    console.print(Text(f"kept: {', '.join(f'{count:,} {_LABELS.get(rule, rule)}' for rule, count in rules)}", style="dim"))
    probes = len(report.exercised.probes)
    how = "the command ended by itself" if report.exercised.is_job else f"{probes} probe{'s' * (probes != 1)} passed"
    console.print(Text(f"{how}, {report.calls:,} file calls seen, {report.seconds:.1f} s", style="dim"))


_LABELS = {
    "symlink to": "symlinks on the way",
    "directory of": "directories on the way",
    "ldd of": "libraries by ldd",
    "interpreter of": "interpreters",
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
