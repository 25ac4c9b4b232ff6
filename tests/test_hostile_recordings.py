"""Observations that anybody may have edited: held to what the command line guarantees, they name nothing but the image."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TOP, Command, fails
from tests.images import stripped_layer
from tests.stripping import Root
from tracestrip.errors import UsageError
from tracestrip.image.directory import read_directory
from tracestrip.recording import Recording, read_recording

Edit = Callable[[Any], object]


class Recorded:
    """A root directory, and the file that `observe` wrote of it."""

    def __init__(self, root: Root, file: Path) -> None:
        self.root, self.file = root, file

    def edited(self, edit: Edit, place: Path) -> Path:
        """A copy of the file after an edit of its document."""
        document = json.loads(self.file.read_text())
        edit(document)
        copy = place / "edited.json"
        copy.write_text(json.dumps(document))
        return copy

    def read(self, file: Path) -> Recording:
        return read_recording(file, read_directory(self.root.path))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    place = tmp_path_factory.mktemp("recorded")

    def compiled(name: str, *flags: str) -> Path:
        program = place / name
        subprocess.run(["gcc", "-D_GNU_SOURCE", "-o", program, TOP / f"tests/programs/{name}.c", *flags], check=True)
        return program

    def tracestrip(*arguments: object) -> None:
        command = [sys.executable, "-m", "tracestrip", *map(str, arguments)]
        subprocess.run(command, cwd=TOP, check=True, stdout=subprocess.DEVNULL)

    root = Root(tracestrip, compiled, place)
    root.program("touch")
    root.file("file")
    options = ("--env", "A=1", "--mount", f"type=bind,src={place},dst=/mnt", "--tmpfs", "/memory")
    tracestrip("observe", f"dir:{root.path}", "-e", "/touch /file", "-o", place / "a.json", *options)
    return Recorded(root, place / "a.json")


def test_the_file_is_good(recorded: Recorded, tmp_path: Path) -> None:
    assert recorded.read(recorded.edited(lambda _: None, tmp_path)).arguments == ("/touch", "/file")


@pytest.mark.parametrize(
    "name",
    ["/../secret", "/file/../../secret", "//secret", "/./secret", "/secret/", "secret", "", "/a//b", "/a\0b", "/\ud800"],
)
@pytest.mark.parametrize("field", ["resolved", "root", "links"])
def test_names_that_lead_out_of_the_image_are_refused(recorded: Recorded, tmp_path: Path, field: str, name: str) -> None:
    value = [name] if field == "links" else name
    file = recorded.edited(lambda document: document["uses"][0].update({field: value}), tmp_path)
    with pytest.raises(UsageError, match="no observation"):
        recorded.read(file)


def test_a_path_with_dots_stays_inside(recorded: Recorded, tracestrip: Command, tmp_path: Path) -> None:
    (recorded.root.path.parent / "secret").write_text("x")

    def edit(document: dict[str, Any]) -> None:
        use = dict(document["uses"][0])
        document["uses"] += [use | {"path": path} for path in ("/../secret", "/file/../../secret", "/" + 300 * "x")]

    strip = ("strip", f"dir:{recorded.root.path}", "--observation", recorded.edited(edit, tmp_path), "--no-verify")
    finished = tracestrip(*strip, "-o", f"docker-archive:{tmp_path}/out.tar")
    assert finished.code == 0, finished.stderr
    layer = stripped_layer(tmp_path / "out.tar")
    assert "file" in layer
    assert not any("secret" in name for name in layer)


def edit_of(path: str, value: object) -> Edit:
    """Sets what a dotted path leads to."""

    def edit(document: Any) -> None:
        *way, last = (int(name) if name.isdigit() else name for name in path.split("."))
        for name in way:
            document = document[name]
        document[last] = value

    return edit


PLAN, PLACE = "scenario.plan.", "scenario.surroundings."


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("command", []), ("command.0", "/touch\0"), ("command.0", "\ud800"), ("runs", -1), ("calls", -1), ("calls", 1.5),
        (PLAN + "timeout", 0), (PLAN + "timeout", float("nan")), (PLAN + "timeout", 1e300), (PLAN + "grace", -1),
        (PLAN + "grace", float("inf")), (PLAN + "wait", 1e300), (PLAN + "wait", -1), (PLAN + "probes", ["true\0"]),
        (PLAN + "commands", [""]), (PLAN + "commands", ["a\0"]), (PLAN + "ready", "\0"), (PLAN + "directory", "/none"),
        (PLACE + "network", "elsewhere"), (PLACE + "environment", ["A"]), (PLACE + "environment", ["=1"]),
        (PLACE + "environment", ["A=\0"]), (PLACE + "user", "a\0"), (PLACE + "workdir", "/a\0"), (PLACE + "hostname", "a\0"),
        (PLACE + "capabilities", -1), (PLACE + "capabilities", 1 << 63), (PLACE + "shm_size", 0), (PLACE + "shm_size", -1),
        (PLACE + "pids", 0), (PLACE + "pids", 1 << 40), (PLACE + "memory", 1), (PLACE + "binds.0.target", "mnt"),
        (PLACE + "binds.0.target", "/a/../mnt"), (PLACE + "binds.0.target", "/proc/self"), (PLACE + "binds.0.source", "."),
        (PLACE + "binds.0.source", "/\0"), (PLACE + "tmpfs.0.target", "/"), (PLACE + "tmpfs.0.flags", 1 << 40),
        (PLACE + "tmpfs.0.flags", -1), (PLACE + "tmpfs.0.options", "size=1m,huge=always"), ("uses.0.kind", "package"),
        ("uses.0.follow", 1), ("uses.0.pid", "1"), ("uses.0.path", "file"), ("uses.0.path", "/\0"), ("uses.0.during", "\ud800"),
        ("exercised.ready_after", float("nan")), ("exercised.ready_after", -1), ("exercised.output", {"last": ""}),
        ("uses.0.moment", 10**400), ("exercised.lasted", 10**400), (PLAN + "timeout", 10**400), ("calls", 10**400),
        (PLACE + "binds.0.target", "/a\ud800"), (PLACE + "tmpfs.0.target", "/a\ud800"), (PLACE + "hostname", "\ud800"),
        ("image.name", "\ud800"), ("tracers", ["\ud800"]), ("tracers", "abc"),
    ],
)  # fmt: skip
def test_fields_are_held_to_what_the_command_line_takes(
    recorded: Recorded, tmp_path: Path, path: str, value: object
) -> None:
    with pytest.raises(UsageError):
        recorded.read(recorded.edited(edit_of(path, value), tmp_path))


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-40],
        lambda text: text[:0] + "[]",
        lambda text: text.replace('"tracestrip observation 1"', '"tracestrip observation 0"'),
        lambda text: text.replace('"calls": ', '"calls": "x", "other": '),
        lambda text: text.replace('"timeout": ', '"timeout": [], "other": '),
        lambda text: text.replace('"kind": ', '"none": '),
        lambda text: text.replace('"path": "', '"path": 7, "other": "'),
        lambda text: text.replace('"binds": [', '"binds": [{"source": "/"},'),
        lambda text: text.replace('"probes": []', '"probes": ["@/none"]'),
    ],
)
def test_damaged_observation_is_refused(
    recorded: Recorded, tracestrip: Command, tmp_path: Path, damage: Callable[[str], str]
) -> None:
    good, bad = recorded.file.read_text(), tmp_path / "bad.json"
    bad.write_text(damage(good))
    assert bad.read_text() != good
    source = f"dir:{recorded.root.path}"
    fails(tracestrip("strip", source, "--observation", bad, "-o", f"docker-archive:{tmp_path}/out.tar"), 2)
