"""Which files belong to which package, by the image's own database: dpkg's, apk's or rpm's."""

from collections.abc import Iterable, Iterator, Mapping

from tracestrip.errors import ImageError
from tracestrip.keep.rpm_database import rpm_packages
from tracestrip.rootfs.tree import Entry, Kind, Tree, join
from tracestrip.rootfs.walk import walk

Packages = Mapping[str, tuple[bytes, ...]]
"""Name → the paths that the database lists: absolute, but perhaps through symlinks (/bin/ls), and perhaps not there."""

_DPKG, _STATUS, _DISTROLESS = b"/var/lib/dpkg/info", b"/var/lib/dpkg/status", b"/var/lib/dpkg/status.d"
_DIVERSIONS = b"/var/lib/dpkg/diversions"
_APK = (b"/lib/apk/db/installed", b"/usr/lib/apk/db/installed")
_LARGEST = 256 << 20
"""Bytes of one file of a database."""


def installed_packages(tree: Tree) -> Packages:
    """All that is installed; a package of dpkg for one architecture is there as NAME and NAME:ARCH.

    Raises ImageError when a database is damaged.
    """
    found: dict[str, list[bytes]] = {}
    for packages in (_dpkg(tree), _distroless(tree), _apk(tree), rpm_packages(tree, _LARGEST)):
        for name, paths in packages:
            found.setdefault(name, []).extend(paths)
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
    places: dict[bytes, bytes | None] = {}
    for path in paths:
        way, _, name = path.rpartition(b"/")
        if way not in places:
            directory = walk(tree, way or b"/").entry
            places[way] = directory.path if directory is not None and directory.is_directory else None
        place = places[way]
        entry = None if place is None else tree.entry(join(place, name)) if name else tree.entry(place)
        if entry is not None:
            yield entry


def _content(tree: Tree, path: bytes) -> bytes:
    """Of a regular file; empty where there is none."""
    entry = walk(tree, path).entry
    if entry is None or entry.kind is not Kind.FILE:
        return b""
    if entry.size > _LARGEST:
        called = path.decode("utf-8", "replace")
        raise ImageError(f"{called} of the image has {entry.size} bytes: no package database has so many")
    return tree.read(entry)


def _dpkg(tree: Tree) -> Iterator[tuple[str, list[bytes]]]:
    """dpkg's info/NAME.list and info/NAME:ARCH.list have a path a line; what is removed but not purged has one too."""
    directory = walk(tree, _DPKG).entry
    if directory is None:
        return
    diversions = dict(_diversions(tree))
    gone = _not_installed(_content(tree, _STATUS))
    for file in tree.names(directory.path):
        if not file.endswith(b".list"):
            continue
        full = file.removesuffix(b".list")
        name, _, architecture = full.partition(b":")
        if (name, architecture) in gone or (not architecture and any(other == name for other, _ in gone)):
            continue
        lines = _content(tree, join(directory.path, file)).splitlines()
        paths = [b"/" if line == b"/." else _diverted(line, name, diversions) for line in lines if line.startswith(b"/")]
        yield _text(name), paths
        if architecture:
            yield _text(full), paths


def _not_installed(status: bytes) -> set[tuple[bytes, bytes]]:
    """(name, architecture) of packages whose files are gone: deb-control(5), dpkg(1) on package states."""
    gone = set()
    for paragraph in status.split(b"\n\n"):
        fields = dict(line.split(b": ", 1) for line in paragraph.splitlines() if b": " in line and line[:1] != b" ")
        state = fields.get(b"Status", b"").split()
        if state and state[-1] in (b"not-installed", b"config-files"):
            gone.add((fields.get(b"Package", b""), fields.get(b"Architecture", b"")))
    return gone


def _diversions(tree: Tree) -> Iterator[tuple[bytes, tuple[bytes, bytes]]]:
    """Path → (where it lies instead, the package that is excepted): three lines each, dpkg-divert(1)."""
    lines = _content(tree, _DIVERSIONS).splitlines()
    for number in range(0, len(lines) - 2, 3):
        yield lines[number], (lines[number + 1], lines[number + 2])


def _diverted(path: bytes, package: bytes, diversions: Mapping[bytes, tuple[bytes, bytes]]) -> bytes:
    elsewhere, excepted = diversions.get(path, (path, package))
    return path if excepted == package else elsewhere


def _distroless(tree: Tree) -> Iterator[tuple[str, list[bytes]]]:
    """Images of Debian packages without dpkg have status.d/NAME, and status.d/NAME.md5sums with relative paths."""
    directory = walk(tree, _DISTROLESS).entry
    for file in () if directory is None else tree.names(directory.path):
        if file.endswith(b".md5sums"):
            lines = (line.split(None, 1) for line in _content(tree, join(_DISTROLESS, file)).splitlines())
            paths = [b"/" + words[1].removeprefix(b"./") for words in lines if len(words) > 1]
            yield _text(file.removesuffix(b".md5sums")), paths


def _apk(tree: Tree) -> Iterator[tuple[str, list[bytes]]]:
    """Paragraphs of one-letter fields: P the name, F a directory, R a file in the last one. apk(5)."""
    for database in _APK:
        for paragraph in _content(tree, database).split(b"\n\n"):
            name, directory, paths = b"", b"/", []
            for line in paragraph.splitlines():
                field, value = line[:2], line[2:]
                if field == b"P:":
                    name = value
                elif field == b"F:":
                    directory = b"/" + value
                    paths.append(directory)
                elif field == b"R:":
                    paths.append(join(directory, value))
            if name:
                yield _text(name), paths


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
