"""In which format the weights of a linear layer are stored: all of them, or only those that are not zero.

The rule: the format with the least product of flash bytes (weights, tables, struct) and instructions, as far as
`_INSTRUCTIONS` foresees them. So a format may cost twice the instructions where it takes half the flash. --optimise
speed and size (optimise.py) measure both instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from dnnc.backends.c.context import Context
from dnnc.backends.c.linear import layer_of, lower_dense
from dnnc.backends.c.program import Refusal, Step
from dnnc.backends.c.sparse import lower_delta
from dnnc.backends.c.table import Layer
from dnnc.ir.graph import Node

Lowering = Callable[[Context, Node, Layer], Step]

#: Besides "dense". delta: records of a weight and the zeros after it (records.py).
_SPARSE: Mapping[str, Lowering] = {"delta": lower_delta}
#: Instructions of a multiply-accumulate by kernel family, and of depthwise layers, as targets/README.md has them; and
#: of the kernel for records.
_INSTRUCTIONS = {"armv7em": 1.1, "armv6m": 4.6, "rv32im": 3.2, "generic": 4.0}
_DEPTHWISE = 2.0
_RECORD = 8.0
#: A larger share of weights than this that are not zero never pays.
_LARGEST_DENSITY = 0.7


def lower_linear(context: Context, node: Node) -> Step:
    """Conv2D or Dense, its weights in the format that the selection says, or else the rule."""
    layer = layer_of(context, node)
    chosen = dict(context.selection.formats).get(node.name)
    made = {"dense": lower_dense(context, node, layer)}
    for name, lowering in _SPARSE.items():
        if name == chosen or density(node) <= _LARGEST_DENSITY:
            step = _tried(lowering, context, node, layer)
            made |= {name: step} if step is not None else {}
    if chosen not in made:
        chosen = min(made, key=lambda name: _flash(made[name]) * _instructions(made, name, layer, density(node)))
    others = tuple(name for name in made if name != chosen)
    return replace(made[chosen], formats=(chosen, *others))


def _tried(lowering: Lowering, context: Context, node: Node, layer: Layer) -> Step | None:
    try:
        return lowering(context, node, layer)
    except Refusal:
        return None


def density(node: Node) -> float:
    """The share of a linear node's weights that are not zero."""
    weight = node.params["weight"]
    return float(np.count_nonzero(weight) / max(weight.size, 1))


def _instructions(made: Mapping[str, Step], name: str, layer: Layer, density: float) -> float:
    """Foreseen, of a weight of the dense layer."""
    if name == "delta":
        return _RECORD * density
    dense = _INSTRUCTIONS[made["dense"].calls[0].kernel.kernel.family]
    return dense * (_DEPTHWISE if layer.op == "depthwise" else 1.0)


def _flash(step: Step) -> int:
    return step.weight_bytes + step.table_bytes
