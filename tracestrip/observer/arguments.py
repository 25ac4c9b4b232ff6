"""From the raw arguments of a call to the paths that it names."""

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from tracestrip.observer.addresses import path_of, paths_of_messages
from tracestrip.observer.memory import Memory
from tracestrip.observer.notifications import Notification
from tracestrip.observer.syscalls import SOCKETCALL, Call, PathArgument

_AT_SYMLINK_NOFOLLOW = 0x100
_AT_SYMLINK_FOLLOW = 0x400
_IN_DONT_FOLLOW = 0x02000000
_RESOLVE_IN_ROOT = 0x10
_NEGATIVE = 1 << 31
"""Sign of a descriptor: AT_FDCWD stands for a directory only where a path is relative to it."""
_FSCONFIG_SET_STRING, _FSCONFIG_SET_PATH, _FSCONFIG_SET_PATH_EMPTY = 1, 3, 4


class Named(NamedTuple):
    """A path as a call names it."""

    path: bytes
    """Empty for the descriptor's own file."""
    kind: str
    directory: int | None
    """The descriptor that it is relative to, None for the working directory."""
    follow: bool
    """A symlink in the last component is followed."""
    creates: bool
    """The name may be made."""
    in_directory: bool
    """The directory is the root of the lookup (RESOLVE_IN_ROOT)."""


def named(memory: Memory, notification: Notification, argument: PathArgument) -> Iterator[Named]:
    """The path of one argument, or several of an array. Raises OSError for a pointer to nowhere: the call fails too."""
    pid, arguments = notification.pid, notification.arguments
    address = arguments[argument.address]
    if argument.form == "f":
        if not address & _NEGATIVE:
            yield Named(b"", argument.kind, address, follow=False, creates=False, in_directory=False)
        return
    if argument.form == "p":
        path = memory.string(pid, address)
        if argument.follow == "config" and not _is_path(arguments[argument.follow_argument or 0], path):
            return
        yield with_path(memory, notification, argument, path)
        return
    if argument.form == "s":
        paths = [path_of(memory, pid, address, arguments[argument.address + 1] & 0xFFFFFFFF)]
    else:
        count = arguments[argument.address + 1] & 0xFFFFFFFF if argument.form == "v" else 1
        paths = paths_of_messages(memory, pid, notification.architecture, address, count)
    for path in filter(None, paths):
        yield Named(path, argument.kind, None, argument.follow == "yes", argument.kind == "created", in_directory=False)


def with_path(memory: Memory, notification: Notification, argument: PathArgument, path: bytes) -> Named:
    """As `named`, of a string that has been read already."""
    arguments = notification.arguments
    directory = None if argument.directory is None else arguments[argument.directory]
    return Named(path, argument.kind, directory, *_lookup(memory, notification.pid, argument, arguments))


def unfolded(memory: Memory, notification: Notification, calls: dict[str, Call]) -> tuple[Notification, Call]:
    """The call that a socketcall(2) stands for. *calls*: the architecture's, by name. Raises OSError."""
    content = memory.read(notification.pid, notification.arguments[1], 24)
    call = calls[SOCKETCALL[notification.arguments[0] & 0xFFFFFFFF]]
    return notification._replace(arguments=struct.unpack("=6I", content.ljust(24, b"\0"))), call


def _is_path(command: int, value: bytes) -> bool:
    """Whether fsconfig(2) takes *value* for a path. A string may be one (`source`), of a device or a directory."""
    if command == _FSCONFIG_SET_STRING:
        return value.startswith(b"/")
    return command in (_FSCONFIG_SET_PATH, _FSCONFIG_SET_PATH_EMPTY)


def _lookup(memory: Memory, pid: int, argument: PathArgument, arguments: tuple[int, ...]) -> tuple[bool, bool, bool]:
    """(follow, creates, in_directory) of `Named`."""
    creates, in_directory = argument.kind == "created", False
    flags = 0 if argument.follow_argument is None else arguments[argument.follow_argument]
    match argument.follow:
        case "yes" | "config":
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
                how = memory.read(pid, flags, 24)
                flags, _, resolve = struct.unpack("=3Q", how.ljust(24, b"\0"))
                in_directory = bool(resolve & _RESOLVE_IN_ROOT)
            creates = bool(flags & os.O_CREAT)
            follow = not flags & os.O_NOFOLLOW and not (creates and flags & os.O_EXCL)
    return follow, creates, in_directory
