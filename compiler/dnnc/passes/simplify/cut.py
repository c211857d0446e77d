"""The graph cut down to the channels that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from dnnc.ir.channels import Channels, Interval, Mask
from dnnc.ir.graph import Graph, Node, freeze
from dnnc.ir.types import TensorType
from dnnc.ops.common import quant_of
from dnnc.ops.movement import Constant
from dnnc.passes.simplify.need import is_constant
from dnnc.passes.simplify.reach import known_of


def cut(graph: Graph, found: Mapping[str, Interval], kept: Mapping[str, Mask]) -> Graph:
    """Nodes of which nothing is kept are left out; nodes that keep everything are the same objects."""
    nodes = []
    for node in graph.nodes:
        if kept[node.name].any():
            nodes.append(_cut_node(graph, node, found, kept))
    return graph.with_nodes(nodes)


def _cut_node(graph: Graph, node: Node, found: Mapping[str, Interval], kept: Mapping[str, Mask]) -> Node:
    mask = kept[node.name]
    made = _cut_type(node.type, mask)
    if is_constant(node, found, kept) and not isinstance(node.op, Constant):
        if _is_broadcast(graph, node):
            made = replace(made, shape=(*(1,) * (len(made.shape) - 1), *made.shape[-1:]))
        codes = np.broadcast_to(found[node.name].lo[mask], made.shape or (1,)).reshape(made.shape)
        return Node(node.name, Constant(), (), freeze({"value": codes.astype(quant_of(made).dtype)}), made)
    channels = Channels(tuple(kept[value] for value in node.inputs), mask)
    if all(m.all() for m in (*channels.ins, mask)):
        return node
    op, params = node.op.cut(channels, known_of(node, found), node.params, graph.input_types(node))
    inputs = tuple(value for value in node.inputs if kept[value].any())
    return replace(node, op=op, inputs=inputs, params=freeze(params), type=made)


def _is_broadcast(graph: Graph, node: Node) -> bool:
    """Whether one position of a node's output would do for all of its readers: flash holds no image of constants."""
    if any(output.value == node.name for output in graph.outputs):
        return False
    return all(
        reader.op.broadcasts
        and any(value != node.name and graph.types[value].shape == reader.type.shape for value in reader.inputs)
        for reader in graph.consumers[node.name]
    )


def _cut_type(value: TensorType, mask: Mask) -> TensorType:
    return replace(value, shape=(*value.shape[:-1], int(mask.sum()))) if value.shape else value
