"""Schedules for cores without vectors and with little memory, whose C is made from them.

A layer's block of channels is unpacked once and then walked over all pixels, so that the weights of a block, and not of
the layer, need memory, and sums stay in registers. Every element is computed by the same integer operations in any
arrangement, and a stage that is not known here stays as it is: a kernel without a schedule is right, but larger.
"""

from __future__ import annotations

from math import prod
from typing import Any

from tvm import s_tir, tirx

from dnnc.backends.tvm.dot import Dot
from dnnc.ir.graph import Node
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.pool import AvgPool2D, MaxPool2D, ReduceMean

#: Pixels that share the reads of weights, and steps that are written out; more of either needs more registers and code.
PIXELS, STEPS = 2, 2
#: The longest row of a depthwise window that is written out.
MOST_TAPS = 8
#: TVM's number for an axis that is summed over, or whose maximum is sought.
_REDUCED = tirx.IterVar.CommReduce


def dot_of(node: Node) -> Dot:
    """As many channels at a time as fit a core's registers and divide the layer's, so that no block is half empty."""
    if not isinstance(node.op, Conv2D | Dense):
        return Dot(4)
    groups = node.op.groups if isinstance(node.op, Conv2D) else 1
    channels = len(node.params["weight"])
    if isinstance(node.op, Conv2D) and node.op.depthwise(node.params):
        groups = 1
    return Dot(next(lanes for lanes in (4, 2, 1) if (channels // groups) % lanes == 0))


def arrange(node: Node, kernel: tirx.PrimFunc) -> tirx.PrimFunc:
    schedule = s_tir.Schedule(kernel)
    if isinstance(node.op, Conv2D) and node.op.depthwise(node.params):
        _depthwise(schedule, any(node.op.padding))
    elif isinstance(node.op, Conv2D | Dense):
        _windows(schedule, isinstance(node.op, Conv2D) and any(node.op.padding))
    elif isinstance(node.op, MaxPool2D | AvgPool2D | ReduceMean):
        _reduction(schedule)
    for name in _names(schedule):
        if not name.endswith(("_init", "_update")):
            _begin(schedule, schedule.get_sblock(name))
    (arranged,) = schedule.mod.functions.values()
    return arranged.with_attr("tirx.noalias", True)


def _windows(schedule: Any, padded: bool) -> None:
    if not padded:
        schedule.compute_inline(schedule.get_sblock("image"))
    names = _names(schedule)
    for name in names[names.index("dot") + 1 : -1]:  # what becomes of a sum, up to the result
        schedule.compute_inline(schedule.get_sblock(name))
    result, product = schedule.get_sblock("result"), schedule.get_sblock("dot")
    extents = [_extent(schedule, loop) for loop in schedule.get_loops(product)[3:6]]
    sample, *pixels, channel = schedule.get_loops(result)
    if prod(extents) == _extent(schedule, channel):
        *blocks, lane = _by_lane(schedule, result, extents)
        sample, *pixels = schedule.get_loops(result)[: 1 + len(pixels)]
        unrolled = [lane]
        if pixels and _extent(schedule, pixels[-1]) % PIXELS == 0:
            pixels[-1], beside = schedule.split(pixels[-1], [None, PIXELS])
            unrolled = [beside, lane]
        schedule.reorder(sample, *blocks, *pixels, *unrolled)
        schedule.compute_at(product, [sample, *blocks, *pixels][-1], preserve_unit_loops=True)
        _unroll(schedule, unrolled)
        _weights(schedule, [sample, *blocks][-1])
    _sum(schedule, product)


def _sum(schedule: Any, product: Any) -> None:
    """The steps of a window outside, its sums inside: an input and a weight are read once for all of them."""
    *_, column, group, block, lane, tap, step, inner = schedule.get_loops(product)
    sums = [column, lane] if _extent(schedule, column) <= PIXELS else [lane]
    schedule.reorder(tap, step, group, block, *sums, inner)
    if _extent(schedule, step) % STEPS == 0:
        _, beside = schedule.split(step, [None, STEPS])
        _unroll(schedule, [beside])
    _unroll(schedule, sums)
    start = schedule.decompose_reduction(product, tap)
    _unroll(schedule, schedule.get_loops(start)[-len(sums) :])


def _by_lane(schedule: Any, result: Any, extents: list[int]) -> list[Any]:
    """The output's channels become the axes of the sums, so that it is plain which sums an element needs: the loops
    over groups and blocks, where there are several, and over lanes."""
    _, blocks, lanes = extents
    rank = len(schedule.get_loops(result))

    def axes(*at: Any) -> list[Any]:
        *pixel, channel = at
        own = (channel // (blocks * lanes), channel % (blocks * lanes) // lanes, channel % lanes)
        return [*pixel, *(axis for axis, extent in zip(own[:2], extents[:2], strict=True) if extent > 1), own[2]]

    schedule.transform_block_layout(result, tirx.IndexMap.from_func(axes, ndim=rank, index_dtype="int32"))
    return list(schedule.get_loops(result)[rank - 1 :])


def _depthwise(schedule: Any, padded: bool) -> None:
    if not padded:
        schedule.compute_inline(schedule.get_sblock("image"))
    result, product = schedule.get_sblock("result"), schedule.get_sblock("dot")
    sample, row, column, channel = schedule.get_loops(result)
    schedule.reorder(sample, channel, row, column)
    schedule.compute_at(product, column, preserve_unit_loops=True)
    *_, j = schedule.get_loops(product)
    if _extent(schedule, j) <= MOST_TAPS:
        _unroll(schedule, [j])
    _weights(schedule, None)


def _weights(schedule: Any, loop: Any) -> None:
    """Weights that are stored narrower than bytes are unpacked in each iteration of `loop`, once where it is None."""
    names = _names(schedule)
    packed = [name for name in names if name.startswith("weight")]
    if "gathered" in names:
        for name in packed:
            schedule.compute_inline(schedule.get_sblock(name))
        packed = ["gathered"]
    if loop is not None:
        for name in packed:
            schedule.compute_at(schedule.get_sblock(name), loop)


def _reduction(schedule: Any) -> None:
    """A sum or maximum belongs to one element of the output, not to a tensor of its own."""
    result = schedule.get_sblock("result")
    (product,) = schedule.get_producers(result)
    schedule.compute_at(product, schedule.get_loops(result)[-1], preserve_unit_loops=True)


def _begin(schedule: Any, block: Any) -> None:
    """A sum or maximum begins before its loops, not by asking in each step whether it is the first."""
    reduced = [int(axis.iter_type) == _REDUCED for axis in schedule.get(block).iter_vars]
    if any(reduced):
        loops = schedule.get_loops(block)[-len(reduced) :]
        schedule.decompose_reduction(block, loops[reduced.index(True)])


def _names(schedule: Any) -> list[str]:
    root = schedule.get_sblock("root")
    return [str(schedule.get(block).name_hint) for block in schedule.get_child_blocks(root)]


def _extent(schedule: Any, loop: Any) -> int:
    return int(schedule.get(loop).extent)


def _unroll(schedule: Any, loops: list[Any]) -> None:
    for loop in loops:
        schedule.unroll(loop)
