"""Where the instructions and modelled cycles of an inference go: by layer, by what they are for, by block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from dnnc.cost.instructions import Block, Instruction, split
from dnnc.cost.work import Part, Work, innermost_loops, parts
from dnnc.errors import ToolchainError
from dnnc.run.cycles import CycleModel
from dnnc.run.image import Image
from dnnc.run.machine import Count, Counts


@dataclass(frozen=True)
class Cost:
    """Instructions executed, and the cycles that a model gives for them; None without a model."""

    instructions: int
    cycles: int | None

    def __add__(self, other: Cost) -> Cost:
        cycles = None if self.cycles is None or other.cycles is None else self.cycles + other.cycles
        return Cost(self.instructions + other.instructions, cycles)


@dataclass(frozen=True)
class HotBlock:
    """A block and its part of the whole: where it is, what most of it is for, how often it is executed, and the share
    of that which ends elsewhere than at the next instruction."""

    block: Block
    place: str
    work: Work
    executions: int
    left: Fraction
    cycles_each: float | None
    cost: Cost

    @property
    def length(self) -> int:
        """Instructions."""
        return len(self.block.instructions)


@dataclass(frozen=True)
class Profile:
    """One inference. cells: by (layer, work), those that occur; they add up to `total` exactly. names: of all layers.

    model: what gave the cycles, None where nothing did. extrapolated: share of the instructions whose cycles the model
    did not know. blocks: hottest first.
    """

    model: str | None
    extrapolated: float
    names: tuple[str, ...]
    cells: Mapping[tuple[str, Work], Cost]
    blocks: tuple[HotBlock, ...]
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> Cost:
        return self._sum(self.cells.values())

    @property
    def layers(self) -> dict[str, Cost]:
        """By layer, in the order of the program."""
        return {name: self._sum(c for (layer, _), c in self.cells.items() if layer == name) for name in self.names}

    @property
    def works(self) -> dict[Work, Cost]:
        """By what it is for; only what occurs."""
        occurring = {work for _, work in self.cells}
        return {w: self._sum(c for (_, x), c in self.cells.items() if x is w) for w in Work if w in occurring}

    def _sum(self, costs: Iterable[Cost]) -> Cost:
        return sum(costs, Cost(0, None if self.model is None else 0))


def make_profile(image: Image, count: Count, layers: Mapping[str, Counts], model: CycleModel | None) -> Profile:
    """layers: the executions in each layer, which add up to those of the `count`."""
    executed = [image.decode(count.base + 2 * index) for index in np.flatnonzero(count.executions).tolist()]
    history = _history(count, list(layers.values()))
    blocks = split(executed, history)
    loops = innermost_loops(blocks, image.function_at)
    left = _left(count, executed)
    notes: tuple[str, ...] = ()
    prices = None
    if model is not None:
        try:
            prices = model.price(image.elf, blocks, left)
        except ToolchainError as error:
            notes = (f"cycles are not modelled: {error}",)
    nothing = Cost(0, None if prices is None else 0)
    cells = {(name, work): nothing for name in layers for work in Work}
    hot: list[HotBlock] = []
    missing = 0
    for index, block in enumerate(blocks):
        inside = any(start <= block.address < end for start, end in loops)
        cut = parts(block, image.function_at(block.address), inside)
        executions = history[block.address]
        whole = nothing
        for name, times in zip(layers, executions, strict=True):
            cycles = None if prices is None else _rounded(prices.cycles[index] * times)
            for part, cost in _shares(cut, times, cycles):
                cells[name, part.work] += cost
                whole = whole + cost
        missing += prices.extrapolated[index] * sum(executions) if prices else 0
        hot.append(
            HotBlock(
                block,
                image.describe(block.address),
                max(cut, key=lambda part: part.instructions).work,
                sum(executions),
                left.get(block.last.address, Fraction()),
                None if prices is None else float(prices.cycles[index]),
                whole,
            )
        )
    ordered = {(name, work): cells[name, work] for name in layers for work in Work if cells[name, work].instructions}
    hot.sort(key=lambda b: (-(b.cost.cycles or b.cost.instructions), b.block.address))
    return Profile(
        model=model.name if model is not None and prices is not None else None,
        extrapolated=missing / max(count.instructions, 1),
        names=tuple(layers),
        cells=ordered,
        blocks=tuple(hot),
        notes=notes,
    )


def _history(count: Count, stages: Sequence[Counts]) -> dict[int, tuple[int, ...]]:
    """By address, the executions in each stage."""
    indices = np.flatnonzero(count.executions)
    table = np.stack([stage[indices] for stage in stages], axis=1).tolist()
    return {count.base + 2 * index: tuple(row) for index, row in zip(indices.tolist(), table, strict=True)}


def _left(count: Count, executed: Sequence[Instruction]) -> dict[int, Fraction]:
    """By address, the share of executions that led elsewhere than to the next instruction."""
    index = [(i.address, (i.address - count.base) // 2) for i in executed if i.ends]
    return {address: Fraction(int(count.left[i]), int(count.executions[i])) for address, i in index}


def _shares(cut: Sequence[Part], times: int, cycles: int | None) -> Iterable[tuple[Part, Cost]]:
    """Of a block's cost each part's, in proportion to its instructions; they add up exactly."""
    length, before = sum(part.instructions for part in cut), 0
    for part in cut:
        after = before + part.instructions
        share = None if cycles is None else cycles * after // length - cycles * before // length
        yield part, Cost(part.instructions * times, share)
        before = after


def _rounded(value: Fraction) -> int:
    """Half up."""
    return int((2 * value + 1) // 2)
