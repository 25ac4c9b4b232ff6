"""The calls that name a file or list a directory, as the seccomp filter tells of them: seccomp_unotify(2).

The caller waits until it is answered. The answer is always that the call goes on as it is: what a target may do is the
sandbox's to say, not the observer's.
"""

import errno
import fcntl
import struct
from contextlib import suppress
from typing import NamedTuple

_RECEIVE = 0xC0502100  # SECCOMP_IOCTL_NOTIF_RECV
_SEND = 0xC0182101  # SECCOMP_IOCTL_NOTIF_SEND
_SET_FLAGS = 0x40082104  # SECCOMP_IOCTL_NOTIF_SET_FLAGS
_SYNC_WAKE_UP = 1
_CONTINUE = 1

_NOTIFICATION = struct.Struct("=QI4xiI8x6Q")  # id, pid, flags, then struct seccomp_data: number, architecture, ip, arguments
_ANSWER = struct.Struct("=QqiI")
_EMPTY = bytes(_NOTIFICATION.size)


class Notification(NamedTuple):
    """A call that waits."""

    identity: int
    pid: int
    """Thread ID of the caller, in the pid namespace of the observer."""
    architecture: int
    """AUDIT_ARCH_*."""
    number: int
    arguments: tuple[int, ...]


class Listener:
    """The notifications of one filter; `fileno` is for poll(2)."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        # Caller and observer take turns: waking each other on the CPU that they are on spares the other one's wake-up,
        # which costs five times the rest. Linux 6.6; before that it is slower.
        with suppress(OSError):
            fcntl.ioctl(descriptor, _SET_FLAGS, _SYNC_WAKE_UP)

    def fileno(self) -> int:
        return self._descriptor

    def receive(self) -> Notification | None:
        """The next call that waits, None where it has gone away meanwhile."""
        try:
            content = fcntl.ioctl(self._descriptor, _RECEIVE, _EMPTY)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return None
            raise
        fields = _NOTIFICATION.unpack(content)
        return Notification(fields[0], fields[1], fields[3], fields[2], fields[4:])

    def let_go(self, notification: Notification) -> None:
        """The call goes on. The caller may be dead by now."""
        try:
            fcntl.ioctl(self._descriptor, _SEND, _ANSWER.pack(notification.identity, 0, 0, _CONTINUE))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
