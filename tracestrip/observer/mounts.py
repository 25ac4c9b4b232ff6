"""What pid 1 of a sandbox mounts over the image: /proc, /sys and /dev as `docker run` makes them, and what the user adds.

All in a private mount namespace, which goes with its last process. A name that is looked up here leads nowhere out of the
image: the process's root is the image's by then.
"""

import errno
import glob
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress

from tracestrip.observer import linux
from tracestrip.observer.job import Bind, Job, Tmpfs
from tracestrip.observer.wire import raw

CgroupViews = tuple[tuple[bytes, bytes, bytes], ...]
"""`cgroups.Cgroups.views`."""

_MASKED = (
    b"/proc/asound", b"/proc/acpi", b"/proc/interrupts", b"/proc/kcore", b"/proc/keys", b"/proc/latency_stats",
    b"/proc/timer_list", b"/proc/timer_stats", b"/proc/sched_debug", b"/proc/scsi", b"/sys/firmware",
    b"/sys/devices/virtual/powercap", b"/sys/devices/system/cpu/cpu*/thermal_throttle",
)  # fmt: skip
_READ_ONLY = (b"/proc/bus", b"/proc/fs", b"/proc/irq", b"/proc/sys", b"/proc/sysrq-trigger")
"""Both lists are Docker's (moby/oci/defaults.go)."""

_DEVICES = ((b"null", 1, 3), (b"zero", 1, 5), (b"full", 1, 7), (b"random", 1, 8), (b"urandom", 1, 9), (b"tty", 5, 0))
_DEVICE_LINKS = (
    (b"/proc/self/fd", b"/dev/fd"),
    (b"/proc/self/fd/0", b"/dev/stdin"),
    (b"/proc/self/fd/1", b"/dev/stdout"),
    (b"/proc/self/fd/2", b"/dev/stderr"),
    (b"pts/ptmx", b"/dev/ptmx"),
)
_INERT = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC


def enter_root(root: bytes, job: Job, supplied: dict[bytes, bytes], views: CgroupViews) -> None:
    """Make *root* the root of this process and of its mount namespace, with its special file systems. Raises OSError.

    *supplied*: `supplied.write_supplied_files`.
    """
    sources = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in _host_paths(job, supplied)}
    os.chdir(root)
    linux.pivot_root(b".", b".")
    _ensure_directory(b"/proc")
    linux.mount(b"proc", b"/proc", b"proc", _INERT)
    _mount_sys(views)
    _mount_dev(job)
    for _, mount in sorted(_further_mounts(job, supplied, sources), key=lambda pair: pair[0].count(b"/")):
        mount()
    linux.unmount(b".", linux.MNT_DETACH)
    os.chdir("/")
    for source in sources.values():
        os.close(source)
    if job.network != "host":
        _set_network_sysctls()
    _mask()
    _make_what_an_engine_makes()
    _make_workdir(raw(job.workdir))


def _host_paths(job: Job, supplied: dict[bytes, bytes]) -> set[bytes]:
    return {*supplied.values(), *(raw(bind.source) for bind in job.binds)}


def _further_mounts(
    job: Job, supplied: dict[bytes, bytes], sources: dict[bytes, int]
) -> Iterator[tuple[bytes, Callable[[], None]]]:
    """(mount point, what mounts it), for the shallower points to be mounted first."""
    for volume in map(raw, job.volumes):
        yield volume, lambda volume=volume: _mount_volume(volume)  # type: ignore[misc]
    for tmpfs in job.tmpfs:
        yield raw(tmpfs.target), lambda tmpfs=tmpfs: _mount_tmpfs(tmpfs)  # type: ignore[misc]
    for bind in job.binds:
        yield raw(bind.target), lambda bind=bind: _mount_bind(bind, sources[raw(bind.source)])  # type: ignore[misc]
    taken = [os.path.normpath(raw(bind.target)) for bind in job.binds]
    for inside, outside in supplied.items():
        # Nothing is made in a directory of the host, nor mounted over what the user put there.
        if inside not in taken and os.path.dirname(inside) not in taken:
            yield inside, lambda inside=inside, outside=outside: _mount_supplied(sources[outside], inside)  # type: ignore[misc]


def _mount_volume(volume: bytes) -> None:
    """A mount of its own, as an engine's volume: files are neither renamed nor linked across it."""
    directory = os.path.realpath(volume)
    os.makedirs(directory, exist_ok=True)
    linux.mount(directory, directory, b"", linux.MS_BIND)


def _mount_tmpfs(tmpfs: Tmpfs) -> None:
    """With the mode of the directory that is there, unless the user gives one, as runc does."""
    directory = os.path.realpath(raw(tmpfs.target))
    mode = None
    if os.path.isdir(directory) and "mode=" not in tmpfs.options:
        mode = stat.S_IMODE(os.stat(directory).st_mode)
    os.makedirs(directory, exist_ok=True)
    linux.mount(b"tmpfs", directory, b"tmpfs", tmpfs.flags, tmpfs.options.encode())
    if mode is not None:
        os.chmod(directory, mode)


