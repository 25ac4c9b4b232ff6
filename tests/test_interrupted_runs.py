"""A run that something ends: itself or a part of it is killed, at each phase, or interrupted, or the engine goes away.

The phases are those that the pipeline's steps name. Whatever happens, the exit code says what it was, the machine is as
before, and the output is whole or not there.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.conftest import TOP
from tests.images import image_archive, stripped_layer
from tests.machine import MOUNT, NETWORK, PROCESS, Thing, command_line, descendants, left_since, snapshot, tree

READING, EXTRACTING, RUNNING, ASKING, WRITING, VERIFYING = "reading", "extracting", "running", "asking", "writing", "verifying"
PUBLISHING = "publishing"
"""The second part of the last step, when the layer is there."""
CLEARING = "clearing"
"""After the last step, while the temporary directory is removed."""

DRIVER = """
import os, sys
from tracestrip import cli, pipeline

run, publish, told = pipeline.run, pipeline.publish, int(sys.argv.pop(1))

def tell(text):
    os.write(told, text.encode() + b"\\n")

def watched(subject, scenario, wanted, step, stable):
    def tell_and_step(text):
        tell(text)
        step(text)
    return run(subject, scenario, wanted, tell_and_step, stable)

def publish_watched(*arguments):
    tell("publishing")
    return publish(*arguments)

pipeline.run, pipeline.publish = watched, publish_watched
cli.main()
"""
"""The command line, which writes to a pipe what its steps say."""

UNLUCKY = """
import atexit, glob, importlib, os, signal, sys, time
from tracestrip import cli

def ends():
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline and not glob.glob(os.environ["TMPDIR"] + "/*/image/pad/*/*"):
        time.sleep(0.001)
    os.kill(this, signal.SIGTERM)

def unlucky(*arguments, **options):
    result = real(*arguments, **options)
    if os.getpid() == this and not sent:
        sent.append(True)
        ends()
    return result

del sys.argv[1]
this, sent, (module, name) = os.getpid(), [], sys.argv.pop(1).split(":")
if (module, name) == ("atexit", "register"):
    atexit.register(ends)
else:
    owner = importlib.import_module(module)
    real = getattr(owner, name)
    setattr(owner, name, unlucky)
