"""The memory of a process, as its calls point into it: proc_pid_mem(5).

A descriptor stays open for each process: process_vm_readv(2) by way of ctypes takes twice the time.
"""

import errno
import os

_MOST_DESCRIPTORS = 256
_PATH_MAX = 4096
_USUAL = 256
"""Nearly all names are shorter."""


class Memory:
    """Of all processes of the sandbox."""

    def __init__(self) -> None:
        self._descriptors: dict[int, int] = {}

    def read(self, pid: int, address: int, length: int) -> bytes:
        """At most *length* bytes, cut where nothing is mapped. Raises OSError where there is nothing at all."""
        if address >> 63:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        found = os.pread(self._descriptor(pid), length, address)
        if not found and length:  # the process has executed another program since
            self.forget(pid)
            found = os.pread(self._descriptor(pid), length, address)
        return found

    def string(self, pid: int, address: int) -> bytes:
        """The NUL-terminated string there, cut at PATH_MAX. Raises OSError where it doesn't end before its memory does."""
        descriptor = self._descriptors.get(pid)
        if descriptor is None or address >> 63:
            found = self.read(pid, address, _USUAL)
        else:
            found = os.pread(descriptor, _USUAL, address) or self.read(pid, address, _USUAL)
        while (end := found.find(b"\0")) < 0 and len(found) < _PATH_MAX:
            more = self.read(pid, address + len(found), _PATH_MAX - len(found))
            if not more:
                raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
            found += more
        return found[:end] if end >= 0 else found

    def forget(self, pid: int) -> None:
        """The process is about to have another memory, or has ended."""
        descriptor = self._descriptors.pop(pid, None)
        if descriptor is not None:
            os.close(descriptor)

    def _descriptor(self, pid: int) -> int:
        descriptor = self._descriptors.get(pid)
        if descriptor is None:
            if len(self._descriptors) >= _MOST_DESCRIPTORS:
                for other in list(self._descriptors):
                    self.forget(other)
            descriptor = self._descriptors[pid] = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        return descriptor
