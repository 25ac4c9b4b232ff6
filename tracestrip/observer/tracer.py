"""The tracer: follows every process of the sandbox and hands on the calls that name a file.

ptrace(2) holds the tree of processes: pid 1 of the sandbox is seized before it does anything; whatever descends from it is a
tracee from its first instruction (PTRACE_O_TRACEFORK and its kin), and dies with the tracer (PTRACE_O_EXITKILL). The calls
themselves come as notifications of a seccomp filter, which cost a fraction of a ptrace stop.
"""

import os
import select
import signal
from contextlib import suppress

from ptrace import PtraceError
from ptrace.binding.func import (
    PTRACE_EVENT_EXEC,
    PTRACE_O_TRACECLONE,
    PTRACE_O_TRACEEXEC,
    PTRACE_O_TRACEFORK,
    PTRACE_O_TRACEVFORK,
    ptrace,
    ptrace_cont,
)

from tracestrip.observer import linux
from tracestrip.observer.interrupted import interrupted_call, restart
from tracestrip.observer.notifications import Listener, Notification
from tracestrip.observer.recorder import Recorder
from tracestrip.observer.wire import Observation

# python-ptrace 0.9.9 lacks these.
_PTRACE_SEIZE = 0x4206
_PTRACE_LISTEN = 0x4208
_PTRACE_EVENT_STOP = 128
_PTRACE_O_EXITKILL = 0x100000
_WALL = 0x40000000

_SIGTRAP = 5

_OPTIONS = (
    PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | _PTRACE_O_EXITKILL
)  # fmt: skip


class Tracer:
    """Follows pid 1 of a sandbox and all its descendants to their end."""

    def __init__(self, init: int) -> None:
        """Seize *init*, a child of this process. Raises PtraceError."""
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        self._child_signals = linux.signal_descriptor(signal.SIGCHLD)
        ptrace(_PTRACE_SEIZE, init, 0, _OPTIONS)
        self._init = init
        self._recorder = Recorder(init)
        self._made: dict[int, Notification] = {}
        """The last call of each thread that was let go."""

    def run(self, listener: Listener | None) -> Observation:
        """Until no tracee is left. *listener*: of the filter that all tracees have; None when none is observed."""
        ready = select.poll()
        ready.register(self._child_signals, select.POLLIN)
        if listener is not None:
            ready.register(listener, select.POLLIN)
        while True:
            for descriptor, events in ready.poll():
                if descriptor == self._child_signals:
                    os.read(descriptor, 1 << 12)
                    if not self._follow():
                        return self._recorder.observation()
                elif listener is not None and events & select.POLLIN:
                    self._hand_on(listener)
                else:
                    ready.unregister(descriptor)  # no process has the filter any more

    def _hand_on(self, listener: Listener) -> None:
        call = listener.receive()
        if call is None:
            return
        try:
            if call.pid != self._init:
                self._recorder.call(call)
        finally:
            self._made[call.pid] = call
            listener.let_go(call)

    def _follow(self) -> bool:
        """Take the stops and ends that are there; False when no tracee is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, _WALL | os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if not os.WIFSTOPPED(status):
                self._recorder.ended(pid)
                self._made.pop(pid, None)
                continue
            # A tracee may be killed at any moment: then every request answers ESRCH, and its end is waited for.
            with suppress(PtraceError, ProcessLookupError):
                self._let_go_on(pid, os.WSTOPSIG(status), status >> 16)

    def _let_go_on(self, pid: int, signal_number: int, event: int) -> None:
        if event == _PTRACE_EVENT_STOP and signal_number != _SIGTRAP:
            ptrace(_PTRACE_LISTEN, pid)  # group-stop: it stays stopped until SIGCONT
        elif event:
            if event == PTRACE_EVENT_EXEC:
                self._recorder.executed(pid)
            ptrace_cont(pid)
        else:
            self._restart_if_untold(pid)
            ptrace_cont(pid, 0 if pid == self._init else signal_number)

    def _restart_if_untold(self, pid: int) -> None:
        call = interrupted_call(pid)
        if call is None or not self._recorder.knows(call):
            return
        made = self._made.get(pid)
        if made is None or made[2:] != call[2:] or not self._recorder.may_wait(call):
            restart(pid)
