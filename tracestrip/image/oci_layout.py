"""OCI image layouts, as a directory or in an archive (OCI image-spec, image-layout.md, image-index.md, manifest.md).

index.json ─▶ (indexes) ─▶ the manifest of one platform ─▶ config and layers, all by digest below blobs/
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tracestrip.errors import ImageError
from tracestrip.image.config import Config
from tracestrip.image.damage import damage, parse_object
from tracestrip.image.descriptor import CONFIGS, INDEXES, LAYERS, MANIFESTS, REF_NAME, Descriptor, parse_descriptor, texts
from tracestrip.image.image import Image
from tracestrip.image.members import ArchiveMembers, DirectoryMembers, Members
from tracestrip.image.platform import Platform, host_platform
from tracestrip.image.reference import chosen
from tracestrip.image.room import Room
from tracestrip.image.unpack import layer_archive, plain_archive

_FULL_NAME = "io.containerd.image.name"
"""Of docker and buildx: the whole name, where ref.name is only the tag."""
_DEEPEST_INDEX = 8
_ATTESTATION = "unknown"  # the architecture that buildkit gives a manifest that is no image
_COPY_AGAIN = "copy the image again"


def read_layout(place: Path, ref: str | None, platform: Platform | None, room: Room, called: str) -> Image:
    """The image *ref* of the layout in the directory *place*, or its only one. Raises ImageError, EnvironmentLack."""
    if not place.is_dir():
        raise ImageError(f"oci:{place}: no such directory: name an OCI layout, which has index.json and blobs")
    return _read(DirectoryMembers(place), f"oci:{place}", ref, platform, room, called)


def read_layout_archive(file: Path, ref: str | None, platform: Platform | None, room: Room, called: str) -> Image:
    """The same out of a tar archive, which may be compressed."""
    if not file.is_file():
        raise ImageError(f"oci-archive:{file}: no such file: name a tar archive of an OCI layout")
    plain = plain_archive(file, room)
    with damage(str(file), _COPY_AGAIN):
        members = ArchiveMembers(file, plain)
    return _read(members, f"oci-archive:{file}", ref, platform, room, called)


def _read(members: Members, place: str, ref: str | None, platform: Platform | None, room: Room, called: str) -> Image:
    with damage(place, _COPY_AGAIN):
        _check_version(members)
        descriptors = _manifests(parse_object(members.blob("index.json").document()), "index.json")
        named = _choose(descriptors, ref, place)
        descriptor, manifest = _for_platform(members, named, platform, called)
        config_descriptor = parse_descriptor(manifest.get("config"))
        if config_descriptor.media_type not in CONFIGS:
            raise ImageError(f"{called}: its config is {config_descriptor.media_type}: it is no container image")
        config = Config.parse(config_descriptor.document(members, "the config"), called)
        layers = _layers(manifest, called)
        if len(config.diff_ids) != len(layers):
            counts = f"the config has {len(config.diff_ids)} layers, the manifest {len(layers)}"
            raise ImageError(f"{called}: {counts}: {_COPY_AGAIN}")
        archives = tuple(
            layer_archive(
                layer.find(members, "the layer"), diff_id, room, f"{members.place}: the layer {layer.digest}", layer.digest
            )
            for layer, diff_id in zip(layers, config.diff_ids, strict=True)
        )
        annotations = texts(manifest.get("annotations"))
    name = ref if ref and not ref.startswith("@") else _name(named[0])
    return Image(called, name, config_descriptor.digest, config, archives, annotations, descriptor.digest)


def _check_version(members: Members) -> None:
    version = parse_object(members.blob("oci-layout").document()).get("imageLayoutVersion")
    if not isinstance(version, str) or not version.startswith("1."):
        raise ImageError(f"{members.place}: an OCI layout of version {version!r}, only 1 is known: copy it with skopeo")


def _manifests(document: Mapping[str, Any], called: str) -> Sequence[Descriptor]:
    """Of an index. One that is a manifest too means two things (CVE-2021-41190)."""
    if "layers" in document or "config" in document:
        raise ValueError(f"{called} has both manifests and layers")
    manifests = document.get("manifests")
    if not isinstance(manifests, list):
        raise ValueError(f"{called} has no manifests")  # noqa: TRY004
    return [parse_descriptor(each) for each in manifests]


def _name(descriptor: Descriptor) -> str | None:
    return descriptor.annotations.get(_FULL_NAME) or descriptor.annotations.get(REF_NAME)


def _choose(descriptors: Sequence[Descriptor], ref: str | None, place: str) -> Sequence[Descriptor]:
    """Those of one name: usually one, several where each is for another platform."""
    images: dict[str | int, list[Descriptor]] = {}
    for number, descriptor in enumerate(descriptors):
        images.setdefault(_name(descriptor) or (number if descriptor.platform is None else ""), []).append(descriptor)
    names = [tuple(filter(None, (_name(image[0]), image[0].annotations.get(REF_NAME)))) for image in images.values()]
    return list(images.values())[chosen(names, ref, place)]


def _for_platform(
    members: Members, descriptors: Sequence[Descriptor], platform: Platform | None, called: str
) -> tuple[Descriptor, Mapping[str, Any]]:
    """The manifest that is meant, of several variants the plainest. Those of other platforms need not be there."""
    leaves = list(_leaves(members, descriptors, _DEEPEST_INDEX))
    if len(leaves) == 1 and platform is None:
        return leaves[0], _manifest(members, leaves[0])
    wanted = platform or host_platform()
    platforms = [leaf.platform or _own_platform(members, leaf, called) for leaf in leaves]
    fitting = [(there.variant, number) for number, there in enumerate(platforms) if there.has(wanted)]
    if not fitting:
        there = ", ".join(sorted({str(one) for one in platforms if one.architecture != _ATTESTATION})) or "nothing"
        raise ImageError(f"{called}: it has no image for {wanted}, but for {there}: choose with --platform")
    leaf = leaves[min(fitting)[1]]
    return leaf, _manifest(members, leaf)


def _leaves(members: Members, descriptors: Sequence[Descriptor], depth: int) -> Iterator[Descriptor]:
    """The manifests of images, through indexes of indexes."""
    for descriptor in descriptors:
        if descriptor.media_type in INDEXES:
            if depth == 0:
                raise ValueError("indexes of indexes without end")
            document = parse_object(descriptor.document(members, "the index"))
            yield from _leaves(members, _manifests(document, f"the index {descriptor.digest}"), depth - 1)
        elif descriptor.media_type in MANIFESTS:
            yield descriptor
        else:
            raise ImageError(f"{members.place}: {descriptor.digest} is {descriptor.media_type}: it is no container image")


def _manifest(members: Members, descriptor: Descriptor) -> Mapping[str, Any]:
    """One that is an index too, or of another type than its descriptor says, means two things (CVE-2021-41190)."""
    manifest = parse_object(descriptor.document(members, "the manifest"))
    if "manifests" in manifest:
        raise ValueError(f"the manifest {descriptor.digest} has both layers and manifests")
    if manifest.get("mediaType", descriptor.media_type) != descriptor.media_type:
        raise ValueError(f"the manifest {descriptor.digest} says of itself to be {manifest['mediaType']!r}")
    return manifest


def _own_platform(members: Members, descriptor: Descriptor, called: str) -> Platform:
    """As the config says, where the index does not."""
    config = parse_descriptor(_manifest(members, descriptor).get("config"))
    return Config.parse(config.document(members, "the config"), called).platform


def _layers(manifest: Mapping[str, Any], called: str) -> Sequence[Descriptor]:
    documents = manifest.get("layers")
    if not isinstance(documents, list):
        raise ValueError("the manifest has no layers")  # noqa: TRY004
    layers = [parse_descriptor(each) for each in documents]
    for layer in layers:
        if layer.media_type not in LAYERS:
            raise ImageError(f"{called}: the layer {layer.digest} is of unknown type {layer.media_type}: copy it with skopeo")
    return layers
