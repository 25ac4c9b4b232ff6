"""The observer: makes a sandbox from a job, runs what it is told to in it, and reports the files that were used.

Started by the pipeline as a program of its own, with one end of a socket pair. Messages in: the job first, then what
`reaper.Reaper` obeys. Messages out: `sandbox` (it stands) or `refused` (it cannot), the reaper's, and `observation` last.

The processes: this one, the tracer, outside the sandbox's pid namespace; its child, pid 1 of the sandbox; and that one's
children, the targets. Each dies when the one before it dies.
"""

import fcntl
import os
import signal
import socket
import struct
import sys
import traceback
from typing import NoReturn

from ptrace import PtraceError

from tracestrip.observer import linux
from tracestrip.observer.mounts import assemble_root, enter_root
from tracestrip.observer.notifications import Listener
from tracestrip.observer.reaper import Reaper
from tracestrip.observer.seccomp import path_filter
from tracestrip.observer.tracer import Tracer
from tracestrip.observer.wire import Channel, Job, text

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_NUMBER = struct.Struct("=i")


def main(descriptor: int, parent: int) -> None:
    """Do the job that comes over the socket *descriptor*; *parent* is the pid that this process must not outlive."""
    linux.die_with_parent()
    if os.getppid() != parent:
        return
    os.set_inheritable(descriptor, False)
    channel = Channel(socket.socket(fileno=descriptor))
    message = channel.receive()
    if message is None:
        return
    job = Job.from_message(message)
    try:
        root = assemble_root(job)
        init, link = _fork_init(channel, root, job)
        tracer = Tracer(init)
        link.send(_NUMBER.pack(init))
        listener = _take_listener(init, link) if job.observed else None
    except (OSError, PtraceError) as error:
        channel.send({"event": "refused", "reason": str(error)})
        return
    observation = tracer.run(listener)
    channel.send({
        "event": "observation",
        "uses": [use.to_message() for use in observation.uses],
        "calls": observation.calls,
        "tracers": [text(program) for program in observation.tracers],
    })


def _fork_init(channel: Channel, root: bytes, job: Job) -> tuple[int, socket.socket]:
    """Pid 1 of a new pid namespace, waiting to be told its own pid over the socket whose other end is returned."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    linux.unshare(linux.CLONE_NEWPID)
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _be_init(channel, theirs, root, job)
    theirs.close()
    linux.setns(own, linux.CLONE_NEWPID)  # threads can be started in one's own namespace only
    os.close(own)
    return pid, ours


def _take_listener(init: int, link: socket.socket) -> Listener | None:
    """What `_install_filter` offers; None where *init* has ended before."""
    offered = link.recv(_NUMBER.size)
    if not offered:
        return None
    listener = Listener(linux.take_descriptor(init, *_NUMBER.unpack(offered)))
    link.send(b"taken")
    return listener


def _install_filter(link: socket.socket) -> None:
    """For this process and all that descend from it. Its number travels, since sendmsg(2) would wait for a listener."""
    descriptor = linux.install_seccomp_listener(path_filter())
    link.send(_NUMBER.pack(descriptor))
    link.recv(5)
    os.close(descriptor)


def _be_init(channel: Channel, link: socket.socket, root: bytes, job: Job) -> NoReturn:
    status = 1
    try:
        linux.die_with_parent()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        told = link.recv(_NUMBER.size)
        if told:
            _make_sandbox(channel, link, root, job, *_NUMBER.unpack(told))
            status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _make_sandbox(channel: Channel, link: socket.socket, root: bytes, job: Job, pid: int) -> None:
    try:
        linux.unshare(
            linux.CLONE_NEWNS | linux.CLONE_NEWNET | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC | linux.CLONE_NEWCGROUP
        )
        socket.sethostname(job.hostname)
        _raise_loopback()
        enter_root(root, job)
        if job.observed:
            _install_filter(link)
    except OSError as error:
        channel.send({"event": "refused", "reason": str(error)})
        return
    channel.send({"event": "sandbox", "init": pid})
    Reaper(channel, job).run()


def _raise_loopback() -> None:
    """netdevice(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("=16sH14x", b"lo", _IFF_UP))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
