"""Descriptors: how OCI documents point at blobs (OCI image-spec, descriptor.md); Docker's schema 2 has the same shape."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tracestrip.errors import ImageError
from tracestrip.image.blob import Blob
from tracestrip.image.members import Members
from tracestrip.image.platform import Platform, platform_of

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
_DOCKER = "application/vnd.docker."

MANIFESTS = (MANIFEST, _DOCKER + "distribution.manifest.v2+json")
INDEXES = (INDEX, _DOCKER + "distribution.manifest.list.v2+json")
CONFIGS = (CONFIG, _DOCKER + "container.image.v1+json")
LAYERS = (
    *(kind + compression for compression in ("", "+gzip", "+zstd")
      for kind in (LAYER, "application/vnd.oci.image.layer.nondistributable.v1.tar")),
    *(_DOCKER + "image.rootfs." + kind for kind in ("diff.tar", "diff.tar.gzip", "diff.tar.zstd", "foreign.diff.tar.gzip")),
)  # fmt: skip

REF_NAME = "org.opencontainers.image.ref.name"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One blob: its type, digest and size in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str]
    platform: Platform | None

    def find(self, members: Members, called: str) -> Blob:
        """The blob in a layout, of the right size; its digest is not checked. *called* is what it is, in a message."""
        algorithm, _, encoded = self.digest.partition(":")
        blob = members.blob(f"blobs/{algorithm}/{encoded}")
        if blob.size != self.size:
            raise ImageError(
                f"{members.place}: {called} {self.digest} has {blob.size} bytes, not {self.size}: save or copy the image again"
            )
        return blob

    def document(self, members: Members, called: str) -> bytes:
        """The JSON document. Raises ImageError when its size or digest is another; ValueError, EOFError."""
        content = self.find(members, called).document()
        algorithm = self.digest.partition(":")[0]
        found = f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
        if found != self.digest:
            raise ImageError(f"{members.place}: {called} {self.digest} is damaged: its digest is {found}: copy the image again")
        return content


def parse_descriptor(document: Any) -> Descriptor:
    """Raises ValueError when *document* is none."""
    if not isinstance(document, dict):
        raise ValueError("a descriptor is no object")  # noqa: TRY004
    media_type, digest, size = (document.get(key) for key in ("mediaType", "digest", "size"))
    if not isinstance(media_type, str) or type(size) is not int or size < 0:
        raise ValueError("a descriptor has no mediaType or no size")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ValueError(f"the digest {digest!r} is none of sha256 or sha512")
    platform = document.get("platform")
    known = platform_of(platform) if isinstance(platform, dict) else None
    return Descriptor(media_type, digest, size, texts(document.get("annotations")), known)


def texts(annotations: Any) -> Mapping[str, str]:
    """Annotations: texts by text. Raises ValueError."""
    if annotations is None:
        return {}
    if not isinstance(annotations, dict) or not all(isinstance(value, str) for value in annotations.values()):
        raise ValueError("annotations are no texts")
    return annotations
