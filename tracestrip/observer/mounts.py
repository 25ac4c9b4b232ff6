"""What pid 1 of a sandbox mounts over the image: /proc, /sys and /dev as `docker run` makes them, and what the user adds.

All in a private mount namespace, which goes with its last process. No name of the image is looked up while anything of the
host is still in it: what is to come from there is taken along as mounts that are not attached yet.
"""

import errno
import glob
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress

from tracestrip.errors import ImageError, TracestripError, UsageError
from tracestrip.observer import linux
from tracestrip.observer.job import Bind, Job, Tmpfs
from tracestrip.observer.mountinfo import mounts
from tracestrip.observer.places import find_place
from tracestrip.observer.wire import raw, text

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

_Mount = tuple[str, type[TracestripError], Callable[[], None]]
"""Mount point, whose fault it is when that is none, and what mounts."""


def enter_root(root: bytes, job: Job, supplied: dict[bytes, bytes], views: CgroupViews) -> None:
    """Make *root* the root of this process and of its mount namespace, with its special file systems.

    *supplied*: `supplied.write_supplied_files`. Raises ImageError or UsageError for a mount point that cannot be, OSError for
    what the kernel refuses.
    """
    files = {inside: linux.clone_mount(outside) for inside, outside in supplied.items()}
    binds = [(bind, linux.clone_mount(raw(bind.source), below=True)) for bind in job.binds]
    os.chdir(root)
    linux.pivot_root(b".", b".")
    linux.unmount(b".", linux.MNT_DETACH)
    os.chdir("/")
    _ensure_directory(b"/proc")
    linux.mount(b"proc", b"/proc", b"proc", _INERT)
    _mount_sys(views)
    _mount_dev(job)
    if job.network != "host":
        _set_network_sysctls()
    _mask()
    _make_what_an_engine_makes()
    _make_directory(raw(job.workdir))
    for point, fault, mount in sorted(_further_mounts(job, files, binds), key=lambda each: each[0].count("/")):
        try:
            mount()
        except OSError as error:
            raise fault(f"{point}: nothing can be mounted there: {error.strerror}: name or build another place") from error
    for descriptor in (*files.values(), *(tree for _, tree in binds)):
        os.close(descriptor)
    if not any(f"{job.workdir}/".startswith(f"{bind.target}/") for bind in job.binds):
        _make_directory(raw(job.workdir))


def _further_mounts(job: Job, files: dict[bytes, int], binds: list[tuple[Bind, int]]) -> Iterator[_Mount]:
    for volume in job.volumes:
        yield volume, ImageError, lambda volume=volume: _mount_volume(raw(volume))  # type: ignore[misc]
    for tmpfs in job.tmpfs:
        yield tmpfs.target, UsageError, lambda tmpfs=tmpfs: _mount_tmpfs(tmpfs)  # type: ignore[misc]
    for bind, tree in binds:
        yield bind.target, UsageError, lambda bind=bind, tree=tree: _mount_bind(bind, tree)  # type: ignore[misc]
    taken = [os.path.normpath(raw(bind.target)) for bind, _ in binds]
    for path, file in files.items():
        # Nothing is made in a directory of the host, nor mounted over what the user put there.
        if path not in taken and os.path.dirname(path) not in taken:
            yield text(path), ImageError, lambda path=path, file=file: _mount_supplied(path, file)  # type: ignore[misc]


def _mount_volume(volume: bytes) -> None:
    """A mount of its own, as an engine's volume: files are neither renamed nor linked across it."""
    with find_place(volume, directory=True) as place:
        mount = linux.clone_mount(place.descriptor)
        linux.attach_mount(mount, place.descriptor)
        os.close(mount)


def _mount_tmpfs(tmpfs: Tmpfs) -> None:
    """With the mode of the directory that is there, unless the user gives one, as runc does."""
    point = raw(tmpfs.target)
    mode = None
    if os.path.isdir(point) and "mode=" not in tmpfs.options:
        mode = stat.S_IMODE(os.stat(point).st_mode)
    with find_place(point, directory=True) as place:
        linux.mount(b"tmpfs", b"/proc/self/fd/%d" % place.descriptor, b"tmpfs", tmpfs.flags, tmpfs.options.encode())
        if mode is not None:
            os.chmod(place.path, mode)


def _mount_bind(bind: Bind, tree: int) -> None:
    is_directory = stat.S_ISDIR(os.fstat(tree).st_mode)
    with find_place(raw(bind.target), directory=is_directory) as place:
        linux.attach_mount(tree, place.descriptor)
    if not bind.read_only:
        return
    try:
        linux.set_mount_attributes(tree, linux.MOUNT_ATTR_RDONLY)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        _make_read_only(place.path)


def _make_read_only(path: bytes) -> None:
    """The mount at *path* and those below it, one by one: before Linux 5.12. A remount sets all flags anew."""
    for mount in mounts("self"):
        if mount.point == path or mount.point.startswith(path + b"/"):
            flags = os.statvfs(mount.point).f_flag & (_INERT | linux.MS_NOATIME)
            linux.mount(b"none", mount.point, b"", linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY | flags)


def _mount_supplied(path: bytes, file: int) -> None:
    """Not over a device: /dev/null has other uses. Over a directory neither: the image does without the file."""
    if os.path.isdir(path):
        return
    with find_place(path, directory=False) as place:
        if place.path.startswith(b"/dev/"):
            raise OSError(errno.EXDEV, f"it leads to {text(place.path)}")
        linux.attach_mount(file, place.descriptor)


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


def _make_directory(path: bytes) -> None:
    with suppress(OSError), find_place(path, directory=True):  # else the launch says that it cannot be entered
        pass


def _make_what_an_engine_makes() -> None:
    """Where the image lacks them, and not in a directory of the host; programs ask for the first to learn where they are."""
    with suppress(OSError):
        os.close(os.open(b"/.dockerenv", os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o755))
    with suppress(OSError):
        os.symlink(b"/proc/mounts", b"/etc/mtab")
