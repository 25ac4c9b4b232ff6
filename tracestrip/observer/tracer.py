"""The tracer: follows every process of the sandbox and writes down the files that they name.

ptrace(2). Pid 1 of the sandbox is seized before it does anything; whatever descends from it is a tracee from its first
instruction (PTRACE_O_TRACEFORK and its kin), and dies with the tracer (PTRACE_O_EXITKILL). A tracee stops at the calls of
the seccomp filter and goes on at once: there are no stops at a call's return, since whether the name exists is the
image's to say.
"""

import ctypes
import os
import struct
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

from tracestrip.observer import linux, paths
from tracestrip.observer.interpreters import HEAD, interpreters
from tracestrip.observer.seccomp import architectures
from tracestrip.observer.syscalls import PathArgument, calls_of
from tracestrip.observer.wire import Observation, Process, Use

# python-ptrace 0.9.9 lacks these.
_PTRACE_SEIZE = 0x4206
_PTRACE_LISTEN = 0x4208
_PTRACE_GET_SYSCALL_INFO = 0x420E
_PTRACE_EVENT_SECCOMP = 7
_PTRACE_EVENT_STOP = 128
_PTRACE_O_TRACESECCOMP = 0x80
_PTRACE_O_EXITKILL = 0x100000
_WALL = 0x40000000

_SIGTRAP = 5

_AT_SYMLINK_NOFOLLOW = 0x100
_AT_SYMLINK_FOLLOW = 0x400
_IN_DONT_FOLLOW = 0x02000000
_RESOLVE_IN_ROOT = 0x10
_SOCKADDR_UN = 110
_AF_UNIX = 1

_OPTIONS = (
    PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC
    | _PTRACE_O_TRACESECCOMP | _PTRACE_O_EXITKILL
)  # fmt: skip


