"""Strips small root directories, and looks at what stays, what it still can do and what is left running."""

import json
import os
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.conftest import Command, Finished
from tests.images import stripped_layer

Compile = Callable[..., Path]

_BUILT: dict[tuple[str, tuple[str, ...]], bytes] = {}


class Root:
    """A root directory that gets programs and files, and is stripped to what a command uses."""

    def __init__(self, tracestrip: Command, compiled: Compile, place: Path) -> None:
        self.path, self.output = place / "root", place / "out.tar"
        self._tracestrip, self._compiled, self._place = tracestrip, compiled, place
        self.path.mkdir(mode=0o755)

    def program(self, name: str, *flags: str, at: str | None = None) -> None:
        """That of tests/programs, static unless flags for the compiler are given; at /NAME or elsewhere."""
        target = self.path / (at or name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self.built(name, *(flags or ("-static", "-pthread"))))
        target.chmod(0o755)

    def built(self, name: str, *flags: str) -> bytes:
        """The program itself; the same one is compiled once for all tests."""
        if (name, flags) not in _BUILT:
            _BUILT[name, flags] = self._compiled(name, *flags).read_bytes()
        return _BUILT[name, flags]

    def file(self, name: str, content: str = "", mode: int = 0o644) -> None:
        """Its content is its name unless another is given."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(content or name))
        path.chmod(mode)

    def files(self, *names: str) -> None:
        for name in names:
            self.file(name)

    def libraries(self, program: Path) -> set[str]:
        """The loader and libraries of a program of this machine get into the root; their names."""
        asked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        found = {Path(word) for word in asked.split() if word.startswith("/")}
        for path in found:
            target = self.path / path.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        return {str(path.relative_to("/")) for path in found}

    def musl(self) -> str:
        """musl's loader, which is its C library too, gets into the root; its name."""
        name = f"lib/ld-musl-{platform.machine()}.so.1"
        self.file(name)
        shutil.copy(Path("/", name), self.path / name)
        return name

    def run(self, command: str, *options: object, source: str | None = None) -> Finished:
        """A run, of which no process is left, however it ended."""
        finished = self._tracestrip(
            "run", source or f"dir:{self.path}", "-e", command, "-o", f"docker-archive:{self.output}", "--force",
            "--env", f"MARK={self._place}", *options,
        )  # fmt: skip
        assert not marked(f"MARK={self._place}")
        return finished

    def kept(self, command: str, *options: object, source: str | None = None) -> set[str]:
        """Names of all but directories in the result of a run that succeeded."""
        finished = self.run(command, *options, source=source)
        assert finished.code == 0, finished.stderr
        return {name for name, member in stripped_layer(self.output).items() if not member.isdir()}

    def unpacked(self) -> Path:
        """A directory with the files of the result."""
        place = self._place / "stripped"
        place.mkdir(exist_ok=True)
        with tarfile.open(self.output) as outer:
            layer = json.load(outer.extractfile("manifest.json"))[0]["Layers"][0]
            content = outer.extractfile(layer).read()
        subprocess.run(["tar", "--xattrs", "--xattrs-include=*", "-C", place, "-xf", "-"], input=content, check=True)
        return place

    def works(self, *command: str) -> None:
        """The command succeeds where nothing is but what was kept, and /proc."""
        place = self.unpacked()
        (place / "proc").mkdir(exist_ok=True)
        own = ["unshare", "--mount", "--pid", "--fork", "--net", f"--root={place}", "--mount-proc", "--", *command]
        finished = subprocess.run(own, capture_output=True, check=False, env={})
        assert finished.returncode == 0, finished.stderr


def marked(variable: str) -> set[str]:
    """Processes of this machine that have an environment variable, as NAME=VALUE."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if variable.encode() in (process / "environ").read_bytes().split(b"\0"):
                found.add((process / "comm").read_text().strip())
    return found
