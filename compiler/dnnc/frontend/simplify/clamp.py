"""Relu and Clip into the operation that makes their input."""

from __future__ import annotations

from dataclasses import replace

from dnnc.frontend.simplify.edit import sole_reader, substitute, with_quant
from dnnc.ir.graph import Graph, Node
from dnnc.ops.activation import Clamp
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.elementwise import Add, Mul
from dnnc.ops.movement import Reshape, Transpose
from dnnc.ops.pointwise import Pointwise
from dnnc.ops.pool import MaxPool2D

Clamped = Conv2D | Dense | Add | Mul
#: Limits beyond this are none.
NO_LIMIT = 3.0e38


def clamp_of(node: Node) -> Clamp | None:
    """What a Relu or Clip does, None for other nodes."""
    if not isinstance(node.op, Pointwise):
        return None
    if node.op.function == "relu":
        return Clamp(0.0, None)
    if node.op.function == "clip":
        low, high = node.op.alpha, node.op.beta
        return Clamp(low if low > -NO_LIMIT else None, high if high < NO_LIMIT else None)
    return None


def compose(inner: Clamp, outer: Clamp) -> Clamp:
    """One clamp that does what `outer` after `inner` does."""

    def bound(value: float | None, unlimited: float) -> float | None:
        x = unlimited if value is None else value
        x = x if outer.lo is None else max(x, outer.lo)
        x = x if outer.hi is None else min(x, outer.hi)
        return None if abs(x) == float("inf") else x

    return Clamp(bound(inner.lo, -float("inf")), bound(inner.hi, float("inf")))


def fuse_clamps(graph: Graph) -> Graph:
    """Every Relu and Clip whose maker can clamp, and has no other reader. Maxima and moves let clamps through."""
    changed = True
    while changed:
        changed = False
        for node in graph.nodes:
            clamp = clamp_of(node)
            maker = _maker(graph, node) if clamp is not None else None
            if maker is None or clamp is None or not isinstance(maker.op, Clamped):
                continue
            op = replace(maker.op, clamp=compose(maker.op.clamp, clamp))
            new = {maker.name: replace(maker, op=op)}
            direct = graph.by_name[node.inputs[0]]
            quant = node.type.quant or direct.type.quant
            new[direct.name] = with_quant(new.get(direct.name, direct), quant)
            graph = substitute(graph, new, {node.name: direct.name})
            changed = True
            break
    return graph


def _maker(graph: Graph, node: Node) -> Node | None:
    """The node that makes a clamp's input, behind operations that let clamps through; each read by nobody else."""
    maker = graph.by_name.get(node.inputs[0])
    while maker is not None and sole_reader(graph, maker.name) is not None:
        if not isinstance(maker.op, MaxPool2D | Reshape | Transpose):
            return maker
        maker = graph.by_name.get(maker.inputs[0])
    return None


def quant_clamps(graph: Graph) -> Graph:
    """A prescribed quantisation without negative numbers is a Relu: onnxruntime's quantiser drops the Relu itself."""
    nodes = []
    for node in graph.nodes:
        quant = node.type.quant
        if quant is not None and quant.zero_point == quant.lo and isinstance(node.op, Clamped):
            node = replace(node, op=replace(node.op, clamp=compose(node.op.clamp, Clamp(0.0, None))))
        nodes.append(node)
    return graph.with_nodes(nodes)
