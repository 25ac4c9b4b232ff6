"""Archives that `docker save` wrote before 1.10: no manifest, and a JSON file for each layer that names its parent.
repositories is {NAME: {TAG: ID}}, ID/json is {"parent": ID, "config": …}, ID/layer.tar is the layer.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracestrip.image.config import Config
from tracestrip.image.damage import parse_object
from tracestrip.image.image import Image
from tracestrip.image.members import Members
from tracestrip.image.reference import chosen
from tracestrip.image.room import Room
from tracestrip.image.unpack import layer_archive

_MOST_LAYERS = 1000
_KEPT_KEYS = ("created", "author", "architecture", "os", "config")


def read_legacy_archive(file: Path, members: Members, name: str | None, room: Room, called: str) -> Image:
    """The image *name*, or the only one. Its config is made of the topmost layer's, so its digest is ours alone.

    Raises ImageError, ValueError and others of the parsers' family.
    """
    repositories = parse_object(members.blob("repositories").document())
    images = [(f"{repository}:{tag}", image) for repository, tags in repositories.items() for tag, image in tags.items()]
    tag, topmost = images[chosen([[known] for known, _ in images], name, f"docker-archive:{file}")]
    chain = _chain(members, str(topmost))
    layers = tuple(
        layer_archive(members.blob(f"{identity}/layer.tar"), None, room, f"{file}: the layer {identity}")
        for identity, _ in reversed(chain)
    )
    description = chain[0][1]
    document = {key: description[key] for key in _KEPT_KEYS if description.get(key) is not None}
    config = Config({**document, "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}})
    content = config.to_bytes()
    return Image(called, tag, f"sha256:{hashlib.sha256(content).hexdigest()}", Config.parse(content, called), layers)


def _chain(members: Members, identity: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The layers' names and descriptions, the topmost first."""
    chain: list[tuple[str, Mapping[str, Any]]] = []
    while identity:
        if len(chain) == _MOST_LAYERS:
            raise ValueError("its layers name each other in a circle")
        description = parse_object(members.blob(f"{identity}/json").document())
        chain.append((identity, description))
        identity = str(description.get("parent") or "")
    return chain
