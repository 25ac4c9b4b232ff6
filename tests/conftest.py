"""Fixtures that all tests share: the command, real images, a real engine, and the machine as it was before."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import docker
import pytest

from tests.bench.observer import fixture_archive
from tests.images import image_archive
from tests.machine import CGROUP, DIRECTORY, MOUNT, PROCESS, SHARED, left_since, snapshot
from tests.measured import measured
from tracestrip.image.directory import read_directory
from tracestrip.observer.client import Sandbox
from tracestrip.observer.job import Job

TOP = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Finished:
    code: int
    stdout: str
    stderr: str
    seconds: float
    peak_memory: int
    """Bytes, of the largest process of the run."""


Command = Callable[..., Finished]


def fails(finished: Finished, code: int, *words: str) -> None:
    """One line on stderr that says *words*, apart from quoted output; nothing on stdout."""
    assert finished.code == code, finished.stderr
    lines = [line for line in finished.stderr.splitlines() if not line.startswith("  | ")]
    assert len(lines) == 1, finished.stderr
    assert lines[0].startswith("tracestrip: ")
    assert all(word in lines[0] for word in words), finished.stderr
    assert finished.stdout == ""


@pytest.fixture
def tracestrip() -> Command:
    """Runs the command line as a user does."""

    def run(*arguments: object, **environment: str) -> Finished:
        start = time.monotonic()
        command = [sys.executable, "-m", "tracestrip", *map(str, arguments)]
        code, *written, peak = measured(command, os.environ | {"PYTHONPATH": str(TOP)} | environment)
        stdout, stderr = (text.decode("utf-8", "replace") for text in written)
        return Finished(code, stdout, stderr, time.monotonic() - start, peak)

    return run


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """The Docker Engine that tests/run found or started."""
    client = docker.DockerClient.from_env()
    client.ping()
    yield client
    client.close()


@pytest.fixture(scope="session")
def archive() -> Callable[[str], Path]:
    """The docker-archive of a fixture image."""
    return fixture_archive


@pytest.fixture(scope="session")
def image(engine: docker.DockerClient) -> Callable[[str], str]:
    """The name in the engine of a fixture image."""
    assert engine.ping()

    def load(name: str) -> str:
        subprocess.run([TOP / "fixtures" / "build", name, "--load"], stdout=subprocess.DEVNULL, check=True)
        return f"fixture:{name}"

    return load


@pytest.fixture
def host_job(tmp_path: Path) -> Job:
    """A sandbox over this machine's own root file system, as dir:/ gives it."""
    scratch = tmp_path / "sandbox"
    scratch.mkdir()
    assert read_directory(Path("/")).layers
    environment = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)
    return Job(("/",), (), str(scratch), "sandbox", environment, 0, 0, (), "/")


@pytest.fixture
def sandbox(host_job: Job) -> Iterator[Sandbox]:
    with Sandbox(host_job) as running:
        yield running


@pytest.fixture
def unconfined(host_job: Job) -> Iterator[Sandbox]:
    """A sandbox without Docker's seccomp rules, so that a target may have namespaces and mounts of its own."""
    with Sandbox(replace(host_job, confined=False)) as running:
        yield running


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., Path]:
    """The program that tests/programs/NAME.c makes; further arguments go to the compiler."""

    def build(name: str, *flags: str) -> Path:
        program = tmp_path / name
        source = TOP / "tests" / "programs" / f"{name}.c"
        subprocess.run(["gcc", "-O1", "-Wall", "-Werror", "-D_GNU_SOURCE", "-o", program, source, *flags], check=True)
        return program

    return build


@pytest.fixture
def made_up(tmp_path: Path, compiled: Callable[..., Path]) -> Callable[..., Path]:
    program = compiled("touch", "-static")

    def make(**config: object) -> Path:
        return image_archive(tmp_path / "made-up.tar", program, config)

    return make


@pytest.fixture(autouse=True)
def machine_as_before() -> Iterator[None]:
    """Every test: nothing is left of what it ran."""
    before = snapshot()
    yield
    assert not left_since(before, PROCESS, MOUNT, CGROUP, DIRECTORY, SHARED)
