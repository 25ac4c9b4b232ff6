"""The observer's seccomp filter: a notification for every call that names a file or lists a directory, full speed for others.

seccomp(2) and Documentation/userspace-api/seccomp_filter.rst. The verdict depends on the architecture and the number only
(but for three calls), so that the kernel can keep a bitmap of the calls that are always allowed (Linux 5.11).
"""

import errno
import os

from tracestrip.observer.bpf import (
    ARCHITECTURE_AT,
    NUMBER_AT,
    Block,
    answer,
    choice,
    if_among,
    if_at_least,
    if_equal,
    load,
    load_argument,
)
from tracestrip.observer.syscalls import (
    AUDIT_ARCH_AARCH64,
    AUDIT_ARCH_I386,
    AUDIT_ARCH_X86_64,
    IO_URING,
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

X32_BIT = 0x40000000
ALLOW = answer(0x7FFF0000)
NOSYS = answer(0x00050000 | errno.ENOSYS)
_NOTIFY = answer(0x7FC00000)


def architectures() -> tuple[int, ...]:
    """AUDIT_ARCH_* values that are observed on this machine; KeyError where tracestrip knows no table for it."""
    return NATIVE[os.uname().machine]


def path_filter() -> bytes:
    """The program, as an array of `struct sock_filter`.

    Calls of `syscalls.TABLE` wait for the listener (SECCOMP_RET_USER_NOTIF). io_uring's, x32 calls and foreign
    architectures are answered with ENOSYS: they would reach files unseen.
    """
    program: Block = (load(ARCHITECTURE_AT),)
    for architecture in architectures():
        calls = calls_of(architecture)
        verdicts = {number: _verdict(call) for number, call in calls.items()} | dict.fromkeys(IO_URING, NOSYS)
        by_number = choice(verdicts, ALLOW)
        if architecture == AUDIT_ARCH_X86_64:
            by_number = if_at_least(X32_BIT, NOSYS) + by_number
        program += if_equal(architecture, (load(NUMBER_AT), *by_number))
    return b"".join(program + NOSYS)


def _verdict(call: Call) -> Block:
    match call.name:
        case "sendto":  # send(2) is sendto(2) without an address: it names nothing, and is frequent
            address = call.paths[0].address
            no_upper_half = (load_argument(address, upper=True), *if_equal(0, ALLOW), *_NOTIFY)
            return (load_argument(address), *if_equal(0, no_upper_half), *_NOTIFY)
        case "socketcall":
            return (load_argument(0), *if_among(SOCKETCALL, _NOTIFY), *ALLOW)
        case "ptrace":
            return (load_argument(0), *if_among(PTRACE_BEGINNINGS, _NOTIFY), *ALLOW)
        case _:
            return _NOTIFY
