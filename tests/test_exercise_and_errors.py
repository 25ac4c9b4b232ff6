"""Readiness, probes and commands inside; every way to fail, with its exit code and one line."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import TOP, Command, fails

SERVER = "/usr/bin/python3 -m http.server 8080"


@pytest.fixture
def output(tmp_path: Path) -> str:
    return f"docker-archive:{tmp_path}/out.tar"


def test_service_is_ready_when_any_port_listens(tracestrip: Command, output: str) -> None:
    server = f"/bin/sh -c 'sleep 0.5; exec {SERVER}'"
    finished = tracestrip("run", "dir:/", "-e", server, "--probe", "curl -fsS localhost:8080 >/dev/null", "-o", output)
    assert finished.code == 0, finished.stderr


def test_several_probes_a_script_and_a_command_inside(tracestrip: Command, output: str, tmp_path: Path) -> None:
    script, inside = tmp_path / "probe.sh", tmp_path / "inside"
    script.write_text(f"curl -fsS localhost:8080 >/dev/null && echo ran >> {tmp_path}/log\n")
    inside.write_text("x")
    report = tmp_path / "report.json"
    finished = tracestrip(
        "run", "dir:/", "-e", SERVER, "--probe", f"@{script}", "--probe", f"echo second >> {tmp_path}/log",
        "--exec", f"/bin/cat {inside}", "-o", output, "--report", report,
    )  # fmt: skip
    assert finished.code == 0, finished.stderr
    assert (tmp_path / "log").read_text() == 2 * "ran\nsecond\n"  # on the original, and on the result
    assert f'"{inside}"' in report.read_text()


def test_probe_is_tried_again(tracestrip: Command, output: str, tmp_path: Path) -> None:
    probe = f"test -e {tmp_path}/tried || {{ touch {tmp_path}/tried; exit 1; }}"
    options = ("--wait", "0.1", "--probe", probe, "-o", output, "--format", "json")
    finished = tracestrip("run", "dir:/", "-e", "/bin/sleep 100", *options)
    assert finished.code == 0, finished.stderr
    assert '"attempts": 2' in finished.stdout


def test_ready_command(tracestrip: Command, output: str) -> None:
    server = f"/bin/sh -c 'sleep 0.3; exec {SERVER}'"
    ready = "curl -fsS localhost:8080 >/dev/null"
    assert tracestrip("run", "dir:/", "-e", server, "--ready", ready, "-o", output).code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run",), ("IMAGE",)),
        (("run", "dir:/"), ("-o",)),
        (("run", "No Such Name"), ("not an image's name",)),
        (("run", "dir:/", "-e", "'", "-o", "docker-archive:/tmp/x"), ("quot",)),
        (("run", "dir:/", "--probe", "@/nonexistent", "-o", "docker-archive:/tmp/x"), ("/nonexistent",)),
        (("run", "dir:/", "-o", "docker-archive:/nonexistent/x.tar"), ("/nonexistent/x.tar",)),
        (("run", "dir:/", "--nonsense"), ("--nonsense",)),
        (("run", "dir:/", "-o", "docker-archive:/tmp/x", "--report", "/nonexistent/r"), ("/nonexistent/r",)),
        (("run", "dir:/", "-o", "docker-archive:/tmp/x", "--hostname", "n" * 65), ("--hostname",)),
        (("run", "dir:/", "-e", "/bin/true", "--include", "/nonexistent", "-o", "docker-archive:/tmp/x"), ("--include",)),
    ],
)
def test_wrong_usage(tracestrip: Command, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    fails(tracestrip(*arguments), 2, *words)


def test_existing_output_is_refused_before_anything_runs(tracestrip: Command, tmp_path: Path) -> None:
    there = tmp_path / "out.tar"
    there.write_text("precious")
    arguments = ("run", "dir:/", "-e", f"/bin/touch {tmp_path}/ran", "-o", f"docker-archive:{there}")
    fails(tracestrip(*arguments), 2, "--force")
    assert there.read_text() == "precious"
    assert tracestrip(*arguments, "--force").code == 0
    assert there.stat().st_size > 10**5


def test_bad_images(tracestrip: Command, output: str, tmp_path: Path) -> None:
    fails(tracestrip("run", f"docker-archive:{tmp_path}/none.tar", "-o", output), 3, "none.tar")
    fails(tracestrip("run", f"dir:{tmp_path}/none", "-o", output), 3, "none")
    garbage = tmp_path / "garbage.tar"
    garbage.write_bytes(os.urandom(5000))
    fails(tracestrip("run", f"docker-archive:{garbage}", "-o", output), 3, "garbage.tar")
    assert not (tmp_path / "out.tar").exists()


def test_target_failures(tracestrip: Command, output: str) -> None:
    fails(tracestrip("run", "dir:/", "-e", "/nonexistent/program", "-o", output), 4, "/nonexistent/program", "No such file")
    failed = tracestrip("run", "dir:/", "-e", "/bin/sh -c 'echo the last words; exit 3'", "-o", output)
    fails(failed, 4, "exit code 3")
    assert "the last words" in failed.stderr
    fails(tracestrip("run", "dir:/", "-e", "/bin/sh -c 'kill -SEGV $$'", "-o", output), 4, "signal 11")
    fails(tracestrip("run", "dir:/", "-e", "/bin/true", "--user", "nobody-at-all", "-o", output), 4, "nobody-at-all")
    fails(tracestrip("run", "dir:/", "-e", "/bin/true", "--probe", "true", "-o", output), 4, "ended before the probes")


def test_failing_probe_shows_its_output(tracestrip: Command, output: str, tmp_path: Path) -> None:
    finished = tracestrip(
        "run", "dir:/", "-e", "/bin/sleep 100", "--wait", "0", "--probe", "echo what went wrong; exit 7",
        "--probe-timeout", "0.5", "-o", output,
    )  # fmt: skip
    fails(finished, 5, "exit code 7", "--probe-timeout")
    assert "what went wrong" in finished.stderr
    assert not (tmp_path / "out.tar").exists()


def test_never_ready_and_hanging_probes(tracestrip: Command, output: str) -> None:
    slow = ("run", "dir:/", "-e", "/bin/sleep 100", "--probe-timeout", "0.5", "-o", output)
    fails(tracestrip(*slow), 5, "not ready")
    fails(tracestrip(*slow, "--ready", "false"), 5, "not ready", "--ready")
    fails(tracestrip(*slow, "--wait", "0", "--probe", "sleep 100"), 5, "signal 9")
    fails(tracestrip(*slow, "--wait", "0", "--exec", "/bin/false"), 5, "--exec")
    fails(tracestrip(*slow, "--wait", "0", "--exec", "/bin/sleep 100"), 5, "--exec")


def test_no_engine(tracestrip: Command) -> None:
    fails(tracestrip("run", "some:image", DOCKER_HOST="unix:///nonexistent/docker.sock"), 7, "/nonexistent/docker.sock")


def test_not_root(output: str) -> None:
    """As nobody, who may read the package but not make namespaces."""
    program = "import os, sys; os.setgid(65534); os.setuid(65534); from tracestrip.cli import main; main()"
    finished = subprocess.run(
        [sys.executable, "-c", "import difflib; from tracestrip import cli, pipeline; " + program,
         "run", "dir:/", "-e", "/bin/true", "-o", "docker-archive:/tmp/x"],
        env=os.environ | {"PYTHONPATH": str(TOP)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 7, finished.stderr
    assert "root" in finished.stderr
    assert finished.stderr.count("\n") == 1


def test_debug_shows_where(tracestrip: Command) -> None:
    assert "Traceback" in tracestrip("run", "dir:/nonexistent", "-o", "docker-archive:/tmp/x", "--debug").stderr


def start(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    """A run that has come to its target, which tells so by a file that the probe's side can see."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tracestrip", "run", "dir:/", "-e", "/bin/sleep 1000", "--wait", "0",
         "--probe", f"touch {tmp_path}/running; sleep 1000", "-o", f"docker-archive:{tmp_path}/out.tar", *arguments],
        env=os.environ | {"PYTHONPATH": str(TOP)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 20
    while not (tmp_path / "running").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def test_two_runs_at_once_are_independent(tracestrip: Command, tmp_path: Path, output: str) -> None:
    with start(tmp_path) as process:
        arguments = ("-e", SERVER, "--probe", "curl -fsS localhost:8080 >/dev/null", "-o", output, "--force")
        assert tracestrip("run", "dir:/", *arguments).code == 0
        process.terminate()
        process.communicate(timeout=10)
