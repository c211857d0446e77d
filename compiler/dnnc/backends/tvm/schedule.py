"""Schedules: how the stages of a linear layer's kernel are arranged, without changing what they compute.

With a tensor intrinsic, `pixels` x `blocks` sums of `lanes` channels stay in vector registers while a window is walked;
then they are requantised and stored. Every element is computed by the same integer operations in any arrangement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import s_tir, tirx

from dnnc.backends.tvm.dot import Dot
from dnnc.backends.tvm.intrinsics import weave
from dnnc.backends.tvm.planes import UNITS

#: Of a depthwise convolution.
MOST_PLACES = 6
#: Bytes of unpacked weights that stay in the first cache beside the image.
NEAR = 32 << 10


@dataclass(frozen=True)
class Stored:
    """How a layer has its weights. units: in a block; packed: whether they are unpacked; together: that can be unpacked
    at a time where they are used, 0 where none can; size: bytes of a unit.
    """

    units: int
    packed: bool = False
    together: int = 0
    size: int = 64


@dataclass(frozen=True)
class Tile:
    """Sums that are computed together: rows and columns of the output times blocks of channels.

    unpacked: where weights are, "first" for the layer before all else, "near" for a tile's blocks at a time, "within"
    for a step of the sum at a time, in registers.
    """

    rows: int
    columns: int
    blocks: int
    unpacked: str = "first"

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns} pixels, {self.blocks} blocks, unpacked {self.unpacked}"

    @property
    def pixels(self) -> int:
        return self.rows * self.columns

    def cost(self, pixels: int, stored: Stored) -> float:
        """What a product takes besides itself, about, as loads: of its operands, and for its weight to be unpacked.

        pixels: of the layer.
        """
        loads = 1 / self.pixels + 1 / self.blocks
        if not stored.packed:
            return loads
        if self.unpacked == "within":
            return loads + 2 / self.pixels + self.blocks / 32  # blocks in registers beside their sums
        far = self.unpacked == "first" or self.blocks * stored.units * stored.size > NEAR
        return loads + 4 / pixels + (1 / self.pixels if far else 0)


def divisors(value: int, most: int) -> list[int]:
    return [d for d in range(1, min(value, most) + 1) if value % d == 0]


def tiles(rows: int, columns: int, blocks: int, stored: Stored, most: int) -> list[Tile]:
    """Every tile that fills the layer exactly, the best first; of equals the one of fewer blocks and longer rows.

    most: sums of a block that a tile may have.
    """
    ways = ("first", "near", "within") if stored.together else ("first",)
    found = [
        Tile(r, c, b, way)
        for r in divisors(rows, most)
        for c in divisors(columns, most // r)
        for b in divisors(blocks, most // (r * c))
        for way in ways
    ]
    return sorted(found, key=lambda tile: (tile.cost(rows * columns, stored), tile.blocks, tile.rows))


@dataclass(frozen=True)
class Choice:
    """One way to arrange a kernel."""

    name: str
    apply: Callable[[Any], None]


#: From a node's name, its kernel and the ways to arrange it, the best first, to the arranged kernel.
Chooser = Callable[[str, tirx.PrimFunc, Sequence[Choice]], tirx.PrimFunc]


def first(node: str, kernel: tirx.PrimFunc, choices: Sequence[Choice]) -> tirx.PrimFunc:
    """The kernel as it is arranged without measuring anything."""
    return arranged(kernel, choices[0]).mod["main"]


def arranged(kernel: tirx.PrimFunc, choice: Choice) -> Any:
    """The kernel's schedule."""
    schedule = s_tir.Schedule(kernel)
    choice.apply(schedule)
    return schedule


def names(schedule: Any) -> set[str]:
    root = schedule.get_sblock("root")
    return {schedule.get(block).name_hint for block in schedule.get_child_blocks(root)}


def linear(dot: Dot, depth: int, halves: bool, extents: tuple[int, int, int], stored: Stored) -> list[Choice]:
    """Of a convolution or dense layer that is not depthwise.

    depth: channels of the input; halves: whether sums are multiplied as they are, with no shift before; extents: rows,
    columns and blocks.
    """
    return [
        Choice(str(tile), lambda schedule, tile=tile: _arrange(schedule, dot, depth, halves, stored, tile))  # type: ignore[misc]
        for tile in tiles(*extents, stored, dot.sums)
    ]


