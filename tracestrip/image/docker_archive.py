"""docker-archive: what `docker save` writes and `docker load` reads.

A tar archive with manifest.json: [{"Config": NAME, "RepoTags": [...], "Layers": [NAME, ...]}], the lowest layer first.
"""

import errno
import gzip
import hashlib
import io
import json
import posixpath
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tracestrip.errors import EnvironmentLack, ImageError
from tracestrip.image.config import Config
from tracestrip.image.image import Image, LayerArchive

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_BUFFER = 1 << 20


def read_archive(file: Path, name: str | None, scratch: Path, called: str) -> Image:
    """The image *name* in the archive, or its only one. Compressed layers are unpacked into *scratch*.

    Every layer's diff ID is checked. Raises ImageError; *called* is what the user calls the image.
    """
    if not file.is_file():
        raise ImageError(f"{file}: no such file: name an archive that `docker save` wrote")
    with _damage_as_image_error(file), tarfile.open(file, "r:") as archive:
        members = {_clean(member.name): member for member in archive}
        entry = _choose(_manifest(file, archive, members), name, file)
        content = _read(archive, members, entry["Config"], file)
        config = Config.parse(content, called)
        if len(config.diff_ids) != len(entry["Layers"]):
            raise ImageError(f"{file}: the config has {len(config.diff_ids)} layers, the manifest {len(entry['Layers'])}")
        layers = tuple(
            _layer(file, archive, _member(members, layer, file), diff_id, scratch)
            for layer, diff_id in zip(entry["Layers"], config.diff_ids, strict=True)
        )
    tags = entry.get("RepoTags") or [None]
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    return Image(called, name or tags[0], digest, config, layers)


def write_archive(config: Config, layer: LayerArchive, tag: str | None, output: IO[bytes]) -> str:
    """Write a one-layer image to *output*; the digest of its config. The same image gives the same bytes."""
    content = config.to_bytes()
    digest = hashlib.sha256(content).hexdigest()
    layer_name = layer.diff_id.removeprefix("sha256:") + ".tar"
    manifest = [{"Config": f"{digest}.json", "RepoTags": [tag] if tag else None, "Layers": [layer_name]}]
    with tarfile.open(fileobj=output, mode="w|", format=tarfile.GNU_FORMAT) as archive, layer.file.open("rb") as source:
        source.seek(layer.offset)
        archive.addfile(_header(layer_name, layer.size), source)
        for name, document in ((f"{digest}.json", content), ("manifest.json", json.dumps(manifest).encode())):
            archive.addfile(_header(name, len(document)), io.BytesIO(document))
    return f"sha256:{digest}"


@contextmanager
def _damage_as_image_error(file: Path) -> Iterator[None]:
    """tarfile and zlib raise a whole family of errors on a damaged archive."""
    try:
        yield
    except (tarfile.TarError, ValueError, KeyError, TypeError, OverflowError, RecursionError, EOFError, zlib.error) as error:
        raise ImageError(f"{file}: damaged, or no docker-archive ({error}): save the image again") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise EnvironmentLack(f"{file}: no room to unpack it: set TMPDIR to a place with room") from error
        raise ImageError(f"{file}: cannot be read: {error.strerror or error}") from error


def _clean(name: str) -> str:
    return posixpath.normpath(name)


def _member(members: dict[str, tarfile.TarInfo], name: str, file: Path) -> tarfile.TarInfo:
    """The regular member *name*; old archives link a layer that occurs twice."""
    for _ in range(8):
        member = members.get(_clean(name))
        if member is None:
            raise ImageError(f"{file}: it lacks {name}, which its manifest names: save the image again")
        if member.isreg():
            return member
        if member.issym():
            name = posixpath.join(posixpath.dirname(member.name), member.linkname)
        elif member.islnk():
            name = member.linkname
        else:
            break
    raise ImageError(f"{file}: {name} in it is no regular file: save the image again")


def _read(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str, file: Path) -> bytes:
    content = archive.extractfile(_member(members, name, file))
    return content.read() if content else b""


def _manifest(file: Path, archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> list[dict[str, Any]]:
    if "manifest.json" not in members:
        raise ImageError(f"{file}: it has no manifest.json: it is no docker-archive as `docker save` writes it")
    manifest: list[dict[str, Any]] = json.loads(_read(archive, members, "manifest.json", file))
    shape = isinstance(manifest, list) and manifest and all(
        isinstance(entry, dict) and isinstance(entry.get("Config"), str) and isinstance(entry.get("Layers"), list)
        for entry in manifest
    )  # fmt: skip
    if not shape:
        raise ImageError(f"{file}: its manifest.json names no image: save the image again")
    return manifest


def _choose(manifest: list[dict[str, Any]], name: str | None, file: Path) -> dict[str, Any]:
    there = ", ".join(tag for entry in manifest for tag in entry.get("RepoTags") or ["(untagged)"])
    if name is None and len(manifest) == 1:
        return manifest[0]
    if name is None:
        raise ImageError(f"{file}: it has {len(manifest)} images ({there}): choose one with docker-archive:{file}:NAME:TAG")
    for entry in manifest:
        if name in (entry.get("RepoTags") or ()):
            return entry
    raise ImageError(f"{file}: it has no image {name}, but {there}")


def _layer(file: Path, archive: tarfile.TarFile, member: tarfile.TarInfo, diff_id: str, scratch: Path) -> LayerArchive:
    source = archive.extractfile(member)
    magic = source.read(4) if source else b""
    if magic.startswith(_ZSTD):
        raise ImageError(f"{file}: the layer {member.name} is compressed with zstd: save it with gzip or uncompressed")
    if source and magic.startswith(_GZIP):
        plain = scratch / (diff_id.removeprefix("sha256:")[:64].replace("/", "_") + ".tar")
        source.seek(0)
        with plain.open("wb") as output:
            shutil.copyfileobj(gzip.GzipFile(fileobj=source), output, _BUFFER)
        layer = LayerArchive(plain, 0, plain.stat().st_size, diff_id)
    else:
        layer = LayerArchive(file, member.offset_data, member.size, diff_id)
    found = _digest(layer)
    if found != diff_id:
        raise ImageError(f"{file}: the layer {member.name} is {found}, not {diff_id} as the config says: save it again")
    return layer


def _digest(layer: LayerArchive) -> str:
    digest = hashlib.sha256()
    with layer.file.open("rb") as source:
        source.seek(layer.offset)
        left = layer.size
        while left:
            chunk = source.read(min(_BUFFER, left))
            if not chunk:
                raise EOFError("it ends early")
            digest.update(chunk)
            left -= len(chunk)
    return f"sha256:{digest.hexdigest()}"


def _header(name: str, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size = size
    return header
