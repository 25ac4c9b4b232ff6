"""The local engine, over its API: Docker's, or Podman's compatible one. docker-py is imported here alone.

Where the engine keeps an image's layers as overlayfs directories that this process can read, they are used as they lie:
nothing is copied. Else the image is saved to a docker-archive.
"""

import difflib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import docker
import docker.errors
import requests.exceptions

from tracestrip.errors import EnvironmentLack, ImageError
from tracestrip.image.config import Config
from tracestrip.image.docker_archive import read_archive
from tracestrip.image.image import Image, LayerDirectory
from tracestrip.image.room import Room

_TIMEOUT = 300.0  # seconds of silence


class Engine:
    """A connection to the engine that DOCKER_HOST or CONTAINER_HOST names, or to the first that answers at a usual socket."""

    def __init__(self) -> None:
        """Raises EnvironmentLack when none answers."""
        places = _places()
        for place in places:
            with suppress(docker.errors.DockerException, requests.exceptions.RequestException, ValueError):
                environment = {**os.environ, "DOCKER_HOST": place}
                self._client = docker.DockerClient.from_env(timeout=int(_TIMEOUT), environment=environment)
                self._client.ping()
                return
        raise EnvironmentLack(
            f"no engine answers at {' or '.join(places)}: start Docker or Podman's socket, set DOCKER_HOST, or use an archive"
        )

    def read(self, name: str, room: Room) -> Image:
        """The image *name*. Raises ImageError when the engine does not have it, EnvironmentLack when it fails."""
        with self._failures():
            try:
                description = self._client.images.get(name).attrs
            except docker.errors.ImageNotFound as error:
                raise ImageError(f"{name}: the engine has no such image: {self._advice(name)}") from error
            layers = _layer_directories(description)
            if layers is None:
                return self._save(name, room)
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

    def _save(self, name: str, room: Room) -> Image:
        file = room.file()
        with file.open("wb") as output:
            for chunk in self._client.images.get(name).save(named=name if "@" not in name else False):
                output.write(chunk)
        return read_archive(file, None, room, name)

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


def _places() -> tuple[str, ...]:
    """Where an engine may listen: what the user named, else Docker's socket, then Podman's (podman-system-service(1))."""
    for variable in ("DOCKER_HOST", "CONTAINER_HOST"):
        if os.environ.get(variable):
            return (os.environ[variable],)
    own = os.environ.get("XDG_RUNTIME_DIR")
    sockets = ["/var/run/docker.sock", "/run/podman/podman.sock", *([f"{own}/podman/podman.sock"] if own else [])]
    there = [socket for socket in sockets if os.path.exists(socket)]
    return tuple(f"unix://{socket}" for socket in there or sockets)


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
    if not all(path and os.path.isdir(path) and _has_own_numbers(path) for path in topmost_first):
        return None
    return tuple(LayerDirectory(Path(path)) for path in reversed(topmost_first))


def _has_own_numbers(path: str) -> bool:
    """Whether owners are stored as they are: a rootless engine, or one with userns-remap, shifts them, and the root's too."""
    return os.stat(path).st_uid == 0
