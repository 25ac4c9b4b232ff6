"""Writes a docker-archive: one image of one layer, as `docker load`, `podman load` and skopeo read it."""

import hashlib
import io
import json
import tarfile
from typing import IO

from tracestrip.image.config import Config
from tracestrip.image.image import LayerArchive


def write_docker_archive(config: Config, layer: LayerArchive, tag: str | None, output: IO[bytes]) -> str:
    """Write the image to *output*; the digest of its config. The same image gives the same bytes."""
    content = config.to_bytes()
    digest = hashlib.sha256(content).hexdigest()
    layer_name = layer.diff_id.removeprefix("sha256:") + ".tar"
    manifest = [{"Config": f"{digest}.json", "RepoTags": [tag] if tag else None, "Layers": [layer_name]}]
    documents = {f"{digest}.json": content, "manifest.json": json.dumps(manifest).encode()}
    with tarfile.open(fileobj=output, mode="w|", format=tarfile.GNU_FORMAT) as archive, layer.file.open("rb") as source:
        source.seek(layer.offset)
        archive.addfile(header(layer_name, layer.size), source)
        for name, document in documents.items():
            archive.addfile(header(name, len(document)), io.BytesIO(document))
    return f"sha256:{digest}"


def header(name: str, size: int) -> tarfile.TarInfo:
    """Of a member whose time, owner and mode say nothing."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member
