"""An image that is ready to be run: what it says of itself, its tree, and directories that are its root."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tracestrip.errors import ImageError
from tracestrip.image.image import Image, LayerArchive, LayerDirectory
from tracestrip.image.platform import Platform, host_platform
from tracestrip.image.reference import Reference
from tracestrip.image.room import Room
from tracestrip.image.transports import read_image
from tracestrip.observer.job import Job
from tracestrip.rootfs.archive_tree import ArchiveTree
from tracestrip.rootfs.directory_tree import DirectoryTree
from tracestrip.rootfs.extract import extract
from tracestrip.rootfs.tree import Tree
from tracestrip.surroundings import Surroundings, sandbox_job

_ENOUGH = 1 << 62  # bytes: what the original was allowed to have, its parts may have


@dataclass(frozen=True, slots=True)
class Source:
    """An image, read and extracted."""

    image: Image
    tree: Tree
    roots: tuple[Path, ...]
    """Directories that, stacked, are the image's root; the topmost first."""

    def job(self, surroundings: Surroundings, scratch: Path) -> Job:
        """A sandbox over it. *scratch*: an empty directory. Raises TargetError, ImageError."""
        return sandbox_job(surroundings, self.image, self.tree, self.roots, scratch)

    @property
    def is_directory(self) -> bool:
        """Whether it is a plain directory, perhaps a whole host, which nobody has counted."""
        return self.image.digest is None


def read_source(
    reference: Reference, platform: Platform | None, most_bytes: int, scratch: Path, step: Callable[[str], None]
) -> Source:
    """Read the image into *scratch*, a directory. *most_bytes*: of all its layers, and of all files, unpacked.

    Raises ImageError, EnvironmentLack, UsageError.
    """
    step(f"reading {reference}")
    image = read_image(reference, platform, Room(scratch, most_bytes))
    if not image.config.platform.runs_here:
        its = image.config.platform
        raise ImageError(f"{image.name}: it is for {its}, this machine is {host_platform()}: strip it where it runs")
    tree = _tree(image, most_bytes)
    return Source(image, tree, _root_directories(image, tree, scratch, step))


def made_of(layer: LayerArchive, original: Source, root: Path) -> Source:
    """The original's image with this layer only, extracted into *root*, an empty directory: what a result will be."""
    image = replace(original.image, layers=(layer,))
    tree = ArchiveTree((layer,), _ENOUGH, "the stripped image")
    extract(tree, root)
    return Source(image, tree, (root,))


def _tree(image: Image, most_bytes: int) -> Tree:
    archives = tuple(layer for layer in image.layers if isinstance(layer, LayerArchive))
    directories = tuple(layer for layer in image.layers if isinstance(layer, LayerDirectory))
    return DirectoryTree(directories) if directories else ArchiveTree(archives, most_bytes, image.name)


def _root_directories(image: Image, tree: Tree, scratch: Path, step: Callable[[str], None]) -> tuple[Path, ...]:
    """Layers that lie in directories serve as they are."""
    if isinstance(tree, DirectoryTree):
        return tuple(layer.path for layer in reversed(image.layers) if isinstance(layer, LayerDirectory))
    step(f"extracting {image.name}")
    root = scratch / "image"
    root.mkdir()
    extract(tree, root)
    return (root,)
