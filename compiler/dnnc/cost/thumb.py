"""Kinds of Thumb instructions, Armv6-M to Armv8-M Mainline with DSP extension and VFP.

Source: Armv7-M Architecture Reference Manual (Arm DDI 0403), A5.2 (16 bits) and A5.3 (32 bits). Only instructions that
were executed are asked for, so encodings that are undefined are not told from those that are.
"""

from __future__ import annotations

from dnnc.cost.instructions import Instruction, Kind

_PC = 15


def decode(first: int, second: int, address: int) -> Instruction:
    """The instruction at an address from its first half-word and the one that follows."""
    if first >> 11 in (0b11101, 0b11110, 0b11111):
        return _wide(first, second, address)
    return _narrow(first, address)


def _narrow(h: int, address: int) -> Instruction:
    def made(kind: Kind, words: int = 1, target: int | None = None, ends: bool = False) -> Instruction:
        narrow = kind is Kind.STORE and (top in (7, 8) or (top == 5 and h >> 9 & 7 != 0))
        return Instruction(address, 2, kind, words, target, ends, narrow, target is not None and top != 0xE)

    top = h >> 12
    if h & 0xFFC0 == 0x4340:
        return made(Kind.PRODUCT)
    if (h < 0x1800 and h & 0x7C0) or h & 0xFF80 == 0x4080 or h & 0xFFC0 in (0x4100, 0x41C0):
        return made(Kind.SHIFT)
    if h & 0xFF00 == 0x4700:
        return made(Kind.CALL if h & 0x80 else Kind.BRANCH, ends=True)
    if h & 0xFD00 == 0x4400:  # ADD, MOV of any register
        to_pc = (h >> 4 & 8 | h & 7) == _PC
        return made(Kind.BRANCH if to_pc else Kind.ALU, ends=to_pc)
    if h & 0xF800 == 0x4800:
        return made(Kind.LOAD)
    if top == 5:
        return made(Kind.STORE if h >> 9 & 7 < 3 else Kind.LOAD)
    if top in (6, 7, 8, 9):
        return made(Kind.LOAD if h & 0x800 else Kind.STORE)
    if top == 0xC:
        return made(Kind.LOAD if h & 0x800 else Kind.STORE, (h & 0xFF).bit_count())
    if h & 0xFE00 == 0xB400:
        return made(Kind.STORE, (h & 0x1FF).bit_count())
    if h & 0xFE00 == 0xBC00:
        return made(Kind.LOAD, (h & 0x1FF).bit_count(), ends=bool(h & 0x100))
    if h & 0xF500 == 0xB100:
        return made(Kind.BRANCH, target=address + 4 + ((h >> 3 & 0x40) | (h >> 2 & 0x3E)), ends=True)
    if h & 0xFF00 == 0xB200:
        return made(Kind.EXTEND)
    if h & 0xFF00 == 0xBF00:
        return made(Kind.IT if h & 0xF else Kind.ALU)
    if top == 0xD:
        return made(Kind.BRANCH, target=address + 4 + _signed(h << 1, 9), ends=True)
    if top == 0xE:
        return made(Kind.BRANCH, target=address + 4 + _signed(h << 1, 12), ends=True)
    return made(Kind.ALU)


