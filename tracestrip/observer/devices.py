"""Which devices a sandbox may open: a program that the kernel asks at each open and mknod in a control group.

Those without power over the host, as Docker allows them, but for the host's console. Any node may be *made*, as there:
opening it is what counts. bpf(2), bpf-prog(7) BPF_PROG_TYPE_CGROUP_DEVICE (Linux 4.15); cgroup v1 has a list instead.
"""

import ctypes
import os
import struct

from tracestrip.observer import linux

CHARACTER_DEVICES = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, None))
"""(major, minor; None for any): null, zero, full, random, urandom, tty, ptmx and the pseudo-terminals."""

_PROG_LOAD, _PROG_ATTACH = 5, 8
_PROGRAM_TYPE_CGROUP_DEVICE = 15
_ATTACH_CGROUP_DEVICE = 6
_ALLOW_MULTI = 2  # beside what the groups above have: all must allow
_MAKE_NODE = 1
_CHARACTER = 2

_LOAD_WORD, _AND, _SHIFT_RIGHT, _UNLESS_EQUAL, _SET, _EXIT = 0x61, 0x54, 0x74, 0x55, 0xB7, 0x95  # operations
_VERDICT, _CONTEXT, _KIND, _ACCESS, _MAJOR, _MINOR = range(6)  # registers


def attach_device_filter(cgroup: int) -> None:
    """Let processes of the group behind the directory descriptor *cgroup* open harmless devices only. Raises OSError.

    The kernel drops the program with the group.
    """
    program, terms = ctypes.create_string_buffer(_program()), ctypes.create_string_buffer(b"GPL")
    count = (len(program) - 1) // 8
    addresses = ctypes.addressof(program), ctypes.addressof(terms)
    descriptor = linux.bpf(_PROG_LOAD, struct.pack("=IIQQ24x", _PROGRAM_TYPE_CGROUP_DEVICE, count, *addresses))
    try:
        linux.bpf(_PROG_ATTACH, struct.pack("=IIII", cgroup, descriptor, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI))
    finally:
        os.close(descriptor)


def device_list() -> list[str]:
    """The same for the `devices.allow` of cgroup v1, a line for each write."""
    opened = [f"c {major}:{'*' if minor is None else minor} rwm" for major, minor in CHARACTER_DEVICES]
    return ["c *:* m", "b *:* m", *opened]


def _program() -> bytes:
    """On `struct bpf_cgroup_dev_ctx`: the access in the upper half of its first word, the kind in the lower, the numbers."""
    allow = _instruction(_SET, _VERDICT, constant=1) + _instruction(_EXIT)
    deny = _instruction(_SET, _VERDICT, constant=0) + _instruction(_EXIT)
    known = b""
    for major, minor in CHARACTER_DEVICES:
        known += _if_equal(_MAJOR, major, allow if minor is None else _if_equal(_MINOR, minor, allow))
    return (
        _instruction(_LOAD_WORD, _KIND, _CONTEXT, 0)
        + _instruction(_AND, _KIND, constant=0xFFFF)
        + _instruction(_LOAD_WORD, _ACCESS, _CONTEXT, 0)
        + _instruction(_SHIFT_RIGHT, _ACCESS, constant=16)
        + _instruction(_LOAD_WORD, _MAJOR, _CONTEXT, 4)
        + _instruction(_LOAD_WORD, _MINOR, _CONTEXT, 8)
        + _if_equal(_ACCESS, _MAKE_NODE, allow)
        + _if_equal(_KIND, _CHARACTER, known)
        + deny
    )


def _if_equal(register: int, value: int, then: bytes) -> bytes:
    return _instruction(_UNLESS_EQUAL, register, offset=len(then) // 8, constant=value) + then


def _instruction(operation: int, target: int = 0, source: int = 0, offset: int = 0, constant: int = 0) -> bytes:
    """`struct bpf_insn`."""
    return struct.pack("=BBhi", operation, source << 4 | target, offset, constant)
