"""Pid 1 of a sandbox, from its fork to its event loop: namespaces, mounts, the filter; then it is the `Reaper`."""

import errno
import fcntl
import os
import signal
import socket
import struct
import sys
from dataclasses import dataclass
from typing import NoReturn

from tracestrip.errors import TracestripError
from tracestrip.observer import linux
from tracestrip.observer.launch import LAUNCHING, Confinement
from tracestrip.observer.mounts import enter_root
from tracestrip.observer.reaper import Reaper
from tracestrip.observer.seccomp import path_filter
from tracestrip.observer.wire import Channel, Message

NUMBER = struct.Struct("=i")
"""What goes over the link between the tracer and pid 1, in both directions."""

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_NAME = b"tracestrip-init"
_NOBODY = 65534
_LAST_POSSIBLE_CAPABILITY = 63


@dataclass(frozen=True, slots=True)
class Ground:
    """What the observer has made for the sandbox."""

    root: bytes
    """The assembled root, on the host."""
    supplied: dict[bytes, bytes]
    """`supplied.write_supplied_files`."""
    confinement: Confinement


def be_init(channel: Channel, link: socket.socket, ground: Ground) -> NoReturn:
    """Turn this process, the first of a pid namespace, into pid 1. Its own pid on the host comes over *link* first."""
    status = 1
    try:
        linux.die_with_parent()
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        told = link.recv(NUMBER.size)
        if told:
            _make_sandbox(channel, link, ground, *NUMBER.unpack(told))
            status = 0
    except BaseException as error:
        # No traceback: it would look for source files, by names that mean the image's files by now.
        os.write(2, f"pid 1: {type(error).__name__}: {error}\n".encode("utf-8", "surrogateescape"))
    finally:
        os._exit(status)


def _make_sandbox(channel: Channel, link: socket.socket, ground: Ground, pid: int) -> None:
    job = ground.confinement.job
    try:
        _forget_host()
        _leave_namespaces(ground)
        socket.sethostname(job.hostname)
        if job.network != "host":
            _raise_loopback()
        _import_nothing_more()
        enter_root(ground.root, job, ground.supplied, ground.confinement.cgroups.views)
        if job.observed:
            _install_path_filter(link)
        link.close()
        _be_no_more_than_a_target(ground.confinement)
    except Exception as error:
        channel.send(refusal(error))
        return
    channel.send({"event": "sandbox", "init": pid})
    Reaper(channel, ground.confinement).run()


def refusal(error: Exception) -> Message:
    """What the pipeline is told when a sandbox cannot be made, and whose fault that is."""
    if isinstance(error, TracestripError):
        return {"event": "refused", "fault": type(error).__name__, "reason": str(error)}
    reason = error.strerror or str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    place = f" ({os.fsdecode(error.filename)})" if isinstance(error, OSError) and error.filename else ""
    return {"event": "refused", "fault": "", "reason": reason + place}


def _import_nothing_more() -> None:
    """Modules would be looked for in the image, and run with all rights."""
    for places in (sys.path, sys.meta_path, sys.path_hooks):
        places.clear()
    sys.path_importer_cache.clear()


def _be_no_more_than_a_target(confinement: Confinement) -> None:
    """A target with CAP_SYS_PTRACE can be this process, so that it must not have what a target has not.

    Docker's rules hold for all that descend from it; of capabilities it keeps those that launching needs.
    """
    if confinement.profile is not None:
        linux.install_seccomp_filter(confinement.profile)
    for number in range(_LAST_POSSIBLE_CAPABILITY + 1):
        if not confinement.job.capabilities >> number & 1:
            try:
                linux.drop_bounding(number)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                break
    # A target that runs as root too shall not set limits for it either: prlimit(2) compares all three user IDs.
    os.setresuid(0, 0, _NOBODY)
    linux.set_capabilities(confinement.job.capabilities | LAUNCHING)
    linux.hide_from_others()


def _forget_host() -> None:
    """What targets could find of the host at this process: its keys, and the command line that they see in /proc/1."""
    try:
        linux.leave_session_keyring()
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
    with open("/proc/self/stat", "rb") as file:
        first, last = map(int, file.read().rpartition(b")")[2].split()[45:47])  # arg_start, arg_end: proc_pid_stat(5)
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(first)
        memory.write(_NAME.ljust(last - first, b"\0")[: last - first])
    with open("/proc/self/comm", "wb") as file:
        file.write(_NAME)


def _leave_namespaces(ground: Ground) -> None:
    """The groups are the root of the new cgroup namespace. Pid 1 itself is not in them: it counts against no limit."""
    ground.confinement.cgroups.enter()
    network = 0 if ground.confinement.job.network == "host" else linux.CLONE_NEWNET
    linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC | linux.CLONE_NEWCGROUP | network)
    ground.confinement.cgroups.leave()
    ground.confinement.cgroups.close_exits()


def _raise_loopback() -> None:
    """netdevice(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("=16sH14x", b"lo", _IFF_UP))


def _install_path_filter(link: socket.socket) -> None:
    """For this process and all that descend from it. Its number travels, since sendmsg(2) would wait for a listener."""
    descriptor = linux.install_seccomp_listener(path_filter())
    link.send(NUMBER.pack(descriptor))
    link.recv(5)
    os.close(descriptor)
