"""The libraries that the kept ELF files need, as the image's own loader finds them.

`ld.so --list FILE` (ld.so(8); musl's loader has it too) is run inside the sandbox, never on the host. Where a loader
cannot run here, `elf.py` answers from the files.
"""

import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass

from tracestrip.errors import ObserverLost, TargetError
from tracestrip.keep.elf import needed_libraries
from tracestrip.keep.keepset import KeepSet, Reason
from tracestrip.observer.client import Completed
from tracestrip.observer.interpreters import HEAD, elf_interpreter, interpreters
from tracestrip.rootfs.tree import Entry, Kind, Tree
from tracestrip.rootfs.walk import walk

Run = Callable[[list[str]], Completed]
"""Runs a command in the sandbox. Raises TargetError when it cannot be executed."""

_ANSWER = re.compile(rb"^\t(?:\S+ => )?(/.*?) \(0x[0-9a-f]+\)$", re.MULTILINE)
_USUAL_LOADERS = (
    b"/lib64/ld-linux-x86-64.so.2", b"/lib/ld-linux.so.2", b"/lib/ld-linux-aarch64.so.1",
    b"/lib/ld-musl-x86_64.so.1", b"/lib/ld-musl-i386.so.1", b"/lib/ld-musl-aarch64.so.1",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Loader:
    """What answers for the libraries of a target in its surroundings."""

    run: Run
    """For the image's own loaders."""
    library_path: bytes
    """LD_LIBRARY_PATH of the target, for what is found without one."""


class Libraries:
    """Asks for each ELF file of a kept set once."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._loaders: dict[bytes, bytes] = {}
        self._answered: set[bytes] = set()

    def add_to(self, keep: KeepSet, loader: Loader) -> None:
        """Add the libraries, and the interpreters of what was kept by rule, until nothing new comes."""
        answered = self._answered
        while files := [entry for entry in keep.files() if entry.path not in answered]:
            heads = {entry.path: self._tree.read(entry, HEAD) for entry in files}
            # Programs first: their answers cover most libraries, which then need not be asked about.
            for entry in sorted(files, key=lambda entry: elf_interpreter(heads[entry.path]) is None):
                if entry.path in answered:
                    continue
                answered.add(entry.path)
                head = heads[entry.path]
                self._add_interpreters(keep, entry, head)
                if head.startswith(b"\x7fELF"):
                    for library in self._libraries(entry, head, loader):
                        found = keep.add_path(library, Reason("ldd of", entry.path))
                        if found is not None:
                            answered.add(found.path)

    def _add_interpreters(self, keep: KeepSet, entry: Entry, head: bytes) -> None:
        if entry.mode & 0o111:
            for interpreter in interpreters(head, self._head):
                keep.add_path(interpreter, Reason("interpreter of", entry.path))

    def _head(self, path: bytes) -> bytes | None:
        found = walk(self._tree, path).entry if path.startswith(b"/") else None
        return self._tree.read(found, HEAD) if found is not None and found.kind is Kind.FILE else None

    def _libraries(self, entry: Entry, head: bytes, by: Loader) -> list[bytes]:
        loader = self._loader(head)
        if loader is not None:
            status, output = _answer(by.run, [_text(loader), "--list", _text(entry.path)])
            if status == -signal.SIGKILL:
                raise TargetError(f"{_text(loader)} of the image was killed while it was asked for libraries: try again")
            if status == 0:
                found = _ANSWER.findall(output)
                return [*found, *self._tables(loader)] if found else []
        return needed_libraries(self._tree, entry, by.library_path)

    def _tables(self, loader: bytes) -> list[bytes]:
        """By which the loader finds libraries that lie in no usual place; it opens them at every start: ld.so(8)."""
        if b"ld-musl-" not in loader:
            return [b"/etc/ld.so.cache"]
        name = os.path.basename(loader).removesuffix(b".1").removesuffix(b".so")
        return [b"/etc/" + name + b".path"]

    def _loader(self, head: bytes) -> bytes | None:
        """The loader of the file's own kind: its PT_INTERP, or what other programs of its class and machine name."""
        kind = head[4:6] + head[18:20]
        own = elf_interpreter(head)
        if own is not None:
            self._loaders.setdefault(kind, own)
            return own
        if kind not in self._loaders:
            for usual in _USUAL_LOADERS:
                found = self._head(usual)
                if found is not None and found[4:6] + found[18:20] == kind:
                    self._loaders[kind] = usual
                    break
        return self._loaders.get(kind)


def _answer(run: Run, arguments: list[str]) -> tuple[int, bytes]:
    """As a shell's, for one that cannot be executed."""
    try:
        answer = run(arguments)
    except ObserverLost:
        raise
    except TargetError:
        return 127, b""
    return answer.status, answer.output


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
