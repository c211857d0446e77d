"""Forward: what every channel of every value can hold."""

from __future__ import annotations

from collections.abc import Mapping

from dnnc.ir.channels import Interval, Known
from dnnc.ir.graph import Graph, Node


def intervals(graph: Graph) -> dict[str, Interval]:
    """Of every value of an integer graph, for any codes that its inputs' types allow."""
    found = {source.name: Interval.full(source.type) for source in graph.inputs}
    for node in graph.nodes:
        xs = [found[value] for value in node.inputs]
        found[node.name] = node.op.interval(xs, node.params, graph.input_types(node), node.type)
    return found


def known_of(node: Node, found: Mapping[str, Interval]) -> Known:
    return Known(tuple(found[value] for value in node.inputs), found[node.name])
