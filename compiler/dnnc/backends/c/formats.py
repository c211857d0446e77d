"""In which format the weights of a linear layer are stored: all of them, or only those that are not zero.

The rule: of what is stored as data, what takes the fewest bytes, unless the share of bytes that it saves is less than
what it costs in instructions, as far as `_INSTRUCTIONS` foresees them. (So a layer of a quarter of the bytes may take
four times the instructions.) Then, where straight-line code for all layers of records takes less flash than their
records and the kernel for them, they become that, which is faster too. --optimise speed and size (optimise.py) measure
every format instead. quantise/bytes.py counts on this rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from dnnc.backends.c.context import Context
from dnnc.backends.c.linear import layer_of, lower_dense
from dnnc.backends.c.program import Refusal, Step
from dnnc.backends.c.sparse import lower_bitmap, lower_delta
from dnnc.backends.c.straight import lower_straight
from dnnc.backends.c.table import Layer
from dnnc.backends.c.ternary import lower_ternary
from dnnc.ir.graph import Node
from dnnc.records import record_instructions

Lowering = Callable[[Context, Node, Layer], Step]

#: Besides "dense". delta: records of a weight and the zeros after it; bitmap: a bit a place (records.py). ternary:
#: weights of -1, 0 and 1, five a byte (ternary.py). straight: weights as code (straight.py).
_OTHERS: Mapping[str, Lowering] = {
    "delta": lower_delta,
    "bitmap": lower_bitmap,
    "ternary": lower_ternary,
    "straight": lower_straight,
}
#: Instructions of a multiply-accumulate by kernel family, and of depthwise layers, as targets/README.md has them.
_INSTRUCTIONS = {"armv7em": 1.1, "armv6m": 4.6, "rv32im": 3.2, "generic": 4.0}
_DEPTHWISE = 2.0
#: How many times the instructions of `records.record_instructions` other families take.
_RECORD_SLOWER = {"armv6m": 1.7}
#: Flash of the code of the kernel for records (tools/bench/straight.py: Cortex-M7, -Os; elsewhere it takes more).
_RECORD_CODE = 950
#: Instructions for a place of a bitmap.
_PLACE = 10.0
#: Instructions that unpack a ternary weight.
_DIGIT = 10.0
#: A larger share of weights than this that are not zero never pays.
_LARGEST_DENSITY = 0.7


def lower_linear(context: Context, node: Node) -> Step:
    """Conv2D or Dense, its weights in the format that the selection says, or else the rule."""
    layer = layer_of(context, node)
    chosen = dict(context.selection.formats).get(node.name)
    made = {"dense": lower_dense(context, node, layer)}
    for name, lowering in _OTHERS.items():
        if name in (chosen, "ternary") or density(node) <= _LARGEST_DENSITY:
            step = _tried(lowering, context, node, layer)
            made |= {name: step} if step is not None else {}
    if chosen not in made:
        chosen = _by_rule(made, layer, density(node))
    others = tuple(name for name in made if name != chosen)
    return replace(made[chosen], formats=(chosen, *others))


def tiny_layers(context: Context, steps: Sequence[Step]) -> list[str]:
    """The layers of records, where all of them are better written as straight-line code: then their kernel goes too."""
    records = [step for step in steps if step.formats[:1] in (("delta",), ("bitmap",))]
    written = dict(context.selection.formats)
    if any("straight" not in step.formats or step.node in written for step in records):
        return []
    nodes = [context.graph.by_name[step.node] for step in records]
    code = [lower_straight(context, node, layer_of(context, node)) for node in nodes]
    stored = sum(step.weight_bytes + step.table_bytes for step in records)
    less = sum(step.code_bytes + step.table_bytes for step in code) < stored + _RECORD_CODE
    return [node.name for node in nodes] if less else []


def _tried(lowering: Lowering, context: Context, node: Node, layer: Layer) -> Step | None:
    try:
        return lowering(context, node, layer)
    except Refusal:
        return None


def density(node: Node) -> float:
    """The share of a linear node's weights that are not zero."""
    weight = node.params["weight"]
    return float(np.count_nonzero(weight) / max(weight.size, 1))


def _by_rule(made: Mapping[str, Step], layer: Layer, density: float) -> str:
    dense = made["dense"]
    family = dense.calls[0].kernel.kernel.family
    instructions = _INSTRUCTIONS[family] * (_DEPTHWISE if layer.op == "depthwise" else 1.0)
    pixels = layer.out_h * layer.out_w
    record = record_instructions(layer.out_h, layer.out_w) * _RECORD_SLOWER.get(family, 1.0)
    each = {"dense": instructions, "delta": record * density, "ternary": instructions + _DIGIT / pixels}
    each["bitmap"] = record * density + _PLACE / pixels
    able = [name for name, step in made.items() if name in each and step.weight_bytes <= dense.weight_bytes]
    return min(able, key=lambda name: made[name].weight_bytes * each[name])
