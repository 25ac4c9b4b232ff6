"""Writes an OCI image layout, as a directory or an archive (OCI image-spec, image-layout.md)."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tracestrip.errors import EnvironmentLack, UsageError
from tracestrip.image.blob import whole
from tracestrip.image.config import Config
from tracestrip.image.damage import parse_object
from tracestrip.image.descriptor import CONFIG, INDEX, LAYER, MANIFEST, REF_NAME
from tracestrip.image.docker_output import header
from tracestrip.image.image import LayerArchive
from tracestrip.whole_directory import whole_directory


@dataclass(frozen=True, slots=True)
class Written:
    """What names the image that was written."""

    digest: str
    """Of its config."""
    manifest_digest: str | None


def write_layout_archive(
    config: Config, layer: LayerArchive, ref: str | None, annotations: Mapping[str, str], output: IO[bytes]
) -> Written:
    """Write the image to *output*, named *ref*. The same image gives the same bytes."""
    layout = _Layout(config, layer, annotations)
    documents = layout.blobs | {"oci-layout": _VERSION, "index.json": _index([layout.entry(ref)])}
    with tarfile.open(fileobj=output, mode="w|", format=tarfile.GNU_FORMAT) as archive, layer.file.open("rb") as source:
        for name, document in documents.items():
            archive.addfile(header(name, len(document)), io.BytesIO(document))
        source.seek(layer.offset)
        archive.addfile(header(layout.layer_name, layer.size), source)
    return layout.written


def write_layout(
    config: Config, layer: LayerArchive, ref: str | None, annotations: Mapping[str, str], place: Path
) -> Written:
    """Write the image to the directory *place*. Of a layout that is there all other images stay.

    Raises EnvironmentLack.
    """
    layout = _Layout(config, layer, annotations)
    with whole_directory(place) as write:
        for name, document in layout.blobs.items():
            write(name, [document])
        write(layout.layer_name, layer.blob.chunks())
        write("oci-layout", [_VERSION])
        others = [entry for entry in _entries(place) if (entry.get("annotations") or {}).get(REF_NAME) != ref]
        write("index.json", [_index([*others, layout.entry(ref)])])
    return layout.written


def check_layout(place: Path, *, force: bool) -> None:
    """Raises UsageError when no layout can be made at *place*, or when one is there and must not be added to."""
    directory = place.resolve() if place.exists() else place.resolve().parent
    if not directory.is_dir() or not os.access(directory, os.W_OK):
        raise UsageError(f"oci:{place}: cannot be written: choose a place in a directory that exists and is writable")
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    try:
        _entries(place)
    except (EnvironmentLack, NotADirectoryError) as error:
        raise UsageError(f"oci:{place}: neither empty nor an OCI layout: choose another place") from error
    if not force:
        raise UsageError(f"oci:{place}: exists already: choose another name, or add the image to it with --force")


class _Layout:
    """An image as the documents of a layout."""

    def __init__(self, config: Config, layer: LayerArchive, annotations: Mapping[str, str]) -> None:
        self.layer_name = _blob_name(layer.diff_id)
        self._platform = {"architecture": config.platform.architecture or "unknown", "os": config.platform.os or "linux"}
        if config.platform.variant:
            self._platform["variant"] = config.platform.variant
        content = config.to_bytes()
        manifest = _json({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": _digest(content), "size": len(content)},
            "layers": [{"mediaType": LAYER, "digest": layer.diff_id, "size": layer.size}],
            "annotations": dict(annotations),
        })
        self.blobs = {_blob_name(_digest(document)): document for document in (content, manifest)}
        self.written = Written(_digest(content), _digest(manifest))
        self._size = len(manifest)

    def entry(self, ref: str | None) -> dict[str, Any]:
        """The image's descriptor in index.json."""
        named = {"annotations": {REF_NAME: ref}} if ref else {}
        size, digest = self._size, self.written.manifest_digest
        return {"mediaType": MANIFEST, "digest": digest, "size": size, "platform": self._platform, **named}


def _entries(place: Path) -> list[dict[str, Any]]:
    """The images of the layout that is at *place*; none where nothing is."""
    index = place / "index.json"
    if not index.exists() and not (place.is_dir() and any(place.iterdir())):
        return []
    try:
        manifests = parse_object(whole(index).document()).get("manifests")
        if not isinstance(manifests, list) or not all(isinstance(entry, dict) for entry in manifests):
            raise ValueError("no manifests")
    except (OSError, ValueError, RecursionError) as error:
        raise EnvironmentLack(f"{index}: cannot be read as an index ({error}): choose another place") from error
    return manifests


def _index(entries: list[dict[str, Any]]) -> bytes:
    return _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


_VERSION = _json({"imageLayoutVersion": "1.0.0"})
