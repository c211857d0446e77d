"""Small edits of a graph that the simplifications share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dnnc.ir.graph import Graph, Node
from dnnc.ir.types import Quant


def sole_reader(graph: Graph, value: str) -> Node | None:
    """The one node that reads a value; None where there are others, or where it is an output."""
    readers = graph.consumers[value]
    return readers[0] if len(readers) == 1 and not is_output(graph, value) else None


def is_output(graph: Graph, value: str) -> bool:
    return any(o.value == value for o in graph.outputs)


def substitute(graph: Graph, new: Mapping[str, Node], renamed: Mapping[str, str]) -> Graph:
    """Replace nodes by others of the same name, then let readers of renamed values read their replacements.

    Order is kept; nodes that nobody reads any more are dropped.
    """
    nodes = []
    for node in graph.nodes:
        node = new.get(node.name, node)
        inputs = tuple(_follow(renamed, v) for v in node.inputs)
        nodes.append(node if inputs == node.inputs else replace(node, inputs=inputs))
    outputs = tuple(replace(o, value=_follow(renamed, o.value)) for o in graph.outputs)
    return replace(graph, nodes=tuple(nodes), outputs=outputs).prune_dead()


def _follow(renamed: Mapping[str, str], value: str) -> str:
    while value in renamed:
        value = renamed[value]
    return value


def with_quant(node: Node, quant: Quant | None) -> Node:
    return replace(node, type=replace(node.type, quant=quant))
