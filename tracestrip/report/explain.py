"""Why a path stayed or went, out of a report."""

from collections.abc import Iterator, Mapping

from tracestrip.errors import UsageError
from tracestrip.keep.keepset import RUNTIME_MOUNTS
from tracestrip.observer.wire import text
from tracestrip.report.advice import advice, exclude_options, excluders
from tracestrip.report.document import GoneDocument, KeptDocument, ReasonDocument, WrittenReport
from tracestrip.report.shell import shown

_DEEPEST = 12
_ENDS = {
    "always kept": "every result has it",
    "workdir": "it is the working directory",
    "volume": "the image declares it as a volume",
    "mount point": "the run mounted something there",
}
_OF = {
    "directory of": "it is on the way to {}",
    "symlink to": "it is a symlink on the way to {}",
    "ldd of": "it is a library that {} needs",
    "interpreter of": "it is the interpreter of {}",
    "included": "--include {} says so",
    "package": "--keep-package {} says so",
    "widened package": "--widen package: a file of the package {} was used",
    "widened directory": "--widen directory: a file in {} was used",
    "preset": "--with {} says so",
    "dlopen note of": "--widen dlopen: {} says that it loads it while it runs",
    "entry of": "the stripped image listed {}, and lacked it",
}
_CHAINED = ("directory of", "symlink to", "ldd of", "interpreter of", "dlopen note of")
"""Rules that speak of another kept path, which has reasons of its own."""


def explanation(report: WrittenReport, path: str) -> str:
    """Some lines. Raises UsageError for a path that the image did not have."""
    wanted = report.resolved("/" + path)
    return "\n".join(map(shown, _lines(report, wanted)))


def _lines(report: WrittenReport, wanted: str) -> Iterator[str]:
    if wanted in report.kept:
        yield f"{wanted} stayed:"
        yield from _reasons(report.kept, wanted, "  ", set())
        return
    if report.gone is not None and wanted not in report.gone:
        raise UsageError(shown(f"{wanted}: {report.image} had no such path: write an absolute path of the image"))
    mount = next((mount for mount in map(text, RUNTIME_MOUNTS) if wanted.startswith(mount + "/")), None)
    if mount is not None:
        yield f"{wanted} went:"
        yield f"  an engine mounts its own {mount} over it: nothing that the image has there is ever seen"
        return
    gone = GoneDocument(path=wanted) if report.gone is None else report.gone[wanted]
    yield f"{wanted} is not in the result:" if report.gone is None else f"{wanted} went:"
    yield from (f"  {line}" for line in (*_causes(report, gone), *advice(report, gone)))


def _reasons(kept: Mapping[str, KeptDocument], path: str, indent: str, told: set[str]) -> Iterator[str]:
    """Each reason, and those of the path that it speaks of, unless they are among *told*."""
    told.add(path)
    entry = kept[path]
    if entry.get("round"):
        yield f"{indent}it was missing when the result was first run, and came in round {entry['round']} of repair"
    rules = [reason["rule"] for reason in entry["reasons"]]
    for number, reason in enumerate(entry["reasons"]):
        rule, of = reason["rule"], reason.get("of")
        if rule in rules[:number]:
            continue
        others = rules.count(rule) - 1
        yield indent + _words(reason) + (f" ({others} more like this)" if others else "")
        if of is not None and rule in _CHAINED and of in kept and of not in told and len(indent) < 2 * _DEEPEST:
            yield f"{indent}  {of} stayed:"
            yield from _reasons(kept, of, indent + "    ", told)


def _words(reason: ReasonDocument) -> str:
    rule = reason["rule"]
    if rule in _ENDS:
        return _ENDS[rule]
    if rule in _OF:
        return _OF[rule].format(reason.get("of", "something")) + _by(reason)
    return f"it was {_PAST.get(rule, rule)}{_by(reason)}"


def _by(reason: ReasonDocument) -> str:
    by, during = reason.get("first_used_by"), reason.get("during")
    first = f", first by {by['program'] or 'a process'} (pid {by['pid']})" if by else ""
    return first + (f" during {during}" if during else "")


_PAST = {
    "checked": "looked up (stat, access)", "readlink": "read as a symlink", "created": "named to be made", "linked": "linked",
    "interpreted": "executed for another file",
}  # fmt: skip


def _causes(report: WrittenReport, gone: GoneDocument) -> Iterator[str]:
    """Why it is not there."""
    path, excluding = gone["path"], excluders(report, gone)
    if "excluded_by" in gone:
        yield f"it would have stayed, but {exclude_options(excluding[:1])} says so"
        excluding = excluding[1:]
    elif "used" in gone:
        yield _unopened(gone["used"])
    elif path in report.unasked:
        probes = ", ".join(f"--verify-probe {probe}" for probe in report.held_out)
        yield f"the original used it in the verification's exercise ({probes or 'the same one, run again'})"
    elif report.gone is not None or not excluding:
        verb = "opened" if report.gone is None and report.rules["keep"] == "opened" else "used"
        probes = f"{report.probes} probe{'s' * (report.probes != 1)}"
        yield f"nothing {verb} it: neither the command nor the {probes}, and no kept file needs it by ldd"
    if path in report.missed:
        yield "the result asked for it in vain when it was verified"
    for pattern in excluding:
        yield f"{exclude_options([pattern])} takes it away, whatever uses it"


def _unopened(reasons: list[ReasonDocument]) -> str:
    """Of a path that would have stayed if every use counted."""
    uses = [reason for reason in reasons if reason["rule"] not in _OF]
    if not uses:
        return f"{', '.join(map(_words, reasons[:1]))}: --keep opened leaves out what was never opened"
    kinds = dict.fromkeys(_PAST.get(reason["rule"], reason["rule"]) for reason in uses)
    return f"it was {' and '.join(kinds)}{_by(uses[0])}, but never opened: --keep opened leaves it out"
