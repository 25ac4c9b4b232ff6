"""The sandbox's file systems: the image as an overlay, and /proc, /sys and /dev as `docker run` makes them.

`assemble_root` runs in the observer, `enter_root` in pid 1 of the sandbox. Everything is mounted in private mount
namespaces: with the last process of the namespace the mounts are gone too.
"""

import os
import stat
from contextlib import suppress

from tracestrip.observer import linux
from tracestrip.observer.wire import Job, raw

_PROC_MASKED = (
    b"/proc/asound", b"/proc/acpi", b"/proc/kcore", b"/proc/keys", b"/proc/latency_stats", b"/proc/timer_list",
    b"/proc/timer_stats", b"/proc/sched_debug", b"/proc/scsi", b"/sys/firmware", b"/sys/devices/virtual/powercap",
)  # fmt: skip
_PROC_READ_ONLY = (b"/proc/bus", b"/proc/fs", b"/proc/irq", b"/proc/sys", b"/proc/sysrq-trigger")
"""Both lists are Docker's (moby/oci/defaults.go)."""

_DEVICES = ((b"null", 1, 3), (b"zero", 1, 5), (b"full", 1, 7), (b"random", 1, 8), (b"urandom", 1, 9), (b"tty", 5, 0))
_DEVICE_LINKS = (
    (b"/proc/self/fd", b"/dev/fd"),
    (b"/proc/self/fd/0", b"/dev/stdin"),
    (b"/proc/self/fd/1", b"/dev/stdout"),
    (b"/proc/self/fd/2", b"/dev/stderr"),
    (b"pts/ptmx", b"/dev/ptmx"),
)


def assemble_root(job: Job) -> bytes:
    """Mount the image's layers under a throw-away upper layer; the path of the root on the host. Raises OSError.

    The upper layer lies on a tmpfs of this mount namespace: what the run writes is nowhere once the observer is gone.
    """
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount(b"none", b"/", b"", linux.MS_REC | linux.MS_PRIVATE)
    scratch = os.fsencode(job.scratch)
    linux.mount(b"tmpfs", scratch, b"tmpfs", 0, b"mode=0700")
    root = scratch + b"/root"
    os.mkdir(root)
    _mount_overlay(scratch + b"/image", job.layers, root)
    for index, (inside, outside) in enumerate(job.submounts):
        _mount_overlay(scratch + b"/submount%d" % index, (outside,), root + raw(inside))
    return root


def _mount_overlay(work: bytes, layers: tuple[str, ...], target: bytes) -> None:
    """An overlay of *layers*, topmost first, writable through directories in *work*.

    A directory of a layer is not renamed, as is usual for engines: else its files would have a name that no layer has.
    The mount data must fit a page, so that the layers are named by short symlinks, relative to *work*: 500 of them (the
    kernel's limit) take 2 KB.
    """
    os.mkdir(work)
    for name in (b"/upper", b"/work"):
        os.mkdir(work + name)
    for index, layer in enumerate(layers):
        os.symlink(raw(layer), work + b"/%d" % index)
    top = os.lstat(raw(layers[0]))
    os.chown(work + b"/upper", top.st_uid, top.st_gid)
    os.chmod(work + b"/upper", stat.S_IMODE(top.st_mode))
    lower = b":".join(b"%d" % index for index in range(len(layers)))
    os.chdir(work)
    try:
        linux.mount(b"overlay", target, b"overlay", 0, b"lowerdir=" + lower + b",upperdir=upper,workdir=work,redirect_dir=off")
    except OSError as error:
        raise OSError(error.errno, f"overlayfs: {error.strerror}") from error
    finally:
        os.chdir("/")


