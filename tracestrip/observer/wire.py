"""What goes over the socket between the pipeline and the observer: one JSON object a line.

File names are bytes that need not be UTF-8; JSON has text only. Each byte that is not UTF-8 travels as a lone surrogate
(PEP 383), which `text` and `raw` make and undo.
"""

import json
import socket
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]


def text(value: bytes) -> str:
    """Bytes as JSON can carry them."""
    return value.decode("utf-8", "surrogateescape")


def raw(value: str) -> bytes:
    """The bytes that `text` was given."""
    return value.encode("utf-8", "surrogateescape")


OWN_PROGRAM = b"tracestrip"

OUTPUT_TAIL = 1 << 16
"""Bytes of a command's output that are kept: the last ones."""


KINDS = frozenset({
    "executed", "interpreted", "opened", "listed", "checked", "readlink", "entered", "created", "linked", "renamed",
    "removed", "changed", "connected", "mounted", "watched",
})  # fmt: skip
"""How a file may be used."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the sandbox at the moment of a use."""

    pid: int
    """Its pid inside the sandbox."""
    program: bytes
    """The executable that it runs, as /proc/PID/exe names it; `OWN_PROGRAM` before it executes its first one."""


@dataclass(frozen=True, slots=True)
class Use:
    """One way in which one path was used; counted once, at its first time, for each file that it led to."""

    path: bytes
    """Absolute inside the sandbox, as it was asked for: symlinks and ".." are still in it."""
    kind: str
    """One of KINDS. *linked* and *renamed*: the file has another name later. *interpreted* is what the
    kernel opens for an executed file: its `#!` program, its ELF interpreter or that of binfmt_misc. *listed*: a directory
    whose entries were read; `path` is its own name then, however it was opened."""
    follow: bool
    """Whether a symlink in the last component was followed."""
    creates: bool
    """Whether the call may make the name: then its directory is needed even where the name is not there."""
    resolved: bytes | None
    """Where the path led at that time in the running sandbox, None where it led nowhere."""
    process: Process
    root: bytes = b"/"
    """The root directory of the lookup, as chroot(2) or RESOLVE_IN_ROOT set it: absolute symlinks lead there."""
    links: tuple[bytes, ...] = ()
    """The symlinks that were on the way at that time, by their own names."""
    moment: float = 0.0
    """Of its first time: seconds of CLOCK_MONOTONIC."""
    during: str = ""
    """What the target was being put through then, as `client.Sandbox.enter` was told; known when the run is over."""

    def to_message(self) -> Message:
        return {
            "path": text(self.path),
            "kind": self.kind,
            "follow": self.follow,
            "creates": self.creates,
            "resolved": None if self.resolved is None else text(self.resolved),
            "pid": self.process.pid,
            "program": text(self.process.program),
            "root": text(self.root),
            "links": [text(link) for link in self.links],
            "moment": self.moment,
            "during": self.during,
        }

    @classmethod
    def from_message(cls, message: Message) -> "Use":
        return cls(
            path=raw(message["path"]),
            kind=message["kind"],
            follow=message["follow"],
            creates=message["creates"],
            resolved=None if message["resolved"] is None else raw(message["resolved"]),
            process=Process(message["pid"], raw(message["program"])),
            root=raw(message["root"]),
            links=tuple(map(raw, message["links"])),
            moment=float(message["moment"]),
            during=str(message["during"]),
        )


@dataclass(frozen=True, slots=True)
class Observation:
    """All uses of one run; paths in the order of their first time."""

    uses: tuple[Use, ...]
    calls: int
    """How many calls named a file."""
    overflow: bool = False
    """Whether there were more than could be kept."""
    tracers: tuple[bytes, ...] = ()
    """Programs that tried to trace a process by themselves; they can't, since the observer does."""

    def united(self, later: "Observation") -> "Observation":
        """What was used in either run; of each use the first time."""
        known: dict[Any, Use] = {}
        for use in (*self.uses, *later.uses):
            known.setdefault((use.path, use.kind, use.follow, use.creates, use.resolved, use.root, use.links), use)
        calls, overflow = self.calls + later.calls, self.overflow or later.overflow
        return Observation(tuple(known.values()), calls, overflow, tuple(dict.fromkeys(self.tracers + later.tracers)))


class Channel:
    """A stream socket that carries messages. `receive` returns None at the end of the stream."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray()

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Message) -> None:
        """Raises OSError when the other side is gone."""
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> Message | None:
        """The next message; waits for it."""
        while not self.has_buffered():
            chunk = self._socket.recv(1 << 16)
            if not chunk:
                return None
            self._buffer += chunk
        line, _, rest = self._buffer.partition(b"\n")
        self._buffer = rest
        message: Message = json.loads(line)
        return message

    def has_buffered(self) -> bool:
        """Whether `receive` would answer without waiting."""
        return b"\n" in self._buffer

    def close(self) -> None:
        self._socket.close()
