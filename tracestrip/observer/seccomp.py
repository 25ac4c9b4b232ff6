"""The seccomp filter: a notification for every call that names a file, full speed for all the others.

seccomp(2) and Documentation/userspace-api/seccomp_filter.rst. The verdict depends on the architecture and the number only
(but for three calls), so that the kernel can keep a bitmap of the calls that are always allowed (Linux 5.11).
"""

import errno
import os
import struct
from collections.abc import Iterable

from tracestrip.observer.syscalls import (
    AUDIT_ARCH_AARCH64,
    AUDIT_ARCH_I386,
    AUDIT_ARCH_X86_64,
    IO_URING_SETUP,
    PTRACE_BEGINNINGS,
    SOCKETCALL,
    Call,
    calls_of,
)

NATIVE = {
    "x86_64": (AUDIT_ARCH_X86_64, AUDIT_ARCH_I386),
    "aarch64": (AUDIT_ARCH_AARCH64,),
}
"""The architectures whose programs a kernel of this machine runs, the usual one first."""

_X32_BIT = 0x40000000
_RET_ALLOW = 0x7FFF0000
_RET_USER_NOTIF = 0x7FC00000
_RET_ENOSYS = 0x00050000 | errno.ENOSYS

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K

_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # offsets in struct seccomp_data


def architectures() -> tuple[int, ...]:
    """AUDIT_ARCH_* values that are observed on this machine; KeyError where tracestrip knows no table for it."""
    return NATIVE[os.uname().machine]


def path_filter() -> bytes:
    """The program, as an array of `struct sock_filter`.

    Calls of `syscalls.TABLE` wait for the listener (SECCOMP_RET_USER_NOTIF). io_uring_setup, x32 calls and foreign
    architectures are answered with ENOSYS: they would reach files unseen.
    """
    program = [_instruction(_LOAD, _ARCHITECTURE_AT)]
    for architecture in architectures():
        block = _calls_block(calls_of(architecture), refuse_x32=architecture == AUDIT_ARCH_X86_64)
        program += _unless_equal_skip(architecture, block)
    program.append(_instruction(_RETURN, _RET_ENOSYS))
    return b"".join(program)


def _calls_block(calls: dict[int, Call], *, refuse_x32: bool) -> list[bytes]:
    block = [_instruction(_LOAD, _NUMBER_AT)]
    if refuse_x32:
        block += [_instruction(_AT_LEAST, _X32_BIT, 0, 1), _instruction(_RETURN, _RET_ENOSYS)]
    block += [_instruction(_EQUAL, IO_URING_SETUP, 0, 1), _instruction(_RETURN, _RET_ENOSYS)]
    for number, call in sorted(calls.items()):
        match call.name:
            case "sendto":
                block += _unless_equal_skip(number, _notify_if_argument(call.paths[0].address))
            case "socketcall":
                block += _unless_equal_skip(number, _notify_if_first_argument_in(SOCKETCALL))
            case "ptrace":
                block += _unless_equal_skip(number, _notify_if_first_argument_in(PTRACE_BEGINNINGS))
            case _:
                block += [_instruction(_EQUAL, number, 0, 1), _instruction(_RETURN, _RET_USER_NOTIF)]
    block.append(_instruction(_RETURN, _RET_ALLOW))
    return block


def _notify_if_argument(index: int) -> list[bytes]:
    """send(2) is sendto(2) without an address: it names nothing, and is frequent."""
    at = _ARGUMENTS_AT + 8 * index
    return [
        _instruction(_LOAD, at),
        _instruction(_EQUAL, 0, 1, 0),
        _instruction(_RETURN, _RET_USER_NOTIF),
        _instruction(_LOAD, at + 4),
        _instruction(_EQUAL, 0, 1, 0),
        _instruction(_RETURN, _RET_USER_NOTIF),
        _instruction(_RETURN, _RET_ALLOW),
    ]


def _notify_if_first_argument_in(values: Iterable[int]) -> list[bytes]:
    block = [_instruction(_LOAD, _ARGUMENTS_AT)]
    for value in values:
        block += [_instruction(_EQUAL, value, 0, 1), _instruction(_RETURN, _RET_USER_NOTIF)]
    return [*block, _instruction(_RETURN, _RET_ALLOW)]


def _unless_equal_skip(value: int, block: list[bytes]) -> list[bytes]:
    """*block* runs when the accumulator equals *value*. A long jump: conditional ones reach 255 instructions only."""
    jump = _instruction(0x05, len(block))  # BPF_JMP | BPF_JA
    return [_instruction(_EQUAL, value, 1, 0), jump, *block]


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
