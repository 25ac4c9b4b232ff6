"""How much an image may unpack to, and where."""

import itertools
from pathlib import Path

from tracestrip.errors import ImageError

DEFAULT_LIMIT = 64 << 30  # bytes; several times what the largest images of machine-learning frameworks have

ALLOW_MORE = "if you trust the image, allow more with --max-image-size"


class Room:
    """A directory for what is unpacked, and the bytes that are left for an image's layers."""

    def __init__(self, place: Path, limit: int = DEFAULT_LIMIT) -> None:
        """*limit*: bytes of all layers, uncompressed."""
        self.place, self.limit = place, limit
        self._left = limit
        self._numbers = itertools.count()

    def file(self) -> Path:
        """A path in the directory that is not used yet."""
        return self.place / f"unpacked-{next(self._numbers)}.tar"

    def take(self, size: int, called: str) -> None:
        """Count *size* bytes more. Raises ImageError, which names *called*, when they are too many."""
        self._left -= size
        if self._left < 0:
            raise ImageError(f"{called}: more than {self.limit} bytes unpacked: {ALLOW_MORE}")
