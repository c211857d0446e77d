"""Machine instructions as far as their cost goes: what kind each is, and where it may lead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What an instruction does. Products are told apart, since they tell what a loop is for."""

    ALU = "alu"
    SHIFT = "shift"  #: alone or of an operand of another
    EXTEND = "extend"  #: one field to a word
    EXTEND_PAIR = "extend pair"  #: two bytes to two half-words: SXTB16, UXTAB16, ...
    PRODUCT = "product"  #: MUL, MLA, MLS
    PAIR_PRODUCT = "pair product"  #: of half-words, one or two: SMLAD, SMUAD, SMLABB, SMLALD, ...
    LONG_PRODUCT = "long product"  #: 32 x 32 to 64 bits: SMULL, UMLAL, ...
    HIGH_PRODUCT = "high product"  #: the high word of one: SMMUL, SMMLAR, SMULWB, RISC-V's MULH
    SATURATE = "saturate"  #: SSAT, USAT
    DIVIDE = "divide"
    LOAD = "load"
    STORE = "store"
    BRANCH = "branch"
    CALL = "call"
    FLOAT = "float"
    IT = "it"  #: makes those after it conditional


@dataclass(frozen=True)
class Instruction:
    """One instruction: size in bytes; `words`: registers that a load or store moves; narrow: a store of less than one.

    target: where a direct branch or call leads. ends: control may go elsewhere than to the next instruction;
    conditional: or there, by the flags or a register.
    """

    address: int
    size: int
    kind: Kind
    words: int = 1
    target: int | None = None
    ends: bool = False
    narrow: bool = False
    conditional: bool = False

    @property
    def next(self) -> int:
        return self.address + self.size


@dataclass(frozen=True)
class Block:
    """Instructions that are executed one after another, always all of them."""

    instructions: tuple[Instruction, ...]

    @property
    def address(self) -> int:
        return self.instructions[0].address

    @property
    def last(self) -> Instruction:
        return self.instructions[-1]


def split(executed: Sequence[Instruction], counts: Mapping[int, object]) -> tuple[Block, ...]:
    """The basic blocks of the instructions that were executed, in ascending order.

    counts: of every address, what is compared between neighbours: instructions that were executed differently often
    are in different blocks, which finds the targets of jump tables, too.
    """
    starts = {i.target for i in executed if i.target is not None}
    blocks: list[Block] = []
    current: list[Instruction] = []
    for instruction in executed:
        if current:
            previous = current[-1]
            if (
                previous.ends
                or previous.next != instruction.address
                or instruction.address in starts
                or counts[previous.address] != counts[instruction.address]
            ):
                blocks.append(Block(tuple(current)))
                current = []
        current.append(instruction)
    if current:
        blocks.append(Block(tuple(current)))
    return tuple(blocks)
