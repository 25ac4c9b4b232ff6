"""What runs may leave on a machine: `snapshot()` before and after, and the difference is what was left.

An engine is no run: its processes, its containers and its mounts are left out, and so is the directory of its socket.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROCESS, MOUNT, CGROUP, NETWORK, DIRECTORY, SHARED = (
    "process", "mount", "cgroup", "network namespace", "temporary directory", "shared memory, queue or semaphore",
)  # fmt: skip

_NAME = "tracestrip"
_ENGINES = ("dockerd", "containerd", "containerd-shim", "runc", "docker-proxy", "podman", "conmon", "crun", "netavark", "pasta")
_ENGINE_PLACES = (
    "/tracestrip-engine-", f"/{_NAME}/engine/", "/var/lib/docker", "/var/lib/containerd", "/var/lib/containers",
    "/run/docker", "/run/containers", "/run/containerd",
)  # fmt: skip
_SECONDS = 5


@dataclass(frozen=True, slots=True, order=True)
class Thing:
    """Something on the machine that outlives its maker, or could."""

    kind: str
    name: str


def snapshot() -> frozenset[Thing]:
    """All that there is now, of this process's pid namespace; only what two of them have not in common says something."""
    return frozenset([*_processes(), *_mounts(), *_cgroups(), *_directories(), *_shared()])


def left_since(before: frozenset[Thing], *kinds: str, seconds: float = _SECONDS) -> list[Thing]:
    """What is here and was not *before*, of *kinds* or of all; the empty list as soon as, within *seconds*, that is nothing."""
    deadline = time.monotonic() + seconds
    while True:
        left = sorted(thing for thing in snapshot() - before if not kinds or thing.kind in kinds)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def tree() -> dict[int, int]:
    """The parent of each process that is no zombie; proc_pid_stat(5)."""
    parents = {}
    for process in os.listdir("/proc"):
        if process.isdigit():
            _, _, after = _read(f"/proc/{process}/stat").rpartition(")")  # the name before may hold any character
            state, parent, *_ = after.split() or ("X", "0")
            if state not in ("Z", "X"):
                parents[int(process)] = int(parent)
    return parents


def descendants(pid: int, parents: dict[int, int] | None = None) -> set[int]:
    """Of the process *pid*, which is not among them."""
    parents = tree() if parents is None else parents
    found: set[int] = set()
    new = {pid}
    while new := {child for child, parent in parents.items() if parent in new} - found:
        found |= new
    return found


def command_line(pid: int) -> str:
    """With spaces; empty where the process is gone."""
    return _read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()


def _processes() -> Iterator[Thing]:
    """Those that name the tool, those that live in a pid namespace of their own, and all network namespaces."""
    parents = tree()
    engines = {pid for pid in parents if _read(f"/proc/{pid}/comm").strip() in _ENGINES}
    for engine in tuple(engines):
        engines |= descendants(engine, parents)
    own = _link("/proc/self/ns/pid")
    for pid in parents.keys() - engines:
        command, pids = command_line(pid), _link(f"/proc/{pid}/ns/pid")
        if pid != os.getpid() and (_NAME in command or pids not in ("", own)):
            yield Thing(PROCESS, f"{pid} {command}")
        if network := _link(f"/proc/{pid}/ns/net"):
            yield Thing(NETWORK, network)


def _mounts() -> Iterator[Thing]:
    """proc_pid_mountinfo(5)."""
    for line in _read("/proc/self/mountinfo").splitlines():
        if not any(place in line.split()[4] for place in _ENGINE_PLACES):
            yield Thing(MOUNT, line)


def _cgroups() -> Iterator[Thing]:
    """Of all hierarchies that are mounted at the usual place: cgroups(7)."""
    for place, directories, _ in os.walk("/sys/fs/cgroup"):
        yield from (Thing(CGROUP, f"{place}/{name}") for name in directories if _NAME in f"{place}/{name}")


def _directories() -> Iterator[Thing]:
    for place in {Path("/tmp"), Path("/var/tmp"), Path(tempfile.gettempdir())}:
        for path in place.glob(f"{_NAME}-*"):
            if not path.name.startswith(f"{_NAME}-engine-"):
                yield Thing(DIRECTORY, str(path))


def _shared() -> Iterator[Thing]:
    """sysvipc(7), shm_overview(7), sem_overview(7) and mq_overview(7)."""
    for table in ("shm", "msg", "sem"):
        for line in _read(f"/proc/sysvipc/{table}").splitlines()[1:]:
            key, number, *_ = line.split()
            yield Thing(SHARED, f"{table} {key} {number}")
    for place in ("/dev/shm", "/dev/mqueue"):
        if os.path.isdir(place):
            yield from (Thing(SHARED, f"{place}/{name}") for name in os.listdir(place))


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