class Tracer:
    """Follows pid 1 of a sandbox and all its descendants to their end."""

    def __init__(self, init: int) -> None:
        """Seize *init*, a process of this pid namespace. Raises PtraceError."""
        ptrace(_PTRACE_SEIZE, init, 0, _OPTIONS)
        self._init = init
        self._calls = {architecture: calls_of(architecture) for architecture in architectures()}
        self._info = ctypes.create_string_buffer(88)
        self._ways: dict[tuple[bytes, str, bool, bool], dict[bytes | None, Use]] = {}
        self._processes: dict[int, Process] = {}
        self._stops = 0

    def run(self) -> Observation:
        """Until no tracee is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, _WALL)
            except ChildProcessError:
                uses = (use for ways in self._ways.values() for use in ways.values())
                return Observation(tuple(uses), self._stops)
            if not os.WIFSTOPPED(status):
                self._processes.pop(pid, None)
                continue
            # A tracee may be killed at any moment: then every request answers ESRCH, and its end is waited for.
            with suppress(PtraceError, ProcessLookupError):
                self._answer(pid, os.WSTOPSIG(status), status >> 16)

    def _answer(self, pid: int, signal_number: int, event: int) -> None:
        """Look at one stop and let the tracee go on."""
        if event == _PTRACE_EVENT_SECCOMP:
            self._stops += 1
            try:
                self._observe_call(pid)
            finally:
                ptrace_cont(pid)
        elif event == _PTRACE_EVENT_STOP and signal_number != _SIGTRAP:
            ptrace(_PTRACE_LISTEN, pid)  # group-stop: it stays stopped until SIGCONT
        elif event:
            if event == PTRACE_EVENT_EXEC:
                self._processes.pop(pid, None)
            ptrace_cont(pid)
        else:
            ptrace_cont(pid, 0 if pid == self._init else signal_number)

    def _observe_call(self, pid: int) -> None:
        ptrace(_PTRACE_GET_SYSCALL_INFO, pid, len(self._info), ctypes.addressof(self._info))
        (architecture,) = struct.unpack_from("=I", self._info, 4)
        number, *arguments = struct.unpack_from("=7Q", self._info, 24)
        call = self._calls[architecture].get(number)
        for argument in call.paths if call else ():  # none: a filter of the target's own asked for the stop
            # A path that cannot be read or has no file behind it is the tracee's own fault: its call fails too.
            with suppress(OSError):
                self._observe_path(pid, argument, arguments)

    def _observe_path(self, pid: int, argument: PathArgument, arguments: list[int]) -> None:
        if argument.is_socket:
            path = _socket_path(pid, arguments[argument.address], arguments[argument.address + 1])
        else:
            path = linux.read_string(pid, arguments[argument.address])
        if not path and argument.kind != "executed":
            return  # the descriptor's own file (AT_EMPTY_PATH), which its open told of; or no file at all
        follow, creates, in_directory = _lookup(pid, argument, arguments)
        directory = None if argument.directory is None else arguments[argument.directory]
        asked = paths.absolute(pid, path, directory, in_directory=in_directory)
        if asked is not None:
            self._note(pid, asked, argument.kind, follow, creates)

    def _note(self, pid: int, asked: bytes, kind: str, follow: bool, creates: bool = False) -> None:
        key = (asked, kind, follow, creates)
        ways = self._ways.setdefault(key, {})
        if asked in ways:
            return  # no symlink on the way; all others may lead elsewhere the next time
        resolved = paths.lead(pid, asked, follow=follow)
        if resolved in ways:
            return
        ways[resolved] = Use(asked, kind, follow, creates, resolved, self._process(pid))
        if kind == "executed" and resolved is not None:
            self._note_interpreters(pid, resolved)

    def _note_interpreters(self, pid: int, executed: bytes) -> None:
        def read_head(path: bytes) -> bytes | None:
            try:
                descriptor = paths.open_inside(pid, absolute(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
            except OSError:
                return None
            with open(descriptor, "rb") as file:
                return file.read(HEAD)

        def absolute(path: bytes) -> bytes:
            return paths.absolute(pid, path, None) or path

        head = read_head(executed)
        for interpreter in interpreters(head or b"", read_head):
            self._note(pid, absolute(interpreter), "interpreted", follow=True)

    def _process(self, pid: int) -> Process:
        if pid not in self._processes:
            self._processes[pid] = _describe(pid)
        return self._processes[pid]


def _describe(pid: int) -> Process:
    """A dying process has no program any more, but what it named counts."""
    inside, program = 0, b""
    with suppress(OSError):
        with open(f"/proc/{pid}/status", "rb") as file:
            fields = dict(line.split(b":", 1) for line in file.read().splitlines() if b":" in line)
        inside = int(fields[b"NSpid"].split()[-1])
        program = os.readlink(b"/proc/%d/exe" % pid)
    return Process(inside, program)


def _lookup(pid: int, argument: PathArgument, arguments: list[int]) -> tuple[bool, bool, bool]:
    """(last symlink followed, name may be created, absolute paths stay below the directory)."""
    creates, in_directory = argument.kind == "created", False
    flags = arguments[argument.follow_argument]
    match argument.follow:
        case "yes":
            follow = True
        case "no":
            follow = False
        case "creat":
            follow = creates = True
        case "at":
            follow = not flags & _AT_SYMLINK_NOFOLLOW
        case "atfollow":
            follow = bool(flags & _AT_SYMLINK_FOLLOW)
        case "watch":
            follow = not flags & _IN_DONT_FOLLOW
        case _:
            if argument.follow == "how":
                how = linux.read_memory(pid, flags, 24)
                flags, _, resolve = struct.unpack("=3Q", how.ljust(24, b"\0"))
                in_directory = bool(resolve & _RESOLVE_IN_ROOT)
            creates = bool(flags & os.O_CREAT)
            follow = not flags & os.O_NOFOLLOW and not (creates and flags & os.O_EXCL)
    return follow, creates, in_directory


def _socket_path(pid: int, address: int, length: int) -> bytes:
    """The path of a `struct sockaddr_un` (unix(7)); empty for abstract names and other families."""
    content = linux.read_memory(pid, address, min(length, _SOCKADDR_UN))
    if len(content) < 3 or struct.unpack_from("=H", content)[0] != _AF_UNIX:
        return b""
    return content[2:].partition(b"\0")[0]
