"""Which model gives the cycles of a program: LLVM's scheduling model of the core, or the table of its target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Protocol

from dnnc.cost.instructions import Block, Kind
from dnnc.cost.target import Cycles, CycleTable, Target
from dnnc.run.mca import Mca, Prices, find_tools


class CycleModel(Protocol):
    """Prices blocks of an ELF program. left: by address, how many of the executions led elsewhere than to the next
    instruction, a fraction."""

    @property
    def name(self) -> str: ...

    def price(self, elf: bytes, blocks: Sequence[Block], left: Mapping[int, Fraction]) -> Prices: ...


@dataclass(frozen=True)
class McaModel:
    """By llvm-mca; how often branches are taken is nothing to it."""

    mca: Mca

    @property
    def name(self) -> str:
        return self.mca.name

    def price(self, elf: bytes, blocks: Sequence[Block], left: Mapping[int, Fraction]) -> Prices:
        return self.mca.prices(elf, blocks)


@dataclass(frozen=True)
class TableModel:
    """By the table of a target: the sum over a block's instructions."""

    table: CycleTable

    @property
    def name(self) -> str:
        return f"table ({self.table.source})"

    def price(self, elf: bytes, blocks: Sequence[Block], left: Mapping[int, Fraction]) -> Prices:
        return Prices(tuple(self._block(block, left) for block in blocks), (0,) * len(blocks))

    def _block(self, block: Block, left: Mapping[int, Fraction]) -> Fraction:
        used = uses(block, left.get(block.last.address, Fraction()))
        costs = {name: Fraction(getattr(self.table, name)).limit_denominator(1000) for name in used}
        return sum((costs[name] * times for name, times in used.items()), Fraction())


def uses(block: Block, left: Fraction) -> dict[str, Fraction]:
    """How often an execution of a block takes each cost of a table, given the share of them that end elsewhere than at
    the next instruction."""
    used: dict[str, Fraction] = {}

    def take(name: str, times: Fraction | int) -> None:
        if times:
            used[name] = used.get(name, Fraction()) + times

    for instruction in block.instructions:
        if instruction.kind is Kind.BRANCH and instruction.conditional:
            take("branch", 1 - left)
            take("branch_taken", left)
        elif instruction.kind in _COSTS:
            take(_COSTS[instruction.kind], 1)
        if instruction.kind in (Kind.LOAD, Kind.STORE):
            take(f"{_COSTS[instruction.kind]}_word", instruction.words - 1)
            take("jump", int(instruction.ends))
    return used


# IT takes nothing
_COSTS = {
    Kind.ALU: "alu",
    Kind.SHIFT: "shift",
    Kind.EXTEND: "extend",
    Kind.EXTEND_PAIR: "extend",
    Kind.SATURATE: "extend",
    Kind.PRODUCT: "product",
    Kind.PAIR_PRODUCT: "product",
    Kind.HIGH_PRODUCT: "high_product",
    Kind.LONG_PRODUCT: "long_product",
    Kind.DIVIDE: "divide",
    Kind.LOAD: "load",
    Kind.STORE: "store",
    Kind.BRANCH: "jump",
    Kind.CALL: "call",
    Kind.FLOAT: "floating",
}


def find_model(target: Target) -> CycleModel | None:
    """llvm-mca's model where both are there, else the table, else None."""
    cycles = target.cycles
    if cycles is None:
        return None
    tools = find_tools() if cycles.mca_cpu else None
    if tools is not None:
        return _mca(tools.mca, cycles)
    return table_model(cycles)


def table_model(cycles: Cycles) -> TableModel | None:
    return TableModel(cycles.table) if cycles.table else None


@lru_cache(maxsize=16)
def _mca(_command: str, cycles: Cycles) -> McaModel:
    """One a process and core, so that no block is simulated twice."""
    tools = find_tools()
    assert tools is not None and cycles.mca_triple is not None and cycles.mca_cpu is not None
    return McaModel(Mca(tools, cycles.mca_triple, cycles.mca_cpu, cycles.transfer_words))
