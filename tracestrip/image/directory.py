"""dir: a root file system in a directory of the host, as an image without a config."""

import platform
from pathlib import Path

from tracestrip.errors import ImageError
from tracestrip.image.config import Config
from tracestrip.image.image import Image, LayerDirectory

_GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def host_architecture() -> str:
    """This machine's architecture in the words of image configs."""
    return _GO_ARCHITECTURES.get(platform.machine(), platform.machine())


def read_directory(path: Path) -> Image:
    """Raises ImageError when there is no such directory."""
    if not path.is_dir():
        raise ImageError(f"dir:{path}: no such directory: name one that holds a root file system")
    path = path.resolve()
    return Image(f"dir:{path}", None, None, Config.empty(host_architecture()), (LayerDirectory(path),))
