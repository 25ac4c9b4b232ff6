"""Images whose documents, digests and sizes do not fit each other, and layers that say what cannot be: exit code 3."""

import hashlib
import io
import json
import os
import subprocess
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, fails
from tests.formats import read
from tests.hostile import Strip
from tests.layers import docker_archive, layer, member
from tests.layouts import CONFIG, INDEX, LAYER, MANIFEST, Layout, layer_bytes, zipped
from tracestrip.errors import ImageError
from tracestrip.image.blob import whole
from tracestrip.image.image import LayerArchive
from tracestrip.image.platform import host_architecture
from tracestrip.image.tar_members import tar_members


@pytest.fixture
def strip(tracestrip: Command, compiled: Callable[..., Path], tmp_path: Path) -> Strip:
    return Strip(tracestrip, compiled("touch", "-static"), tmp_path)


def layout(place: Path, **manifest: object) -> tuple[Layout, dict[str, Any]]:
    """A layout of one layer, and its manifest to be spoilt."""
    made = Layout(place / "layout")
    content = layer_bytes(place, [member("a", os.urandom(3000))])
    config = {
        "architecture": host_architecture(), "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}"]},
    }  # fmt: skip
    document = {
        "schemaVersion": 2, "mediaType": MANIFEST, "config": made.blob(config, CONFIG), "layers": [made.blob(content, LAYER)],
    }  # fmt: skip
    return made, document | manifest


def published(made: Layout, manifest: dict[str, Any]) -> str:
    made.index(v1=made.blob(manifest, MANIFEST))
    return f"oci:{made.place}"


def test_wrong_layer_digest(strip: Strip, tmp_path: Path) -> None:
    made, manifest = layout(tmp_path)
    digest = manifest["layers"][0]["digest"]
    blob = made.path(manifest["layers"][0])
    content = bytearray(blob.read_bytes())
    content[600] ^= 1
    blob.write_bytes(content)
    fails(strip.reference(published(made, manifest)), 3, digest)


@pytest.mark.parametrize("name", ["config", "manifest"])
def test_wrong_digest_of_a_document(strip: Strip, tmp_path: Path, name: str) -> None:
    made, manifest = layout(tmp_path)
    reference = published(made, manifest)
    (entry,) = json.loads((made.place / "index.json").read_text())["manifests"]
    descriptor = manifest["config"] if name == "config" else entry
    digest, blob = descriptor["digest"], made.path(descriptor)
    blob.write_bytes(blob.read_bytes().replace(b"linux", b"Linux").replace(b'2, "media', b'1, "media'))
    fails(strip.reference(reference), 3, name, digest, "damaged")


