"""rpm's database of installed packages, in the three forms that it has had: SQLite, ndb and Berkeley DB's hash.

Read without rpm, since most images have none, and without a library: no well-kept Python package knows all three.
Each holds one header blob for a package.
"""

import struct
from collections.abc import Callable, Iterator

from tracestrip.keep.berkeley_hash import hash_values
from tracestrip.keep.database_limits import DatabaseLimits, database_damage, read_database
from tracestrip.keep.ndb_slots import slot_blobs
from tracestrip.keep.packages_table import table_blobs
from tracestrip.rootfs.tree import Kind, Tree, join
from tracestrip.rootfs.walk import walk

_PLACES = (b"/usr/lib/sysimage/rpm", b"/var/lib/rpm")
_FORMS: dict[bytes, Callable[[bytes], Iterator[bytes]]] = {
    b"rpmdb.sqlite": table_blobs,
    b"Packages.db": slot_blobs,
    b"Packages": hash_values,
}
_TAGS = _NAME, _OLD_FILENAMES, _DIRECTORY_INDEXES, _BASENAMES, _DIRECTORIES = 1000, 1027, 1116, 1117, 1118

Package = tuple[bytes, list[bytes]]


def rpm_packages(tree: Tree, limits: DatabaseLimits) -> Iterator[Package]:
    """(name, paths) of each package. Raises ImageError for a damaged database."""
    for place in _PLACES:
        directory = walk(tree, place).entry
        if directory is None or (place != _PLACES[0] and directory.path == _PLACES[0]):
            continue  # the usual place is often a symlink to the newer one
        for name, blobs in _FORMS.items():
            entry = walk(tree, join(directory.path, name)).entry
            if entry is None or entry.kind is not Kind.FILE or not entry.size:
                continue
            with database_damage(entry.path):
                log = walk(tree, entry.path + b"-wal").entry
                if blobs is table_blobs and log is not None and log.size:
                    raise ValueError("it has a write-ahead log that was not closed")
                for blob in blobs(read_database(tree, entry)):
                    yield _package(blob, limits)
            return


def _package(blob: bytes, limits: DatabaseLimits) -> Package:
    """A header: two counts, an index of 16 bytes each, then the data; all big-endian."""
    count, size = struct.unpack_from(">II", blob)
    start = 8 + 16 * count
    data = blob[start : start + size]
    if len(data) < size:
        raise ValueError("a header is longer than its record")
    index = {}
    for number in range(count):
        tag, _, offset, length = struct.unpack_from(">iIiI", blob, 8 + 16 * number)
        if tag in _TAGS and offset < 0:
            raise ValueError("an offset before the data")
        if tag in _TAGS:
            index[tag] = offset, length

    def strings(tag: int) -> Iterator[bytes]:
        at, length = index.get(tag, (0, 0))
        limits.spend("lines", length)
        for _ in range(length):
            end = data.index(b"\0", at)
            yield data[at:end]
            at = end + 1

    (name,) = strings(_NAME)
    if _BASENAMES not in index:
        return name, limits.paths((b"", path) for path in strings(_OLD_FILENAMES))
    offset, length = index.get(_DIRECTORY_INDEXES, (0, 0))
    indexes = struct.iter_unpack(">I", data[offset : offset + 4 * length])
    directories = list(strings(_DIRECTORIES))
    files = zip(indexes, strings(_BASENAMES), strict=True)
    return name, limits.paths((directories[at], basename) for (at,), basename in files)
