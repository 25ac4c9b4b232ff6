"""docker-archive: what `docker save` writes and `docker load` reads.

A tar archive, perhaps compressed, with manifest.json: [{"Config": NAME, "RepoTags": [...], "Layers": [NAME, ...]}], the
lowest layer first. That is so since Docker 1.10, with blobs named by digest since 25; older ones are in legacy_archive.py.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from tracestrip.errors import ImageError
from tracestrip.image.config import Config
from tracestrip.image.damage import damage
from tracestrip.image.image import Image
from tracestrip.image.legacy_archive import read_legacy_archive
from tracestrip.image.members import ArchiveMembers
from tracestrip.image.reference import chosen
from tracestrip.image.room import Room
from tracestrip.image.unpack import layer_archive, plain_archive

_NAMED_BY_DIGEST = re.compile(r"(?:.*/)?([0-9a-f]{64})(?:\.json)?")
_SAVE_AGAIN = "save the image again"


def read_archive(file: Path, name: str | None, room: Room, called: str) -> Image:
    """The image *name* in the archive, or its only one; *called* is what the user calls it.

    Every layer's diff ID is checked, and the config's digest where its name tells it. Raises ImageError, EnvironmentLack.
    """
    if not file.is_file():
        raise ImageError(f"{file}: no such file: name an archive that `docker save` wrote")
    plain = plain_archive(file, room)
    with damage(str(file), _SAVE_AGAIN):
        members = ArchiveMembers(file, plain)
        manifest = members.find("manifest.json")
        if manifest is None:
            return _without_manifest(file, members, name, room, called)
        images = _images(manifest.document(), file)
        tags = [image.get("RepoTags") or [] for image in images]
        number = chosen(tags, name, f"docker-archive:{file}")
        image = images[number]
        content = members.blob(image["Config"]).document()
        digest = hashlib.sha256(content).hexdigest()
        said = _NAMED_BY_DIGEST.fullmatch(image["Config"])
        if said and said[1] != digest:
            raise ImageError(f"{file}: the config {image['Config']} is damaged: its digest is sha256:{digest}: {_SAVE_AGAIN}")
        config = Config.parse(content, called)
        names = image["Layers"]
        if len(config.diff_ids) != len(names):
            raise ImageError(f"{file}: the config has {len(config.diff_ids)} layers, the manifest {len(names)}: {_SAVE_AGAIN}")
        layers = tuple(
            layer_archive(members.blob(layer), diff_id, room, f"{file}: the layer {layer}")
            for layer, diff_id in zip(names, config.diff_ids, strict=True)
        )
    tag = name if name and not name.startswith("@") else next(iter(tags[number]), None)
    return Image(called, tag, f"sha256:{digest}", config, layers)


def _without_manifest(file: Path, members: ArchiveMembers, name: str | None, room: Room, called: str) -> Image:
    if members.find("repositories") is not None:
        return read_legacy_archive(file, members, name, room, called)
    if members.find("oci-layout") is not None:
        raise ImageError(f"{file}: it is an archive of an OCI layout: write oci-archive:{file}")
    raise ImageError(f"{file}: it has no manifest.json: it is no archive as `docker save` writes it")


def _images(content: bytes, file: Path) -> list[dict[str, Any]]:
    images = json.loads(content)
    shape = isinstance(images, list) and images and all(
        isinstance(image, dict) and isinstance(image.get("Config"), str) and _are_texts(image.get("Layers"))
        and _are_texts(image.get("RepoTags") or [])
        for image in images
    )  # fmt: skip
    if not shape:
        raise ImageError(f"{file}: its manifest.json names no image: {_SAVE_AGAIN}")
    return list(images)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)