def _arrange(schedule: Any, dot: Dot, depth: int, halves: bool, stored: Stored, tile: Tile) -> None:
    product = schedule.get_sblock("dot")
    schedule.fuse_reduction_epilogue(product, "biased")
    n, y, x, group, block, lane, tap, step, _ = schedule.get_loops(product)
    _rows(schedule, depth)
    y_outer, y_inner = schedule.split(y, [None, tile.rows])
    x_outer, x_inner = schedule.split(x, [None, tile.columns])
    block_outer, block_inner = schedule.split(block, [None, tile.blocks])
    few = stored.together if tile.unpacked == "within" else 1
    step_outer, step_inner = schedule.split(step, [None, few])
    schedule.reorder(
        n, group, block_outer, y_outer, x_outer, tap, step_outer, step_inner, y_inner, x_inner, block_inner, lane
    )
    for loop in (step_inner, y_inner, x_inner, block_inner):
        schedule.unroll(loop)
    if stored.together:
        schedule.compute_inline("weight")
        if tile.unpacked != "first":
            schedule.compute_at("spread", step_outer if tile.unpacked == "within" else block_outer)
        own, unit, *lanes = schedule.get_loops("spread")[-4:]
        if tile.unpacked == "within":
            schedule.unroll(own)
            schedule.unroll(unit)
        else:
            schedule.unroll(schedule.split(unit, [None, UNITS if stored.units % UNITS == 0 else stored.together])[1])
        schedule.vectorize(schedule.fuse(*lanes))
    _unpack(schedule)
    _finish(schedule, dot, x_outer, halves)
    _product(schedule, product, tap, lane, str(dot.intrinsic))


def depthwise(dot: Dot, depth: int, step: int, halves: bool, places: int) -> list[Choice]:
    """Likewise of a depthwise convolution. step: bytes from a tap to the next; places: vectors in a row."""
    weaving = weave(dot, step)
    return [
        Choice(
            f"{count} places",
            lambda schedule, count=count: _arrange_depthwise(schedule, dot, depth, weaving, halves, count),  # type: ignore[misc]
        )
        for count in reversed(divisors(places, MOST_PLACES))
    ]


def _arrange_depthwise(schedule: Any, dot: Dot, depth: int, weaving: str, halves: bool, count: int) -> None:
    product = schedule.get_sblock("dot")
    schedule.fuse_reduction_epilogue(product, "biased")
    n, y, block, place, lane, row, quad, _ = schedule.get_loops(product)
    place_outer, place_inner = schedule.split(place, [None, count])
    schedule.reorder(n, block, y, place_outer, row, quad, place_inner, lane)
    for loop in (row, quad, place_inner):
        schedule.unroll(loop)
    _rows(schedule, depth)
    _unpack(schedule)
    taps = schedule.get_sblock("woven")
    schedule.compute_at(taps, block)
    schedule.tensorize(schedule.get_loops(taps)[-1], weaving)
    _finish(schedule, dot, place_outer, halves)
    _product(schedule, product, row, lane, str(dot.taps))


def _flatten(schedule: Any) -> None:
    _, *loops = schedule.get_loops(schedule.get_sblock("result"))
    schedule.fuse(*loops)


#: The one stage of a kernel whose inputs and output have one shape as one loop, which LLVM makes vectors of.
FLAT = (Choice("flat", _flatten),)


def _finish(schedule: Any, dot: Dot, outer: Any, halves: bool) -> None:
    """Sums become codes where they are complete."""
    scaled, codes = schedule.get_sblock("scaled"), schedule.get_sblock("codes")
    schedule.reverse_compute_at(scaled, outer)
    *around, lanes = schedule.get_loops(scaled)
    schedule.reverse_compute_at(codes, around[-1])
    if halves and dot.rescale is not None:
        schedule.tensorize(lanes, dot.rescale)
    else:
        schedule.vectorize(lanes)
    *_, lanes = schedule.get_loops(codes)
    schedule.vectorize(lanes)


def _product(schedule: Any, product: Any, first: Any, lane: Any, intrinsic: str) -> None:
    """first: the outermost loop of the sum."""
    start = schedule.decompose_reduction(product, first)
    *_, start_lane = schedule.get_loops(start)
    schedule.vectorize(start_lane)
    # What only the beginning read is still told of the rest.
    stale = [i for i, region in enumerate(schedule.get(product).reads) if region.source.name == "bias"]
    schedule.unsafe_hide_buffer_access(product, "read", stale)
    schedule.tensorize(lane, intrinsic)


def _rows(schedule: Any, depth: int) -> None:
    """The image is copied pixel by pixel, so that no element needs a division."""
    *_, at = schedule.get_loops(schedule.get_sblock("image"))
    schedule.split(at, [None, depth])


def _unpack(schedule: Any) -> None:
    """Eight units together, so that all shifts are constants, and all lanes at once."""
    for name in sorted(names(schedule)):
        if name.startswith("weight"):
            *_, unit, lane, group = schedule.get_loops(schedule.get_sblock(name))
            _, inner = schedule.split(unit, [None, UNITS])
            schedule.unroll(inner)
            schedule.vectorize(schedule.fuse(lane, group))
