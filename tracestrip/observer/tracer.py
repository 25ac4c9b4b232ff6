"""The tracer: follows every process of the sandbox and hands on the calls that name a file or list a directory.

ptrace(2) holds the tree of processes: pid 1 of the sandbox is seized before it does anything; whatever descends from it is a
tracee from its first instruction (PTRACE_O_TRACEFORK and its kin), and dies with the tracer (PTRACE_O_EXITKILL). The calls
themselves come as notifications of a seccomp filter, which cost a fraction of a ptrace stop.
"""

import os
import traceback
from contextlib import suppress
from threading import Lock, Thread

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
        ptrace(_PTRACE_SEIZE, init, 0, _OPTIONS)
        self._init = init
        self._recorder = Recorder(init)
        self._made: dict[int, Notification] = {}
        """The last call of each thread that was let go."""
        self._turn = Lock()
        self._over = False

    def run(self, listener: Listener | None) -> Observation:
        """Until no tracee is left. *listener*: of the filter that all tracees have; None when none is observed."""
        if listener is not None:
            Thread(target=self._serve, args=(listener,), daemon=True).start()
        while True:
            try:
                pid, status = os.waitpid(-1, _WALL)
            except ChildProcessError:
                with self._turn:
                    self._over = True
                    return self._recorder.observation()
            # A tracee may be killed at any moment: then every request answers ESRCH, and its end is waited for.
            with self._turn, suppress(PtraceError, ProcessLookupError):
                if os.WIFSTOPPED(status):
                    self._let_go_on(pid, os.WSTOPSIG(status), status >> 16)
                else:
                    self._recorder.ended(pid)
                    self._made.pop(pid, None)

    def _serve(self, listener: Listener) -> None:
        """Hand on the calls as they come, in a thread of its own: to await them and stops in one place costs a poll(2) each."""
        try:
            while not self._over:
                call = listener.receive()
                if call is not None:
                    with self._turn:
                        if call.pid != self._init:
                            self._recorder.call(call)
                        self._made[call.pid] = call
                    listener.let_go(call)
        except BaseException:
            traceback.print_exc()
            os._exit(1)  # all tracees would wait for ever; so they end with this process

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