def test_wrong_size_and_wrong_diff_id(strip: Strip, tmp_path: Path) -> None:
    made, manifest = layout(tmp_path)
    digest = manifest["layers"][0]["digest"]
    manifest["layers"][0]["size"] += 1
    fails(strip.reference(published(made, manifest)), 3, digest, "bytes")
    manifest["layers"][0]["size"] -= 1
    wrong = {"rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}}
    manifest["config"] = made.blob(wrong, CONFIG)
    fails(strip.reference(published(made, manifest)), 3, digest, "sha256:0000")
    zipped = layer(tmp_path / "other.tar", member("a"))
    file = docker_archive(tmp_path / "i.tar", {"a:1": [LayerArchive(zipped.file, 0, zipped.size, "sha256:" + "0" * 64)]})
    fails(strip.archive(file), 3, "0/0.tar", "sha256:0000")


def test_manifest_that_is_an_index_too(strip: Strip, tmp_path: Path) -> None:
    made, manifest = layout(tmp_path, manifests=[])
    fails(strip.reference(published(made, manifest)), 3, "both layers and manifests")
    made.index(v1=made.blob({**manifest, "manifests": []}, "application/vnd.oci.image.index.v1+json"))
    fails(strip.reference(f"oci:{made.place}"), 3, "both manifests and layers")


def test_unknown_media_types(strip: Strip, tmp_path: Path) -> None:
    made, manifest = layout(tmp_path)
    manifest["layers"][0]["mediaType"] = "application/vnd.example.squashfs"
    fails(strip.reference(published(made, manifest)), 3, manifest["layers"][0]["digest"], "application/vnd.example.squashfs")
    made, manifest = layout(tmp_path / "other")
    manifest["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
    fails(strip.reference(published(made, manifest)), 3, "helm", "no container image")


# One part of an image that does not fit, the rest as it should be.


@contextmanager
def refused(words: str, place: Path, limit: int = 1 << 30) -> Iterator[Callable[[str], object]]:
    with pytest.raises(ImageError, match=words):
        yield lambda reference: read(reference, place, limit=limit)


def test_type_that_differs_from_the_descriptors(tmp_path: Path) -> None:
    made, manifest = layout(tmp_path, mediaType="application/vnd.docker.distribution.manifest.v2+json")
    with refused("says of itself", tmp_path) as reading:
        reading(published(made, manifest))


def test_numbers_of_layers_differ(tmp_path: Path) -> None:
    made, manifest = layout(tmp_path)
    manifest["layers"] *= 2
    with refused("the config has 1 layers, the manifest 2", tmp_path) as reading:
        reading(published(made, manifest))


def test_layout_of_another_version(tmp_path: Path) -> None:
    made, manifest = layout(tmp_path)
    (made.place / "oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}')
    with refused("version '2.0.0'", tmp_path) as reading:
        reading(published(made, manifest))


def test_indexes_without_end(tmp_path: Path) -> None:
    made, manifest = layout(tmp_path)
    inner = made.blob(manifest, MANIFEST)
    for _ in range(20):
        inner = made.blob({"schemaVersion": 2, "manifests": [inner]}, INDEX)
    made.index(v1=inner)
    with refused("indexes of indexes", tmp_path) as reading:
        reading(f"oci:{made.place}")


def test_compressed_bytes_of_another_digest(tmp_path: Path) -> None:
    """They unpack to the right archive, but have something after the stream, or another header."""
    changes: tuple[Callable[[bytes], bytes], ...] = (lambda data: data + bytes(100), lambda data: data[:4] + b"abcd" + data[8:])
    for number, change in enumerate(changes):
        made, manifest = layout(tmp_path / str(number))
        plain = made.path(manifest["layers"][0]).read_bytes()
        described = made.blob(zipped(plain), LAYER + "+gzip")
        other = made.blob(change(zipped(plain)), LAYER + "+gzip")
        made.path(other).rename(made.path(described))
        manifest["layers"] = [{**described, "size": other["size"]}]
        with refused(f"{described['digest']}: its bytes have the digest {other['digest']}", tmp_path) as reading:
            reading(published(made, manifest))


def test_plain_layers_count_too(tmp_path: Path) -> None:
    made, manifest = layout(tmp_path)
    with refused("more than 1000 bytes unpacked", tmp_path, 1000) as reading:
        reading(published(made, manifest))


def test_zstd_that_starts_with_a_skippable_frame(tmp_path: Path) -> None:
    """RFC 8878, 3.1.2; estargz and zstd:chunked have them."""
    made, manifest = layout(tmp_path)
    plain = made.path(manifest["layers"][0]).read_bytes()
    skipped = (0x184D2A53).to_bytes(4, "little") + (5).to_bytes(4, "little") + b"trash"
    manifest["layers"] = [made.blob(skipped + compressed(plain), LAYER + "+zstd")]
    (part,) = read(published(made, manifest), tmp_path).layers
    assert isinstance(part, LayerArchive)
    assert part.diff_id == f"sha256:{hashlib.sha256(plain).hexdigest()}"


def compressed(content: bytes) -> bytes:
    return subprocess.run(["zstd", "-c"], input=content, stdout=subprocess.PIPE, check=True).stdout


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_members_that_link_in_a_circle(tmp_path: Path, kind: bytes) -> None:
    file = tmp_path / "i.tar"
    with tarfile.open(file, "w") as archive:
        for name, target in (("manifest.json", "other"), ("other", "manifest.json")):
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, target
            archive.addfile(header)
    with refused("no manifest.json", tmp_path) as reading:
        reading(f"docker-archive:{file}")


def test_old_layers_that_are_each_others_parents(tmp_path: Path) -> None:
    part = layer(tmp_path / "layer.tar", member("a"))
    file = tmp_path / "i.tar"
    with tarfile.open(file, "w") as archive:
        for name, document in (
            ("repositories", {"a": {"1": "x"}}), ("x/json", {"parent": "y"}), ("y/json", {"parent": "x"}),
        ):  # fmt: skip
            header = tarfile.TarInfo(name)
            content = json.dumps(document).encode()
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
        for name in ("x", "y"):
            archive.add(part.file, f"{name}/layer.tar")
    with refused("circle", tmp_path) as reading:
        reading(f"docker-archive:{file}:a:1")


@pytest.mark.parametrize(
    "parts", [[(0, 100), (50, 100)], [(100, 10), (0, 10)], [(0, 2000)], [(950, 100)], [(0, 400), (400, 400), (900, 100)]]
)
def test_sparse_maps_that_cannot_be(tmp_path: Path, parts: list[tuple[int, int]]) -> None:
    """Of a file of 1,000 bytes, of which 512 are stored: parts that overlap, go back, lie outside, or are more than those."""
    numbers = f"{len(parts)}\n" + "".join(f"{at}\n{size}\n" for at, size in parts)
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a", "GNU.sparse.realsize": "1000"}
    sparse = member("a", numbers.encode().ljust(512, b"\0") + bytes(512), pax_headers=headers)
    part = layer(tmp_path / "layer.tar", sparse)
    with pytest.raises(tarfile.ReadError, match="sparse map"):
        list(tar_members(part.blob))


def test_reading_members_does_not_keep_them(tmp_path: Path) -> None:
    part = layer(tmp_path / "layer.tar", *(member(f"file{number}") for number in range(20_000)))
    tracemalloc.start()
    try:
        assert sum(1 for _ in tar_members(whole(part.file))) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
