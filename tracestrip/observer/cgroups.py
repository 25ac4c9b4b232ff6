"""The control groups of a sandbox: which devices it may open, how much memory and how many processes it may have.

cgroups(7), Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/. A group lies below the one that tracestrip runs in,
whose limits so hold for the sandbox too; one with limits of its own, in cgroup v2, below the nearest that hands on the
controllers. The kernel does not remove a group with its last process; so the names of the groups are written into a file
first, the record, for whoever cleans up: `remove_cgroups`.
"""

import errno
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tracestrip.observer.devices import attach_device_filter, device_list
from tracestrip.observer.job import Job
from tracestrip.observer.mountinfo import mounts

_PREFIX = "tracestrip-"
_RECORD = ".cgroups"
_USUAL_PLACE = Path("/sys/fs/cgroup")
_PATIENCE = 2.0  # seconds that processes which are being killed may take to leave their group


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A tree of groups that is mounted on this machine."""

    unified: bool
    """cgroup v2, where one hierarchy has all controllers."""
    top: Path
    own: Path
    """The group that this process is in."""
    controllers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Cgroups:
    """The groups with limits of one sandbox. Descriptors of their `cgroup.procs`: who writes "0" into one goes there."""

    entrances: tuple[int, ...]
    exits: tuple[int, ...]
    """Of the groups that this process is in."""
    views: tuple[tuple[bytes, bytes, bytes], ...]
    """What is to be mounted for the target: (directory below /sys/fs/cgroup, type of file system, options)."""

    def enter(self) -> None:
        """Move this process into the groups."""
        for entrance in self.entrances:
            os.write(entrance, b"0")

    def leave(self) -> None:
        """Move this process back to where it came from."""
        for back in self.exits:
            os.write(back, b"0")

    def close_exits(self) -> None:
        """Nobody in the sandbox shall find a way back."""
        for back in self.exits:
            os.close(back)


def record_of(scratch: Path) -> Path:
    """Where the groups of the sandbox of *scratch* are recorded: beside it, where no image's files come."""
    return scratch.with_name(scratch.name + _RECORD)


def records_in(directory: Path) -> list[Path]:
    """The records of all sandboxes whose scratch directories lie in *directory*."""
    return list(directory.glob("*" + _RECORD))


def confine_devices(record: Path, pid: int) -> None:
    """Move process *pid* into a new group whose members open harmless devices only.

    Raises OSError where this machine has no group that can do that. The kernel takes some 8 ms to move a process, while
    nobody forks; so it is done once, to a process that is just being loaded, and what it forks is born there.
    """
    found = list(_hierarchies())
    homes = _device_homes(found)
    for home in homes:
        group = _place(home, frozenset())
        _make(record, group)
        try:
            _confine_devices(group)
        except OSError:
            if home is homes[-1]:
                raise
            continue
        _write(group / "cgroup.procs", str(pid))
        return
    raise OSError(errno.ENODEV, "no control groups are mounted at /sys/fs/cgroup, to keep the host's devices out of reach")


def make_cgroups(job: Job) -> Cgroups:
    """Make the groups with the job's limits, if it has any. Raises OSError where this machine has none that can hold them."""
    limits = {name: limit for name, limit in (("memory", job.memory), ("pids", job.pids)) if limit is not None}
    found = list(_hierarchies())
    homes = {controller: _home(controller, found) for controller in limits}
    groups = {}
    for hierarchy in set(homes.values()):
        needed = frozenset(controller for controller, home in homes.items() if home == hierarchy)
        groups[hierarchy] = _place(hierarchy, needed)
        _make(record_of(Path(job.scratch)), groups[hierarchy])
        if hierarchy.unified:
            _confine_devices(groups[hierarchy])
    for controller, limit in limits.items():
        _set_limit(homes[controller], groups[homes[controller]], controller, limit)
    return Cgroups(
        entrances=tuple(_procs(group) for group in groups.values()),
        exits=tuple(_procs(hierarchy.own) for hierarchy in groups),
        views=tuple(_views(found, groups)),
    )


def memory_kills(record: Path) -> int:
    """How many processes were killed for want of memory in the groups of *record*, as far as these have a limit."""
    for group in _recorded(record):
        for name in ("memory.events", "memory.oom_control"):
            if (group / name).exists():
                rows = (line.split() for line in (group / name).read_text().splitlines())
                return sum(int(row[1]) for row in rows if row[0] == "oom_kill")
    return 0


def remove_cgroups(record: Path) -> None:
    """Remove the groups of *record*, whose processes are dead or dying, and the record."""
    deadline = time.monotonic() + _PATIENCE
    for group in _recorded(record):
        while not _remove(group) and time.monotonic() < deadline:
            time.sleep(0.002)
    record.unlink(missing_ok=True)


def _recorded(record: Path) -> list[Path]:
    try:
        lines = record.read_text().splitlines()
    except OSError:
        return []
    return [Path(line) for line in lines if Path(line).name.startswith(_PREFIX)]


