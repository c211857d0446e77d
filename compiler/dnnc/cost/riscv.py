"""Kinds of RV32IMC instructions.

Source: The RISC-V Instruction Set Manual, volume I (20191213), chapters 24 (RV32I, "M") and 16 ("C"). Only instructions
that were executed are asked for, so encodings that are reserved are not told from those that are not.
"""

from __future__ import annotations

from dnnc.cost.instructions import Instruction, Kind

_LINK = (1, 5)


def decode(first: int, second: int, address: int) -> Instruction:
    """The instruction at an address from its first half-word and the one that follows."""
    if first & 3 == 3:
        return _wide(second << 16 | first, address)
    return _compressed(first, address)


def _wide(w: int, address: int) -> Instruction:
    opcode, rd = w & 0x7F, w >> 7 & 31
    kind, ends = Kind.ALU, False
    target: int | None = None
    if opcode == 0x03:
        kind = Kind.LOAD
    elif opcode == 0x23:
        kind = Kind.STORE
    elif opcode == 0x63:
        offset = (w >> 31) << 12 | (w >> 7 & 1) << 11 | (w >> 25 & 0x3F) << 5 | (w >> 8 & 0xF) << 1
        kind, target, ends = Kind.BRANCH, address + _signed(offset, 13), True
    elif opcode == 0x6F:
        offset = (w >> 31) << 20 | (w >> 12 & 0xFF) << 12 | (w >> 20 & 1) << 11 | (w >> 21 & 0x3FF) << 1
        kind, target, ends = (Kind.CALL if rd in _LINK else Kind.BRANCH), address + _signed(offset, 21), True
    elif opcode == 0x67:
        kind, ends = (Kind.CALL if rd in _LINK else Kind.BRANCH), True
    elif opcode == 0x33 and w >> 25 == 1:
        kind = (Kind.PRODUCT, *[Kind.HIGH_PRODUCT] * 3, *[Kind.DIVIDE] * 4)[w >> 12 & 7]
    narrow = kind is Kind.STORE and w >> 12 & 7 < 2
    return Instruction(address, 4, kind, 1, target, ends, narrow, opcode == 0x63)


def _compressed(h: int, address: int) -> Instruction:
    quadrant, function = h & 3, h >> 13
    kind, ends = Kind.ALU, False
    target: int | None = None
    if quadrant == 0 or (quadrant == 2 and function not in (0, 4)):
        if function in (2, 3):
            kind = Kind.LOAD
        elif function in (6, 7):
            kind = Kind.STORE
    elif quadrant == 1 and function in (1, 5):
        offset = _bits(h, ((12, 11), (11, 4), (10, 9), (9, 8), (8, 10), (7, 6), (6, 7), (5, 3), (4, 2), (3, 1), (2, 5)))
        kind, target, ends = (Kind.CALL if function == 1 else Kind.BRANCH), address + _signed(offset, 12), True
    elif quadrant == 1 and function in (6, 7):
        offset = _bits(h, ((12, 8), (11, 4), (10, 3), (6, 7), (5, 6), (4, 2), (3, 1), (2, 5)))
        kind, target, ends = Kind.BRANCH, address + _signed(offset, 9), True
    elif quadrant == 2 and function == 4 and not h >> 2 & 31 and h >> 7 & 31:  # C.JR, C.JALR
        kind, ends = (Kind.CALL if h >> 12 & 1 else Kind.BRANCH), True
    return Instruction(address, 2, kind, 1, target, ends, conditional=quadrant == 1 and function in (6, 7))


def _bits(h: int, places: tuple[tuple[int, int], ...]) -> int:
    """A number whose bit `to` is bit `of` of h."""
    return sum((h >> of & 1) << to for of, to in places)


def _signed(value: int, bits: int) -> int:
    """The low bits as two's complement."""
    value &= (1 << bits) - 1
    return value - ((value & 1 << bits - 1) << 1)
