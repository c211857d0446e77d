"""Explicit Pad nodes into the padding of the windows that read them."""

from __future__ import annotations

from dataclasses import replace

from dnnc.frontend.simplify.clamp import NO_LIMIT, clamp_of
from dnnc.frontend.simplify.edit import is_output, sole_reader, substitute
from dnnc.ir.graph import Graph, Node
from dnnc.ir.op import Op
from dnnc.ir.types import TensorType
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.elementwise import Add, Mul
from dnnc.ops.movement import Pad, Reshape
from dnnc.ops.pool import AvgPool2D, MaxPool2D

Padding = tuple[int, int, int, int]


def fuse_pads(graph: Graph) -> Graph:
    """Every Pad of height and width all of whose readers can pad for themselves."""
    graph = _behind_views(graph)
    changed = True
    while changed:
        changed = False
        for node in graph.nodes:
            readers = graph.consumers[node.name]
            if not isinstance(node.op, Pad) or not readers or is_output(graph, node.name):
                continue
            ops = [_padded(graph, node, node.op, reader) for reader in readers]
            new = {r.name: replace(r, op=op) for r, op in zip(readers, ops, strict=True) if op is not None}
            if len(new) < len(readers):
                continue
            graph = substitute(graph, new, {node.name: node.inputs[0]})
            changed = True
            break
    return graph


def _behind_views(graph: Graph) -> Graph:
    """A Pad of a signal [W, C] that is then viewed as an image [1, W, C] becomes a Pad of that image."""
    for node in graph.nodes:
        reader = sole_reader(graph, node.name)
        if not isinstance(node.op, Pad) or reader is None or not isinstance(reader.op, Reshape):
            continue
        if reader.op.shape != (1, *node.type.shape) or len(node.type.shape) != 2 or node.type.quant is not None:
            continue
        shape = (1, *graph.types[node.inputs[0]].shape)
        view = Node(node.name, Reshape(shape), node.inputs, {}, TensorType(shape))
        pad = replace(node.op, before=(0, *node.op.before), after=(0, *node.op.after))
        moved = Node(reader.name, pad, (node.name,), {}, reader.type)
        graph = substitute(graph, {node.name: view, reader.name: moved}, {})
    return graph


def _padded(graph: Graph, node: Node, pad: Pad, reader: Node) -> Op | None:
    """The reader's operation with the Pad in it, None where that would mean something else."""
    if len(pad.before) != 3 or pad.before[2] or pad.after[2]:
        return None
    extra = (pad.before[0], pad.before[1], pad.after[0], pad.after[1])
    op = reader.op
    if isinstance(op, Conv2D) and pad.value == 0:
        return replace(op, padding=_sum(op.padding, extra))
    if isinstance(op, AvgPool2D) and pad.value == 0 and (op.count_padding or not any(op.padding)):
        return replace(op, padding=_sum(op.padding, extra), count_padding=True)
    if isinstance(op, MaxPool2D):
        full = _sum(op.padding, extra)
        span = [d * (k - 1) + 1 for d, k in zip(op.dilation, op.kernel, strict=True)]
        covers = all(p < s for p, s in zip(full, span * 2, strict=True))
        if pad.value <= -NO_LIMIT or (pad.value == 0 and covers and _not_negative(graph, node.inputs[0])):
            return replace(op, padding=full)
    return None


def _sum(a: Padding, b: Padding) -> Padding:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]


def _not_negative(graph: Graph, value: str) -> bool:
    maker = graph.by_name.get(value)
    if maker is None:
        return False
    clamp = maker.op.clamp if isinstance(maker.op, Conv2D | Dense | Add | Mul) else clamp_of(maker)
    return clamp is not None and clamp.lo is not None and clamp.lo >= 0
