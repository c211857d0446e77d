"""Nodes whose output is their input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dnnc.ir.channels import Interval
from dnnc.ir.graph import Graph, Node
from dnnc.passes.simplify.reach import known_of


def without_identities(graph: Graph, found: Mapping[str, Interval]) -> Graph:
    """Readers of such a node, graph outputs among them, read its input instead."""
    same: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op.identity(known_of(node, found), node.params, graph.input_types(node), node.type):
            same[node.name] = same.get(node.inputs[0], node.inputs[0])
        elif any(value in same for value in node.inputs):
            nodes.append(replace(node, inputs=tuple(same.get(value, value) for value in node.inputs)))
        else:
            nodes.append(node)
    outputs = tuple(replace(output, value=same.get(output.value, output.value)) for output in graph.outputs)
    return replace(graph, nodes=tuple(nodes), outputs=outputs) if same else graph
