"""Classic BPF programs of seccomp: taken from a process, and asked for their verdict."""

import ctypes
import os
import struct
from pathlib import Path

from ptrace.binding.func import ptrace, ptrace_detach

_SEIZE, _INTERRUPT, _GET_FILTER = 0x4206, 0x4207, 0x420C
_ALLOWED = 0x7FFF0000


def filters_of(pid: int) -> list[bytes]:
    """The programs that process *pid* has, the newest first: PTRACE_SECCOMP_GET_FILTER of ptrace(2)."""
    ptrace(_SEIZE, pid)
    try:
        ptrace(_INTERRUPT, pid)
        os.waitpid(pid, 0x40000000)
        count = Path(f"/proc/{pid}/status").read_text().partition("Seccomp_filters:")[2].split()[0]
        return [_filter(pid, index) for index in range(int(count))]
    finally:
        ptrace_detach(pid)


def _filter(pid: int, index: int) -> bytes:
    length = ptrace(_GET_FILTER, pid, index, 0)
    buffer = ctypes.create_string_buffer(length * 8)
    ptrace(_GET_FILTER, pid, index, ctypes.addressof(buffer))
    return buffer.raw


def verdict(program: bytes, architecture: int, number: int, arguments: tuple[int, ...]) -> str:
    """allowed, or the errno that the call is answered with, by name."""
    data = struct.pack("=iIQ6Q", number, architecture, 0, *arguments)
    action = _run(list(struct.iter_unpack("=HBBI", program)), data)
    if action == _ALLOWED:
        return "allowed"
    return {1: "EPERM", 38: "ENOSYS"}[action & 0xFFFF] if action >> 16 == 5 else f"{action:#x}"


def _run(program: list[tuple[int, int, int, int]], data: bytes) -> int:
    at = accumulator = 0
    while True:
        code, if_true, if_false, value = program[at]
        at += 1
        match code:
            case 0x20:  # load
                (accumulator,) = struct.unpack_from("=I", data, value)
            case 0x54:  # and
                accumulator &= value
            case 0x05:  # jump
                at += value
            case 0x15 | 0x25 | 0x35 | 0x45:
                holds = {0x15: accumulator == value, 0x25: accumulator > value, 0x35: accumulator >= value}
                at += if_true if holds.get(code, bool(accumulator & value)) else if_false
            case 0x06:
                return value
            case _:
                raise NotImplementedError(hex(code))
