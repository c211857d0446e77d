"""An integer graph of the right shape and widths, for what it would take: made in a moment, not to be run.

Codes follow the weights, so that zeros stay zeros and channels without weights are found; scales are made up, the same
for all values: they are such that nothing is clamped beyond its storage, and multipliers need no more than 16 bits.
Which kernels a layer gets, its loops, its bytes and the arena do not depend on scales in other ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc import fixed
from dnnc.ir.graph import Graph, Node, freeze
from dnnc.ir.types import Quant, TensorType
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.quantise.bytes import is_linear, is_masked
from dnnc.quantise.ties import tie

#: Values cover 0..6, so that Relu and Relu6 are limits of the storage.
_REACH = 6.0
#: Scale of an input times that of an 8-bit weight, of the scale of the output. Narrower codes are as much larger: were
#: they not, values would hardly vary, and what reads them would be the same for every input.
_RATIO = 2.0**-8
#: The largest code's weight, of the channel's largest weight: those that are tried for few bits, of which the one of
#: least error is taken, and that of more bits. With fewer bits than four it decides how many codes are 0, and whether
#: the most negative one is used, and so which kernels are.
_FACTORS = (0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95)
_FEW_BITS, _FACTOR_OF_MANY = 4, 0.95
#: Weights of a channel that the error is taken of.
_TRIED = 256
#: Weights below this share of the layer's largest are nothing: those of dead channels.
_NOTHING = 2.0**-16


def sketch(
    graph: Graph, weight_bits: Mapping[str, Sequence[int]] | int, activation_bits: Mapping[str, int] | int
) -> Graph:
    """weight_bits: linear node -> a width for each output channel, or one for all; activation_bits: value -> bits, or
    one for all. Values that must share a quantisation take the width of the first of them.
    """
    ties = tie(graph, keep_prescribed=False)
    widths = {}
    for value in ties.graph.types:
        group = ties.group_of[value]
        widths[value] = activation_bits if isinstance(activation_bits, int) else activation_bits.get(group, 8)
    quants = {v: ties.prescribed.get(ties.group_of[v]) or _quant(bits) for v, bits in widths.items()}
    types = {name: replace(t, quant=quants[name]) for name, t in ties.graph.types.items()}
    nodes = tuple(_node(node, weight_bits, types) for node in ties.graph.nodes)
    inputs = tuple(replace(i, type=types[i.name]) for i in ties.graph.inputs)
    return replace(ties.graph, inputs=inputs, nodes=nodes).verify()


def _quant(bits: int) -> Quant:
    if bits > 8:
        return Quant(bits, _REACH / 2 ** (bits - 1), 0)
    return Quant(bits, _REACH / (2**bits - 1), -(2 ** (bits - 1)))


def _node(node: Node, weight_bits: Mapping[str, Sequence[int]] | int, types: Mapping[str, TensorType]) -> Node:
    ins, out = tuple(types[v] for v in node.inputs), types[node.name]
    params: dict[str, Any] = dict(node.params)
    if is_linear(node):
        params |= _weights(node, weight_bits)
        x, y = ins[0].quant, out.quant
        assert x is not None and y is not None
        params["weight_scale"] = _RATIO * y.scale / x.scale * 2.0 ** (8.0 - params["weight_bits"])
        # In the middle of the values, so that no channel is constant but for weights that are all 0; of these, too,
        # unless its own makes them 0.
        dead = ~params["weight"].reshape(len(params["weight"]), -1).any(axis=1)
        params["bias"] = np.where(dead & (np.asarray(node.params["bias"]) <= 0), 0.0, _REACH / 2)
    return replace(node, params=freeze(node.op.quantise(params, ins, out)), type=out)


def _weights(node: Node, given: Mapping[str, Sequence[int]] | int) -> dict[str, NDArray[Any]]:
    assert isinstance(node.op, (Conv2D, Dense))
    weight = np.asarray(node.params["weight"], np.float32)
    rows = weight.reshape(len(weight), -1)
    bits = np.full(len(rows), given, np.uint8) if isinstance(given, int) else np.asarray(given[node.name], np.uint8)
    if is_masked(weight):
        bits = np.maximum(bits, 2)
    reach = np.abs(rows).max(axis=1, initial=0.0)
    floor = max(float(reach.max(initial=0.0)) * _NOTHING, 1e-30)
    codes = np.zeros(rows.shape, np.int8)
    for width in np.unique(bits):
        lo, hi = fixed.code_range(int(width))
        chosen = bits == width
        factor = _factors(rows[chosen], reach[chosen], lo, hi) if width <= _FEW_BITS else _FACTOR_OF_MANY
        step = np.where(reach[chosen] > floor, factor * reach[chosen] / max(hi, 1), np.inf)
        exact = rows[chosen] / step[:, None]
        rounded = np.where(exact >= 0, 1, -1) if width == 1 else np.clip(np.floor(exact + 0.5), lo, hi)
        codes[chosen] = rounded
    return {"weight": codes.reshape(weight.shape), "weight_bits": bits}


def _factors(rows: NDArray[Any], reach: NDArray[Any], lo: int, hi: int) -> NDArray[Any]:
    """The factor of least squared error for every channel."""
    some = rows[:, :: -(-rows.shape[1] // _TRIED)]
    errors = []
    for factor in _FACTORS:
        step = np.maximum(factor * reach / max(hi, 1), 1e-30)[:, None]
        errors.append(((np.clip(np.floor(some / step + 0.5), lo, hi) * step - some) ** 2).sum(axis=1))
    found: NDArray[Any] = np.array(_FACTORS)[np.argmin(errors, axis=0)]
    return found
