"""What a command wrote: its end, and what tells the whole of it from another's."""

import hashlib
from dataclasses import dataclass

from tracestrip.observer.wire import Message, raw, text


@dataclass(frozen=True, slots=True)
class Written:
    """An output of any length."""

    last: bytes
    """The end of it; all of it where `is_whole`."""
    length: int
    """Bytes of all."""
    digest: str
    """BLAKE2b of all, in hexadecimal: Python has it without OpenSSL, which reads files at its first use."""

    def to_message(self) -> Message:
        return {"output": text(self.last), "length": self.length, "digest": self.digest}

    @classmethod
    def from_message(cls, message: Message) -> "Written":
        return cls(raw(message["output"]), message["length"], message["digest"])

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
