"""An integer graph to a program of kernel calls. What the kernels cannot do is named all at once."""

from __future__ import annotations

from dnnc.backends.c.context import Context
from dnnc.backends.c.formats import lower_linear, tiny_layers
from dnnc.backends.c.program import Program, Refusal, Step
from dnnc.backends.c.simple import LOWERINGS
from dnnc.backends.c.table import ARMV6M, GENERIC, IN_ORDER, RV32IM, Kernel, Selection
from dnnc.backends.c.table_armv7em import ARMV7EM
from dnnc.cost.target import Target
from dnnc.errors import Unsupported, UnsupportedError
from dnnc.ir.graph import Graph, Node
from dnnc.ir.types import PACKED_ELEMENTS
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.passes.simplify import Simplify

TABLE: tuple[Kernel, ...] = (*ARMV7EM, *ARMV6M, *RV32IM, *GENERIC)

#: Families whose kernels take so many channels at a time, whole words of them, that they gain by a multiple.
_CHANNEL_MULTIPLES = {"armv7em": 4}


def simplification(target: Target) -> Simplify:
    """How far to take channels out of a network, so that what is left suits the target's best kernels."""
    packed = PACKED_ELEMENTS if 4 in target.activation_bits else 1
    return Simplify(_CHANNEL_MULTIPLES.get(target.kernels[0], 1), packed)


def lower(graph: Graph, target: Target, selection: Selection = IN_ORDER) -> Program:
    """One step a node. Raises UnsupportedError listing every node that no kernel of the target can compute."""
    context = Context(graph, target, TABLE, selection)
    results = [_try(context, node) for node in graph.nodes]
    refused = [result for result in results if isinstance(result, Unsupported)]
    if refused:
        raise UnsupportedError(refused, f"the C program of '{graph.name}'")
    steps = tuple(result for result in results if isinstance(result, Step))
    tiny = tiny_layers(context, steps)
    if tiny:
        for name in tiny:
            selection = selection.write(name, "straight")
        return lower(graph, target, selection)
    return Program(steps)


def _try(context: Context, node: Node) -> Step | Unsupported:
    try:
        return _lower(context, node)
    except Refusal as reason:
        return Unsupported(node.name, node.op.kind, str(reason))


def _lower(context: Context, node: Node) -> Step:
    if isinstance(node.op, Conv2D | Dense):
        return lower_linear(context, node)
    lowering = LOWERINGS.get(type(node.op))
    if lowering is None:
        raise Refusal(f"the C back end has no lowering of {node.op.kind}")
    return lowering(context, node)