def enter_root(root: bytes, job: Job) -> None:
    """Make *root* the root of this process and of its mount namespace, with its special file systems. Raises OSError."""
    supplied = _supplied_files(os.path.dirname(root), job.hostname)
    os.chdir(root)
    linux.pivot_root(b".", b".")
    _ensure_directory(b"/proc")
    linux.mount(b"proc", b"/proc", b"proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    for target, descriptor in supplied:
        _bind_file(b"/proc/self/fd/%d" % descriptor, target)
        os.close(descriptor)
    linux.unmount(b".", linux.MNT_DETACH)
    os.chdir("/")
    _mount_sys()
    _mount_dev()
    _set_network_sysctls()
    _mask()
    _make_workdir(raw(job.workdir))


def _supplied_files(scratch: bytes, hostname: str) -> list[tuple[bytes, int]]:
    """What an engine puts over the image's own files: (path inside, descriptor of the content)."""
    contents = {
        b"/etc/hostname": f"{hostname}\n",
        b"/etc/hosts": f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\t{hostname}\n",
        b"/etc/resolv.conf": "# no name server: the sandbox has a loopback interface only\n",
    }
    supplied = []
    for path, content in contents.items():
        source = scratch + b"/" + os.path.basename(path)
        with open(source, "w") as file:
            file.write(content)
        os.chmod(source, 0o644)
        supplied.append((path, os.open(source, os.O_PATH | os.O_CLOEXEC)))
    return supplied


def _bind_file(source: bytes, target: bytes) -> None:
    """Symlinks of *target* lead inside the image: this process's root is the image's already."""
    target = os.path.realpath(target)
    if os.path.isdir(target):
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if not os.path.lexists(target):
        os.close(os.open(target, os.O_CREAT | os.O_CLOEXEC, 0o644))
    linux.mount(source, target, b"", linux.MS_BIND)


def _ensure_directory(path: bytes) -> None:
    """A mount point that is one, whatever the image has there (in the upper layer only)."""
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            return
        os.unlink(path)
    os.mkdir(path, 0o755)


def _mount_sys() -> None:
    _ensure_directory(b"/sys")
    linux.mount(
        b"sysfs", b"/sys", b"sysfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC | linux.MS_RDONLY
    )  # fmt: skip


def _mount_dev() -> None:
    _ensure_directory(b"/dev")
    linux.mount(b"tmpfs", b"/dev", b"tmpfs", linux.MS_NOSUID, b"mode=755,size=65536k")
    unmasked = os.umask(0)
    for name, major, minor in _DEVICES:
        os.mknod(b"/dev/" + name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
    os.umask(unmasked)
    for target, link in _DEVICE_LINKS:
        os.symlink(target, link)
    no_files = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    for name, kind, flags, data in (
        (b"/dev/pts", b"devpts", linux.MS_NOSUID | linux.MS_NOEXEC, b"newinstance,ptmxmode=0666,mode=0620,gid=5"),
        (b"/dev/shm", b"tmpfs", no_files, b"mode=1777,size=65536k"),
        (b"/dev/mqueue", b"mqueue", no_files, b""),
    ):
        os.mkdir(name)
        linux.mount(kind, name, kind, flags, data)


def _set_network_sysctls() -> None:
    """As Docker does: any user may bind to low ports and send pings. Older kernels lack the names."""
    for name, value in (("ip_unprivileged_port_start", "0"), ("ping_group_range", "0 2147483647")):
        with suppress(FileNotFoundError), open(f"/proc/sys/net/ipv4/{name}", "w") as file:
            file.write(value)


def _mask() -> None:
    for path in _PROC_MASKED:
        with suppress(FileNotFoundError):
            if os.path.isdir(path):
                linux.mount(b"tmpfs", path, b"tmpfs", linux.MS_RDONLY)
            else:
                linux.mount(b"/dev/null", path, b"", linux.MS_BIND)
    for path in _PROC_READ_ONLY:
        with suppress(FileNotFoundError):
            linux.mount(path, path, b"", linux.MS_BIND | linux.MS_REC)
            flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC | linux.MS_RDONLY
            linux.mount(b"none", path, b"", linux.MS_BIND | linux.MS_REMOUNT | flags)


def _make_workdir(workdir: bytes) -> None:
    """An engine makes a missing WORKDIR. /proc is none: a descriptor's link there could lead out (CVE-2024-21626)."""
    real = os.path.realpath(workdir)
    if real.split(b"/")[1] in (b"proc", b"sys", b"dev") and not os.path.isdir(real):
        return
    with suppress(OSError):  # then the launch says that it cannot be entered
        os.makedirs(real, exist_ok=True)
