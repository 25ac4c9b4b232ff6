"""Every way to make a process or to change it, and that the observer saw what it opened."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import TOP, Command
from tests.observing import Compile, kinds, observed, resolved
from tracestrip.observer.client import Sandbox
from tracestrip.observer.job import Job


def test_dynamic_program_and_what_the_kernel_opens(sandbox: Sandbox) -> None:
    observation = observed(sandbox, "/bin/true")
    assert kinds(observation, "/bin/true") == {"executed"}
    interpreter = subprocess.run(["readelf", "-l", "/bin/true"], capture_output=True, text=True, check=True).stdout
    loader = interpreter.split("interpreter: ")[1].split("]")[0]
    assert kinds(observation, loader) == {"interpreted"}
    assert any(path and b"/libc.so.6" in path for path in resolved(observation))


def test_exec_from_a_thread_that_is_not_the_leader(sandbox: Sandbox, compiled: Compile) -> None:
    observation = observed(sandbox, compiled("thread-exec", "-pthread"), "/bin/true")
    assert kinds(observation, "/bin/true") == {"executed"}


def test_threads_forks_vfork_and_spawn(sandbox: Sandbox, compiled: Compile, tmp_path: Path) -> None:
    files = [tmp_path / f"{kind}{number}" for kind in ("thread", "fork") for number in range(2000)]
    files += [tmp_path / "vfork", tmp_path / "spawn"]
    for file in files:
        file.touch()
    observation = observed(sandbox, compiled("many", "-pthread"), tmp_path, files[-2], files[-1])
    assert all("opened" in kinds(observation, file) for file in files)


def test_daemon_that_forks_twice(sandbox: Sandbox, compiled: Compile, tmp_path: Path) -> None:
    (tmp_path / "late").touch()
    assert kinds(observed(sandbox, compiled("daemon"), tmp_path / "late"), tmp_path / "late") == {"opened"}


def test_stopped_targets_and_signals_behave_as_untraced(sandbox: Sandbox, compiled: Compile, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert kinds(observed(sandbox, compiled("stops"), tmp_path / "file"), tmp_path / "file") == {"opened"}


def test_bad_pointers_and_a_filter_of_its_own(sandbox: Sandbox, compiled: Compile) -> None:
    assert "opened" in kinds(observed(sandbox, compiled("odd")), "/etc/group")


def test_calls_of_32_bit_programs(sandbox: Sandbox, compiled: Compile) -> None:
    """int 0x80 with i386 numbers; the text lies below 4 GiB in a program that is not position-independent."""
    program = compiled("old-calls", "-static", "-no-pie")
    assert "opened" in kinds(observed(sandbox, program), "/etc/passwd")


def test_execveat_of_a_descriptor_and_no_io_uring(sandbox: Sandbox, compiled: Compile) -> None:
    observation = observed(sandbox, compiled("memfd"))
    assert b"/usr/bin/true" in resolved(observation)
    assert "executed" in kinds(observation, "/usr/bin/true") | kinds(observation, "/bin/true")


def test_interpreters_of_scripts_in_chains(sandbox: Sandbox, tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    inner.write_text("#!/bin/sh\nexit 0\n")
    outer.write_text(f"#! {inner} argument\n")
    inner.chmod(0o755)
    outer.chmod(0o755)
    observation = observed(sandbox, outer)
    assert kinds(observation, outer) >= {"executed"}
    assert "interpreted" in kinds(observation, inner)
    assert "interpreted" in kinds(observation, "/bin/sh")


def test_raw_clones_and_untraced_children(host_job: Job, compiled: Compile, tmp_path: Path) -> None:
    """An untraced child is out of ptrace's hold, but neither out of the filter nor out of the pid namespace."""
    kinds_made = ("clone", "untraced", "ptrace", "clone3", "executed")
    for name in kinds_made:
        (tmp_path / name).touch()
    program = compiled("clones")
    with Sandbox(host_job) as sandbox:
        number = sandbox.launch([str(program), str(tmp_path), str(tmp_path / "executed")])
        while (result := sandbox.ended(number)) is None:
            sandbox.poll(5)
        assert result.status == 0, result.output
        assert running(program)
        observation = sandbox.stop(15, 5)
    assert not running(program)
    assert all(kinds(observation, tmp_path / name) == {"opened"} for name in kinds_made)


def running(program: Path) -> set[str]:
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(process / "exe") == str(program):
                found.add(process.name)
    return found


def test_own_program_and_a_program_without_a_name(sandbox: Sandbox, compiled: Compile) -> None:
    """No open of the loader is seen before the nameless program runs: the first program is static."""
    program = compiled("disguised", "-static")
    observation = observed(sandbox, program, "/bin/true")
    assert os.fsencode(program) in {use.resolved for use in observation.uses if use.path == b"/proc/self/exe"}
    assert any(use.kind == "interpreted" and b"ld-linux" in use.path for use in observation.uses)


