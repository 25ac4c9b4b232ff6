"""Nearly a hundred ways out of a container, each tried in the sandbox and under `docker run`: programs/escapes.c."""

import ctypes
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from tests.conftest import Command
from tests.images import image_archive

SECRET = "known-to-the-host-only"
KEY, SEGMENT = "tracestrip-test", 0x7E57
NODES = {"disk": (0o060000, os.stat("/").st_dev), "mem": (0o020000, os.makedev(1, 1)), "kmsg": (0o020000, os.makedev(1, 11))}

OF_THE_SANDBOX = {
    "write init's oom score": "its own pid 1: who raises it ends the sandbox sooner when memory runs out, and nothing else",
}
OF_THE_HOSTS_NETWORK = {"own namespaces", "abstract socket", "local port"}


@pytest.fixture
def host() -> Iterator[list[str]]:
    """What only the host has, as the program's words."""
    libc = ctypes.CDLL(None)
    libc.syscall.restype = ctypes.c_long
    hidden = Path("/var/tmp/known-to-the-host-only")
    hidden.touch()
    libc.syscall(250, 1, None)  # KEYCTL_JOIN_SESSION_KEYRING
    libc.syscall(250, 5, libc.syscall(248, b"user", KEY.encode(), b"x", 1, -3), 0x3F3F3F3F)  # add_key; KEYCTL_SETPERM
    segment = libc.shmget(SEGMENT, 4096, 0o1666)
    name = f"tracestrip-test-{os.getpid()}"
    disk = os.stat("/").st_dev
    with (
        socket.socket(socket.AF_UNIX) as abstract, socket.create_server(("127.0.0.1", 0), backlog=50) as server,
        subprocess.Popen(["sleep", "1000"]) as victim,
    ):  # fmt: skip
        abstract.bind(f"\0{name}")
        abstract.listen(50)
        yield [
            f"host_file={hidden}", f"host_secret={SECRET}", f"host_pid={victim.pid}",
            f"host_disk={os.major(disk)}:{os.minor(disk)}", f"host_socket={name}", f"host_port={server.getsockname()[1]}",
            f"host_shm={SEGMENT}", f"host_key={KEY}", *(f"image_node=/nodes/{node}" for node in NODES),
            *(f"host_ns={os.readlink(f'/proc/self/ns/{kind}')}" for kind in ("mnt", "pid", "net", "uts", "ipc")),
        ]  # fmt: skip
        victim.kill()
    libc.shmctl(segment, 0, None)
    hidden.unlink()


@pytest.fixture
def hostile(tmp_path: Path, compiled: Callable[..., Path]) -> Path:
    """An image that brings device nodes of the host along."""

    def add_nodes(root: Path) -> None:
        (root / "nodes").mkdir()
        for name, (kind, number) in NODES.items():
            os.mknod(root / "nodes" / name, kind | 0o666, number)
            (root / "nodes" / name).chmod(0o666)

    return image_archive(tmp_path / "image.tar", compiled("escapes", "-static", "-w"), {}, prepare=add_nodes)


def escaped(report: Path) -> set[str]:
    """The ways that led out; the untraced ones too."""
    lines = report.read_text().splitlines()
    assert len(lines) > 190
    assert not any("not tried" in line for line in lines)
    return {line.partition(":")[0].removeprefix("untraced ") for line in lines if ": ESCAPED" in line}


@pytest.mark.parametrize("options", [[], ["--user", "33:44"], ["--network", "none"], ["--network", "host"]], ids=" ".join)
def test_no_way_leads_out(
    options: list[str], host: list[str], hostile: Path, tracestrip: Command, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(0o777)
    words = " ".join(host)
    finished = tracestrip(
        "run", f"docker-archive:{hostile}", "-e", f"/bin/touch {words} report=/place/report", *options,
        "--mount", f"type=bind,src={place},dst=/place", "-o", f"docker-archive:{tmp_path}/out.tar",
        SECRET=SECRET,
    )  # fmt: skip
    assert finished.code == 0, finished.stderr
    out = escaped(place / "report") - OF_THE_SANDBOX.keys()
    assert out == (OF_THE_HOSTS_NETWORK if "host" in options else set())


@pytest.mark.parametrize("options", [[], ["--network", "host"]], ids=" ".join)
def test_docker_is_measured_by_the_same_ways(
    options: list[str], host: list[str], hostile: Path, engine: docker.DockerClient, tmp_path: Path
) -> None:
    with hostile.open("rb") as file:
        engine.images.load(file)
    mount = f"type=bind,src={tmp_path},dst=/place"
    command = ["docker", "run", "--rm", *options, "--mount", mount, "made:up", "/bin/touch", *host, "report=/place/report"]
    subprocess.run(command, check=True)
    engine.images.remove("made:up", force=True)
    assert escaped(tmp_path / "report") == (OF_THE_HOSTS_NETWORK if options else set())


def test_without_isolation_most_ways_do_lead_out(host: list[str], compiled: Callable[..., Path], tmp_path: Path) -> None:
    """So that the tests above can fail."""
    program = compiled("escapes", "-static", "-w")
    report = tmp_path / "report"
    words = [word for word in host if not word.startswith("image_node")]
    command = ["unshare", "-m", "-p", "-f", "--mount-proc", program, *words, "image_node=/dev/null", f"report={report}"]
    subprocess.run(command, env=os.environ | {"SECRET": SECRET}, check=True)
    assert len(escaped(report)) > 50
