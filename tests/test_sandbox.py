"""What surrounds the target: other processes, the network, signals and output."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.observing import Compile, observed
from tracestrip.observer.client import Sandbox
from tracestrip.observer.job import Job


def test_nothing_of_the_sandbox_reaches_the_host(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("before")
    observed(sandbox, "/bin/sh", "-c", f"echo after > {tmp_path}/file; hostname sandboxed; kill -9 {os.getpid()}; true")
    assert (tmp_path / "file").read_text() == "before"


def test_capabilities_and_descriptors_are_dockers(sandbox: Sandbox) -> None:
    number = sandbox.launch(["/bin/sh", "-c", "grep CapEff /proc/self/status; ls /proc/self/fd | wc -l; mount -t tmpfs x /mnt"])
    while (result := sandbox.ended(number)) is None:
        sandbox.poll(5)
    lines = result.output.decode().split("\n")
    assert lines[0].split() == ["CapEff:", "00000000a80425fb"]
    assert lines[1] == "4"  # the three standard ones, and ls's own of the directory
    assert "permission denied" in lines[2].lower()


def test_only_loopback_is_there_and_the_host_joins_it(sandbox: Sandbox) -> None:
    result = sandbox.run_beside(["/bin/sh", "-c", "ip -o link; ps ax | wc -l"], 10)
    assert result.status == 0
    *links, processes = result.output.decode().splitlines()
    assert len(links) == 1
    assert "lo:" in links[0]
    assert "UP" in links[0]
    assert int(processes) < 8


def test_command_beside_is_killed_with_its_children(sandbox: Sandbox, tmp_path: Path) -> None:
    result = sandbox.run_beside(["/bin/sh", "-c", f"(sleep 1; touch {tmp_path}/alive) & sleep 30"], 0.3)
    assert result.status == -9
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(["sleep", "5"], timeout=1.2, check=False)
    assert not (tmp_path / "alive").exists()


def test_target_that_ignores_its_stop_signal_is_killed(sandbox: Sandbox) -> None:
    sandbox.launch(["/bin/sh", "-c", "trap '' TERM; sleep 100; sleep 100"])
    sandbox.poll(0.2)
    sandbox.stop(15, 0.3)
    assert sandbox.alive is False


def test_much_output_keeps_memory_bounded(sandbox: Sandbox) -> None:
    number = sandbox.launch(["/bin/sh", "-c", "head -c 300000000 /dev/zero; echo end"])
    while (result := sandbox.ended(number)) is None:
        sandbox.poll(10)
    assert len(result.output) == 1 << 16
    assert result.output.endswith(b"end\n")


def test_many_layers_are_stacked(tmp_path: Path, compiled: Compile) -> None:
    """More of them than fit a page by their full names."""
    program = compiled("find", "-static")
    layers = []
    for number in range(300):
        layer = tmp_path / ("a-rather-long-directory-name-for-a-layer" * 3) / str(number)
        layer.mkdir(parents=True)
        (layer / f"file{number}").touch()
        layers.append(str(layer))
    scratch = tmp_path / "sandbox"
    scratch.mkdir()
    (Path(layers[7]) / "find").hardlink_to(program)
    job = Job(tuple(layers), (), str(scratch), "sandbox", ("PATH=/bin",), 0, 0, (), "/")
    with Sandbox(job) as sandbox:
        assert sandbox.run(["/find"]).status == 0