def test_setuid_program_has_its_rights(host_job: Job, compiled: Compile, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir(mode=0o755)
    compiled("raised", "-static").rename(root / "start")
    shutil.copy(root / "start", root / "helper")
    (root / "secret").touch(mode=0o600)
    (root / "helper").chmod(0o4711)
    (root / "start").chmod(0o711)
    tmp_path.chmod(0o755)
    with Sandbox(replace(host_job, layers=(str(root),), uid=1000, gid=1000)) as sandbox:
        observation = observed(sandbox, "/start")
    assert kinds(observation, "/helper") == {"executed"}
    assert kinds(observation, "/secret") == {"opened"}


def test_signals_arrive_as_they_were_sent(sandbox: Sandbox, compiled: Compile) -> None:
    assert "opened" in kinds(observed(sandbox, compiled("signals"), "/etc/passwd"), "/etc/passwd")


def test_threads_with_directories_of_their_own(unconfined: Sandbox, compiled: Compile, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    files = [tmp_path / "file", tmp_path / "own/file", tmp_path / "own/linked"]
    for file in files:
        file.touch()
    (tmp_path / "own/link").symlink_to("/linked")
    observation = observed(unconfined, compiled("thread-views", "-pthread"), tmp_path)
    assert {os.fsencode(file) for file in files} <= resolved(observation)


def test_uses_say_in_which_phase_they_first_came(sandbox: Sandbox, tmp_path: Path) -> None:
    names = ("before", "start", "probe", "trap")
    for name in names:
        (tmp_path / name).write_text(name)

    def shell(script: str) -> list[str]:
        return ["/bin/sh", "-c", f"cd {tmp_path}; {script}"]

    assert sandbox.run(shell("cat before")).status == 0
    sandbox.enter("the start")
    sandbox.launch(shell("trap 'cat trap; exit' TERM; cat start; : > ready; while sleep 0.01; do :; done"))
    assert sandbox.run(shell("until test -e ready; do sleep 0.01; done")).status == 0
    sandbox.enter("the probe")
    assert sandbox.run(shell("cat probe start before")).status == 0
    observation = sandbox.stop(15, 5)
    opened = {use.path: use for use in observation.uses if use.kind == "opened"}
    found = [opened[os.fsencode(tmp_path / name)] for name in names]
    assert [use.during for use in found] == ["", "the start", "the probe", "the stop"]
    assert [use.moment for use in found] == sorted({use.moment for use in found})


@pytest.fixture
def binfmt_misc() -> Iterator[Path]:
    """Where it is mounted."""
    place = Path("/proc/sys/fs/binfmt_misc")
    is_ours = not (place / "register").exists()
    if is_ours:
        subprocess.run(["mount", "-t", "binfmt_misc", "none", place], check=True)
    yield place
    if is_ours:
        subprocess.run(["umount", place], check=True)


def test_interpreters_of_binfmt_misc(sandbox: Sandbox, binfmt_misc: Path, tmp_path: Path) -> None:
    """The kernel opens them without a call."""
    interpreter = tmp_path / "interpreter"
    shutil.copy("/bin/true", interpreter)
    program = tmp_path / "program.tracestrip-test"
    program.write_text("not a program by itself")
    program.chmod(0o755)
    (binfmt_misc / "register").write_text(f":tracestrip-test:E::tracestrip-test::{interpreter}:")
    try:
        observation = observed(sandbox, program)
    finally:
        (binfmt_misc / "tracestrip-test").write_text("-1")
    assert kinds(observation, program) == {"executed"}
    assert kinds(observation, interpreter) == {"interpreted"}


OLDER_KERNEL = """
import ctypes, errno, os, struct, sys
refused = 0x00050000 | errno.EINVAL
rows = [
    (0x20, 0, 0, 0), (0x15, 0, 3, 317),  # seccomp(2)
    (0x20, 0, 0, 24), (0x45, 0, 5, 0x20), (0x06, 0, 0, refused),  # with WAIT_KILLABLE_RECV
    (0x15, 0, 3, 16),  # ioctl(2)
    (0x20, 0, 0, 24), (0x15, 0, 1, 0x40082104), (0x06, 0, 0, refused),  # SECCOMP_IOCTL_NOTIF_SET_FLAGS
    (0x06, 0, 0, 0x7FFF0000),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *row) for row in rows))
program = struct.pack("=HxxxxxxQ", len(rows), ctypes.addressof(code))
if ctypes.CDLL(None, use_errno=True).prctl(22, 2, program) != 0:
    sys.exit("no filter")
os.execv(sys.executable, [sys.executable, "-m", "tracestrip", *sys.argv[1:]])
"""


def test_kernels_without_the_newer_parts_of_notification(compiled: Compile, tmp_path: Path) -> None:
    """Linux 5.10 to 6.5, acted by a filter over everything; any signal interrupts a notification there."""
    finished = subprocess.run(
        [sys.executable, "-c", OLDER_KERNEL, "run", "dir:/", "-e", f"{compiled('signals')} /etc/passwd",
         "-o", f"docker-archive:{tmp_path}/out.tar", "--format", "json"],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(TOP)},
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["calls"] > 3000


def test_target_that_traces_by_itself_is_told_so(tracestrip: Command, tmp_path: Path) -> None:
    output = f"docker-archive:{tmp_path}/out.tar"
    failed = tracestrip("run", "dir:/", "-e", "strace true", "-o", output)
    assert failed.code == 4
    assert failed.stderr.splitlines()[-1].startswith("tracestrip: /usr/bin/strace traces processes with ptrace itself")
    passed = tracestrip("run", "dir:/", "-e", "sh -c 'strace true; true'", "-o", output)
    assert passed.code == 0
    assert passed.stderr == "warning: /usr/bin/strace tried to trace a process and was refused\n"
