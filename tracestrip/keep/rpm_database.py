"""rpm's database of installed packages, in the three forms that it has had: SQLite, ndb and Berkeley DB's hash.

Read without rpm, since most images have none, and without a library: no well-kept Python package knows all three.
The forms are described by rpm's own sources (lib/backend/ndb/rpmpkg.c, docs/manual/hregions.md) and Berkeley DB's
(dbinc/db_page.h); each holds one header blob for a package.
"""

import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing

from tracestrip.errors import ImageError
from tracestrip.image.damage import damage
from tracestrip.rootfs.tree import Kind, Tree, join
from tracestrip.rootfs.walk import walk

_PLACES = (b"/usr/lib/sysimage/rpm", b"/var/lib/rpm")
_NAME, _OLD_FILENAMES, _DIRECTORY_INDEXES, _BASENAMES, _DIRECTORIES = 1000, 1027, 1116, 1117, 1118

Package = tuple[str, list[bytes]]


def rpm_packages(tree: Tree, largest: int) -> Iterator[Package]:
    """(name, paths) of each package. *largest*: bytes of the database's file. Raises ImageError for a damaged one."""
    for place in _PLACES:
        directory = walk(tree, place).entry
        if directory is None or (place != _PLACES[0] and directory.path == _PLACES[0]):
            continue  # the usual place is often a symlink to the newer one
        for name, read in _FORMS.items():
            entry = walk(tree, join(directory.path, name)).entry
            if entry is None or entry.kind is not Kind.FILE or not entry.size:
                continue
            called = f"{entry.path.decode(errors='replace')} of the image"
            if entry.size > largest:
                raise ImageError(f"{called}: it has {entry.size} bytes: no package database has so many")
            with damage(called, "build the image again, or leave out what asks for packages"):
                try:
                    found = [_package(blob) for blob in read(tree.read(entry))]
                except struct.error as error:
                    raise ValueError("it ends early") from error
            yield from found
            return


def _package(blob: bytes) -> Package:
    """A header: two counts, an index of 16 bytes each, then the data; all big-endian."""
    count, size = struct.unpack_from(">II", blob)
    start = 8 + 16 * count
    data = blob[start : start + size]
    if len(data) < size:
        raise ValueError("a header is longer than its record")
    index = {}
    for number in range(count):
        tag, _, offset, length = struct.unpack_from(">iIiI", blob, 8 + 16 * number)
        index[tag] = offset, length

    def strings(tag: int) -> list[bytes]:
        offset, length = index.get(tag, (0, 0))
        if offset < 0:
            raise ValueError("an offset before the data")
        return data[offset:].split(b"\0", length)[:length] if length else []

    (name,) = strings(_NAME)
    offset, length = index.get(_DIRECTORY_INDEXES, (0, 0))
    if 4 * length > size:
        raise ValueError("more files than data")
    indexes = struct.unpack_from(f">{length}I", data, offset)
    directories, basenames = strings(_DIRECTORIES), strings(_BASENAMES)
    paths = [directories[at] + basename for at, basename in zip(indexes, basenames, strict=True)]
    return name.decode("utf-8", "surrogateescape"), paths or strings(_OLD_FILENAMES)


def _sqlite(content: bytes) -> Iterator[bytes]:
    """What lies in a write-ahead log beside it is not read: images are built with the database closed."""
    writable = bytearray(content)
    writable[18:20] = b"\1\1"  # journal mode: a database in memory has no log; https://www.sqlite.org/fileformat.html
    with closing(sqlite3.connect(":memory:")) as database:
        try:
            database.deserialize(bytes(writable))
            for (blob,) in database.execute("SELECT blob FROM Packages ORDER BY hnum"):
                yield bytes(blob)
        except sqlite3.Error as error:
            raise ValueError(str(error)) from error


def _ndb(content: bytes) -> Iterator[bytes]:
    """Pages of slots, 16 bytes each, which say where the blobs are, in blocks of 16 bytes."""
    magic, _, _, pages = struct.unpack_from("<4sIII", content)
    if magic != b"RpmP":
        raise ValueError("no ndb database")
    for at in range(32, min(pages * 4096, len(content) - 15), 16):
        slot, number, block, blocks = struct.unpack_from("<4sIII", content, at)
        if slot != b"Slot":
            raise ValueError("no slot where one should be")
        if block:
            start, owner, _, size = struct.unpack_from("<4sIII", content, 16 * block)
            if start != b"BlbS" or owner != number or size + 16 > 16 * blocks:
                raise ValueError("a slot leads to no blob")
            yield content[16 * block + 16 : 16 * block + 16 + size]


_BERKELEY_HASH = 0x061561
_HASH_PAGES, _OVERFLOW = (2, 13), 7
_INLINE, _OFF_PAGE = 1, 3
_PAGE = struct.Struct("<8xIIIHHBB")
"""Number, previous, next, entries, offset of the free part (bytes in use, on an overflow page), level, type."""


def _berkeley(content: bytes) -> Iterator[bytes]:
    """Pages with keys and values in turn; a long value lies on a chain of overflow pages."""
    _, magic, _, size = struct.unpack_from("<8x4I", content)
    if magic != _BERKELEY_HASH or not 512 <= size <= 65536:
        raise ValueError("no Berkeley DB hash of this byte order")
    for page in range(size, len(content) - size + 1, size):
        _, _, _, entries, _, _, kind = _PAGE.unpack_from(content, page)
        if kind not in _HASH_PAGES:
            continue
        offsets = struct.unpack_from(f"<{entries}H", content, page + _PAGE.size)
        for key, value in zip(offsets[::2], offsets[1::2], strict=False):
            if content[page + value] == _OFF_PAGE:
                first, length = struct.unpack_from("<4xII", content, page + value)
                yield _chained(content, size, first, length)
            elif content[page + value] == _INLINE and content[page + key + 1 : page + key + 5] != bytes(4):
                yield content[page + value + 1 : page + key]  # items grow from the page's end


def _chained(content: bytes, size: int, page: int, length: int) -> bytes:
    if length > len(content):
        raise ValueError("a value is longer than the database")
    value = bytearray()
    while page and len(value) < length:
        _, _, following, _, used, _, kind = _PAGE.unpack_from(content, page * size)
        if kind != _OVERFLOW or not 0 < used <= size - _PAGE.size:
            raise ValueError("a chain of pages is broken")
        start = page * size + _PAGE.size
        value += content[start : start + used]
        page = following
    if len(value) != length:
        raise ValueError("a chain of pages ends early")
    return bytes(value)


_FORMS: dict[bytes, Callable[[bytes], Iterator[bytes]]] = {
    b"rpmdb.sqlite": _sqlite,
    b"Packages.db": _ndb,
    b"Packages": _berkeley,
}
