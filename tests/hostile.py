"""Strips images that were made to break it."""

import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conftest import Command, Finished, fails
from tests.images import stripped_layer
from tests.layers import Member, directory, docker_archive, layer, member


class Strip:
    """Strips an image of a usual layer and hostile ones; its command opens files."""

    def __init__(self, tracestrip: Command, program: Path, place: Path) -> None:
        self._tracestrip, self._place = tracestrip, place
        self.output = place / "out.tar"
        self.base: list[Member] = [
            member("bin/touch", program.read_bytes(), mode=0o755),
            member("etc/passwd", b"root:x:0:0:root:/:/bin/touch\n"),
            member("data/file", b"lower"),
            directory("tmp", mode=0o1777),
        ]

    def __call__(self, *layers: Sequence[Member], opens: str = "", options: Sequence[object] = (), **config: Any) -> Finished:
        archives = [layer(self._place / f"l{number}.tar", *part) for number, part in enumerate((self.base, *layers))]
        return self.archive(docker_archive(self._place / "image.tar", {"made:up": archives}, config), opens, options)

    def archive(self, file: Path, opens: str = "", options: Sequence[object] = ()) -> Finished:
        return self.reference(f"docker-archive:{file}", opens, options)

    def reference(self, reference: str, opens: str = "", options: Sequence[object] = ()) -> Finished:
        command = f"/bin/touch {opens}"
        return self._tracestrip("run", reference, "-e", command, "-o", f"docker-archive:{self.output}", *options)

    def refused(self, *layers: Sequence[Member], words: Sequence[str] = (), options: Sequence[object] = ()) -> None:
        fails(self(*layers, options=options), 3, *words)
        assert not self.output.exists()

    def kept(self, *layers: Sequence[Member], opens: str = "", options: Sequence[object] = ()) -> dict[str, tarfile.TarInfo]:
        finished = self(*layers, opens=opens, options=options)
        assert finished.code == 0, finished.stderr
        return stripped_layer(self.output)
