"""Berkeley DB's hash, in which rpm kept its headers until 2020: dbinc/db_page.h; docs/manual/hregions.md of rpm."""

import struct
from collections.abc import Iterator

_MAGIC = 0x061561
_HASH_PAGES, _OVERFLOW = (2, 13), 7
_INLINE, _OFF_PAGE = 1, 3
_PAGE = "8xIIIHHBB"
"""Number, previous, next, entries, offset of the free part (bytes in use, on an overflow page), level, type."""
_PAGE_SIZE = 26


def hash_values(content: bytes) -> Iterator[bytes]:
    """The headers in a database with this content, in either byte order. Raises ValueError or struct.error when damaged."""
    order = next((order for order in "<>" if content[12:16] == struct.pack(f"{order}I", _MAGIC)), None)
    if order is None:
        raise ValueError("no Berkeley DB hash")
    (size,) = struct.unpack_from(f"{order}I", content, 20)
    if not 512 <= size <= 65536:
        raise ValueError(f"its pages have {size} bytes")
    chains = _Chains(content, order, size)
    for page in range(size, len(content) - size + 1, size):
        *_, entries, _, _, kind = struct.unpack_from(f"{order}{_PAGE}", content, page)
        if kind not in _HASH_PAGES:
            continue
        if _PAGE_SIZE + 2 * entries > size:
            raise ValueError("a page has more entries than room")
        offsets = struct.unpack_from(f"{order}{entries}H", content, page + _PAGE_SIZE)
        if any(before <= after for before, after in zip((size, *offsets), offsets, strict=False)):
            raise ValueError("entries of a page overlap")  # they grow from the page's end
        for key, value in zip(offsets[::2], offsets[1::2], strict=False):
            if content[page + value] == _OFF_PAGE:
                yield chains.value(*struct.unpack_from(f"{order}4xII", content, page + value))
            elif content[page + value] == _INLINE and content[page + key + 1 : page + key + 5] != bytes(4):
                yield content[page + value + 1 : page + key]  # the key 0 is no package, but their highest number


class _Chains:
    """Chains of overflow pages, on which long values lie. Each page is in one chain at most."""

    def __init__(self, content: bytes, order: str, size: int) -> None:
        self._content, self._order, self._size = content, order, size
        self._used: set[int] = set()

    def value(self, page: int, length: int) -> bytes:
        """What the chain from *page* on holds, *length* bytes."""
        if length > len(self._content):
            raise ValueError("a value is longer than the database")
        value = bytearray()
        while page and len(value) < length:
            start = page * self._size
            _, _, following, _, used, _, kind = struct.unpack_from(f"{self._order}{_PAGE}", self._content, start)
            if kind != _OVERFLOW or not 0 < used <= self._size - _PAGE_SIZE:
                raise ValueError("a chain of pages is broken")
            if page in self._used:
                raise ValueError("chains share a page")
            self._used.add(page)
            value += self._content[start + _PAGE_SIZE : start + _PAGE_SIZE + used]
            page = following
        if len(value) != length:
            raise ValueError("a chain of pages ends early")
        return bytes(value)
