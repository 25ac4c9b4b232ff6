"""rpm's ndb database, as openSUSE has it: pages of slots, which say where the header blobs are. lib/backend/ndb/rpmpkg.c."""

import struct
from collections.abc import Iterator

_BLOCK = 16


def slot_blobs(content: bytes) -> Iterator[bytes]:
    """The headers in a database with this content. Raises ValueError or struct.error for a damaged one."""
    magic, _, _, pages = struct.unpack_from("<4sIII", content)
    if magic != b"RpmP":
        raise ValueError("no ndb database")
    left = len(content) // _BLOCK
    for at in range(32, min(pages * 4096, len(content) - 15), 16):
        slot, number, block, blocks = struct.unpack_from("<4sIII", content, at)
        if slot != b"Slot":
            raise ValueError("no slot where one should be")
        if not block:
            continue
        left -= blocks
        if left < 0:
            raise ValueError("slots share their blobs")
        start, owner, _, size = struct.unpack_from("<4sIII", content, _BLOCK * block)
        if start != b"BlbS" or owner != number or size + 16 > _BLOCK * blocks:
            raise ValueError("a slot leads to no blob")
        yield content[_BLOCK * block + 16 : _BLOCK * block + 16 + size]
