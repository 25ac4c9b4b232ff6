"""Why a path stayed or went, out of a report."""

import json
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracestrip.errors import UsageError
from tracestrip.keep.presets import preset_of
from tracestrip.observer.wire import raw
from tracestrip.report.report import SCHEMA_VERSION

_DEEPEST = 12
_MOST_SYMLINKS = 40  # MAXSYMLINKS, path_resolution(7)
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
    "widened package": "--widen package: something else of the package {} was used",
    "widened directory": "--widen directory: something else in {} was used",
    "preset": "--with {} says so",
    "dlopen note of": "--widen dlopen: {} says that it loads it while it runs",
    "entry of": "the stripped image listed {}, and lacked it",
}
_CHAINED = ("directory of", "symlink to", "ldd of", "interpreter of", "dlopen note of")
"""Rules that speak of another kept path, which has reasons of its own."""


def read_report(path: Path) -> dict[str, Any]:
    """The report in a file. Raises UsageError when it is none."""
    try:
        document = json.loads(path.read_bytes())
        if document["schema_version"] != SCHEMA_VERSION or not isinstance(document["kept"], list):
            raise ValueError
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}: name a file that --report wrote") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{path}: it is no report of this version of tracestrip: make it again with --report") from error
    return dict(document)


def explanation(report: dict[str, Any], path: str) -> str:
    """Some lines. Raises UsageError for a path that the image did not have."""
    kept = {entry["path"]: entry for entry in report["kept"]}
    wanted = _resolved(kept, posixpath.normpath("/" + path.lstrip("/")))
    if wanted in kept:
        return "\n".join(_shown(line) for line in (f"{wanted} stayed:", *_reasons(kept, wanted, "  ", frozenset())))
    removed = report["removed"]
    if removed is None:
        return _shown("\n".join((f"{wanted} is not in the result:", *_ways(report, kept, {"path": wanted}))))
    gone = next((entry for entry in removed if entry["path"] == wanted), None)
    if gone is None:
        raise UsageError(f"{wanted}: {report['source']['name']} had no such path: write an absolute path of the image")
    return "\n".join(_shown(line) for line in (f"{wanted} went:", *_ways(report, kept, gone)))


def _resolved(kept: dict[str, Any], path: str) -> str:
    """The path behind the symlinks of directories that stayed: /bin/sh is /usr/bin/sh. The last name is left as it is."""
    for _ in range(_MOST_SYMLINKS):
        names = path.split("/")
        for count in range(2, len(names)):
            above = kept.get("/".join(names[:count]), {})
            if "target" in above:
                target = posixpath.join(posixpath.dirname(above["path"]), above["target"])
                path = posixpath.normpath("/".join([target, *names[count:]]))
                break
        else:
            return path
    return path


def _reasons(kept: dict[str, Any], path: str, indent: str, told: frozenset[str]) -> Iterator[str]:
    """Each reason, and those of the path that it speaks of."""
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
        if rule in _CHAINED and of in kept and of != path and of not in told and len(indent) < 2 * _DEEPEST:
            yield f"{indent}  {of} stayed:"
            yield from _reasons(kept, of, indent + "    ", told | {path, of})


def _words(reason: dict[str, Any]) -> str:
    rule = reason["rule"]
    if rule in _ENDS:
        return _ENDS[rule]
    by = reason.get("first_used_by")
    first = f", first by {by['program'] or 'a process'} (pid {by['pid']})" if by else ""
    during = f" during {reason['during']}" if reason.get("during") else ""
    if rule in _OF:
        return _OF[rule].format(reason.get("of", "something")) + first + during
    return f"it was {_PAST.get(rule, rule)}{first}{during}"


_PAST = {
    "checked": "looked up (stat, access)", "readlink": "read as a symlink", "created": "named to be made", "linked": "linked",
    "interpreted": "executed for another file",
}  # fmt: skip


def _ways(report: dict[str, Any], kept: dict[str, Any], gone: dict[str, Any]) -> Iterator[str]:
    """Why it is not there, and what would keep it."""
    path = gone["path"]
    if "excluded_by" in gone:
        yield f"  it was used, but --exclude {gone['excluded_by']} says so"
        yield "  to keep it: leave out that option"
        return
    probes = sum(len(exercise["probes"]) for exercise in report["exercises"])
    yield f"  nothing used it: neither the command nor the {probes} probes, and no kept file needs it by ldd"
    last = (report.get("verification") or {"rounds": [{"missed": []}]})["rounds"][-1]
    if path in last["missed"]:
        yield "  the result asked for it in vain when it was verified"
    yield f"  to keep it: --include {path}"
    if "package" in gone:
        yield f"  or its whole package: --keep-package {gone['package']}"
    preset = preset_of(raw(path))
    if preset is not None:
        yield f"  or --with {preset}"
    if any(posixpath.dirname(other) == posixpath.dirname(path) for other in kept):
        yield "  or --widen directory, as other files of its directory stayed"
    yield "  or a --probe that makes the service use it"


def _shown(line: str) -> str:
    """Bytes that are not UTF-8 cannot be printed as they are."""
    return line.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
