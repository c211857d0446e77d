"""Schedules: how the stages of a linear layer's kernel are arranged, without changing what they compute.

With a tensor intrinsic, `pixels` x `blocks` sums of `lanes` channels stay in vector registers while a window is walked;
then they are requantised and stored. Every element is computed by the same integer operations in any arrangement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import s_tir, tirx

from dnnc.backends.tvm import intrinsics  # noqa: F401 (registers them)
from dnnc.backends.tvm.dot import Dot

#: Sums that fit the registers beside a column of weights, and TVM's limit of 1024 bytes for what is on the stack.
MOST_SUMS = 16


@dataclass(frozen=True)
class Tile:
    """Sums that are computed together: columns of the output times blocks of channels."""

    pixels: int
    blocks: int


def divisors(value: int, most: int) -> list[int]:
    return [d for d in range(1, min(value, most) + 1) if value % d == 0]


def tiles(columns: int, blocks: int) -> list[Tile]:
    """Every tile that fills the layer exactly, the one with the fewest loads a product first, then the larger."""
    found = [
        Tile(p, b) for p in divisors(columns, MOST_SUMS) for b in divisors(blocks, MOST_SUMS) if p * b <= MOST_SUMS
    ]
    return sorted(found, key=lambda t: (1 / t.pixels + 1 / t.blocks, t.blocks))


def names(schedule: Any) -> set[str]:
    root = schedule.get_sblock("root")
    return {schedule.get(block).name_hint for block in schedule.get_child_blocks(root)}


def arrange(kernel: tirx.PrimFunc, dot: Dot, depth: int) -> tirx.PrimFunc:
    """The kernel of a convolution or dense layer (not depthwise). depth: channels of the input."""
    schedule = s_tir.Schedule(kernel)
    product = schedule.get_sblock("dot")
    n, y, x, group, block, lane, tap, step, _ = schedule.get_loops(product)
    columns, blocks = (int(schedule.get(loop).extent) for loop in (x, block))
    tile = tiles(columns, blocks)[0]
    _rows(schedule, depth)
    _unpack(schedule)
    x_outer, x_inner = schedule.split(x, [None, tile.pixels])
    block_outer, block_inner = schedule.split(block, [None, tile.blocks])
    schedule.reorder(n, group, block_outer, y, x_outer, tap, step, x_inner, block_inner, lane)
    schedule.unroll(x_inner)
    schedule.unroll(block_inner)
    codes = schedule.get_sblock("codes")
    schedule.reverse_compute_at(codes, x_outer)
    lanes = schedule.get_loops(codes)[-1]
    schedule.vectorize(lanes)
    start = schedule.decompose_reduction(product, tap)
    *_, start_lane = schedule.get_loops(start)
    schedule.vectorize(start_lane)
    schedule.tensorize(lane, dot.intrinsic)
    (kernel,) = schedule.mod.functions.values()
    return kernel


def _rows(schedule: Any, depth: int) -> None:
    """The image is copied pixel by pixel, so that no element needs a division."""
    *_, at = schedule.get_loops(schedule.get_sblock("image"))
    schedule.split(at, [None, depth])


def _unpack(schedule: Any) -> None:
    """Eight units together, so that all shifts are constants, and all lanes at once."""
    for name in sorted(names(schedule)):
        if name.startswith("weight"):
            unit, *lanes = schedule.get_loops(schedule.get_sblock(name))
            _, inner = schedule.split(unit, [None, 8])
            schedule.unroll(inner)
            schedule.vectorize(schedule.fuse(*lanes))
