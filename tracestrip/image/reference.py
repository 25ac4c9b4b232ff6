"""Image references: a name in the engine, or a transport and a place, as in containers-transports(5)."""

import re
from dataclasses import dataclass
from pathlib import Path

from tracestrip.errors import UsageError

ENGINE = "docker-daemon"
ARCHIVE = "docker-archive"
DIRECTORY = "dir"

_NOT_YET = ("oci", "oci-archive", "containers-storage", "docker", "sif", "ostree")
_NAME = re.compile(
    r"(?P<repository>[a-zA-Z0-9][\w.\-]*(?::[0-9]+(?=/))?(?:/[\w.\-]+)*)(?::(?P<tag>\w[\w.\-]{0,127}))?(?P<digest>@sha256:[0-9a-f]{64})?\Z",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Reference:
    """Where an image is or goes."""

    transport: str
    """ENGINE, ARCHIVE or DIRECTORY."""
    path: Path | None
    """The file or directory; None in the engine."""
    name: str | None
    """The image's name with its tag, `repository:tag`; None where nothing names it."""

    def __str__(self) -> str:
        if self.path is None:
            return self.name or ""
        return f"{self.transport}:{self.path}" + (f":{self.name}" if self.name else "")


def parse_reference(text: str) -> Reference:
    """The reference that *text* writes. Raises UsageError."""
    transport, colon, rest = text.partition(":")
    if colon and transport in (ENGINE, ARCHIVE, DIRECTORY):
        if not rest:
            raise UsageError(f"{text}: nothing stands after the transport: write {transport}:" + _EXAMPLES[transport])
        if transport == ENGINE:
            return Reference(ENGINE, None, parse_name(rest))
        if transport == DIRECTORY:
            return Reference(DIRECTORY, Path(rest), None)
        file, _, name = rest.partition(":")
        return Reference(ARCHIVE, Path(file), parse_name(name) if name else None)
    if colon and transport in _NOT_YET and ("/" in rest or Path(rest.partition(":")[0]).exists()):
        raise UsageError(f"{text}: the transport {transport} is not supported: use {ENGINE}, {ARCHIVE} or {DIRECTORY}")
    return Reference(ENGINE, None, parse_name(text))


_EXAMPLES = {ENGINE: "NAME:TAG", ARCHIVE: "FILE", DIRECTORY: "PATH"}


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
