"""What an ELF file says of itself that it loads while it runs: the note `.note.dlopen`.

https://uapi-group.org/specifications/specs/elf_dlopen_metadata/: owner FDO, type 0x407c0c0a, a JSON array of entries with
sonames, of which the first that is found is loaded, and a priority.
"""

import io
import json
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection
from elftools.elf.segments import NoteSegment

from tracestrip.keep.elf import finder, read_dynamic
from tracestrip.keep.keepset import KeepSet, Reason
from tracestrip.rootfs.tree import Tree

_OWNER, _TYPE = "FDO", 0x407C0C0A
_WANTED = ("required", "recommended")
_MOST = 64
"""Notes and entries of one file, and sonames of an entry."""


def add_dlopened(keep: KeepSet, tree: Tree, library_path: bytes, read: set[bytes]) -> None:
    """Keep what the kept ELF files say they need or should have. *library_path*: LD_LIBRARY_PATH of the target.

    *read*: files that were asked before; those that are now are added.
    """
    for entry in [entry for entry in keep.files() if entry.path not in read]:
        read.add(entry.path)
        caller = read_dynamic(tree, entry)
        if caller is None or not (features := dlopened(tree.read(entry))):
            continue
        find = finder(tree, caller, library_path)
        for sonames in features:
            path = next(filter(None, map(find, sonames)), None)
            if path is not None:
                keep.add_path(path, Reason("dlopen note of", entry.path))


def dlopened(content: bytes) -> list[list[bytes]]:
    """The sonames of each required or recommended entry of an ELF file; of them the first that is there counts."""
    found: list[list[bytes]] = []
    for note in islice(dict.fromkeys(_notes(content)), _MOST):
        try:
            for feature in json.loads(note.rstrip(b"\0"))[:_MOST]:
                if feature.get("priority", "recommended") in _WANTED:
                    sonames = [feature["soname"]] if isinstance(feature["soname"], str) else feature["soname"]
                    found.append([soname.encode("utf-8", "surrogateescape") for soname in sonames[:_MOST]])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue  # nobody else could read it either
    return found[:_MOST]


def _notes(content: bytes) -> Iterator[bytes]:
    """By the segments, and by the sections, which strip(1) may have taken away."""
    try:
        elf, left = ELFFile(io.BytesIO(content)), 2 * len(content)
        for part in chain(elf.iter_segments(), elf.iter_sections()):
            if isinstance(part, NoteSegment | NoteSection):
                left -= int(part["p_filesz"] if isinstance(part, NoteSegment) else part["sh_size"])
                if left < 0:
                    return  # they overlap
                for note in part.iter_notes():
                    kind: Any = note["n_type"]  # a number, of a type that has no name
                    if note["n_name"] == _OWNER and kind == _TYPE:
                        description = note["n_descdata"]
                        yield description if isinstance(description, bytes) else description.encode("latin-1")
    except (ELFError, ValueError, KeyError, TypeError, AttributeError, OverflowError, UnicodeError):
        return
