"""The one place where a float graph becomes an integer graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dnnc import fixed
from dnnc.cost.target import Target
from dnnc.errors import ModelError, OverflowBoundError
from dnnc.ir.graph import Graph, Node, freeze
from dnnc.ir.types import TensorType
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.bytes import is_linear
from dnnc.quantise.calibrate import Calibration
from dnnc.quantise.correct import correct
from dnnc.quantise.threads import one_thread
from dnnc.quantise.weights import WeightCodes

#: The smallest ratio of scales (in * weight / out) that keeps some ten bits of precision in a multiplier.
_SMALLEST_RATIO = 2.0**-22


@one_thread()
def quantise(graph: Graph, calibration: Calibration, allocation: Allocation, target: Target) -> Graph:
    """The integer graph of `graph` under `allocation`; every accumulator is proven to fit int32.

    The graph is `calibration.graph`: `graph` itself, or it with requantisation nodes put in. Raises OverflowBoundError
    naming the layer and the channel where a proof fails, and what would help.
    """
    graph = calibration.graph
    quants = {v: calibration.quant(v, allocation.activation_bits[v]) for v in graph.types}
    types = {name: replace(t, quant=quants[name]) for name, t in graph.types.items()}
    codes = {n.name: select_codes(n, calibration, allocation) for n in graph.nodes if is_linear(n)}
    codes = {name: _usable_scales(graph.by_name[name], c, types, calibration.power_of_two) for name, c in codes.items()}
    corrected = correct(calibration, codes, quants)
    nodes = []
    for node in graph.nodes:
        params: dict[str, Any] = dict(node.params)
        if node.name in codes:
            chosen = corrected.codes[node.name]
            params |= {"weight": chosen.codes, "weight_scale": chosen.scale, "weight_bits": chosen.bits}
            params["bias"] = corrected.biases[node.name]
        ins = tuple(types[v] for v in node.inputs)
        try:
            made = node.op.quantise(params, ins, types[node.name])
        except (ModelError, ValueError) as error:
            # Linear layers fail by a bias and Add by a multiplier that is too large: both are matters of range.
            kind = OverflowBoundError if is_linear(node) or isinstance(error, ValueError) else ModelError
            raise kind(f"layer '{node.name}' ({node.op.kind}) cannot be quantised: {error}") from error
        integer = replace(node, params=freeze(made), type=types[node.name])
        _prove(integer, ins)
        nodes.append(integer)
    inputs = tuple(replace(i, type=types[i.name]) for i in graph.inputs)
    return replace(graph, inputs=inputs, nodes=tuple(nodes), notes=(*graph.notes, *calibration.notes)).verify()


def select_codes(node: Node, calibration: Calibration, allocation: Allocation) -> WeightCodes:
    """The rows of each width that the allocation asks for; prescribed codes stay where these widths hold them."""
    bits = np.asarray(allocation.weight_bits[node.name], np.uint8)
    prescribed = calibration.prescribed(node)
    if prescribed is not None and np.all(prescribed.bits <= bits):
        return replace(prescribed, bits=bits)
    found = calibration.weights(node, sorted({int(b) for b in bits}))
    if len(found) == 1:
        return next(iter(found.values()))
    codes = np.empty(node.params["weight"].shape, np.int8)
    scale = np.empty(len(bits), np.float64)
    for width, option in found.items():
        rows = bits == width
        codes[rows], scale[rows] = option.codes[rows], option.scale[rows]
    return WeightCodes(codes, scale, bits)


def _usable_scales(node: Node, chosen: WeightCodes, types: Mapping[str, TensorType], power_of_two: bool) -> WeightCodes:
    """Raise the scale of channels whose weights are all but zero, so that their bias and multiplier are representable.

    Their codes are rounded anew at the larger scale, mostly to 0.
    """
    x, y = types[node.inputs[0]].quant, types[node.name].quant
    if x is None or y is None:
        raise TypeError("both types carry a quantisation by now")
    bias = np.abs(np.asarray(node.params["bias"], np.float64))
    floor = np.maximum(_SMALLEST_RATIO * y.scale, bias / 2.0**29) / x.scale
    if power_of_two:
        floor = np.exp2(np.ceil(np.log2(floor)))
    low = chosen.scale < floor
    if chosen.prescribed or not low.any():
        return chosen
    codes, scale = chosen.codes.copy(), chosen.scale.copy()
    for channel in np.flatnonzero(low):
        scale[channel] = floor[channel]
        lo, hi = fixed.weight_range(int(chosen.bits[channel]))
        exact = np.asarray(node.params["weight"][channel], np.float64) / floor[channel]
        codes[channel] = np.clip(np.floor(exact + 0.5), lo, hi)
        if chosen.bits[channel] == 1:
            codes[channel] = np.where(exact >= 0, 1, -1)
    return WeightCodes(codes, scale, chosen.bits)


def _prove(node: Node, ins: tuple[TensorType, ...]) -> None:
    bounds = node.op.accumulator(node.params, ins)
    if bounds is None:
        return
    reach = np.maximum(np.abs(bounds[0]), np.abs(bounds[1]))
    if reach.size and reach.max() > fixed.INT32_MAX:
        worst = int(np.argmax(reach))
        raise OverflowBoundError(
            f"layer '{node.name}' ({node.op.kind}): the accumulator of output channel {worst} may reach "
            f"{int(reach[worst])}, but int32 ends at {fixed.INT32_MAX}; fewer activation bits (8) for its input, fewer "
            f"weight bits, or smaller weights there would help"
        )
