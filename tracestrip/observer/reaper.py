"""Pid 1 of the sandbox: starts commands when told to, collects what they write, reaps whatever ends.

Pid 1 is not the target: a daemon's first process ends at once and the service goes on, as an orphan of ours. When pid 1
ends, however it ends, the kernel kills every process of the sandbox.
"""

import errno
import json
import os
import select
import selectors
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field

from tracestrip.observer import linux
from tracestrip.observer.launch import Confinement, become_target
from tracestrip.observer.wire import OUTPUT_TAIL, Channel, Message, text
from tracestrip.observer.written import Writing

_LAUNCH_SECONDS = 10
_TOO_LATE = json.dumps({"errno": errno.ETIMEDOUT, "step": "start the command"}).encode()


@dataclass(slots=True)
class Command:
    """A command that was started; it may have ended while its children still write to its pipe."""

    number: int
    output: int
    writing: Writing = field(default_factory=lambda: Writing(OUTPUT_TAIL))

    def drain(self) -> bool:
        """Take what the pipe holds, at most a few buffers of it; False at its end."""
        for _ in range(16):
            try:
                chunk = os.read(self.output, 1 << 16)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            self.writing.add(chunk)
        return True


class Reaper:
    """The event loop, with all signals blocked.

    Messages in: launch, output, stop. Messages out: started, failed, output, exited, empty, stopped.
    """

    def __init__(self, channel: Channel, confinement: Confinement) -> None:
        self._channel = channel
        self._confinement = confinement
        self._commands: dict[int, Command] = {}
        self._target: Command | None = None
        self._deadline: float | None = None
        self._killed = False
        self._child_signals = linux.signal_descriptor(signal.SIGCHLD)
        self._selector = selectors.DefaultSelector()
        self._selector.register(channel, selectors.EVENT_READ)
        self._selector.register(self._child_signals, selectors.EVENT_READ)

    def run(self) -> None:
        """Until everything is stopped, or until the pipeline is gone."""
        while True:
            timeout = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
            ready = self._selector.select(timeout)
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self._kill_all()
            for key, _ in ready:
                if isinstance(key.data, Command):
                    self._collect(key.data)
                elif key.fileobj == self._child_signals:
                    os.read(self._child_signals, 1 << 12)
                elif not self._obey():
                    return
            if not self._reap() and self._deadline is not None:
                self._channel.send({"event": "stopped", "killed": self._killed})
                return

    def _obey(self) -> bool:
        """Act on the messages that are there; False when the pipeline is gone."""
        while True:
            message = self._channel.receive()
            if message is None:
                return False
            if message["do"] == "launch":
                self._launch(message)
            elif message["do"] == "output":
                self._report_output()
            else:
                self._stop(message["signal"], message["grace"])
            if not self._channel.has_buffered():
                return True

    def _launch(self, message: Message) -> None:
        number, arguments = message["number"], message["arguments"]
        output, output_end = os.pipe2(os.O_CLOEXEC)
        failure, failure_end = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            become_target(arguments, self._confinement, output_end, failure_end)
        os.close(output_end)
        os.close(failure_end)
        with open(failure, "rb") as pipe:
            if not select.select([pipe], [], [], _LAUNCH_SECONDS)[0]:  # another process of the target stopped it
                os.kill(pid, signal.SIGKILL)
                failed = _TOO_LATE
            else:
                failed = pipe.read()
        if failed:
            os.close(output)
            self._channel.send({"event": "failed", "number": number, **json.loads(failed)})
            return
        os.set_blocking(output, False)
        command = Command(number, output)
        self._commands[pid] = command
        self._target = self._target or command
        self._selector.register(output, selectors.EVENT_READ, command)
        self._channel.send({"event": "started", "number": number})

    def _report_output(self) -> None:
        """What the first command and its descendants wrote last."""
        if self._target and self._target.output >= 0:
            self._collect(self._target)
        self._channel.send({"event": "output", "output": text(self._target.writing.last()) if self._target else ""})

    def _collect(self, command: Command) -> None:
        if not command.drain():
            self._selector.unregister(command.output)
            os.close(command.output)
            command.output = -1

    def _reap(self) -> bool:
        """Take the ended children; False when none is left alive."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._channel.send({"event": "empty", "moment": time.monotonic(), **self._written_at_last()})
                return False
            if pid == 0:
                return True
            command = self._commands.pop(pid, None)
            if command is not None:
                if command.output >= 0:
                    self._collect(command)
                self._channel.send({
                    "event": "exited", "number": command.number, "status": status, "moment": time.monotonic(),
                    **command.writing.written().to_message(),
                })  # fmt: skip

    def _written_at_last(self) -> Message:
        """All that the first command and its descendants wrote, of whom none is left."""
        if self._target is None:
            return {}
        while self._target.output >= 0:
            self._collect(self._target)
        return self._target.writing.written().to_message()

    def _stop(self, signal_number: int, grace: float) -> None:
        """Ask every child of pid 1 to end (an engine signals the container's first process only); wait *grace* seconds."""
        self._deadline = time.monotonic() + grace
        for entry in os.listdir("/proc"):
            if entry.isdigit() and _parent(entry) == 1:
                with suppress(ProcessLookupError):
                    os.kill(int(entry), signal_number)

    def _kill_all(self) -> None:
        self._killed = True
        self._deadline = time.monotonic() + 3600
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)


def _parent(pid: str) -> int:
    """The parent's pid from proc_pid_stat(5), 0 when the process is gone. The name in it may hold any byte."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
