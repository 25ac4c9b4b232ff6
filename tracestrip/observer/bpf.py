"""Classic BPF programs for seccomp(2): their instructions, and a choice among hundreds of values in a few steps.

A program is an array of `struct sock_filter`. Its input is `struct seccomp_data`; what it returns decides on the call.
"""

import struct
from collections.abc import Iterable, Mapping

Block = tuple[bytes, ...]
"""Instructions that end with a return."""

NUMBER_AT, ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # offsets in struct seccomp_data

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_JUMP = 0x05  # BPF_JMP | BPF_JA
_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_FARTHEST = 255
"""Instructions that a conditional jump can skip."""


def load(offset: int) -> bytes:
    """The 32 bits at *offset* of struct seccomp_data into the accumulator."""
    return _instruction(_LOAD, offset)


def load_argument(index: int, *, upper: bool = False) -> bytes:
    """The lower, or upper, half of an argument into the accumulator. Both architectures are little-endian."""
    return load(_ARGUMENTS_AT + 8 * index + 4 * upper)


def keep_bits(mask: int) -> bytes:
    """The accumulator's bits that are in *mask*."""
    return _instruction(_AND, mask)


def answer(action: int) -> Block:
    """Decide: a SECCOMP_RET_* value, with its data."""
    return (_instruction(_RETURN, action),)


def if_equal(value: int, then: Block) -> Block:
    """*then* where the accumulator equals *value*, else what follows."""
    return _guarded(_EQUAL, value, then)


def if_at_least(value: int, then: Block) -> Block:
    """*then* where the accumulator is *value* or more, else what follows."""
    return _guarded(_AT_LEAST, value, then)


def if_among(values: Iterable[int], then: Block) -> Block:
    """*then* where the accumulator equals one of *values*, else what follows."""
    return tuple(instruction for value in values for instruction in if_equal(value, then))


def choice(blocks: Mapping[int, Block], otherwise: Block) -> Block:
    """The block whose key the accumulator equals, *otherwise* where none does: a binary search."""
    ranges: list[tuple[int, Block]] = [(0, otherwise)]
    for value in sorted(blocks):
        for start, block in ((value, blocks[value]), (value + 1, otherwise)):
            if ranges[-1][0] == start:
                ranges.pop()
            if not ranges or ranges[-1][1] != block:
                ranges.append((start, block))
    return _search(ranges)


def _search(ranges: list[tuple[int, Block]]) -> Block:
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    below, above = _search(ranges[:middle]), _search(ranges[middle:])
    if len(below) <= _FARTHEST:
        return (_instruction(_AT_LEAST, ranges[middle][0], len(below), 0), *below, *above)
    return (_instruction(_AT_LEAST, ranges[middle][0], 0, 1), _instruction(_JUMP, len(below)), *below, *above)


def _guarded(code: int, value: int, then: Block) -> Block:
    if len(then) <= _FARTHEST:
        return (_instruction(code, value, 0, len(then)), *then)
    return (_instruction(code, value, 1, 0), _instruction(_JUMP, len(then)), *then)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
