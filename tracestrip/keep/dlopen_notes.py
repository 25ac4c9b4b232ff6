"""What an ELF file says of itself that it loads while it runs: the note `.note.dlopen`.

https://uapi-group.org/specifications/specs/elf_dlopen_metadata/: owner FDO, type 0x407c0c0a, a JSON array of entries with
sonames, of which the first that is found is loaded, and a priority.
"""

import io
import json
from collections.abc import Iterator
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection
from elftools.elf.segments import NoteSegment

from tracestrip.keep.elf import find_library, read_dynamic
from tracestrip.keep.keepset import KeepSet, Reason
from tracestrip.rootfs.tree import Entry, Tree

_OWNER, _TYPE = "FDO", 0x407C0C0A
_WANTED = ("required", "recommended")
_MOST_NAMES = 64
"""Of one file."""


def add_dlopened(keep: KeepSet, tree: Tree, library_path: bytes, read: set[bytes]) -> None:
    """Keep what the kept ELF files say they need or should have. *library_path*: LD_LIBRARY_PATH of the target.

    *read*: files that were asked before; those that are now are added.
    """
    for entry in [entry for entry in keep.files() if entry.path not in read]:
        read.add(entry.path)
        for sonames in dlopened(tree, entry):
            found = (find_library(tree, entry, soname, library_path) for soname in sonames)
            path = next(filter(None, found), None)
            if path is not None:
                keep.add_path(path, Reason("dlopen note of", entry.path))


def dlopened(tree: Tree, entry: Entry) -> Iterator[list[bytes]]:
    """The sonames of each required or recommended entry; of them the first that is there counts."""
    if read_dynamic(tree, entry) is None:
        return
    for content in dict.fromkeys(_notes(tree.read(entry))):
        try:
            features = json.loads(content.rstrip(b"\0"))
            for feature in features[:_MOST_NAMES]:
                if feature.get("priority", "recommended") in _WANTED:
                    sonames = [feature["soname"]] if isinstance(feature["soname"], str) else feature["soname"]
                    yield [soname.encode("utf-8", "surrogateescape") for soname in sonames[:_MOST_NAMES]]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue  # nobody else could read it either


def _notes(content: bytes) -> Iterator[bytes]:
    """By the segments, and by the sections, which strip(1) may have taken away."""
    try:
        elf = ELFFile(io.BytesIO(content))
        for part in (*elf.iter_segments(), *elf.iter_sections()):
            if isinstance(part, NoteSegment | NoteSection):
                for note in part.iter_notes():
                    kind: Any = note["n_type"]  # a number, of a type that has no name
                    if note["n_name"] == _OWNER and kind == _TYPE:
                        description = note["n_descdata"]
                        yield description if isinstance(description, bytes) else description.encode("latin-1")
    except (ELFError, ValueError, KeyError, TypeError, AttributeError, OverflowError, UnicodeError):
        return
