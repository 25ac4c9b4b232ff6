"""The local engine, over its API: Docker's, or Podman's compatible one. docker-py is imported here alone.

Where the engine keeps an image's layers as overlayfs directories that this process can read, they are used as they lie:
nothing is copied. Else the image is saved to a docker-archive.
"""

import difflib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import docker
import docker.errors
import requests.exceptions

from tracestrip.errors import EnvironmentLack, ImageError
from tracestrip.image.config import Config
from tracestrip.image.docker_archive import read_archive
from tracestrip.image.image import Image, LayerDirectory

_TIMEOUT = 300.0  # seconds of silence


class Engine:
    """A connection to the engine that DOCKER_HOST names, or to the default socket."""

    def __init__(self) -> None:
        """Raises EnvironmentLack when none answers."""
        try:
            self._client = docker.DockerClient.from_env(timeout=int(_TIMEOUT))
            self._client.ping()
        except (docker.errors.DockerException, requests.exceptions.RequestException, ValueError) as error:
            where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
            raise EnvironmentLack(
                f"no Docker Engine answers at {where}: start one, set DOCKER_HOST, or use docker-archive:FILE"
            ) from error

    def read(self, name: str, scratch: Path) -> Image:
        """The image *name*. Raises ImageError when the engine does not have it, EnvironmentLack when it fails."""
        with self._failures():
            try:
                description = self._client.images.get(name).attrs
            except docker.errors.ImageNotFound as error:
                raise ImageError(f"{name}: the engine has no such image: {self._advice(name)}") from error
            layers = _layer_directories(description)
            if layers is None:
                return self._save(name, scratch)
        return Image(name, name, description["Id"], _config(description), layers)

    def load(self, archive: IO[bytes], name: str) -> None:
        """Load a docker-archive that has the image *name*. Raises EnvironmentLack."""
        with self._failures():
            self._client.images.load(archive)
            self._client.images.get(name)

    def size(self, name: str) -> int:
        """Bytes of all files of the image's layers, as the engine counts them."""
        with self._failures():
            return int(self._client.images.get(name).attrs["Size"])

    def _save(self, name: str, scratch: Path) -> Image:
        file = scratch / "saved.tar"
        with file.open("wb") as output:
            for chunk in self._client.images.get(name).save(named=name if "@" not in name else False):
                output.write(chunk)
        return read_archive(file, None, scratch, name)

    def _advice(self, name: str) -> str:
        there = [tag for image in self._client.images.list() for tag in image.tags]
        close = difflib.get_close_matches(name, there, n=3)
        if close:
            return f"did you mean {' or '.join(close)}?"
        return f"pull it first (docker pull {name}), or see `docker images`"

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
            raise EnvironmentLack(f"the Docker Engine failed: {_one_line(error)}: see its log and try again") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _config(description: dict[str, Any]) -> Config:
    """The image's config, from the engine's description of it, which has the same parts under other names."""
    return Config({
        "created": description.get("Created") or "1970-01-01T00:00:00Z",
        "author": description.get("Author") or "",
        "architecture": description.get("Architecture", ""),
        "os": description.get("Os", "linux"),
        **({"variant": description["Variant"]} if description.get("Variant") else {}),
        "config": description.get("Config") or {},
        "rootfs": {"type": "layers", "diff_ids": description["RootFS"].get("Layers") or []},
    })


def _layer_directories(description: dict[str, Any]) -> tuple[LayerDirectory, ...] | None:
    """The layers' directories, the lowest first; None where the engine has none that this process can read."""
    driver = description.get("GraphDriver") or {}
    if driver.get("Name") not in ("overlay", "overlay2"):
        return None
    data = driver.get("Data") or {}
    topmost_first = [data.get("UpperDir", ""), *filter(None, data.get("LowerDir", "").split(":"))]
    if len(topmost_first) != len(description["RootFS"].get("Layers") or ()):
        return None
    if not all(path and os.path.isdir(path) for path in topmost_first):
        return None
    return tuple(LayerDirectory(Path(path)) for path in reversed(topmost_first))
