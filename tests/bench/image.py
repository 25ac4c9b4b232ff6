"""What reading, extracting and writing images costs: python -m tests.bench.image

Ratios are of times that were taken one right after the other, the lowest of several pairs. What is extracted is removed
only at the end: ext4 makes files several times more slowly where many were removed a moment before.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.observer import fixture_archive, lowest
from tests.layers import Member, directory, docker_archive, layer, member
from tests.measured import measured
from tracestrip.image.docker_archive import read_archive
from tracestrip.image.image import Image, LayerArchive
from tracestrip.image.oci_output import write_layout
from tracestrip.image.room import Room
from tracestrip.rootfs.archive_tree import ArchiveTree
from tracestrip.rootfs.extract import extract
from tracestrip.rootfs.pack import pack

LAYERS = 100
DIRECTORIES = 20
FILES = 99


def extraction_ratio(pairs: int, enough: float = 0) -> float:
    """The tree and the root directory of the httpd image, by `tar -x` of its layer."""
    with tempfile.TemporaryDirectory() as place:
        image = read(fixture_archive("httpd"), Path(place))
        return lowest((_extraction_pair(image, Path(place, str(number))) for number in range(pairs)), enough)


def _extraction_pair(image: Image, place: Path) -> float:
    ours, tars = place / "ours", place / "tar's"
    ours.mkdir(parents=True)
    tars.mkdir()
    start = time.monotonic()
    extract(ArchiveTree(archives(image)), ours)
    middle = time.monotonic()
    (part,) = archives(image)
    with part.file.open("rb") as layers:
        layers.seek(part.offset)
        subprocess.run(["tar", "-x", "-C", tars], stdin=layers, check=True)
    return (middle - start) / (time.monotonic() - middle)


def many_entries(place: Path) -> tuple[float, int]:
    """Seconds and peak bytes of reading, merging and extracting 200,000 entries in 100 layers."""
    archive = place / "many.tar"
    _write_many(archive)
    script = f"from tests.bench.image import extracted; extracted({str(archive)!r}, {str(place)!r})"
    start = time.monotonic()
    code, _, errors, peak = measured([sys.executable, "-c", script], os.environ)
    assert code == 0, errors
    return time.monotonic() - start, peak


def extracted(archive: str, place: str) -> None:
    """All of an image, in a directory at *place*."""
    root = Path(place, "root")
    root.mkdir()
    extract(ArchiveTree(archives(read(Path(archive), root.parent))), root)


def _write_many(archive: Path) -> None:
    with tempfile.TemporaryDirectory(dir=archive.parent) as place:
        layers = [layer(Path(place, str(number)), *_members(f"usr/lib/l{number}")) for number in range(LAYERS)]
        docker_archive(archive, {"many:1": layers})


def _members(top: str) -> Iterator[Member]:
    for number in range(DIRECTORIES):
        yield directory(f"{top}/d{number}")
        for file in range(FILES):
            yield member(f"{top}/d{number}/file{file}", b"x" * 100)


def bytes_moved(place: Path) -> tuple[int, int]:
    """Bytes that were read and written to pack and publish 5 MB of the httpd image; and those 5 MB."""
    image = read(fixture_archive("httpd"), place)
    tree = ArchiveTree(archives(image))
    kept = [entry for entry in tree.walk() if entry.path.startswith((b"/usr/lib/apache2/", b"/usr/sbin/", b"/etc/"))]
    before = _moved()
    part = pack(kept, place / "layer")
    write_layout(image.config, part, "small:1", {}, place / "layout")
    return _moved() - before, sum(entry.size for entry in kept)


def _moved() -> int:
    """Bytes that this process has read and written; proc_pid_io(5)."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"]) + int(fields["wchar"])


def read(archive: Path, place: Path) -> Image:
    return read_archive(archive, None, Room(place), str(archive))


def archives(image: Image) -> tuple[LayerArchive, ...]:
    return tuple(part for part in image.layers if isinstance(part, LayerArchive))


@contextmanager
def memory_directory() -> Iterator[Path]:
    """A directory in memory: how fast a disk's file system makes 200,000 files depends on what was there before."""
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
        try:
            yield Path(place)
        finally:
            subprocess.run(["umount", place], check=True)


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print(f"{extraction_ratio(pairs):6.2f}  at most 2.00  the httpd image's tree and extraction, of tar -x")
    with memory_directory() as place:
        seconds, peak = many_entries(place)
    print(f"{seconds:6.2f}  at most 12.0  seconds for 200,000 entries in 100 layers, into memory")
    print(f"{peak / 1e6:6.1f}  at most 400   MB for that")
    with tempfile.TemporaryDirectory() as directory:
        seconds, _ = many_entries(Path(directory))
    print(f"{seconds:6.2f}  at most 12.0  seconds for the same, onto the disk")
    with tempfile.TemporaryDirectory() as directory:
        moved, size = bytes_moved(Path(directory))
    print(f"{moved / size:6.2f}  at most 6.00  bytes read and written for each byte of a result of {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