cli.main()
"""
"""The command line, to which SIGTERM comes while a certain function returns, or while the interpreter ends."""


@dataclass(frozen=True)
class Part:
    """One of the processes of a run: a child of another, whose command line has *words* and not *others*."""

    name: str
    parent: "Part | None" = None
    words: str = ""
    others: str = "\0"

    def pids(self, main: int) -> set[int]:
        """Of those that are there; *main*: the first process of the run."""
        return self._among(tree(), main)

    def _among(self, parents: Mapping[int, int], main: int) -> set[int]:
        if self.parent is None:
            return {main}
        above = self.parent._among(parents, main)
        lines = {pid: command_line(pid) for pid, parent in parents.items() if parent in above}
        return {pid for pid, line in lines.items() if self.words in line and self.others not in line}


MAIN = Part("main process")
OBSERVER = Part("observer", MAIN, "tracestrip.observer", "tracestrip.observer.join")
INIT = Part("pid 1 of the sandbox", OBSERVER)
TARGET = Part("target", INIT, "/sleep 1000")
LOADER = Part("loader", INIT, "slow-loader --list")
JOINER = Part("joiner", MAIN, "tracestrip.observer.join")
PROBE_INIT = Part("pid 1 of the probe", JOINER)
PROBE = Part("probe", PROBE_INIT, "sleep 0.3", "tracestrip")
EXTRACTION = Part("extraction", MAIN, "cli.main()")
WRITER = Part("writer", EXTRACTION, "cli.main()")
REMOVAL = Part("removal", MAIN, "rm -rf")


class Run:
    """A run that is under way. Its output is out.tar in its place, and its temporary directory is there too."""

    def __init__(
        self, place: Path, *arguments: object, output: str = "", driver: tuple[str, ...] = (DRIVER,), **environment: str
    ) -> None:
        self.output = place / "out.tar"
        self.scratch = place / "scratch"
        self.scratch.mkdir(exist_ok=True)
        self.arguments = arguments
        self._place = place
        self._steps, told = os.pipe()
        self._told = b""
        with (place / "stdout").open("wb") as stdout, (place / "stderr").open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-c", driver[0], str(told), *driver[1:], "run", *map(str, arguments),
                 "-o", output or f"docker-archive:{self.output}"],
                env=os.environ | {"PYTHONPATH": str(TOP), "TMPDIR": str(self.scratch)} | environment,
                stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, pass_fds=[told],
                start_new_session=True,
            )  # fmt: skip
        os.close(told)

    @property
    def stderr(self) -> str:
        return (self._place / "stderr").read_text(errors="replace")

    def reach(self, phase: str) -> None:
        """Wait until the run says that it begins."""
        while not any(line.startswith(phase) for line in self._told.decode().splitlines()):
            news = os.read(self._steps, 4096) if select.select([self._steps], [], [], 30)[0] else b""
            assert news, f"{phase} did not begin: {self.stderr}"
            self._told += news
        if phase == CLEARING:
            self.find(REMOVAL)

    def find(self, part: Part) -> int:
        """The pid of one, as soon as it is there."""
        deadline = time.monotonic() + 10
        while not (pids := part.pids(self.process.pid)):
            assert self.process.poll() is None, f"it ended without {part.name}: {self.stderr}"
            assert time.monotonic() < deadline, f"no {part.name}"
            time.sleep(0.002)
        return max(pids)

    def send(self, part: Part, number: signal.Signals, delay: float) -> None:
        """Signal one of these processes, *delay* after the first is there; by a descriptor, so that it is no other's."""
        self.find(part)
        time.sleep(delay)
        while True:
            pid = self.find(part)
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                if pid in part.pids(self.process.pid):
                    signal.pidfd_send_signal(descriptor, number)
                    return
            except ProcessLookupError:
                continue
            finally:
                os.close(descriptor)

    def freeze(self) -> None:
        """Stop all its processes, so that none can end of its own accord."""
        stopped: set[int] = set()
        while new := ({self.process.pid} | descendants(self.process.pid)) - stopped:
            for pid in new:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            stopped |= new

    def end(self) -> int:
        """Wait for its end; its exit code."""
        return self.process.wait(30)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._steps)


@contextmanager
def started(place: Path, *arguments: object, **options: Any) -> Iterator[Run]:
    place.mkdir(exist_ok=True)
    run = Run(place, *arguments, **options)
    try:
        yield run
    finally:
        run.close()


def says_one_line(run: Run, code: int) -> None:
    """As every error does: one line, apart from quoted output and warnings, and no traceback anywhere."""
    lines = [line for line in run.stderr.splitlines() if not line.startswith(("  | ", "warning: "))]
    assert "Traceback" not in run.stderr
    assert len(lines) == (code != 0), run.stderr
    assert all(line.startswith("tracestrip: ") for line in lines)
    assert "internal error" not in run.stderr


def is_whole(run: Run) -> bool:
    """Whether the output is there, to its last byte; else nothing is, under no name."""
    there = [path.name for path in run.output.parent.iterdir() if "out.tar" in path.name]
    assert there in ([], ["out.tar"])
    if there:
        assert stripped_layer(run.output)
        with tarfile.open(run.output) as archive:
            assert all(len(archive.extractfile(member).read()) == member.size for member in archive)
    return bool(there)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def nothing_is_alive(before: frozenset[Thing]) -> None:
    assert not left_since(before, PROCESS, MOUNT, NETWORK)


def nothing_is_left(run: Run, before: frozenset[Thing]) -> None:
    """Neither of its processes, nor in its temporary directory."""
    assert not list(run.scratch.iterdir())
    assert not left_since(before)


