"""dir: a root file system in a directory of the host, as an image without a config."""

from pathlib import Path

from tracestrip.errors import ImageError
from tracestrip.image.config import Config
from tracestrip.image.image import Image, LayerDirectory
from tracestrip.image.platform import host_architecture


def read_directory(path: Path) -> Image:
    """Raises ImageError when there is no such directory."""
    if not path.is_dir():
        raise ImageError(f"dir:{path}: no such directory: name one that holds a root file system")
    path = path.resolve()
    return Image(f"dir:{path}", None, None, Config.empty(host_architecture()), (LayerDirectory(path),))
