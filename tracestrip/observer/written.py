"""What a command wrote: its end, and what tells the whole of it from another's."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Written:
    """An output of any length."""

    last: bytes
    """The end of it; all of it where `is_whole`."""
    length: int
    """Bytes of all."""
    digest: str
    """BLAKE2b of all, in hexadecimal: Python has it without OpenSSL, which reads files at its first use."""

    @property
    def is_whole(self) -> bool:
        return len(self.last) == self.length


class Writing:
    """An output that still grows."""

    def __init__(self, most: int) -> None:
        """*most*: bytes that are kept, the last ones."""
        self._most = most
        self._last = bytearray()
        self._length = 0
        self._hash = hashlib.blake2b()

    def add(self, chunk: bytes) -> None:
        self._last += chunk
        if len(self._last) > 2 * self._most:
            del self._last[: -self._most]
        self._length += len(chunk)
        self._hash.update(chunk)

    def last(self) -> bytes:
        return bytes(self._last[-self._most :])

    def written(self) -> Written:
        """So far."""
        return Written(self.last(), self._length, self._hash.hexdigest())
