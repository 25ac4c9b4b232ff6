"""Reads an image from wherever its reference says it is, and writes one to wherever another says it goes."""

from collections.abc import Mapping
from pathlib import Path

from tracestrip.errors import ImageError, UsageError
from tracestrip.image.config import Config
from tracestrip.image.directory import read_directory
from tracestrip.image.docker_archive import read_archive
from tracestrip.image.docker_output import write_docker_archive
from tracestrip.image.image import Image, LayerArchive
from tracestrip.image.oci_layout import read_layout, read_layout_archive
from tracestrip.image.oci_output import Written, write_layout, write_layout_archive
from tracestrip.image.platform import Platform
from tracestrip.image.reference import ARCHIVE, DIRECTORY, ENGINE, OCI, Reference
from tracestrip.image.room import Room
from tracestrip.signals import hold
from tracestrip.whole_file import whole_file


def read_image(source: Reference, platform: Platform | None, room: Room) -> Image:
    """The image. What must be unpacked goes into the room. Raises ImageError, EnvironmentLack, UsageError."""
    image = _read(source, platform, room)
    if platform is not None and not image.config.platform.has(platform):
        raise ImageError(f"{image.name}: it is for {image.config.platform}, not for {platform}: leave out --platform")
    return image


def _read(source: Reference, platform: Platform | None, room: Room) -> Image:
    if source.transport == ENGINE:
        from tracestrip.image.engine import Engine  # noqa: PLC0415 - half of the start-up time, for one transport

        return Engine().read(source.name or "", room)
    if source.path is None:
        raise UsageError(f"{source}: no path is given")
    if source.transport == DIRECTORY:
        return read_directory(source.path)
    if source.transport == ARCHIVE:
        return read_archive(source.path, source.name, room, str(source))
    read = read_layout if source.transport == OCI else read_layout_archive
    return read(source.path, source.name, platform, room, str(source))


def check_engine() -> None:
    """Raises EnvironmentLack when none answers."""
    from tracestrip.image.engine import Engine  # noqa: PLC0415 - as above

    Engine()


def publish(config: Config, layer: LayerArchive, annotations: Mapping[str, str], target: Reference, scratch: Path) -> Written:
    """Bring the image to its place, whole or not at all. Raises EnvironmentLack."""
    if target.path is None:
        return _publish_in_engine(config, layer, target.name or "", scratch)
    if target.transport == OCI:
        return write_layout(config, layer, target.name, annotations, target.path)
    with whole_file(target.path) as output:
        if target.transport == ARCHIVE:
            return Written(write_docker_archive(config, layer, target.name, output), None)
        return write_layout_archive(config, layer, target.name, annotations, output)


def _publish_in_engine(config: Config, layer: LayerArchive, name: str, scratch: Path) -> Written:
    from tracestrip.image.engine import Engine  # noqa: PLC0415 - as above

    with (scratch / "result.tar").open("w+b") as archive:
        digest = write_docker_archive(config, layer, name, archive)
        archive.seek(0)
        Engine().load(archive, name)
        hold()
    return Written(digest, None)
