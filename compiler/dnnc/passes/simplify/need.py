"""Backward: which channels of every value are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from dnnc.ir.channels import Channels, Interval, Mask, channel_count
from dnnc.ir.graph import Graph, Node
from dnnc.ir.types import TensorType
from dnnc.ops.movement import Constant
from dnnc.passes.simplify.reach import known_of


def needed(graph: Graph, found: Mapping[str, Interval], multiple: Callable[[TensorType], int]) -> dict[str, Mask]:
    """value -> its channels that are kept; none where the whole value can go.

    Inputs and outputs of the graph keep all. Counts are made multiples of `multiple(type)` where enough channels are
    there. Sets only grow, so this ends.
    """
    kept = {name: np.zeros(channel_count(t.shape), np.bool_) for name, t in graph.types.items()}
    for name in (*(source.name for source in graph.inputs), *(output.value for output in graph.outputs)):
        kept[name][:] = True
    while _spread(graph, found, kept, lambda _: 1):
        pass
    while _spread(graph, found, kept, multiple):
        pass
    return kept


def is_constant(node: Node, found: Mapping[str, Interval], kept: Mapping[str, Mask]) -> bool:
    """Whether all that is kept of a node's output is proven to be constant."""
    return isinstance(node.op, Constant) or bool(found[node.name].constant[kept[node.name]].all())


def _spread(
    graph: Graph, found: Mapping[str, Interval], kept: dict[str, Mask], multiple: Callable[[TensorType], int]
) -> bool:
    """From the last node to the first, what each needs for what is kept of it; True where that was more than before."""
    before = sum(int(mask.sum()) for mask in kept.values())
    for node in reversed(graph.nodes):
        if not kept[node.name].any() or is_constant(node, found, kept):
            continue
        mask = _rounded_up(kept[node.name], found[node.name], multiple(node.type))
        now = Channels(tuple(kept[value] for value in node.inputs), mask)
        more = node.op.channels(now, known_of(node, found), node.params, graph.input_types(node))
        for value, wanted in zip((*node.inputs, node.name), (*more.ins, more.out), strict=True):
            kept[value] = kept[value] | wanted
    return sum(int(mask.sum()) for mask in kept.values()) > before


def _rounded_up(mask: Mask, interval: Interval, multiple: int) -> Mask:
    """With more channels, to a multiple where there are so many: first constant ones, which need the fewest inputs."""
    missing = -int(mask.sum()) % multiple
    spare = np.flatnonzero(~mask)
    if not missing or missing > len(spare):
        return mask
    constants_first = np.argsort(~interval.constant[spare], kind="stable")
    larger = mask.copy()
    larger[spare[constants_first[:missing]]] = True
    return larger
