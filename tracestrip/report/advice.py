"""Which options would keep a path that went."""

import posixpath
from collections.abc import Iterable, Iterator

from tracestrip.keep.patterns import fits
from tracestrip.keep.presets import preset_of
from tracestrip.keep.widening import DOCUMENTATION, used_paths
from tracestrip.observer.wire import raw, text
from tracestrip.report.document import GoneDocument, WrittenReport
from tracestrip.report.shell import literal, quoted


def covering(path: bytes, patterns: Iterable[str]) -> list[str]:
    """Those of the --exclude *patterns* that take *path* away: they match it, or a directory above it."""
    names = path.split(b"/")
    above = [b"/", *(b"/".join(names[:count]) for count in range(2, len(names) + 1))]
    return [pattern for pattern in dict.fromkeys(patterns) if any(fits(place, raw(pattern)) for place in above)]


def exclude_options(patterns: Iterable[str]) -> str:
    """The options of these patterns."""
    return " and ".join(f"--exclude {quoted(pattern)}" for pattern in patterns)


def advice(report: WrittenReport, gone: GoneDocument) -> Iterator[str]:
    """The first line ends "to keep it: …", the others begin with "or"."""
    include = f"--include {quoted(literal(gone['path']))}"
    excluding = excluders(report, gone)
    unopened = ["--keep opened"] if "used" in gone else []
    if excluding:
        options = " and ".join([exclude_options(excluding), *unopened])
        yield f"to keep it: leave out {options}" + ("" if "excluded_by" in gone or unopened else f", and {include}")
        return
    yield "to keep it: " + "".join(f"leave out {option}, or " for option in unopened) + include
    package = gone.get("package")
    if package is not None:
        yield f"or its whole package: --keep-package {quoted(package)}"
    preset = preset_of(raw(gone["path"]), lambda pattern: raw(report.resolved(text(pattern))))
    if preset is not None:
        yield f"or --with {preset}"
    if _can_be_widened(gone):
        files = [entry for entry in report.kept.values() if entry["type"] != "directory"]
        paths = used_paths((one["path"], reason["rule"], reason.get("of")) for one in files for reason in one["reasons"])
        used = [entry for entry in files if entry["path"] in paths]
        directory = posixpath.dirname(gone["path"])
        if "directory" not in report.rules["widen"] and any(posixpath.dirname(one["path"]) == directory for one in used):
            yield "or --widen directory, as other files of its directory were used"
        if "package" not in report.rules["widen"] and any(package and one.get("package") == package for one in used):
            yield "or --widen package, as other files of its package were used"
    yield f"or a --probe that makes the service {'open' if unopened else 'use'} it"


def excluders(report: WrittenReport, gone: GoneDocument) -> list[str]:
    """The --exclude patterns that take it away; first the one that did, where it would have stayed without."""
    first = [gone["excluded_by"]] if "excluded_by" in gone else []
    return list(dict.fromkeys((*first, *covering(raw(gone["path"]), report.rules["exclude"]))))


def _can_be_widened(gone: GoneDocument) -> bool:
    return gone.get("type", "directory") != "directory" and not raw(gone["path"]).startswith(DOCUMENTATION)
