"""Unix socket addresses in the memory of a process that binds, connects or sends: unix(7), sendmsg(2), sendmmsg(2)."""

import struct

from tracestrip.observer.memory import Memory
from tracestrip.observer.syscalls import AUDIT_ARCH_I386

_AF_UNIX = 1
_LONGEST = 110  # sizeof(struct sockaddr_un)
_MOST_MESSAGES = 1024  # UIO_MAXIOV

# Where `struct msghdr` has the address and its length, and how far apart those of `struct mmsghdr` are.
_WIDE = struct.Struct("=QI"), 64
_NARROW = struct.Struct("=II"), 32


def path_of(memory: Memory, pid: int, address: int, length: int) -> bytes:
    """The path of the `struct sockaddr` there; empty for abstract names and other families. Raises OSError."""
    if not address:
        return b""
    content = memory.read(pid, address, min(length, _LONGEST))
    if len(content) < 3 or struct.unpack_from("=H", content)[0] != _AF_UNIX:
        return b""
    return content[2:].partition(b"\0")[0]


def paths_of_messages(memory: Memory, pid: int, architecture: int, address: int, count: int) -> list[bytes]:
    """The paths that *count* message headers in a row are addressed to. Raises OSError."""
    layout, stride = _NARROW if architecture == AUDIT_ARCH_I386 else _WIDE
    found = []
    for index in range(min(count, _MOST_MESSAGES)):
        header = memory.read(pid, address + index * stride, layout.size)
        if len(header) == layout.size:
            found.append(path_of(memory, pid, *layout.unpack(header)))
    return found
