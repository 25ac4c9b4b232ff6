"""Makes OCI layouts, blob by blob; and looks at directories as a whole."""

import gzip
import hashlib
import json
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.layers import Member, layer
from tracestrip.image.platform import host_architecture

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"

Document = dict[str, Any]
Compress = Callable[[bytes], bytes]


class Layout:
    """An OCI layout in a directory."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "blobs" / "sha256").mkdir(parents=True)
        (place / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.index()

    def blob(self, content: bytes | Document, media_type: str, **more: object) -> Document:
        """The descriptor of a blob that is written."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        digest = hashlib.sha256(data).hexdigest()
        (self.place / "blobs" / "sha256" / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data), **more}

    def path(self, descriptor: Document) -> Path:
        """The file of the blob that *descriptor* points at."""
        return self.place / "blobs" / str(descriptor["digest"]).replace(":", "/")

    def image(
        self, *archives: bytes, compress: tuple[str, Compress] = ("", bytes), config: Document | None = None, **manifest: object
    ) -> Document:
        """The descriptor of an image of *archives*, uncompressed layers, the lowest first."""
        document = {
            "architecture": host_architecture(), "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(archive).hexdigest()}" for archive in archives]},
            **(config or {}),
        }  # fmt: skip
        layers = [self.blob(compress[1](archive), LAYER + compress[0]) for archive in archives]
        head = {"schemaVersion": 2, "mediaType": MANIFEST, "config": self.blob(document, CONFIG)}
        return self.blob({**head, "layers": layers, **manifest}, MANIFEST)

    def index(self, **images: Document) -> Path:
        """Write index.json, with the images by their names; the layout's place."""
        named = [{**image, "annotations": {"org.opencontainers.image.ref.name": name}} for name, image in images.items()]
        (self.place / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": named}))
        return self.place


def zipped(archive: bytes) -> bytes:
    return gzip.compress(archive, 1, mtime=0)


def layer_bytes(place: Path, members: Sequence[Member]) -> bytes:
    return layer(place / "made.tar", *members).file.read_bytes()


@dataclass(frozen=True)
class Seen:
    """One name in a directory, and the file behind it."""

    kind: int
    mode: int
    owner: tuple[int, int]
    size: int
    mtime: int
    device: int
    target: bytes
    attributes: tuple[tuple[str, bytes], ...]
    content: str
    first_link: bytes = b""
    """The name before this one in the tree that is the same file, if there is one."""


def look(root: Path) -> dict[bytes, Seen]:
    """All names below *root*, and what is told of them; itself is "/"."""
    found: dict[bytes, Seen] = {}
    names: dict[int, list[bytes]] = {}
    waiting = [b""]
    while waiting:
        name = waiting.pop()
        path = os.fsencode(root) + name
        status = os.lstat(path)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            waiting += sorted((name + b"/" + below for below in os.listdir(path)), reverse=True)
        attributes = sorted(os.listxattr(path, follow_symlinks=False))
        found[name or b"/"] = Seen(
            kind=kind,
            mode=stat.S_IMODE(status.st_mode),
            owner=(status.st_uid, status.st_gid),
            size=status.st_size if kind == stat.S_IFREG else 0,
            mtime=status.st_mtime_ns,
            device=status.st_rdev,
            target=os.readlink(path) if kind == stat.S_IFLNK else b"",
            attributes=tuple((key, os.getxattr(path, key, follow_symlinks=False)) for key in attributes),
            content=hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest() if kind == stat.S_IFREG else "",
        )
        names.setdefault(status.st_ino, []).append(name)
    several = {name: together[0] for together in names.values() for name in together[1:]}
    return {name: replace(seen, first_link=several.get(name, b"")) for name, seen in found.items()}