def succeeds(place: Path, *arguments: object) -> Run:
    """A good run with the same temporary directory, after which nothing is in it."""
    with started(place, *arguments) as run:
        assert run.end() == 0, run.stderr
    assert is_whole(run)
    assert not list(run.scratch.iterdir())
    return run


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For an image: it opens what it is told to."""
    program = tmp_path_factory.mktemp("program") / "touch"
    source = TOP / "tests" / "programs" / "touch.c"
    subprocess.run(["gcc", "-O1", "-static", "-D_GNU_SOURCE", "-o", program, source], check=True)
    return program


@pytest.fixture(scope="module")
def padded(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image so large that each phase takes some tenths of a second."""
    place = tmp_path_factory.mktemp("padded")
    for number in range(2000):
        directory = place / "made-up.root" / "pad" / str(number % 50)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / str(number)).write_bytes(bytes(1000))
    (place / "made-up.root" / "pad" / "large").write_bytes(Random(0).randbytes(20 << 20))
    return image_archive(place / "made-up.tar", program, {"Cmd": ["/bin/touch", "/data/first"]})


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of programs, about each of which a loader is asked.

    The last one has a slow loader, and a library that nobody but a loader finds.
    """
    directory = tmp_path_factory.mktemp("programs")
    for number in range(40):
        shutil.copy("/bin/true", directory / str(number))
    (directory / "empty.c").write_text("int main(void) { return 0; }\n")
    multiarch = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True, check=True).stdout.strip()
    for place in {"lib", "lib64", f"lib/{multiarch}"}:
        (directory / place).mkdir(parents=True, exist_ok=True)
        subprocess.run(["gcc", "-shared", "-o", directory / place / "libonly.so", "-x", "c", "/dev/null"], check=True)
    real = subprocess.run(["readelf", "-lW", "/bin/true"], capture_output=True, text=True, check=True)
    loader = real.stdout.partition("program interpreter: ")[2].partition("]")[0]
    (directory / "slow-loader").write_text(f'#!/bin/sh\nsleep 0.3\nexec {loader} "$@"\n')
    (directory / "slow-loader").chmod(0o755)
    subprocess.run(
        ["gcc", "-o", directory / "z", directory / "empty.c", f"-Wl,--dynamic-linker={directory}/slow-loader",
         "-Wl,--no-as-needed,-rpath,$ORIGIN/$LIB", f"-L{directory}/lib", "-lonly"], check=True,
    )  # fmt: skip
    return directory


@pytest.fixture
def arguments(padded: Path, programs: Path) -> Callable[[str], tuple[object, ...]]:
    """Of a run that stays for a while in the phase."""
    of_padded = (f"docker-archive:{padded}", "--include", "/pad")
    of = {
        RUNNING: ("dir:/", "-e", "/bin/sleep 1000", "--wait", "0", "--probe", "sleep 0.3", "--stop-timeout", "0.2"),
        VERIFYING: ("dir:/", "-e", "/bin/sleep 1000", "--wait", "0", "--probe", "sleep 0.3", "--stop-timeout", "0.2"),
        ASKING: ("dir:/", "-e", "/bin/true", *(f"--include={programs}/{name}" for name in (*range(40), "z"))),
        PUBLISHING: ("dir:/", "-e", "/bin/true", "--include", padded),
        CLEARING: of_padded[:1],
    }
    return lambda phase: of.get(phase, of_padded)


def delay(*case: object) -> float:
    """Seconds, another for each case, and the same each time."""
    return Random(repr(case)).uniform(0, 0.06)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("phase", [READING, EXTRACTING, RUNNING, ASKING, WRITING, VERIFYING])
def test_interrupted_run_leaves_nothing(
    tmp_path: Path, arguments: Callable[[str], tuple[object, ...]], phase: str, number: signal.Signals
) -> None:
    before = snapshot()
    with started(tmp_path / "run", *arguments(phase)) as run:
        run.reach(phase)
        run.send(MAIN, number, delay(phase, number.name))
        code = run.end()
        assert code == 128 + number, run.stderr
        says_one_line(run, code)
        assert f"interrupted by {number.name}" in run.stderr
        assert not is_whole(run)
        nothing_is_left(run, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
@pytest.mark.parametrize("milliseconds", [1, 15])
def test_output_is_whole_or_not_there(
    tmp_path: Path, arguments: Callable[[str], tuple[object, ...]], milliseconds: int, number: signal.Signals
) -> None:
    with started(tmp_path / "run", *arguments(PUBLISHING)) as run:
        run.reach(PUBLISHING)
        run.send(MAIN, number, milliseconds / 1000)
        code = run.end()
        published = is_whole(run)
        if number != signal.SIGKILL:
            assert code == (0 if published else 128 + number), run.stderr


@pytest.mark.parametrize("phase", [EXTRACTING, RUNNING, ASKING, VERIFYING])
def test_interrupt_of_a_terminal_comes_to_all_processes(
    tmp_path: Path, arguments: Callable[[str], tuple[object, ...]], phase: str
) -> None:
    """To the whole process group, as Ctrl-C does."""
    before = snapshot()
    with started(tmp_path / "run", *arguments(phase)) as run:
        run.reach(phase)
        time.sleep(delay(phase, "group"))
        os.killpg(run.process.pid, signal.SIGINT)
        code = run.end()
        assert code == 130, run.stderr
        says_one_line(run, code)
        assert not is_whole(run)
        nothing_is_left(run, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_signal_after_publishing_does_not_deny_it(
    tmp_path: Path, arguments: Callable[[str], tuple[object, ...]], number: signal.Signals
) -> None:
    """While the temporary directory is removed: that goes on to its end."""
    before = snapshot()
    with started(tmp_path / "run", *arguments(CLEARING)) as run:
        run.reach(CLEARING)
        run.send(MAIN, number, 0)
        code = run.end()
        nothing_is_left(run, before)
        assert code == 0, run.stderr
        says_one_line(run, code)
        assert is_whole(run)


@pytest.mark.parametrize("function", ["tempfile:mkdtemp", "os:fork", "os:waitpid", "subprocess:_fork_exec"])
def test_signal_at_a_bad_moment_leaves_nothing(tmp_path: Path, padded: Path, function: str) -> None:
    """What was made a moment ago, a directory or a process, has no name yet in the tool, or has none any more."""
    before = snapshot()
    with started(tmp_path / "run", f"docker-archive:{padded}", driver=(UNLUCKY, function)) as run:
        code = run.end()
        assert code == 143, run.stderr
        says_one_line(run, code)
        assert not is_whole(run)
        nothing_is_left(run, before)


def test_signal_while_the_interpreter_ends_does_not_deny_the_result(tmp_path: Path) -> None:
    with started(tmp_path / "run", "dir:/", "-e", "/bin/true", driver=(UNLUCKY, "atexit:register")) as run:
        assert (run.end(), run.stderr) == (0, "")
        assert is_whole(run)


def test_signal_while_an_error_is_told(tmp_path: Path) -> None:
    with started(tmp_path / "run", "dir:/", "-e", "/bin/false", driver=(UNLUCKY, "click:echo")) as run:
        code = run.end()
        assert code in (4, 143), run.stderr
        says_one_line(run, code)


@pytest.mark.parametrize("phase", [READING, EXTRACTING, RUNNING, ASKING, WRITING, VERIFYING, CLEARING])
def test_killed_run_leaves_no_process_and_the_next_one_clears_the_rest(
    tmp_path: Path, arguments: Callable[[str], tuple[object, ...]], phase: str
) -> None:
    before = snapshot()
    with started(tmp_path / "run", *arguments(phase)) as run:
        run.reach(phase)
        run.send(MAIN, signal.SIGKILL, 0 if phase == CLEARING else delay(phase))
        assert run.end() == -signal.SIGKILL
        nothing_is_alive(before)
        assert run.stderr == ""
        assert is_whole(run) == (phase == CLEARING)
    succeeds(tmp_path / "run", "dir:/", "-e", "/bin/true", "--force")
    assert not left_since(before)


@pytest.mark.parametrize("phase", [EXTRACTING, RUNNING, ASKING, VERIFYING])
def test_kernel_ends_all_parts_of_a_killed_run(
    tmp_path: Path, arguments: Callable[[str], tuple[object, ...]], phase: str
) -> None:
    """None of them needs to notice."""
    before = snapshot()
    with started(tmp_path / "run", *arguments(phase)) as run:
        run.reach(phase)
        run.find({EXTRACTING: WRITER, RUNNING: PROBE, ASKING: LOADER, VERIFYING: PROBE}[phase])
        time.sleep(0.05)  # each has told the kernel whose end is its own
        run.freeze()
        run.process.kill()
        assert run.end() == -signal.SIGKILL
        nothing_is_alive(before)
    succeeds(tmp_path / "run", "dir:/", "-e", "/bin/true")
    assert not left_since(before)


@pytest.mark.parametrize(
    ("phase", "part", "codes"),
    [
        (EXTRACTING, EXTRACTION, {7}),
        (EXTRACTING, WRITER, {7}),
        (RUNNING, OBSERVER, {4}),
        (RUNNING, INIT, {4}),
        (RUNNING, TARGET, {4}),
        (RUNNING, JOINER, {0, 5}),  # a probe that fails is tried again
        (RUNNING, PROBE_INIT, {0, 5}),
        (RUNNING, PROBE, {0, 5}),
        (VERIFYING, OBSERVER, {4}),
        (VERIFYING, INIT, {4}),
        (VERIFYING, TARGET, {0}),  # nothing is missing: it is tried once more
        (ASKING, OBSERVER, {0, 4}),
        (ASKING, INIT, {0, 4}),
        (ASKING, LOADER, {0, 4}),
        (CLEARING, REMOVAL, {0}),
    ],
    ids=lambda value: value.name if isinstance(value, Part) else str(value),
)
def test_killed_part_is_told_or_does_not_matter(
    tmp_path: Path, arguments: Callable[[str], tuple[object, ...]], phase: str, part: Part, codes: set[int]
) -> None:
    before = snapshot()
    with started(tmp_path / "run", *arguments(phase)) as run:
        run.reach(phase)
        if phase in (RUNNING, ASKING, VERIFYING):
            run.find(LOADER if phase == ASKING else PROBE)
        run.send(part, signal.SIGKILL, delay(phase, part.name))
        code = run.end()
        assert code in codes, run.stderr
        says_one_line(run, code)
        assert "free space" not in run.stderr
        assert is_whole(run) == (code == 0)
        nothing_is_alive(before)
        if part is not REMOVAL:
            nothing_is_left(run, before)
    if part is REMOVAL:
        succeeds(tmp_path / "run", "dir:/", "-e", "/bin/true", "--force")
    elif code == 0:
        other = succeeds(tmp_path / "other", *arguments(phase))
        assert stripped_layer(run.output).keys() == stripped_layer(other.output).keys()


@pytest.mark.parametrize("part", [OBSERVER, INIT, JOINER, PROBE_INIT], ids=lambda part: part.name)
def test_part_killed_at_its_beginning_is_told_or_does_not_matter(
    tmp_path: Path, arguments: Callable[[str], tuple[object, ...]], part: Part
) -> None:
    before = snapshot()
    with started(tmp_path / "run", *arguments(RUNNING)) as run:
        run.reach(RUNNING)
        run.send(part, signal.SIGKILL, 0)
        code = run.end()
        assert code in ({4, 7} if part in (OBSERVER, INIT) else {0, 5}), run.stderr
        says_one_line(run, code)
        assert "free space" not in run.stderr
        assert is_whole(run) == (code == 0)
        nothing_is_left(run, before)


def test_two_services_at_once_do_not_meet(tmp_path: Path, program: Path) -> None:
    """Each has port 8080 for itself, and sees its own files only."""
    runs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(name)
        server = f"/usr/bin/python3 -m http.server 8080 --directory {tmp_path / name}"
        probe = f"sleep 0.5; curl -fsS localhost:8080/content | grep -qx {name}"
        runs.append(Run(tmp_path / name, "dir:/", "-e", server, "--probe", probe))
    for run, own, others in zip(runs, ("one", "two"), ("two", "one"), strict=True):
        assert run.end() == 0, run.stderr
        run.close()
        kept = stripped_layer(run.output).keys()
        assert f"{tmp_path}/{own}/content".lstrip("/") in kept
        assert f"{tmp_path}/{others}/content".lstrip("/") not in kept


def test_eight_runs_at_once_keep_what_each_used(tmp_path: Path, program: Path) -> None:
    """Of the same image, with the same place for temporary directories."""
    before = snapshot()
    for number in range(8):
        (tmp_path / "made-up.root" / str(number)).mkdir(parents=True)
        (tmp_path / "made-up.root" / str(number) / "file").write_text(str(number))
    image = image_archive(tmp_path / "made-up.tar", program, {})
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    runs = []
    for number in range(8):
        (tmp_path / f"run{number}").mkdir()
        options = ("-e", f"/bin/touch /{number}/file", "--hostname", "same")
        runs.append(Run(tmp_path / f"run{number}", f"docker-archive:{image}", *options, TMPDIR=str(scratch)))
    for number, run in enumerate(runs):
        assert run.end() == 0, run.stderr
        run.close()
        assert {name for name in stripped_layer(run.output) if name.endswith("/file")} == {f"{number}/file"}
    assert not list(scratch.iterdir())
    assert not left_since(before)


def test_directories_of_runs_that_begin_together_are_kept_apart(tmp_path: Path) -> None:
    """What one clears, as a killed run left it, is no other's that has only just made it."""
    program = (
        "from tracestrip.scratch import scratch_directory\n"
        "for number in range(120):\n"
        "    with scratch_directory() as path:\n"
        "        (path / 'file').write_text('x')\n"
        "        assert (path / 'file').exists(), number\n"
    )
    environment = os.environ | {"PYTHONPATH": str(TOP), "TMPDIR": str(tmp_path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE, text=True) for _ in range(8)
    ]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert errors == [""] * 8
    assert not list(tmp_path.iterdir())


