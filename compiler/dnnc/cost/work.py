"""What the instructions of a kernel are for, told from the code itself.

A block is cut at its *markers*: instructions that tell what it does.

- products: half-word products (SMLAD, SMLABB, SMUAD, ...) anywhere; MUL, MLA and RISC-V's MUL in innermost loops only,
  for elsewhere they compute addresses;
- requantisation: products of which the high word is kept (SMMUL, SMMLAR, SMULL, MULH) and saturation (SSAT, USAT).

Every instruction counts with the next marker of its block, what follows the last one with that one: operands are loaded
and widened for a product, results are stored after a saturation. A block without a marker is

- widening, in a function whose name has the word `widen`, or where bytes become half-words by pairs (SXTB16, ...) or
  one by one in an innermost loop that loads narrow and stores;
- requantisation, outside innermost loops where it stores bytes or half-words: results on their way out;
- copying, in an innermost loop that loads and stores and computes nothing but addresses, or in memcpy and its like;
- set-up, outside innermost loops: entry and exit of functions, calls, pointers, loop counts;
- other, in innermost loops: pooling, tables, comparisons.

An innermost loop is the code from the target of a backward branch to that branch, where no other such code lies inside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from dnnc.cost.instructions import Block, Kind


class Work(Enum):
    """What executed instructions are for, in the order in which tables show it."""

    MAC = "MAC"
    WIDEN = "widening"
    REQUANTISE = "requantise"
    COPY = "copy"
    SETUP = "set-up"
    OTHER = "other"


@dataclass(frozen=True)
class Part:
    """So many instructions of a block, one after another, that are for the same."""

    work: Work
    instructions: int


_WIDENS = re.compile(r"(^|_)(widen|im2col)")
_COPIES = re.compile(r"^(__)?(aeabi_)?mem(cpy|move|set|clr)")
_REQUANTISES = frozenset({Kind.HIGH_PRODUCT, Kind.LONG_PRODUCT, Kind.SATURATE})
_MOST_COPYING_ALU = 2


def innermost_loops(blocks: Sequence[Block], function_at: Callable[[int], str]) -> tuple[tuple[int, int], ...]:
    """(first address, address after) of each innermost loop."""
    loops = set()
    for block in blocks:
        target = block.last.target
        if block.last.kind is not Kind.BRANCH or target is None or target > block.last.address:
            continue
        if function_at(target) == function_at(block.last.address):
            loops.add((target, block.last.next))
    # several branches back to one place are one loop
    ends: dict[int, int] = {}
    for start, end in loops:
        ends[start] = max(end, ends.get(start, 0))
    return tuple(
        sorted(
            (start, end)
            for start, end in ends.items()
            if not any(start <= s and e <= end and (s, e) != (start, end) for s, e in ends.items())
        )
    )


def parts(block: Block, function: str, in_loop: bool) -> tuple[Part, ...]:
    """What the instructions of a block are for; in_loop: in an innermost one. The parts add up to the block."""
    markers = [_marker(i.kind, in_loop) for i in block.instructions]
    if not any(markers):
        return (Part(_unmarked(block, function, in_loop), len(markers)),)
    found: list[Part] = []
    start = 0
    for index, marker in enumerate(markers):
        if marker is not None:
            found.append(Part(marker, index + 1 - start))
            start = index + 1
    found.append(Part(found[-1].work, len(markers) - start))
    merged: list[Part] = []
    for part in found:
        if merged and merged[-1].work is part.work:
            merged[-1] = Part(part.work, merged[-1].instructions + part.instructions)
        elif part.instructions:
            merged.append(part)
    return tuple(merged)


def _marker(kind: Kind, in_loop: bool) -> Work | None:
    if kind is Kind.PAIR_PRODUCT or (kind is Kind.PRODUCT and in_loop):
        return Work.MAC
    return Work.REQUANTISE if kind in _REQUANTISES else None


def _unmarked(block: Block, function: str, in_loop: bool) -> Work:
    kinds = [i.kind for i in block.instructions]
    moves = Kind.LOAD in kinds and Kind.STORE in kinds
    if _WIDENS.search(function) or Kind.EXTEND_PAIR in kinds:
        return Work.WIDEN
    if _COPIES.search(function):
        return Work.COPY
    if not in_loop:
        return Work.REQUANTISE if any(i.narrow for i in block.instructions) else Work.SETUP
    if moves and Kind.EXTEND in kinds:
        return Work.WIDEN
    if moves and kinds.count(Kind.ALU) + kinds.count(Kind.SHIFT) <= _MOST_COPYING_ALU * max(1, kinds.count(Kind.LOAD)):
        return Work.COPY
    return Work.OTHER
