"""Many runs in a row, many of them ended at a random moment, and many in one process: nothing is left, nothing grows."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from tests.bench.image import memory_directory
from tests.conftest import TOP
from tests.images import image_archive, stripped_layer
from tests.machine import left_since, snapshot

RUNS = 200
SPREAD = 0.6  # seconds, in which a run is over
MOST_LEFT = 1 << 20
"""Bytes; what the file system itself may need for its directories."""


@pytest.fixture
def disk() -> Iterator[Path]:
    """A file system of one's own, so that its free space says what was left, in files without a name too."""
    with memory_directory() as place:
        yield place


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A small image."""
    program, source = tmp_path / "touch", TOP / "tests" / "programs" / "touch.c"
    subprocess.run(["gcc", "-O1", "-static", "-D_GNU_SOURCE", "-o", program, source], check=True)
    return image_archive(tmp_path / "made-up.tar", program, {"Cmd": ["/bin/touch", "/data/first"]})


def one_run(archive: Path, disk: Path, output: Path, end: tuple[float, signal.Signals] | None) -> None:
    """Run; *end*: when a signal is sent, in seconds, and which. The output must then be there or not, as the exit code says."""
    run = [sys.executable, "-m", "tracestrip", "run", f"docker-archive:{archive}", "-o", f"docker-archive:{output}"]
    command = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *run]  # else Python says what it does not like of its own start
    environment = os.environ | {"PYTHONPATH": str(TOP), "TMPDIR": str(disk)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        if end is not None:
            try:
                process.wait(end[0])
            except subprocess.TimeoutExpired:
                process.send_signal(end[1])
        _, errors = process.communicate(timeout=60)
    said = f"{end}: {process.returncode}: {errors}"
    if end is None:
        assert process.returncode == 0, said
    elif process.returncode < 0:  # SIGKILL, or another signal while the program was loaded
        assert (-process.returncode, errors) == (end[1], ""), said
    elif process.returncode:
        assert process.returncode == 128 + end[1], said
        assert errors.count("\n") == 1, said
    assert "Traceback" not in errors, said
    assert [path.name for path in output.parent.iterdir()] == ([output.name] if output.exists() else []), said
    if process.returncode == 0:
        assert "data/first" in stripped_layer(output), said
    elif process.returncode != -signal.SIGKILL:
        assert not output.exists(), said
    output.unlink(missing_ok=True)


def test_many_runs_of_which_many_are_ended_leave_the_machine_as_it_was(archive: Path, disk: Path) -> None:
    """Two at a time."""
    random = Random(20)
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
    ends = [(random.uniform(0, SPREAD), random.choice(signals)) if random.random() < 1 / 3 else None for _ in range(RUNS)]
    scratch = disk / "scratch"
    scratch.mkdir()
    outputs = [disk / str(number) / "out.tar" for number in range(RUNS)]
    for output in outputs:
        output.parent.mkdir()
    before, used = snapshot(), used_bytes(disk)
    with ThreadPoolExecutor(2) as two:
        for finished in [two.submit(one_run, archive, scratch, *case) for case in zip(outputs, ends, strict=True)]:
            finished.result()
    one_run(archive, scratch, outputs[0], None)
    assert not list(scratch.iterdir())
    assert not left_since(before)
    assert used_bytes(disk) - used < MOST_LEFT


def used_bytes(place: Path) -> int:
    room = os.statvfs(place)
    return (room.f_blocks - room.f_bfree) * room.f_frsize


CALLER = """
import gc, json, os, sys
from pathlib import Path
from tracestrip.destination import Place
from tracestrip.pipeline import Subject, Wanted, run
from tracestrip.trial import Scenario

def has_children():
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True

def measure():
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "children": has_children(),
        "objects": len(gc.get_objects()),
        "memory": int(status.partition("VmRSS:")[2].split()[0]) * 1024,
    }

image, output = sys.argv[1:]
for number in range(60):
    steps = []
    report = run(Subject(image), Scenario(), Wanted(Place(output=f"docker-archive:{output}", force=True)), steps.append)
    assert steps and report.layer.size > 0 and report.verification.passed
    del report
    print(json.dumps(measure()))
"""
"""A program that uses the tool as a library, and tells after each run what it holds."""


def test_a_caller_of_many_runs_does_not_grow(archive: Path, disk: Path) -> None:
    before = snapshot()
    environment = os.environ | {"PYTHONPATH": str(TOP), "TMPDIR": str(disk)}
    finished = subprocess.run(
        [sys.executable, "-c", CALLER, f"docker-archive:{archive}", disk / "out.tar"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    measured = [json.loads(line) for line in finished.stdout.splitlines()]
    early, late = ({key: min(held[key] for held in tens) for key in tens[0]} for tens in (measured[10:20], measured[50:]))
    assert late["descriptors"] == early["descriptors"]
    assert late["threads"] == early["threads"] == 1
    assert not late["children"]
    assert late["objects"] - early["objects"] < 40
    assert late["memory"] - early["memory"] < 1 << 20
    assert [path.name for path in disk.iterdir()] == ["out.tar"]
    assert not left_since(before)
