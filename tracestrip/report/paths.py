"""The paths of a report, ready for JSON: what stayed and what went, and why."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tracestrip.keep.choice import Choice
from tracestrip.keep.keepset import KeepSet, Kept, Reason
from tracestrip.observer.wire import text
from tracestrip.recording import Recording
from tracestrip.rootfs.tree import Entry, Tree
from tracestrip.source import Source

Reasons = Mapping[bytes, Sequence[Reason]]


def paths_document(source: Source, choice: Choice, recordings: Iterable[Recording]) -> dict[str, Any]:
    """`kept` and `removed`, each path with the package that it is of.

    For a directory, which may be a whole host, `removed` is None and no package is told.
    """
    if source.is_directory:
        return {"kept": [_kept(kept, {}) for kept in choice.keep], "removed": None}
    owners = choice.owners()
    used = _used(source.tree, recordings) if choice.rules.opened_only else {}
    gone = (entry for entry in source.tree.walk() if entry.path not in choice.keep)
    return {
        "kept": [_kept(kept, owners) for kept in choice.keep],
        "removed": [_gone(entry, choice.keep, owners, used) for entry in gone],
    }


def _used(tree: Tree, recordings: Iterable[Recording]) -> Reasons:
    """What would stay if every use counted."""
    keep = KeepSet(tree)
    for recording in recordings:
        keep.add_observation(recording.observation, recording.scenario.surroundings.mount_points())
    return {kept.entry.path: kept.reasons for kept in keep}


def _kept(kept: Kept, owners: Mapping[bytes, str]) -> dict[str, Any]:
    document = _entry(kept.entry, owners)
    document["bytes"] = kept.entry.size
    if kept.round:
        document["round"] = kept.round
    return document | {"reasons": [_reason(reason) for reason in kept.reasons]}


def _gone(entry: Entry, keep: KeepSet, owners: Mapping[bytes, str], used: Reasons) -> dict[str, Any]:
    document = _entry(entry, owners)
    if entry.path in keep.excluded:
        document["excluded_by"] = text(keep.excluded[entry.path])
    elif entry.path in used:
        document["used"] = [_reason(reason) for reason in used[entry.path]]
    return document


def _entry(entry: Entry, owners: Mapping[bytes, str]) -> dict[str, Any]:
    document = {"path": text(entry.path), "type": entry.kind.value}
    if entry.target:
        document["target"] = text(entry.target)
    if entry.path in owners:
        document["package"] = owners[entry.path]
    return document


def _reason(reason: Reason) -> dict[str, Any]:
    document: dict[str, Any] = {"rule": reason.rule}
    if reason.of is not None:
        document["of"] = text(reason.of)
    if reason.process is not None:
        document["first_used_by"] = {"pid": reason.process.pid, "program": text(reason.process.program)}
    if reason.during:
        document["during"] = reason.during
    return document
