"""Where a result goes: settled, and refused, before anything runs."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tracestrip.errors import UsageError
from tracestrip.image.image import Image
from tracestrip.image.oci_output import check_layout
from tracestrip.image.reference import DIRECTORY, ENGINE, OCI, Reference, parse_name, parse_reference, stripped_name
from tracestrip.whole_file import is_stream


@dataclass(frozen=True, slots=True)
class Place:
    """What the user says of it."""

    tag: str | None = None
    output: str | None = None
    force: bool = False
    """Replace a file that is there, add to an OCI layout that is there."""


def destination(place: Place, source: Reference) -> Reference:
    """The reference of the result. Raises UsageError for one that cannot be written."""
    if place.output is None:
        if source.transport != ENGINE or source.name is None:
            raise UsageError(f"{source}: say where the result goes: -o docker-archive:FILE or -o oci:DIRECTORY")
        return Reference(ENGINE, None, parse_name(place.tag) if place.tag else stripped_name(source.name))
    target = parse_reference(place.output)
    if target.transport == DIRECTORY:
        raise UsageError(f"-o {place.output}: a directory cannot hold an image: use -o oci:DIRECTORY")
    if place.tag and target.name:
        raise UsageError(f"--tag {place.tag}: -o {place.output} names the result already: leave out one of them")
    if place.tag:
        target = parse_reference(f"{target}:{place.tag}")
    if target.transport == OCI and target.path is not None:
        check_layout(target.path, force=place.force)
    elif target.path is not None:
        check_writable(target.path, force=place.force)
    return target


def named_after(image: Image, target: Reference) -> Reference:
    """The target; under the image's name with "-stripped", where the user gave none."""
    return target.named(stripped_name(image.tag)) if target.name is None and image.tag and "@" not in image.tag else target


def check_apart(option: str, path: Path, others: Iterable[Path]) -> None:
    """Raises UsageError where *path*, which *option* writes, is one of the others: they would be lost."""
    if not is_stream(path) and path.resolve() in {other.resolve() for other in others}:
        raise UsageError(f"{option} {path}: the run reads or writes something else there: choose another name")


def check_writable(path: Path, *, force: bool) -> None:
    """Raises UsageError for a file that is there already, unless *force*, or that cannot be written."""
    if is_stream(path):
        return
    if path.exists() and not force:
        raise UsageError(f"{path}: exists already: choose another name, or replace it with --force")
    directory = path.resolve().parent
    if path.is_dir() or path.is_block_device() or not directory.is_dir() or not os.access(directory, os.W_OK):
        raise UsageError(f"{path}: cannot be written: choose a place in a directory that exists and is writable")
