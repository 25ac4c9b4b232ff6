"""Makes layer archives and docker-archives, entry by entry."""

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tracestrip.image.image import LayerArchive
from tracestrip.rootfs.archive_tree import ArchiveTree

Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, content: bytes = b"", **fields: object) -> Member:
    """A member of a layer: a regular file unless *fields* (of TarInfo) say otherwise."""
    header = tarfile.TarInfo(name)
    header.size = len(content)
    for field, value in {"mode": 0o644, **fields}.items():
        setattr(header, field, value)
    return header, content


def directory(name: str, **fields: object) -> Member:
    return member(name, type=tarfile.DIRTYPE, **{"mode": 0o755, **fields})


def symlink(name: str, target: str) -> Member:
    return member(name, type=tarfile.SYMTYPE, linkname=target, mode=0o777)


def hard_link(name: str, target: str, **fields: object) -> Member:
    return member(name, type=tarfile.LNKTYPE, linkname=target, **fields)


def layer(path: Path, *members: Member) -> LayerArchive:
    """A layer archive at *path*."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as archive:
        for header, content in members:
            archive.addfile(header, io.BytesIO(content))
    content = path.read_bytes()
    return LayerArchive(path, 0, len(content), f"sha256:{hashlib.sha256(content).hexdigest()}")


def tree(place: Path, *layers: Sequence[Member]) -> ArchiveTree:
    """The merged view of layers, the lowest first."""
    return ArchiveTree(tuple(layer(place / f"layer{number}.tar", *members) for number, members in enumerate(layers)))


def docker_archive(path: Path, images: dict[str, list[LayerArchive]], config: object = None) -> Path:
    """A docker-archive of *images* by tag, whose config is *config* with the layers' diff IDs."""
    with tarfile.open(path, "w") as archive:
        manifest = []
        for number, (tag, layers) in enumerate(images.items()):
            names = []
            for index, part in enumerate(layers):
                names.append(f"{number}/{index}.tar")
                archive.add(part.file, names[-1])
            document = {"config": config or {}, "rootfs": {"type": "layers", "diff_ids": [part.diff_id for part in layers]}}
            manifest.append({"Config": f"{number}.json", "RepoTags": [tag], "Layers": names})
            _add(archive, f"{number}.json", document)
        _add(archive, "manifest.json", manifest)
    return path


def _add(archive: tarfile.TarFile, name: str, document: object) -> None:
    content = json.dumps(document).encode()
    header = tarfile.TarInfo(name)
    header.size = len(content)
    archive.addfile(header, io.BytesIO(content))
