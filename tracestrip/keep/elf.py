"""What an ELF file needs, read from the files alone: for loaders that cannot run on this machine.

The search of ld.so(8): DT_RPATH (of the file and of those that need it, where there is no DT_RUNPATH), LD_LIBRARY_PATH,
DT_RUNPATH of the file itself, ld.so.conf's directories, and the usual ones. Not covered: hardware-capability
subdirectories and DF_1_NODEFLIB.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile

from tracestrip.keep.patterns import matches
from tracestrip.rootfs.tree import Entry, Kind, Tree, parent
from tracestrip.rootfs.walk import walk

_MULTIARCH = (b"x86_64-linux-gnu", b"i386-linux-gnu", b"aarch64-linux-gnu")
"""Debian's loaders have those of their own machine built in: https://wiki.debian.org/Multiarch/TheCaseForMultiarch"""
_USUAL_DIRECTORIES = (
    *(top + triplet for triplet in _MULTIARCH for top in (b"/lib/", b"/usr/lib/")),
    b"/lib64", b"/usr/lib64", b"/lib", b"/usr/lib", b"/usr/local/lib",
)  # fmt: skip


_TEXTS = ("needed", "rpath", "runpath", "soname")
_LARGEST = 1 << 30
_MOST_TEXT = 1 << 20
_MOST_TRIES = 100_000
_MOST_FILES = 200  # of ld.so.conf; they may include each other in a chain
"""Bytes of a file, and of the names in it, and how many places are looked at for one file: an image may hold anything."""


@dataclass(frozen=True, slots=True)
class Dynamic:
    """The parts of a dynamic section that steer the search."""

    machine: tuple[int, str]
    """(32 or 64, machine)."""
    needed: tuple[bytes, ...]
    rpath: tuple[bytes, ...]
    runpath: tuple[bytes, ...]


def needed_libraries(tree: Tree, entry: Entry, library_path: bytes) -> list[bytes]:
    """Paths of all libraries that *entry* needs, directly and through others, as they are found in *tree*."""
    start = read_dynamic(tree, entry)
    if start is None:
        return []
    search = _Search(tree, start.machine, library_path)
    found: dict[bytes, bytes | None] = {}
    queue = [(start, start.rpath)]
    while queue:
        dynamic, inherited = queue.pop()
        for name in dynamic.needed:
            if name not in found:
                found[name] = None
                for candidate, loaded in search.loadable(name, dynamic, inherited):
                    found[name] = candidate
                    queue.append((loaded, (*loaded.rpath, *inherited)))
                    break
    return [path for path in found.values() if path is not None]


def finder(tree: Tree, caller: Dynamic, library_path: bytes) -> Callable[[bytes], bytes | None]:
    """What tells where dlopen(3), called in *caller*, finds a library by its name; None where it does not."""
    search = _Search(tree, caller.machine, library_path)
    return lambda name: next((path for path, _ in search.loadable(name, caller, caller.rpath)), None)


class _Search:
    """The directories that are searched for every file of a program, for libraries of its own machine."""

    def __init__(self, tree: Tree, machine: tuple[int, str], library_path: bytes) -> None:
        self._tree, self._machine = tree, machine
        self._wanted = tuple(filter(None, library_path.split(b":")))
        self._last = (*_configured_directories(tree, set()), *_USUAL_DIRECTORIES)
        self._tries = 0

    def loadable(self, name: bytes, dynamic: Dynamic, inherited: tuple[bytes, ...]) -> Iterator[tuple[bytes, Dynamic]]:
        """The paths that are tried for *name* and can be loaded, with their dynamic sections. *inherited*: DT_RPATH so far."""
        before = () if dynamic.runpath else inherited
        directories = (*before, *self._wanted, *dynamic.runpath, *self._last)
        for path in [name] if b"/" in name else (directory + b"/" + name for directory in directories):
            self._tries += 1
            if self._tries > _MOST_TRIES:
                return
            library = walk(self._tree, path).entry if path.startswith(b"/") else None
            loaded = read_dynamic(self._tree, library) if library is not None else None
            if loaded is not None and loaded.machine == self._machine:
                yield path, loaded


def read_dynamic(tree: Tree, entry: Entry) -> Dynamic | None:
    """The dynamic section of an ELF file; None for static and other files."""
    if entry.kind is not Kind.FILE or entry.size > _LARGEST or tree.read(entry, 4) != b"\x7fELF":
        return None
    try:
        elf = ELFFile(io.BytesIO(tree.read(entry)))
        segment = next((part for part in elf.iter_segments() if isinstance(part, DynamicSegment)), None)
        if segment is None:
            return None
        tags: list[tuple[str, Any]] = []
        length = 0
        for tag in segment.iter_tags():
            tags.append((tag.entry.d_tag, tag))
            length += max((len(getattr(tag, name)) for name in _TEXTS if hasattr(tag, name)), default=1)
            if length > _MOST_TEXT:
                return None
    except (ELFError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None  # damaged; the kernel would not load it either
    origin = parent(entry.path)
    return Dynamic(
        machine=(elf.elfclass, str(elf["e_machine"])),
        needed=tuple(_raw(tag.needed) for name, tag in tags if name == "DT_NEEDED"),
        rpath=_directories([tag.rpath for name, tag in tags if name == "DT_RPATH"], origin),
        runpath=_directories([tag.runpath for name, tag in tags if name == "DT_RUNPATH"], origin),
    )


def _directories(values: list[str], origin: bytes) -> tuple[bytes, ...]:
    paths = (path for value in values for path in _raw(value).split(b":") if path)
    return tuple(path.replace(b"${ORIGIN}", origin).replace(b"$ORIGIN", origin) for path in paths)


def _configured_directories(tree: Tree, read: set[bytes], file: bytes = b"/etc/ld.so.conf") -> tuple[bytes, ...]:
    """The directories of ld.so.conf and the files that it includes, but for those that were *read*; ldconfig(8)."""
    entry = walk(tree, file).entry
    if entry is None or entry.kind is not Kind.FILE or entry.path in read or len(read) == _MOST_FILES:
        return ()
    read.add(entry.path)
    directories: list[bytes] = []
    for line in tree.read(entry, _MOST_TEXT).splitlines():
        words = line.partition(b"#")[0].split()
        if words[:1] == [b"include"]:
            for pattern in words[1:]:
                absolute = pattern if pattern.startswith(b"/") else parent(file) + b"/" + pattern
                for path in sorted(matches(tree, absolute)):
                    directories += _configured_directories(tree, read, path)
        else:
            directories += words
    return tuple(directories)


def _raw(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
