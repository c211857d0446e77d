"""Exact rewrites of an integer graph: channels that hold one code only, or that nobody needs, are taken out.

Intervals of the codes that every channel can hold run forward through the operations, in the arithmetic of dnnc.fixed:
where both ends are the same code, the channel is proven to be constant. What is needed runs backward: a convolution
does without inputs whose weights are zero, and folds constant ones into its bias where padding allows it; channelwise
operations hand on what they are asked for. What is left is cut to size. No output of the graph changes, for any input.
"""

from __future__ import annotations

from dataclasses import dataclass

from dnnc.ir.graph import Graph
from dnnc.ir.types import TensorType
from dnnc.ops.common import quant_of
from dnnc.passes.simplify.cut import cut
from dnnc.passes.simplify.identity import without_identities
from dnnc.passes.simplify.need import needed
from dnnc.passes.simplify.reach import intervals

__all__ = ["Removed", "Simplify", "intervals", "removed", "simplify"]


@dataclass(frozen=True)
class Simplify:
    """Channel counts are kept at multiples of these where enough channels are there; 1 leaves as few as can be.

    packed_multiple is for values of at most 4 bits: they can be packed only where their rows are whole words.
    """

    channel_multiple: int = 1
    packed_multiple: int = 1

    def multiple(self, value: TensorType) -> int:
        """Of channels of an integer value."""
        return self.packed_multiple if quant_of(value).bits <= 4 else self.channel_multiple


def simplify(graph: Graph, options: Simplify = Simplify()) -> Graph:
    """An integer graph with the same inputs, outputs and results, and as little in between as can be proven.

    Values are not packed yet: packing asks for whole words of channels.
    """
    if any(value.packed for value in graph.types.values()):
        raise TypeError("simplify comes before packing")
    while True:
        known = intervals(graph)
        smaller = without_identities(graph, known)
        if smaller is not graph:
            known = intervals(smaller)
        smaller = cut(smaller, known, needed(smaller, known, options.multiple)).prune_dead()
        if smaller.nodes == graph.nodes:
            return graph.verify()
        graph = smaller


@dataclass(frozen=True)
class Removed:
    """Multiply-accumulates of one inference, and output channels of all nodes with weights, before and after."""

    macs_before: int
    macs_after: int
    channels_before: int
    channels_after: int


def removed(before: Graph, after: Graph) -> Removed | None:
    """What `simplify` took away; None where it was nothing that is counted."""
    found = Removed(before.macs, after.macs, _channels(before), _channels(after))
    return None if (found.macs_before, found.channels_before) == (found.macs_after, found.channels_after) else found


def _channels(graph: Graph) -> int:
    return sum(len(node.params["weight"]) for node in graph.nodes if "weight" in node.params)
