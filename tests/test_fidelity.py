"""One program tells what it sees, under `docker run` and in the sandbox; what differs is in a list, each with its reason."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from tests.conftest import Command
from tests.images import image_archive

NAMELESS = "a name that is made up, by the image here and by the container there"
REAPER = "pid 1 is the reaper, so that a daemon's orphans live on when its first process ends"
OWN_NETWORK = "loopback only, shared with the probes; the host name leads there"
CGROUPS = "the sandbox has groups of its own for what it limits only, in a cgroup namespace, as Docker has it on cgroup v2"
SINCE = "as newer engines than the one that is asked: "

DIFFERENCES = {
    r"hostname|env HOSTNAME|content /etc/hostname": NAMELESS,
    r"pid|parent|session|process group|processes|status NSpid|proc (self|thread-self)": REAPER,
    r"content /etc/hosts|interface eth0|content /proc/net/route": OWN_NETWORK,
    r"content /etc/resolv.conf": "no name server can be reached",
    r"content /proc/net/if_inet6|content /proc/sys/net/ipv6/.*": SINCE + "Docker 26 leaves IPv6 on the loopback",
    r"content /proc/self/cgroup|ns cgroup|cgroup \w+|mount /sys/fs/cgroup/\w+|path /sys/fs/cgroup.*": CGROUPS,
    r"mount /": "fsync is spared, and the mount's propagation is private",
    r"mount /data/v": "a volume lies in the same throw-away layer, as a mount of its own",
    r"(mount|path) /proc/interrupts|proc interrupts": SINCE + "Docker 28 masks it",
    r"device console": "the host's console is out of reach",
    r"device tun": SINCE + "runc 1.2 keeps it out of reach",
    r"call ptrace TRACEME": "a process can have one tracer, and that is the observer",
    r"call io_uring_\w+": SINCE + "Docker 25 refuses it; ENOSYS, so that programs fall back",
    r"call socket VSOCK": SINCE + "Docker 23 refuses it",
    r"call (name_to_handle_at|process_vm_readv|process_vm_writev)": SINCE + "Docker 23 allows it",
    r"call (cachestat|mseal|set_mempolicy_home_node)": SINCE + "Docker 25 to 28 know it",
    r"status Seccomp(_filters)?": "one filter more tells the observer of calls",
}
"""Pattern of keys: the reason. All of them are seen in one case or another."""

WEB = {
    "User": "web", "WorkingDir": "/data/work/deep", "Env": ["A=b", "HOME=/elsewhere", "PATH=/bin"], "Volumes": {"/data/v": {}},
}  # fmt: skip
MOUNTS = [
    "--tmpfs", "/made:size=1m,exec", "--tmpfs", "/data", "--mount", "type=bind,src=/usr,dst=/host/usr,ro", "--shm-size", "1m",
]  # fmt: skip

CASES: dict[str, tuple[dict, list[str]]] = {
    "plain": ({}, []),
    "everything in the config": (WEB, []),
    "user and group by number": ({"User": "33:55"}, []),
    "unknown user": ({"User": "1234"}, []),
    "user with groups": ({"User": "web"}, ["--workdir", "/tmp/made", "--env", "B=c", "--hostname", "named"]),
    "group by name": ({"User": "web"}, ["--user", ":extra"]),
    "capabilities": ({}, ["--cap-drop", "CHOWN", "--cap-add", "SYS_PTRACE", "--cap-add", "net_admin"]),
    "no capabilities": ({"User": "web"}, ["--cap-drop", "ALL"]),
    "administrator": ({}, ["--cap-add", "SYS_ADMIN"]),
    "mounts": ({}, MOUNTS),
    "no network": ({}, ["--network", "none"]),
    "host's network": ({}, ["--network", "host"]),
    "limits": ({}, ["--memory", "64M", "--pids-limit", "50"]),
    "no seccomp": ({}, ["--security-opt", "seccomp=unconfined"]),
}


@pytest.fixture
def loaded(engine: docker.DockerClient, tmp_path: Path, compiled: Callable[..., Path]) -> Iterator[Callable[[dict], Path]]:
    """Makes an image of the program and a config: an archive, which the engine has as made:up."""

    def make(config: dict) -> Path:
        archive = image_archive(tmp_path / "image.tar", compiled("surroundings", "-static"), config)
        with archive.open("rb") as file:
            engine.images.load(file)
        return archive

    yield make
    engine.images.remove("made:up", force=True)


def parsed(report: Path) -> dict[str, str]:
    seen = dict(line.split(": ", 1) for line in report.read_text(errors="surrogateescape").splitlines())
    for key, value in seen.items():
        if key.startswith("ns "):
            is_hosts = os.readlink(f"/proc/self/ns/{key.removeprefix('ns ')}") == value
            seen[key] = "the host's" if is_hosts else "its own"
    return seen


@pytest.mark.parametrize("case", CASES)
def test_target_sees_what_it_sees_under_docker_run(
    case: str, tracestrip: Command, loaded: Callable[[dict], Path], tmp_path: Path
) -> None:
    config, options = CASES[case]
    source, output = f"docker-archive:{loaded(config)}", f"docker-archive:{tmp_path}/out.tar"
    place = tmp_path / "report"
    place.mkdir()
    place.chmod(0o777)
    options = [*options, "--mount", f"type=bind,src={place},dst=/report"]
    subprocess.run(["docker", "run", "--rm", *options, "made:up", "/bin/touch", "/report/docker"], check=True)
    finished = tracestrip("run", source, "-e", "/bin/touch /report/tracestrip", *options, "-o", output)
    assert finished.code == 0, finished.stderr
    theirs, ours = parsed(place / "docker"), parsed(place / "tracestrip")
    assert len(ours) > 300
    seen = {key: (theirs.get(key), ours.get(key)) for key in theirs.keys() | ours.keys()}
    different = {key: values for key, values in seen.items() if values[0] != values[1]}
    unexplained = {key: values for key, values in different.items() if not any(re.fullmatch(one, key) for one in DIFFERENCES)}
    assert unexplained == {}
