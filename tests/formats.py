"""Images in many forms, read; and other tools, run."""

import subprocess
from pathlib import Path

from tests.layers import layer, member
from tracestrip.image.image import Image, LayerArchive
from tracestrip.image.platform import Platform
from tracestrip.image.reference import parse_reference
from tracestrip.image.room import DEFAULT_LIMIT, Room
from tracestrip.image.transports import read_image
from tracestrip.rootfs.archive_tree import ArchiveTree


def run(*command: object) -> str:
    finished = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def skopeo(*arguments: object) -> str:
    return run("skopeo", "--insecure-policy", *arguments)


def read(reference: str, place: Path, platform: Platform | None = None, limit: int = DEFAULT_LIMIT) -> Image:
    return read_image(parse_reference(reference), platform, Room(place, limit))


def three_layers(place: Path) -> list[LayerArchive]:
    parts = ([member("a", b"1" * 10_000), member("b", b"2")], [member(".wh.b")], [member("c", b"3")])
    return [layer(place / f"layer{number}.tar", *part) for number, part in enumerate(parts)]


def names(image: Image) -> list[bytes]:
    return [entry.path for entry in ArchiveTree(image.layers).walk()]  # type: ignore[arg-type]