@dataclass(frozen=True)
class OwnEngine:
    """An engine that a test may kill."""

    host: str
    data: Path
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def await_temporary(self, pattern: str) -> None:
        """Wait until it has a temporary directory of that name, which it has while it saves or loads."""
        wait_until(lambda: any(self.data.glob(f"tmp/{pattern}")))


@pytest.fixture
def own_engine(tmp_path: Path) -> Iterator[OwnEngine]:
    """In namespaces of its own, so that with its first process all of it goes, and its mounts too."""
    host = f"unix://{tmp_path}/docker.sock"
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "dockerd", "--host", host]
    options = ["--data-root", tmp_path / "data", "--exec-root", tmp_path / "exec", "--pidfile", tmp_path / "pid"]
    options += ["--storage-driver", "vfs", "--bridge", "none", "--iptables=false"]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen([*command, *options], stdout=log, stderr=log) as engine:
        try:
            deadline = time.monotonic() + 30
            while subprocess.run(["docker", "--host", host, "version"], capture_output=True, check=False).returncode:
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.1)
            yield OwnEngine(host, tmp_path / "data", engine)
        finally:
            engine.kill()


def lost_its_engine(run: Run) -> None:
    code = run.end()
    assert code == 7, run.stderr
    says_one_line(run, code)
    assert "ngine" in run.stderr
    assert not is_whole(run)


