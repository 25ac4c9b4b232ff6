"""The observer: makes a sandbox from a job, runs what it is told to in it, and reports the files that were used.

Started by the pipeline as a program of its own, with one end of a socket pair. Messages in: the job first, then what
`reaper.Reaper` obeys. Messages out: `sandbox` (it stands) or `refused` (it cannot), the reaper's, and `observation` last.

The processes: this one, the tracer, outside the sandbox's pid namespace; its child, pid 1 of the sandbox; and that one's
children, the targets. Each dies when the one before it dies.
"""

import os
import socket
import sys

from ptrace import PtraceError

from tracestrip.errors import TracestripError
from tracestrip.observer import linux
from tracestrip.observer.cgroups import make_cgroups
from tracestrip.observer.init import NUMBER, Ground, be_init, refusal
from tracestrip.observer.job import Job
from tracestrip.observer.launch import Confinement
from tracestrip.observer.notifications import Listener
from tracestrip.observer.overlay import assemble_root
from tracestrip.observer.supplied import write_supplied_files
from tracestrip.observer.tracer import Tracer
from tracestrip.observer.wire import Channel, text


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
        ground = _prepare(job)
        init, link = _fork_init(channel, ground)
        tracer = Tracer(init)
        link.send(NUMBER.pack(init))
        listener = _take_listener(init, link) if job.observed else None
    except (OSError, PtraceError, TracestripError) as error:
        channel.send(refusal(error))
        return
    observation = tracer.run(listener)
    channel.send({
        "event": "observation",
        "uses": [use.to_message() for use in observation.uses],
        "calls": observation.calls,
        "overflow": observation.overflow,
        "tracers": [text(program) for program in observation.tracers],
    })


def _prepare(job: Job) -> Ground:
    """What is made on the host, and goes with this process; but for files in the scratch directory, and the groups."""
    confinement = Confinement.of(job, make_cgroups(job))
    supplied = write_supplied_files(job)
    return Ground(assemble_root(job), supplied, confinement)


def _fork_init(channel: Channel, ground: Ground) -> tuple[int, socket.socket]:
    """Pid 1 of a new pid namespace, waiting to be told its own pid over the socket whose other end is returned."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    linux.unshare(linux.CLONE_NEWPID)
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        os.close(own)
        be_init(channel, theirs, ground)
    theirs.close()
    linux.setns(own, linux.CLONE_NEWPID)  # threads can be started in one's own namespace only
    os.close(own)
    return pid, ours


def _take_listener(init: int, link: socket.socket) -> Listener | None:
    """What pid 1 offers; None where *init* has ended before."""
    offered = link.recv(NUMBER.size)
    if not offered:
        return None
    listener = Listener(linux.take_descriptor(init, *NUMBER.unpack(offered)))
    link.send(b"taken")
    return listener


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
