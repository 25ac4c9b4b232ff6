"""Image references: a name in the engine, or a transport and a place, as in containers-transports(5)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tracestrip.errors import ImageError, UsageError

ENGINE = "docker-daemon"
ARCHIVE = "docker-archive"
OCI = "oci"
OCI_ARCHIVE = "oci-archive"
DIRECTORY = "dir"

_NOT_SUPPORTED = ("containers-storage", "docker", "sif", "ostree")
_NAME = re.compile(
    r"(?P<repository>[a-zA-Z0-9][\w.\-]*(?::[0-9]+(?=/))?(?:/[\w.\-]+)*)(?::(?P<tag>\w[\w.\-]{0,127}))?(?P<digest>@sha256:[0-9a-f]{64})?\Z",
    re.ASCII,
)
_REF = re.compile(r"[A-Za-z0-9]+(?:(?:[-._:@+/]|--)[A-Za-z0-9]+)*\Z")  # OCI image-spec, annotations.md
_INDEX = re.compile(r"@[0-9]{1,9}\Z")
_IMPLIED = ("docker.io/library/", "docker.io/", "localhost/")


@dataclass(frozen=True, slots=True)
class Reference:
    """Where an image is or goes."""

    transport: str
    """ENGINE, ARCHIVE, OCI, OCI_ARCHIVE or DIRECTORY."""
    path: Path | None
    """The file or directory; None in the engine."""
    name: str | None
    """`repository:tag`, or what an OCI layout calls it, or @N, the Nth image of an archive; None where nothing names it."""

    def __str__(self) -> str:
        if self.path is None:
            return self.name or ""
        return f"{self.transport}:{self.path}" + (f":{self.name}" if self.name else "")

    def named(self, name: str) -> "Reference":
        """The same place under *name*, where that can be a name there; else as it is."""
        fits = _REF if self.transport in (OCI, OCI_ARCHIVE) else _NAME
        whole = self.transport in (OCI, OCI_ARCHIVE) or ":" in name
        return replace(self, name=name) if whole and fits.match(name) else self


def parse_reference(text: str) -> Reference:
    """The reference that *text* writes. Raises UsageError."""
    transport, colon, rest = text.partition(":")
    if not colon or transport not in _EXAMPLES:
        if colon and transport in _NOT_SUPPORTED and ("/" in rest or Path(rest.partition(":")[0]).exists()):
            raise UsageError(f"{text}: the transport {transport} is not supported: use one of {', '.join(_EXAMPLES)}")
        return Reference(ENGINE, None, parse_name(text))
    if transport == ENGINE and rest:
        return Reference(ENGINE, None, parse_name(rest))
    if transport == DIRECTORY and rest:
        return Reference(DIRECTORY, Path(rest), None)
    file, _, name = rest.partition(":")
    if not file:
        raise UsageError(f"{text}: nothing stands after the transport: write {transport}:{_EXAMPLES[transport]}")
    if not name or _INDEX.match(name):
        return Reference(transport, Path(file), name or None)
    if transport == ARCHIVE:
        return Reference(ARCHIVE, Path(file), parse_name(name))
    if not _REF.match(name):
        raise UsageError(f"{text}: {name!r} is no name in an OCI layout: use letters, digits and single - . _ : @ + /")
    return Reference(transport, Path(file), name)


_EXAMPLES = {ENGINE: "NAME:TAG", ARCHIVE: "FILE", OCI: "DIRECTORY", OCI_ARCHIVE: "FILE", DIRECTORY: "PATH"}


def parse_name(text: str) -> str:
    """*text* as `repository:tag`, or with its digest; the tag is "latest" when none is given. Raises UsageError."""
    match = _NAME.match(text)
    if not match:
        raise UsageError(f"{text!r} is not an image's name: write NAME[:TAG], or TRANSPORT:PATH")
    if match["tag"] or match["digest"]:
        return text
    return f"{text}:latest"


def stripped_name(name: str) -> str:
    """The name that the stripped image gets by default: NAME:TAG-stripped. Raises UsageError for a bare digest."""
    if "@" in name:
        raise UsageError(f"{name}: an image named by digest has no tag to append to: name the result with --tag")
    return f"{name}-stripped"


def chosen(images: Sequence[Sequence[str]], wanted: str | None, place: str) -> int:
    """Which of the *images*, each with its names, is *wanted*: a name, @N, or None for the only one. Raises ImageError."""
    there = ", ".join(names[0] if names else f"@{number}" for number, names in enumerate(images)) or "none"
    if wanted is None:
        if len(images) == 1:
            return 0
        raise ImageError(f"{place}: it has {len(images)} images ({there}): choose one, as {place}:NAME")
    if _INDEX.match(wanted):
        number = int(wanted[1:])
        if number >= len(images):
            raise ImageError(f"{place}: it has no image {wanted}, but {len(images)}, counted from @0: choose one of them")
        return number
    for agree in (lambda name: name == wanted, lambda name: _short(name) == _short(wanted)):
        found = [number for number, names in enumerate(images) if any(map(agree, names))]
        if len(found) > 1:
            raise ImageError(f"{place}: {wanted} names several of its images ({there}): choose one by number, as @{found[0]}")
        if found:
            return found[0]
    raise ImageError(f"{place}: it has no image {wanted}, but {there}: choose one of them")


def _short(name: str) -> str:
    """Without what engines put before a name or after it by themselves."""
    for implied in _IMPLIED:
        name = name.removeprefix(implied)
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"