@pytest.fixture(scope="module")
def large(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image that takes a while to be saved and loaded."""
    place = tmp_path_factory.mktemp("large")
    (place / "made-up.root" / "pad").mkdir(parents=True)
    (place / "made-up.root" / "pad" / "large").write_bytes(Random(0).randbytes(32 << 20))
    return image_archive(place / "made-up.tar", program, {"Cmd": ["/bin/touch", "/data/first"]})


def test_engine_that_goes_before_and_while_an_image_comes(tmp_path: Path, large: Path, own_engine: OwnEngine) -> None:
    """In the middle of the stream one run is stopped, so that it takes no more of it, and so is the other at its start."""
    before = snapshot()
    subprocess.run(["docker", "--host", own_engine.host, "load", "--quiet", "--input", large], capture_output=True, check=True)
    with started(tmp_path / "one", "made:up", DOCKER_HOST=own_engine.host) as one:
        wait_until(lambda: any(file.stat().st_size for file in one.scratch.glob("*/unpacked-0.tar")))
        one.process.send_signal(signal.SIGSTOP)
        with started(tmp_path / "other", "made:up", DOCKER_HOST=own_engine.host) as other:
            own_engine.await_temporary("docker-export-*")
            own_engine.kill()
            one.process.send_signal(signal.SIGCONT)
            for run in (one, other):
                lost_its_engine(run)
                nothing_is_left(run, before)


def test_engine_that_goes_while_the_result_is_loaded(tmp_path: Path, large: Path, own_engine: OwnEngine) -> None:
    before = snapshot()
    arguments = (f"docker-archive:{large}", "--include", "/pad")
    with started(tmp_path / "run", *arguments, output="docker-daemon:result:new", DOCKER_HOST=own_engine.host) as run:
        own_engine.await_temporary("docker-import-*")
        own_engine.kill()
        lost_its_engine(run)
        nothing_is_left(run, before)
