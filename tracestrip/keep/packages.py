"""Which files belong to which package, by the image's own database: dpkg's, apk's or rpm's."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby

from tracestrip.keep.database_limits import DatabaseLimits, database_damage, read_database
from tracestrip.keep.rpm_database import Package, rpm_packages
from tracestrip.rootfs.tree import Entry, Tree, join
from tracestrip.rootfs.walk import walk

Packages = Mapping[str, tuple[bytes, ...]]
"""Name → the paths that the database lists: absolute, but perhaps through symlinks (/bin/ls), and perhaps not there.

None has "." or "..", or is such that no file can be called like that.
"""

_DPKG, _STATUS, _DISTROLESS = b"/var/lib/dpkg/info", b"/var/lib/dpkg/status", b"/var/lib/dpkg/status.d"
_DIVERSIONS = b"/var/lib/dpkg/diversions"
_STATUS_FIELDS = (b"Package: ", b"Status: ", b"Architecture: ")
_APK = (b"/lib/apk/db/installed", b"/usr/lib/apk/db/installed")


def installed_packages(tree: Tree) -> Packages:
    """All that is installed; a package of dpkg for one architecture is there as NAME and NAME:ARCH.

    Raises ImageError when a database is damaged, or lists more than an image can have.
    """
    limits = DatabaseLimits()
    found: dict[str, list[bytes]] = {}
    for packages in (_dpkg, _distroless, _apk, rpm_packages):
        for name, paths in packages(tree, limits):
            if name:
                found.setdefault(name.decode("utf-8", "surrogateescape"), []).extend(paths)
    return {name: tuple(paths) for name, paths in found.items()}


def path_index(tree: Tree, packages: Packages) -> dict[bytes, str]:
    """The image's own path of each file, without a symlink on the way → the package that it is of; the first one counts.

    Directories are left out: most are of many packages.
    """
    index: dict[bytes, str] = {}
    for name, paths in packages.items():
        for entry in entries_of(tree, paths):
            if not entry.is_directory:
                index.setdefault(entry.path, name)
    return index


def entries_of(tree: Tree, paths: Iterable[bytes]) -> Iterator[Entry]:
    """What is there of the paths of a package. Directories on the way are walked once."""
    places: dict[bytes, bytes | None] = {b"": b"/"}
    for path in paths:
        way, _, name = path.rpartition(b"/")
        place = _place(tree, way, places)
        entry = None if place is None else tree.entry(join(place, name)) if name else tree.entry(place)
        if entry is not None:
            yield entry


def _place(tree: Tree, way: bytes, places: dict[bytes, bytes | None]) -> bytes | None:
    """The directory that *way* leads to; None where it leads to none. *places*: what is known, and gets known."""
    unknown = []
    while way not in places:
        unknown.append(way)
        way = way.rpartition(b"/")[0]
    place = places[way]
    for further in reversed(unknown):
        if place is not None:
            directory = walk(tree, join(place, further.rpartition(b"/")[2])).entry
            place = directory.path if directory is not None and directory.is_directory else None
        places[further] = place
    return place


@contextmanager
def _database(tree: Tree, path: bytes) -> Iterator[bytes]:
    """The content of a file; empty where there is none. What goes wrong in the block is its damage."""
    with database_damage(path):
        yield read_database(tree, walk(tree, path).entry)


def _dpkg(tree: Tree, limits: DatabaseLimits) -> Iterator[Package]:
    """dpkg's info/NAME.list and info/NAME:ARCH.list have a path a line; what is removed but not purged has one too."""
    directory = walk(tree, _DPKG).entry
    if directory is None:
        return
    with _database(tree, _STATUS) as status:
        gone = _not_installed(limits.lines(status))
    with _database(tree, _DIVERSIONS) as content:
        diversions = dict(_diversions(limits.lines(content)))
    for file in tree.names(directory.path):
        full = file.removesuffix(b".list")
        if full == file or full in gone:
            continue
        name, colon, _ = full.partition(b":")
        with _database(tree, join(directory.path, file)) as content:
            lines = (b"/" if line == b"/." else _diverted(line, name, diversions) for line in limits.lines(content))
            paths = limits.paths((b"", line) for line in lines)
        yield name, paths
        if colon and name:
            yield full, paths


def _not_installed(status: Iterator[bytes]) -> set[bytes]:
    """Of packages whose files are gone, NAME and NAME:ARCH: deb-control(5), dpkg(1) on package states.

    A name may be installed for one architecture and removed for another; its list is then there as NAME.
    """
    gone: set[bytes] = set()
    installed: set[bytes] = set()
    for _, paragraph in groupby(status, bool):
        fields = dict(line.split(b": ", 1) for line in paragraph if line.startswith(_STATUS_FIELDS))
        name, architecture = fields.get(b"Package", b""), fields.get(b"Architecture", b"")
        removed = fields.get(b"Status", b"").rstrip().endswith((b" not-installed", b" config-files"))
        (gone if removed else installed).update((name, name + b":" + architecture))
    return gone - installed


def _diversions(lines: Iterator[bytes]) -> Iterator[tuple[bytes, tuple[bytes, bytes]]]:
    """Path → (where it lies instead, the package that is excepted): three lines each, dpkg-divert(1)."""
    for path, elsewhere, package in zip(lines, lines, lines, strict=False):
        yield path, (elsewhere, package)


def _diverted(path: bytes, package: bytes, diversions: Mapping[bytes, tuple[bytes, bytes]]) -> bytes:
    elsewhere, excepted = diversions.get(path, (path, package))
    return path if excepted == package else elsewhere


def _distroless(tree: Tree, limits: DatabaseLimits) -> Iterator[Package]:
    """Images of Debian packages without dpkg have status.d/NAME, and status.d/NAME.md5sums with relative paths."""
    directory = walk(tree, _DISTROLESS).entry
    for file in () if directory is None else tree.names(directory.path):
        if file.endswith(b".md5sums"):
            with _database(tree, join(_DISTROLESS, file)) as content:
                lines = (line.split(None, 1) for line in limits.lines(content))
                paths = limits.paths((b"/", words[1].removeprefix(b"./")) for words in lines if len(words) > 1)
            yield file.removesuffix(b".md5sums"), paths


def _apk(tree: Tree, limits: DatabaseLimits) -> Iterator[Package]:
    """Paragraphs of one-letter fields: P the name, F a directory, R a file in the last one. apk(5)."""
    places = (walk(tree, database).entry for database in _APK)  # one may be a symlink to the other
    for database in dict.fromkeys(entry.path for entry in places if entry is not None):
        with _database(tree, database) as content:
            for has_lines, paragraph in groupby(limits.lines(content), bool):
                if has_lines:
                    yield _apk_package(paragraph, limits)


def _apk_package(paragraph: Iterator[bytes], limits: DatabaseLimits) -> Package:
    name = b""

    def parts() -> Iterator[tuple[bytes, bytes]]:
        nonlocal name
        directory = b"/"
        for line in paragraph:
            field, value = line[:2], line[2:]
            if field == b"P:":
                name = value
            elif field == b"F:":
                directory = b"/" + value + b"/" if value else b"/"
                yield b"/", value
            elif field == b"R:":
                yield directory, value

    paths = limits.paths(parts())
    return name, paths
