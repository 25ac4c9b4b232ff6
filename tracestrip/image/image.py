"""An image: its config and its layers, wherever they lie."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tracestrip.image.blob import Blob
from tracestrip.image.config import Config


@dataclass(frozen=True, slots=True)
class LayerArchive:
    """A layer as an uncompressed tar archive, which may lie inside of another file."""

    file: Path
    offset: int
    """Bytes before the archive in *file*."""
    size: int
    """Bytes of the archive."""
    diff_id: str

    @property
    def blob(self) -> Blob:
        """Where its bytes lie."""
        return Blob(self.file, self.offset, self.size)


@dataclass(frozen=True, slots=True)
class LayerDirectory:
    """A layer as a directory in overlayfs's form: whiteouts are 0:0 devices, opaque directories have an attribute."""

    path: Path


@dataclass(frozen=True, slots=True)
class Image:
    """An image that can be read. All its layers are of one form."""

    name: str
    """How the user calls it."""
    tag: str | None
    """`repository:tag`, or what an OCI layout calls it, from which the result's name is made; None where nothing names it."""
    digest: str | None
    """sha256 digest of its config (an engine calls it the image's ID); None for a plain directory."""
    config: Config
    layers: tuple[LayerArchive, ...] | tuple[LayerDirectory, ...]
    """The lowest first."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Of its manifest; empty where there is none."""
    manifest_digest: str | None = None
    """What registries call its digest; None where there is no manifest."""