def _wide(h: int, g: int, address: int) -> Instruction:
    """h, g: first and second half-word."""
    kind, words, ends, narrow = Kind.ALU, 1, False, False
    target: int | None = None
    if h & 0xFE40 == 0xE800:  # several registers
        kind, words = (Kind.LOAD if h & 0x10 else Kind.STORE), g.bit_count()
        ends = bool(h & 0x10 and g & 0x8000)
    elif h & 0xFE40 == 0xE840:
        if h & 0xFFF0 == 0xE8D0 and g & 0xFFE0 == 0xF000:  # TBB, TBH
            kind, ends = Kind.BRANCH, True
        elif h & 0x120 == 0:  # exclusive
            kind = Kind.LOAD if h & 0x10 else Kind.STORE
        else:
            kind, words = (Kind.LOAD if h & 0x10 else Kind.STORE), 2
    elif h & 0xFE00 == 0xEA00:
        kind = Kind.SHIFT if g & 0x70F0 else Kind.ALU
    elif h & 0xEC00 == 0xEC00:
        kind, words = _coprocessor(h, g)
    elif h & 0xF800 == 0xF000:
        if g & 0x8000:
            kind, target, ends = _control(h, g, address)
        elif h & 0xFFD0 in (0xF300, 0xF380):
            kind = Kind.SATURATE
    elif h & 0xFE00 == 0xF800:
        kind = Kind.LOAD if h & 0x10 else Kind.STORE
        ends = h & 0x70 == 0x50 and g >> 12 == _PC
        narrow = not h & 0x50
    elif h & 0xFF80 == 0xFA00:
        kind = Kind.SHIFT
        if g & 0x80:
            kind = Kind.EXTEND_PAIR if h & 0xFFE0 == 0xFA20 else Kind.EXTEND
    elif h & 0xFF80 == 0xFB00:
        kind = _PRODUCTS[h >> 4 & 7]
    elif h & 0xFF80 == 0xFB80:
        kind = _LONG_PRODUCTS[h >> 4 & 7]
        if g & 0xC0 and kind is Kind.LONG_PRODUCT and h >> 4 & 7 == 4:  # SMLALBB, SMLALD
            kind = Kind.PAIR_PRODUCT
    conditional = kind is Kind.BRANCH and target is not None and not g & 0x1000
    return Instruction(address, 4, kind, words, target, ends, narrow, conditional)


_PRODUCTS = (
    Kind.PRODUCT,
    Kind.PAIR_PRODUCT,
    Kind.PAIR_PRODUCT,
    Kind.HIGH_PRODUCT,
    Kind.PAIR_PRODUCT,
    Kind.HIGH_PRODUCT,
    Kind.HIGH_PRODUCT,
    Kind.ALU,  # USAD8
)
_LONG_PRODUCTS = (
    Kind.LONG_PRODUCT,
    Kind.DIVIDE,
    Kind.LONG_PRODUCT,
    Kind.DIVIDE,
    Kind.LONG_PRODUCT,
    Kind.PAIR_PRODUCT,
    Kind.LONG_PRODUCT,
    Kind.LONG_PRODUCT,
)


def _coprocessor(h: int, g: int) -> tuple[Kind, int]:
    """VFP: loads and stores with their words, all else arithmetic."""
    if h & 0xFE00 != 0xEC00 or h & 0xFFE0 == 0xEC40:
        return Kind.FLOAT, 1
    kind = Kind.LOAD if h & 0x10 else Kind.STORE
    single = h & 0x0120 == 0x0100  # VLDR, VSTR; the others move as many words as they say
    return kind, (2 if g & 0x100 else 1) if single else g & 0xFF


def _control(h: int, g: int, address: int) -> tuple[Kind, int | None, bool]:
    """Branches and what shares their encodings: kind, target, whether it ends a block."""
    if g & 0x5000 == 0:
        if h >> 7 & 7 == 7:
            return Kind.ALU, None, False  # barriers, hints, special registers
        offset = (h >> 10 & 1) << 20 | (g >> 11 & 1) << 19 | (g >> 13 & 1) << 18 | (h & 0x3F) << 12 | (g & 0x7FF) << 1
        return Kind.BRANCH, address + 4 + _signed(offset, 21), True
    sign = h >> 10 & 1
    i1, i2 = 1 ^ (g >> 13 & 1) ^ sign, 1 ^ (g >> 11 & 1) ^ sign
    offset = sign << 24 | i1 << 23 | i2 << 22 | (h & 0x3FF) << 12 | (g & 0x7FF) << 1
    return (Kind.CALL if g & 0x4000 else Kind.BRANCH), address + 4 + _signed(offset, 25), True


def _signed(value: int, bits: int) -> int:
    """The low bits as two's complement."""
    value &= (1 << bits) - 1
    return value - ((value & 1 << bits - 1) << 1)
