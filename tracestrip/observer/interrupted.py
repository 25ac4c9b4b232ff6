"""Calls that a signal takes away before they are made.

A caller waits for its notification to be received, and a signal interrupts that: seccomp_unotify(2). Where its handler has no
SA_RESTART the call would answer EINTR, which stat(2) or open(2) of a file never does, and which programs don't expect.
The signal stops the caller for its tracer first; there the answer can still be turned into one that always restarts.
"""

from ptrace.binding.func import PTRACE_POKEUSER, ptrace, ptrace_getregs

from tracestrip.observer.notifications import Notification
from tracestrip.observer.syscalls import AUDIT_ARCH_I386, AUDIT_ARCH_X86_64

_WORD = 1 << 64
_RESULT = 10 * 8
"""Offset of rax in `struct user`."""
_ERESTARTSYS = _WORD - 512
_ERESTARTNOINTR = _WORD - 513
_CS_32_BIT = 0x23


def interrupted_call(pid: int) -> Notification | None:
    """The call that process *pid*, stopped for a signal, was taken out of; None where it was in none. Raises PtraceError.

    x86-64 only: on aarch64 the kernel decides before it stops for the tracer, and a call may answer EINTR.
    """
    registers = ptrace_getregs(pid)
    if getattr(registers, "rax", None) != _ERESTARTSYS or registers.orig_rax >= 1 << 63:
        return None
    if registers.cs == _CS_32_BIT:
        names, architecture, mask = ("rbx", "rcx", "rdx", "rsi", "rdi", "rbp"), AUDIT_ARCH_I386, 0xFFFFFFFF
    else:
        names, architecture, mask = ("rdi", "rsi", "rdx", "r10", "r8", "r9"), AUDIT_ARCH_X86_64, _WORD - 1
    arguments = tuple(getattr(registers, name) & mask for name in names)
    return Notification(0, pid, architecture, registers.orig_rax & 0xFFFFFFFF, arguments)


def restart(pid: int) -> None:
    """Let the call that `interrupted_call` told of be made after all, whatever the handler is. Raises PtraceError."""
    ptrace(PTRACE_POKEUSER, pid, _RESULT, _ERESTARTNOINTR)
