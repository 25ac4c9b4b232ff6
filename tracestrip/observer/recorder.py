"""The recorder: from calls that name a file, or list a directory, to uses of files.

Only the entry of a call is seen, not its result: whether the name exists is the image's to say.
"""

import ctypes
import os
import stat
import time
from contextlib import suppress

from tracestrip.observer import paths
from tracestrip.observer.arguments import Named, named, unfolded, with_path
from tracestrip.observer.interpreters import HEAD, interpreters
from tracestrip.observer.memory import Memory
from tracestrip.observer.notifications import Notification
from tracestrip.observer.paths import Home, Led, View
from tracestrip.observer.seccomp import architectures
from tracestrip.observer.syscalls import Call, calls_of
from tracestrip.observer.wire import OWN_PROGRAM, Observation, Process, Use

_Way = tuple[bytes, bytes, str, bool, bool]
"""path, root, kind, follow and creates of a `Use`."""


_MOST_MEMORY = 1 << 30
_USE_MEMORY = 1500
"""Bytes that uses may take, estimated; and those of one, beside its path."""


class Recorder:
    """Grows by calls; memory is for different paths, not for their number."""

    def __init__(self, init: int) -> None:
        """*init*: pid 1 of the sandbox."""
        self._init = init
        self._home: Home | None = None  # once the sandbox's root is its own
        self._calls = {architecture: calls_of(architecture) for architecture in architectures()}
        self._names = {key: {call.name: call for call in calls.values()} for key, calls in self._calls.items()}
        self._uses: dict[_Way, dict[Led, Use]] = {}
        self._programs: set[bytes] = set()
        self._processes: dict[int, Process] = {}
        self._tracers: dict[bytes, None] = {}
        self._count = 0
        self._memory = Memory()
        self._room = _MOST_MEMORY
        # What needs no second look as long as names stay where they are: ways, and calls with an absolute path.
        self._settled: set[_Way] = set()
        self._settled_calls: set[tuple[int, int, int, bytes]] = set()
        self._directories: set[bytes] = set()  # that are no symlinks
        self._movers: set[int] = set()  # threads in a call that moves names; it is over when the thread makes another one
        self._rooted = self._mounted = False  # whether any process may have a root, or mounts, of its own

    def call(self, notification: Notification) -> None:
        """Note the files that a call names, while its caller waits."""
        self._count += 1
        _, pid, architecture, number, arguments = notification
        call = self._calls[architecture][number]
        if self._movers:
            self._movers.discard(pid)
        if call.plain is None:
            self._observe_call(notification, call)
            return
        try:
            path = self._memory.string(pid, arguments[call.plain.address])
            flags = 0 if call.plain.follow_argument is None else arguments[call.plain.follow_argument]
            key = (architecture, number, flags, path)
            if key in self._settled_calls:
                return
            name = with_path(self._memory, notification, call.plain, path)
            if self._observe(pid, name) and path.startswith(b"/") and not self._rooted:
                self._settled_calls.add(key)
        except OSError:
            pass  # a path that cannot be read or has no file behind it is the caller's own fault: its call fails too

    def knows(self, call: Notification) -> bool:
        """Whether it is one that `call` would be told of."""
        return call.number in self._calls[call.architecture]

    def may_wait(self, notification: Notification) -> bool:
        """Whether the call itself may wait for another process, and a signal end it: signal(7)."""
        call = self._calls[notification.architecture][notification.number]
        if not call.paths or call.paths[0].kind != "opened":
            return not call.paths or call.paths[0].kind in ("connected", "mounted")
        with suppress(OSError), self._view(notification.pid) as view:
            for name in named(self._memory, notification, call.paths[0]):
                return view.is_special(*self._placed(notification.pid, name))
        return False

    def executed(self, pid: int) -> None:
        """Note what the kernel chose to run: after a successful exec, for what no call and no `#!` line named.

        That is the interpreter of binfmt_misc, and the ELF interpreter of a program without a name (memfd_create(2)).
        """
        self._processes.pop(pid, None)
        self._memory.forget(pid)
        with suppress(OSError):
            program = os.readlink(f"/proc/{pid}/exe".encode())
            if program not in self._programs:
                root = self._root(pid)
                with self._view(pid) as view:
                    self._note(view, pid, (program, root, "interpreted", True, False))
                    with open(f"/proc/{pid}/exe", "rb") as file:
                        self._note_interpreters(view, pid, file.read(HEAD), root)

    def ended(self, pid: int) -> None:
        """*pid* may be another process's soon."""
        self._processes.pop(pid, None)
        self._memory.forget(pid)
        self._movers.discard(pid)

    def observation(self) -> Observation:
        """All that was noted."""
        uses = (use for ways in self._uses.values() for use in ways.values())
        return Observation(tuple(uses), self._count, self._room <= 0, tuple(self._tracers))

    def _observe_call(self, notification: Notification, call: Call) -> None:
        pid = notification.pid
        if call.name == "socketcall":
            with suppress(OSError):
                notification, call = unfolded(self._memory, notification, self._names[notification.architecture])
        for argument in call.paths:
            with suppress(OSError):
                for name in named(self._memory, notification, argument):
                    self._observe(pid, name)
            if argument.kind == "executed":
                self._memory.forget(pid)
                if argument.directory is not None:
                    self._note_nameless(pid, notification.arguments[argument.directory])
        if call.moves_names:
            self._movers.add(pid)
            self._settled.clear()
            self._settled_calls.clear()
            self._directories.clear()
            self._mounted = self._mounted or call.mounts
        if call.name in ("chroot", "pivot_root"):
            self._rooted = True
            self._settled_calls.clear()
        if call.name == "ptrace":
            self._tracers[self._process(pid).program] = None

    def _observe(self, pid: int, name: Named) -> bool:
        """Whether it needs no second look, as long as no name is moved."""
        if not name.path and name.kind not in ("executed", "listed"):
            return False  # the descriptor's own file (AT_EMPTY_PATH), which its open told of; or no file at all
        way = (*self._placed(pid, name), name.kind, name.follow, name.creates)
        if way not in self._settled:
            with self._view(pid) as view:
                self._note(view, pid, way)
        return way in self._settled

    def _placed(self, pid: int, name: Named) -> tuple[bytes, bytes]:
        """(absolute path, root of the lookup). Raises OSError where it is relative to no directory."""
        root = self._root(pid)
        if name.path.startswith(b"/") and not name.in_directory:
            return paths.below(root, name.path) if root != b"/" else name.path, root
        directory = paths.directory_of(pid, name.directory)
        return paths.below(directory, name.path), directory if name.in_directory else root

    def _note(self, view: View, pid: int, way: _Way) -> None:
        if self._room <= 0:
            return
        path, root, kind, follow, creates = way
        led = view.lead(path, root, follow=follow)
        if kind == "listed" and led.end is None:
            return  # it has been removed since it was opened: proc_pid_fd(5) names it "… (deleted)", which is no name
        ways = self._uses.setdefault(way, {})
        if led.lasting and not self._movers and not self._mounted:
            self._settled.add(way)
        if led in ways:
            return
        self._room -= _USE_MEMORY + 3 * len(path)
        ways[led] = Use(path, kind, follow, creates, led.end, self._process(pid), root, led.links, time.monotonic())
        if led.end is not None and kind in ("executed", "interpreted"):
            self._programs.add(led.end)
            if kind == "executed":
                self._note_interpreters(view, pid, view.read(path, root, HEAD), root)

    def _note_interpreters(self, view: View, pid: int, head: bytes, root: bytes) -> None:
        def absolute(path: bytes) -> bytes:
            return paths.below(root if path.startswith(b"/") else paths.directory_of(pid, None), path)

        for interpreter in interpreters(head, lambda path: view.read(absolute(path), root, HEAD)):
            self._note(view, pid, (absolute(interpreter), root, "interpreted", True, False))

    def _note_nameless(self, pid: int, descriptor: int) -> None:
        """What a program needs that is executed by a descriptor; it may have no name (memfd_create(2))."""
        path = f"/proc/{pid}/fd/{ctypes.c_int(descriptor).value}"
        with suppress(OSError):
            if stat.S_ISREG(os.stat(path).st_mode):
                with open(path, "rb") as file, self._view(pid) as view:
                    self._note_interpreters(view, pid, file.read(HEAD), self._root(pid))

    def _root(self, pid: int) -> bytes:
        return paths.root_of(pid) if self._rooted else b"/"

    def _view(self, pid: int) -> View:
        lasting = not (self._movers or self._rooted or self._mounted)
        directories = self._directories if lasting else set()
        self._home = self._home or Home.of(self._init)
        return View(pid, self._home, directories, rooted=self._rooted, mounted=self._mounted)

    def _process(self, pid: int) -> Process:
        if pid not in self._processes:
            self._processes[pid] = _describe(pid)
        return self._processes[pid]


def _describe(pid: int) -> Process:
    """A dying process has no program any more, but what it named counts."""
    inside, program = 0, b""
    with suppress(OSError):
        inside = paths.own_numbers(pid)[0]
        program = os.readlink(f"/proc/{pid}/exe".encode())
        if os.path.samefile(f"/proc/{pid}/exe", "/proc/self/exe"):
            program = OWN_PROGRAM
    return Process(inside, program)
