"""The recorder: from calls that name a file to uses of files.

Only the entry of a call is seen, not its result: whether the name exists is the image's to say.
"""

import os
import struct
from contextlib import suppress

from tracestrip.observer import linux, paths
from tracestrip.observer.interpreters import HEAD, interpreters
from tracestrip.observer.notifications import Notification
from tracestrip.observer.seccomp import architectures
from tracestrip.observer.syscalls import PathArgument, calls_of
from tracestrip.observer.wire import Observation, Process, Use

_AT_SYMLINK_NOFOLLOW = 0x100
_AT_SYMLINK_FOLLOW = 0x400
_IN_DONT_FOLLOW = 0x02000000
_RESOLVE_IN_ROOT = 0x10
_SOCKADDR_UN = 110
_AF_UNIX = 1


class Recorder:
    """Grows by calls; memory is for different paths, not for their number."""

    def __init__(self) -> None:
        self._calls = {architecture: calls_of(architecture) for architecture in architectures()}
        self._ways: dict[tuple[bytes, str, bool, bool], dict[bytes | None, Use]] = {}
        self._programs: set[bytes] = set()
        self._processes: dict[int, Process] = {}
        self._count = 0

    def call(self, notification: Notification) -> None:
        """Note the files that a call names, while its caller waits."""
        self._count += 1
        for argument in self._calls[notification.architecture][notification.number].paths:
            # A path that cannot be read or has no file behind it is the caller's own fault: its call fails too.
            with suppress(OSError):
                self._observe_path(notification.pid, argument, notification.arguments)

    def executed(self, pid: int) -> None:
        """Note what the kernel chose to run: after a successful exec, for what no call and no `#!` line named.

        That is the interpreter of binfmt_misc, and the ELF interpreter of a program without a name (memfd_create(2)).
        """
        self._processes.pop(pid, None)
        with suppress(OSError):
            program = os.readlink(b"/proc/%d/exe" % pid)
            if program not in self._programs:
                self._note(pid, program, "interpreted", follow=True)
                with open(f"/proc/{pid}/exe", "rb") as file:
                    self._note_interpreters(pid, file.read(HEAD))

    def ended(self, pid: int) -> None:
        """*pid* may be another process's soon."""
        self._processes.pop(pid, None)

    def observation(self) -> Observation:
        """All that was noted."""
        return Observation(tuple(use for ways in self._ways.values() for use in ways.values()), self._count)

    def _observe_path(self, pid: int, argument: PathArgument, arguments: tuple[int, ...]) -> None:
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
        if resolved is not None and kind in ("executed", "interpreted"):
            self._programs.add(resolved)
        if kind == "executed" and resolved is not None:
            self._note_interpreters(pid, _read_head(pid, resolved) or b"")

    def _note_interpreters(self, pid: int, head: bytes) -> None:
        def absolute(path: bytes) -> bytes:
            return paths.absolute(pid, path, None) or path

        for interpreter in interpreters(head, lambda path: _read_head(pid, absolute(path))):
            self._note(pid, absolute(interpreter), "interpreted", follow=True)

    def _process(self, pid: int) -> Process:
        if pid not in self._processes:
            self._processes[pid] = _describe(pid)
        return self._processes[pid]


def _read_head(pid: int, path: bytes) -> bytes | None:
    try:
        descriptor = paths.open_inside(pid, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        return file.read(HEAD)


def _describe(pid: int) -> Process:
    """A dying process has no program any more, but what it named counts."""
    inside, program = 0, b""
    with suppress(OSError):
        with open(f"/proc/{pid}/status", "rb") as file:
            fields = dict(line.split(b":", 1) for line in file.read().splitlines() if b":" in line)
        inside = int(fields[b"NSpid"].split()[-1])
        program = os.readlink(b"/proc/%d/exe" % pid)
    return Process(inside, program)


def _lookup(pid: int, argument: PathArgument, arguments: tuple[int, ...]) -> tuple[bool, bool, bool]:
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
