"""The pipeline's handle on an observer: start a sandbox, run commands in it and beside it, end it, get the observation."""

import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tracestrip.errors import EnvironmentLack, ImageError, ObserverLost, TargetError, TracestripError, UsageError
from tracestrip.observer.cgroups import confine_devices, memory_kills, record_of, remove_cgroups
from tracestrip.observer.job import Job
from tracestrip.observer.wire import OUTPUT_TAIL, Channel, Message, Observation, Use, raw
from tracestrip.observer.written import Writing, Written

_PYTHON = (sys.executable, "-I", "-S", "-c")
"""A bare interpreter: neither PYTHON* variables nor site hooks; it gets this process's search path instead."""

_MOST_STDOUT = 16 << 20  # bytes
_TARGET = 0  # the number of the first command
_PATIENCE = 60.0  # seconds for an answer that comes at once, unless something is wrong


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that has ended."""

    status: int
    """Exit code; negative: the signal that ended it."""
    output: bytes
    """The last of what it wrote to stdout and stderr, at most 64 KiB."""
    written: Written
    """Its stdout, of which the last 16 MiB are kept; of a command that was run inside, stdout and stderr, 64 KiB.

    Until it ended; of the target, until the last process was gone, if that has come.
    """
    moment: float
    """When it ended: seconds of CLOCK_MONOTONIC."""


def _program(module: str, *arguments: object) -> list[str]:
    parent = str(Path(__file__).resolve().parents[2])
    run = f"import sys, runpy; sys.path[:] = {[parent, *sys.path]!r}; runpy.run_module({module!r}, None, '__main__')"
    return [*_PYTHON, run, *map(str, arguments)]


def _written_until_end(process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, Written]:
    """`output` and `written` of a `Completed`: what *process* writes until it ends or the deadline comes."""
    both, stdout = Writing(OUTPUT_TAIL), Writing(_MOST_STDOUT)
    ended = os.pidfd_open(process.pid)
    pipes = [pipe.fileno() for pipe in (process.stdout, process.stderr) if pipe is not None]
    try:
        while (left := deadline - time.monotonic()) > 0:
            ready = select.select([*pipes, ended], [], [], left)[0]
            wrote = False
            for pipe in [pipe for pipe in ready if pipe != ended]:
                chunk = os.read(pipe, 1 << 16)
                both.add(chunk)
                if process.stdout is not None and pipe == process.stdout.fileno():
                    stdout.add(chunk)
                wrote = wrote or bool(chunk)
            if ended in ready and not wrote:
                process.wait()
                break
            if not wrote:
                pipes = [pipe for pipe in pipes if pipe not in ready]  # closed at the other end
    finally:
        os.close(ended)
    return both.last(), stdout.written()


class Sandbox:
    """A running sandbox. Use it as a context manager: leaving it kills what is still alive.

    Commands are numbered; the first one that is launched is the target.
    """

    def __init__(self, job: Job) -> None:
        """Raises EnvironmentLack when the kernel refuses a namespace, a mount or ptrace."""
        ours, theirs = socket.socketpair()
        self._log: IO[bytes] = tempfile.TemporaryFile(dir=job.scratch)  # noqa: SIM115 - it lives as long as the sandbox
        self._channel = Channel(ours)
        self._next_number = 0
        self._ended: dict[int, Completed] = {}
        self._failed: dict[int, Message] = {}
        self._emptied: float | None = 0.0
        self._phases: list[tuple[float, str]] = []
        self._record = record_of(Path(job.scratch))
        self._network = job.network
        self._memory_kills = _machine_memory_kills()
        with theirs:
            self._process = subprocess.Popen(
                _program("tracestrip.observer", theirs.fileno(), os.getpid()),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._log,
                pass_fds=[theirs.fileno()], start_new_session=True, cwd="/", env={},
            )  # fmt: skip
        try:
            _confine_devices(self._record, self._process.pid)
            self._send(job.to_message())
            message = self._awaited("sandbox", "refused", "observation")
            if message["event"] == "refused":
                raise _refused(message["reason"], message["fault"])
            if message["event"] == "observation":
                raise self._lost()
            self._init: int = message["init"]
            self._others_ports = self._ports() if job.network == "host" else set()
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    def launch(self, arguments: list[str]) -> int:
        """Start a command inside, as the image's user; its number. Raises TargetError when it cannot be executed."""
        number = self._next_number
        self._next_number += 1
        self._send({"do": "launch", "number": number, "arguments": arguments})
        message = self._awaited("started", "failed")
        if message["event"] == "failed":
            reason = os.strerror(message["errno"])
            raise TargetError(f"cannot {message['step']} in the image: {reason}: check -e, --user and --workdir")
        return number

    def run(self, arguments: list[str], seconds: float = 10.0) -> Completed:
        """Run a command inside to its end. Raises TargetError when it cannot be executed or does not end."""
        number = self.launch(arguments)
        deadline = time.monotonic() + seconds
        while number not in self._ended:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TargetError(f"{arguments[0]} in the image did not end within {seconds:g} s: check it")
            self.poll(left)
        return self._ended.pop(number)

    def poll(self, seconds: float) -> None:
        """Take in what has happened, waiting at most *seconds* for the first news."""
        while self._channel.has_buffered() or select.select([self._channel], [], [], seconds)[0]:
            self._handle(self._receive())
            seconds = 0

    def settle(self) -> None:
        """Take in all that has happened until now: a command's end and that nothing is left come one after the other."""
        self.output()

    def ended(self, number: int) -> Completed | None:
        """How the command ended, None while it runs. News comes with `poll`."""
        return self._ended.get(number)

    @property
    def alive(self) -> bool:
        """Whether any process is left inside, a daemon's orphans included. News comes with `poll`."""
        return self._emptied is None

    @property
    def emptied(self) -> float | None:
        """When the last process inside was gone: seconds of CLOCK_MONOTONIC; None while any is left."""
        return self._emptied

    @property
    def observer(self) -> int:
        """Pid of the process that observes."""
        return self._process.pid

    @property
    def init(self) -> int:
        """Pid, on the host, of the sandbox's pid 1."""
        return self._init

    def output(self) -> bytes:
        """The last of what the target and its descendants wrote, at most 64 KiB."""
        self._send({"do": "output"})
        return raw(self._awaited("output")["output"])

    def memory_kills(self) -> int:
        """How many processes the kernel killed for want of memory: inside, or on the whole machine when there is no limit."""
        return memory_kills(self._record) or _machine_memory_kills() - self._memory_kills

    def listening_ports(self) -> set[tuple[int, str]]:
        """(port, "tcp" or "udp") of the sockets inside that wait for connections or datagrams.

        In the host's network: of those that were not there before.
        """
        return self._ports() - self._others_ports

    def _ports(self) -> set[tuple[int, str]]:
        """proc_pid_net(5)."""
        ports = set()
        for name, state in (("tcp", b"0A"), ("tcp6", b"0A"), ("udp", b"07"), ("udp6", b"07")):
            with suppress(FileNotFoundError), open(f"/proc/{self._init}/net/{name}", "rb") as table:
                for line in table.read().splitlines()[1:]:
                    _, local, _, line_state, *_ = line.split()
                    if line_state == state:
                        ports.add((int(local.rpartition(b":")[2], 16), name[:3]))
        return ports

    def run_beside(self, arguments: list[str], seconds: float, directory: str | None = None) -> Completed:
        """Run a command of the host in the sandbox's network, with the caller's environment; in its directory, if in no other.

        Where the sandbox has network "none" or "host", it has the host's network.
        After *seconds* it is killed, with all that it started; its status is then -9.
        """
        network = f"/proc/{self._init}/ns/net" if self._network == "sandbox" else "/proc/self/ns/net"
        process = subprocess.Popen(
            _program("tracestrip.observer.join", os.getpid(), network, *arguments),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, cwd=directory,
        )  # fmt: skip
        with process:
            try:
                output, written = _written_until_end(process, time.monotonic() + seconds)
                status = -9 if process.poll() is None else process.returncode
            finally:
                process.kill()
            return Completed(status, output, written, time.monotonic())

    def enter(self, phase: str) -> None:
        """The target is put through *phase* from now on: each use will say in which one it came first."""
        self._phases.append((time.monotonic(), phase))

    def _phase_at(self, moment: float) -> str:
        index = bisect_right(self._phases, moment, key=lambda phase: phase[0])
        return self._phases[index - 1][1] if index else ""

    def stop(self, signal_number: int, grace: float) -> Observation:
        """End everything inside: *signal_number* first, SIGKILL after *grace* seconds. What was used.

        Raises TargetError when the observer itself failed.
        """
        self.enter("the stop")
        self._send({"do": "stop", "signal": signal_number, "grace": grace})
        message = self._awaited("observation", seconds=grace + _PATIENCE)
        if message["overflow"]:
            raise TargetError("the target names more files than can be recorded: exercise less of it at a time")
        uses = (replace(use, during=self._phase_at(use.moment)) for use in map(Use.from_message, message["uses"]))
        return Observation(tuple(uses), message["calls"], message["overflow"], tuple(map(raw, message["tracers"])))

    def kill(self) -> None:
        """End everything at once. The kernel takes the tracees, the namespaces and the mounts with the observer."""
        self._process.kill()
        self._process.wait()
        init = getattr(self, "_init", None)
        while init is not None and _is_dying(init):
            time.sleep(0.001)
        self._channel.close()
        self._log.close()
        remove_cgroups(self._record)

    def _send(self, message: Message) -> None:
        try:
            self._channel.send(message)
        except OSError as error:
            raise self._lost() from error

    def _receive(self) -> Message:
        try:
            message = self._channel.receive()
        except ConnectionError as error:
            raise self._lost() from error
        if message is None:
            raise self._lost()
        return message

    def _awaited(self, *events: str, seconds: float = _PATIENCE) -> Message:
        """The next message of that kind. Raises TargetError when none comes: a target may stop what makes it."""
        deadline = time.monotonic() + seconds
        while self._channel.has_buffered() or select.select([self._channel], [], [], max(0, deadline - time.monotonic()))[0]:
            message = self._handle(self._receive())
            if message["event"] in events:
                return message
        self.kill()
        raise TargetError(f"the sandbox does not answer any more, {seconds:g} s after it was asked: the target hinders it")

    def _handle(self, message: Message) -> Message:
        if message["event"] == "exited":
            status = os.waitstatus_to_exitcode(message["status"])
            written = Written.from_message(message)
            self._ended[message["number"]] = Completed(status, written.last, written, message["moment"])
        elif message["event"] == "started":
            self._emptied = None
        elif message["event"] == "empty":
            self._emptied = message["moment"]
            if _TARGET in self._ended:
                written = Written.from_message(message)
                self._ended[_TARGET] = replace(self._ended[_TARGET], output=written.last, written=written)
        return message

    def _lost(self) -> ObserverLost:
        self._process.wait()
        self._log.seek(0)
        return ObserverLost("the observer ended unexpectedly: the target could not be traced", self._log.read())


def _confine_devices(record: Path, observer: int) -> None:
    try:
        confine_devices(record, observer)
    except OSError as error:
        raise _refused(error.strerror or str(error)) from error


def _refused(reason: str, fault: str = "") -> TracestripError:
    """*fault*: name of an error class, where it is not the machine's."""
    if fault:
        kinds = {"ImageError": ImageError, "UsageError": UsageError}
        return kinds[fault](reason)
    return EnvironmentLack(
        f"the kernel refuses the sandbox: {reason}: "
        "run as root, outside of a container that lacks CAP_SYS_ADMIN, overlayfs or control groups"
    )


def _is_dying(init: int) -> bool:
    """Whether pid 1 of a sandbox whose observer is dead still takes its time to go.

    As a zombie it has taken all others of its pid namespace with it: pid_namespaces(7).
    """
    try:
        with open(f"/proc/{init}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split()[0]
        return state != b"Z" and os.readlink(f"/proc/{init}/ns/pid") != os.readlink("/proc/self/ns/pid")
    except OSError:
        return False


def _machine_memory_kills() -> int:
    """proc_vmstat(5)."""
    with open("/proc/vmstat", "rb") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith(b"oom_kill "))
