"""Which values of at most 4 bits are stored packed, two codes a byte: half their RAM, for some instructions."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection
from dataclasses import replace

from dnnc.ir.graph import Graph, Node
from dnnc.ir.types import Shape
from dnnc.ops.common import quant_of
from dnnc.ops.lifetimes import roots


def pack_activations(
    graph: Graph,
    takes: Callable[[Graph, Node], bool],
    fits: Callable[[Shape], bool],
    arena_bytes: Callable[[Graph], int],
) -> Graph:
    """The same integer graph with packed types where they make its arena smaller.

    takes: whether a node reads and writes packed values. fits: whether a shape can be packed. arena_bytes: what a graph
    needs. The largest values are packed, as many as it takes: the others would cost instructions and save nothing.
    """
    groups = _packable(graph, takes, fits)
    if not groups:
        return graph
    arenas = {len(groups): arena_bytes(_packed(graph, groups))}

    def as_small(count: int) -> bool:
        """As what packing all of them needs. (Packing one more nearly always helps, or changes nothing.)"""
        arenas[count] = arena_bytes(_packed(graph, groups[:count]))
        return arenas[count] <= arenas[len(groups)]

    bisect_left(range(len(groups)), True, key=as_small)
    least = min(arenas, key=lambda count: (arenas[count], count))
    return _packed(graph, groups[:least]).verify()


def _packable(
    graph: Graph, takes: Callable[[Graph, Node], bool], fits: Callable[[Shape], bool]
) -> list[tuple[str, ...]]:
    """Values that can be packed, each with its views (they share its bytes), the largest first.

    What the network's user reads or writes stays in bytes.
    """
    ends = {source.name for source in graph.inputs} | {output.value for output in graph.outputs}
    groups: dict[str | None, list[str]] = {}
    refused: set[str | None] = {None}
    for name, root in roots(graph).items():
        kind = graph.types[name]
        users = (*graph.consumers[name], *((graph.by_name[name],) if name in graph.by_name else ()))
        groups.setdefault(root, []).append(name)
        if name in ends or quant_of(kind).bits > 4 or not fits(kind.shape) or not all(takes(graph, n) for n in users):
            refused.add(root)
    found = [tuple(names) for root, names in groups.items() if root not in refused]
    return sorted(found, key=lambda names: -graph.types[names[0]].size)


def _packed(graph: Graph, groups: Collection[tuple[str, ...]]) -> Graph:
    names = {name for group in groups for name in group}
    return graph.with_nodes(
        replace(node, type=replace(node.type, packed=True)) if node.name in names else node for node in graph.nodes
    )
