"""Platforms: an operating system and a processor, in the words of configs and indexes (OCI image-spec, image-index.md)."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tracestrip.errors import UsageError

_GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_ALSO_RUN = {"amd64": ("386",)}
"""What a processor runs beside its own: i386 programs on x86-64, whose system calls the observer knows."""


@dataclass(frozen=True, slots=True)
class Platform:
    """Empty parts are unknown, or not asked for."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os or "unknown", self.architecture or "unknown", self.variant) if part)

    def has(self, wanted: "Platform") -> bool:
        """Whether an image for this platform is one that *wanted* asks for."""
        named = (self.os or "linux") == wanted.os and self.architecture == wanted.architecture
        return named and wanted.variant in ("", self.variant)

    @property
    def runs_here(self) -> bool:
        """Whether this machine's kernel and processor run it; so is hoped of what names no architecture."""
        here = host_architecture()
        return self.os in ("", "linux") and self.architecture in ("", here, *_ALSO_RUN.get(here, ()))


def host_architecture() -> str:
    """This machine's architecture in the words of image configs."""
    return _GO_ARCHITECTURES.get(platform.machine(), platform.machine())


def host_platform() -> Platform:
    """What is chosen of an image for several platforms when nothing is said."""
    return Platform("linux", host_architecture())


def parse_platform(text: str) -> Platform:
    """*text* is OS/ARCHITECTURE[/VARIANT]. Raises UsageError."""
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise UsageError(f"--platform {text}: write OS/ARCHITECTURE[/VARIANT], as linux/arm64")
    return Platform(*parts)


def platform_of(document: Mapping[str, Any]) -> Platform:
    """Of a config, or of the platform that an index gives for a manifest."""
    return Platform(*(str(document.get(key) or "") for key in ("os", "architecture", "variant")))