def _mount_bind(bind: Bind, source: int) -> None:
    target = _bind(source, raw(bind.target), linux.MS_REC)
    if not bind.read_only:
        return
    try:
        linux.set_mount_attributes(target, linux.MOUNT_ATTR_RDONLY)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        linux.mount(b"none", target, b"", linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY)


def _mount_supplied(source: int, target: bytes) -> None:
    if not os.path.isdir(target):
        _bind(source, target)


def _bind(source: int, target: bytes, flags: int = 0) -> bytes:
    """Mount the file or directory behind the descriptor *source*; where it is mounted, with symlinks resolved."""
    target = os.path.realpath(target)
    if stat.S_ISDIR(os.fstat(source).st_mode):
        os.makedirs(target, exist_ok=True)
    elif not os.path.lexists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_CLOEXEC, 0o644))
    linux.mount(b"/proc/self/fd/%d" % source, target, b"", linux.MS_BIND | flags)
    return target


def _ensure_directory(path: bytes) -> None:
    """A mount point that is one, whatever the image has there (in the upper layer only)."""
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            return
        os.unlink(path)
    os.mkdir(path, 0o755)


def _mount_sys(views: CgroupViews) -> None:
    _ensure_directory(b"/sys")
    linux.mount(b"sysfs", b"/sys", b"sysfs", _INERT | linux.MS_RDONLY)
    place = b"/sys/fs/cgroup"
    if not os.path.isdir(place):
        return
    if all(kind == b"cgroup" for _, kind, _ in views):
        linux.mount(b"tmpfs", place, b"tmpfs", _INERT, b"mode=755")
    for name, kind, options in views:
        point = place + b"/" + name if name else place
        os.makedirs(point, exist_ok=True)
        linux.mount(kind, point, kind, _INERT | linux.MS_RDONLY, options)


def _mount_dev(job: Job) -> None:
    _ensure_directory(b"/dev")
    linux.mount(b"tmpfs", b"/dev", b"tmpfs", linux.MS_NOSUID | linux.MS_STRICTATIME, b"mode=755,size=65536k")
    unmasked = os.umask(0)
    for name, major, minor in _DEVICES:
        os.mknod(b"/dev/" + name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
    os.umask(unmasked)
    links = (*_DEVICE_LINKS, (b"/proc/kcore", b"/dev/core")) if os.path.exists("/proc/kcore") else _DEVICE_LINKS
    for target, link in links:
        os.symlink(target, link)
    for source, name, kind, flags, data in (
        (b"devpts", b"/dev/pts", b"devpts", linux.MS_NOSUID | linux.MS_NOEXEC, b"newinstance,ptmxmode=0666,mode=0620,gid=5"),
        (b"shm", b"/dev/shm", b"tmpfs", _INERT, b"mode=1777,size=%d" % job.shm_size),
        (b"mqueue", b"/dev/mqueue", b"mqueue", _INERT, b""),
    ):
        os.mkdir(name)
        linux.mount(source, name, kind, flags, data)


def _set_network_sysctls() -> None:
    """As Docker does: any user may bind to low ports and send pings. Older kernels lack the names."""
    for name, value in (("ip_unprivileged_port_start", "0"), ("ping_group_range", "0 2147483647")):
        with suppress(FileNotFoundError), open(f"/proc/sys/net/ipv4/{name}", "w") as file:
            file.write(value)


def _mask() -> None:
    for path in _READ_ONLY:
        with suppress(FileNotFoundError):
            linux.mount(path, path, b"", linux.MS_BIND | linux.MS_REC)
            linux.mount(b"none", path, b"", linux.MS_BIND | linux.MS_REMOUNT | _INERT | linux.MS_RDONLY)
    for path in (path for pattern in _MASKED for path in glob.glob(pattern)):
        if os.path.isdir(path):
            linux.mount(b"tmpfs", path, b"tmpfs", linux.MS_RDONLY)
        else:
            linux.mount(b"/dev/null", path, b"", linux.MS_BIND)


def _make_what_an_engine_makes() -> None:
    """Where the image lacks them; programs ask for the first to learn where they are."""
    with suppress(OSError):
        os.close(os.open(b"/.dockerenv", os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o755))
    with suppress(OSError):
        os.symlink(b"/proc/mounts", b"/etc/mtab")


def _make_workdir(workdir: bytes) -> None:
    """An engine makes a missing WORKDIR. /proc is none: a descriptor's link there could lead out (CVE-2024-21626)."""
    real = os.path.realpath(workdir)
    if real.split(b"/")[1] in (b"proc", b"sys", b"dev") and not os.path.isdir(real):
        return
    with suppress(OSError):  # then the launch says that it cannot be entered
        os.makedirs(real, exist_ok=True)
