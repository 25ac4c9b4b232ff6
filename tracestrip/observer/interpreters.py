"""What the kernel opens by itself when it executes a file, without a system call that could be seen.

execve(2): the program of a `#!` line, up to five deep (fs/exec.c), and the ELF interpreter (PT_INTERP).
"""

import struct
from collections.abc import Callable

HEAD = 4096
"""Bytes from the start of a file that are looked at; a `#!` line counts within its first 256 (BINPRM_BUF_SIZE)."""

_SCRIPT_LINE = 256
_DEEPEST = 5
_PT_INTERP = 3


def interpreters(head: bytes, read_head: Callable[[bytes], bytes | None]) -> list[bytes]:
    """The interpreters of a file that starts with *head*, the first one first; paths as the file names them.

    *read_head* gives the first bytes of the file that such a path leads to, or None where there is none.
    """
    found: list[bytes] = []
    while len(found) <= _DEEPEST:
        path = script_interpreter(head) or elf_interpreter(head)
        if path is None:
            return found
        found.append(path)
        next_head = read_head(path)
        if next_head is None:
            return found
        head = next_head
    return found


def script_interpreter(head: bytes) -> bytes | None:
    """The program of a `#!` line, None for any other file."""
    if not head.startswith(b"#!"):
        return None
    words = head[2:_SCRIPT_LINE].partition(b"\n")[0].split(maxsplit=1)
    return words[0].partition(b"\0")[0] if words else None


def elf_interpreter(head: bytes) -> bytes | None:
    """PT_INTERP of an ELF file (elf(5)), None for a static or any other file, or where it lies beyond *head*."""
    if not head.startswith(b"\x7fELF") or len(head) < 64:
        return None
    wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
    try:
        table, size, count = (
            *struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28),
            *struct.unpack_from(order + "HH", head, 54 if wide else 42),
        )
        for index in range(count):
            at = table + index * size
            if struct.unpack_from(order + "I", head, at)[0] != _PT_INTERP:
                continue
            (offset,) = struct.unpack_from(order + ("Q" if wide else "I"), head, at + (8 if wide else 4))
            (length,) = struct.unpack_from(order + ("Q" if wide else "I"), head, at + (32 if wide else 16))
            return head[offset : offset + length].partition(b"\0")[0] or None
    except (struct.error, OverflowError):
        return None
    return None