def _remove(group: Path) -> bool:
    """Whether it is gone."""
    try:
        for below, _, _ in os.walk(group, topdown=False):
            os.rmdir(below)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return not group.exists()


def _hierarchies() -> Iterator[Hierarchy]:
    """Those that matter here, from proc_pid_mountinfo(5) and proc_pid_cgroup(5)."""
    with open("/proc/self/cgroup") as file:
        rows = (line.rstrip("\n").split(":", 2) for line in file)
        paths = {controller: path for _, controllers, path in rows for controller in controllers.split(",")}
    for mount in mounts("self"):
        if mount.kind not in (b"cgroup", b"cgroup2"):
            continue
        unified, top = mount.kind == b"cgroup2", Path(os.fsdecode(mount.point))
        try:
            offered = (top / "cgroup.controllers").read_text().split() if unified else os.fsdecode(mount.options).split(",")
        except OSError:
            continue  # another mount lies over it
        controllers = frozenset(offered) & {"memory", "pids", "devices"}
        path = paths.get("" if unified else next(iter(controllers), "-"))
        if path is not None:
            below = os.path.relpath(path, os.fsdecode(mount.root))
            own = top if below.startswith("..") else top / below
            yield Hierarchy(unified, top, own, controllers)


def _device_homes(found: list[Hierarchy]) -> list[Hierarchy]:
    """The hierarchies in which a group may decide on devices, cgroup v2 first: any group can have a program there."""
    able = [hierarchy for hierarchy in found if hierarchy.unified or "devices" in hierarchy.controllers]
    return sorted(able, key=lambda hierarchy: not hierarchy.unified)


def _home(controller: str, found: list[Hierarchy]) -> Hierarchy:
    for hierarchy in found:
        if controller in hierarchy.controllers:
            return hierarchy
    raise OSError(errno.ENODEV, f"the {controller} controller of control groups is not there: leave out its limit")


def _place(hierarchy: Hierarchy, needed: frozenset[str]) -> Path:
    """A name for a group below this process's own one; in cgroup v2 below the nearest that hands on what is *needed*."""
    above = hierarchy.own
    while hierarchy.unified and not (_is_domain(above) and needed <= _handed_on(above)):
        if above == hierarchy.top:
            missing = ", ".join(sorted(needed))
            raise OSError(errno.ENODEV, f"{above} does not hand on {missing} (cgroup.subtree_control): leave out that limit")
        above = above.parent
    return above / (_PREFIX + os.urandom(6).hex())


def _is_domain(group: Path) -> bool:
    """Whether processes below it may be in groups of their own: not so in a threaded one. The top has no type."""
    kind = group / "cgroup.type"
    return not kind.exists() or kind.read_text().strip() == "domain"


def _handed_on(group: Path) -> set[str]:
    return set((group / "cgroup.subtree_control").read_text().split())


def _make(record: Path, group: Path) -> None:
    with record.open("a") as file:
        file.write(f"{group}\n")
    try:
        group.mkdir()
    except OSError as error:
        raise OSError(error.errno, f"{group}: {error.strerror}") from error


def _confine_devices(group: Path) -> None:
    if (group / "devices.allow").exists():
        _write(group / "devices.deny", "a")
        for line in device_list():
            _write(group / "devices.allow", line)
        return
    directory = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        attach_device_filter(directory)
    except OSError as error:
        raise OSError(error.errno, f"{group}: the kernel takes no device program (bpf): {error.strerror}") from error
    finally:
        os.close(directory)


def _set_limit(hierarchy: Hierarchy, group: Path, controller: str, limit: int) -> None:
    if controller == "pids":
        _write(group / "pids.max", str(limit))
        return
    most, with_swap = ("max", "swap.max") if hierarchy.unified else ("limit_in_bytes", "memsw.limit_in_bytes")
    _write(group / f"memory.{most}", str(limit))
    if (group / f"memory.{with_swap}").exists():  # as much swap again, as docker run gives
        _write(group / f"memory.{with_swap}", str(limit if hierarchy.unified else 2 * limit))


def _write(file: Path, content: str) -> None:
    try:
        file.write_text(content)
    except OSError as error:
        raise OSError(error.errno, f"{file}: {error.strerror}") from error


def _procs(group: Path) -> int:
    return os.open(group / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)


def _views(found: list[Hierarchy], limited: Iterable[Hierarchy]) -> Iterator[tuple[bytes, bytes, bytes]]:
    """All of cgroup v2 where it stands at its usual place; else the hierarchies in which the sandbox has groups."""
    if any(hierarchy.unified and hierarchy.top == _USUAL_PLACE for hierarchy in found):
        yield b"", b"cgroup2", b""
        return
    for hierarchy in limited:
        if not hierarchy.unified:
            yield os.fsencode(hierarchy.top.name), b"cgroup", ",".join(sorted(hierarchy.controllers)).encode()
