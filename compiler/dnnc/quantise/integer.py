"""The one place where a float graph becomes an integer graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc import fixed
from dnnc.cost.target import Target
from dnnc.errors import ModelError, OverflowBoundError
from dnnc.evaluate import parameters
from dnnc.ir.graph import Graph, Node
from dnnc.ir.types import Quant, TensorType
from dnnc.ops import Conv2D, Dense
from dnnc.ops.activation import NO_CLAMP, Clamp
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.bytes import is_linear
from dnnc.quantise.calibrate import Calibration
from dnnc.quantise.ranges import represent
from dnnc.quantise.weights import WeightCodes

Array = NDArray[Any]

#: Samples that bias correction averages over.
_CORRECTION_SAMPLES = 192
#: The smallest ratio of scales (in * weight / out) that keeps some ten bits of precision in a multiplier.
_SMALLEST_RATIO = 2.0**-22


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
    biases = corrected_biases(graph, calibration, codes, quants)
    nodes = []
    for node in graph.nodes:
        params: dict[str, Any] = dict(node.params)
        if node.name in codes:
            chosen = codes[node.name]
            params |= {"weight": chosen.codes, "weight_scale": chosen.scale, "weight_bits": chosen.bits}
            params["bias"] = biases[node.name]
        ins = tuple(types[v] for v in node.inputs)
        try:
            made = node.op.quantise(params, ins, types[node.name])
        except (ModelError, ValueError) as error:
            raise OverflowBoundError(f"layer '{node.name}' ({node.op.kind}) cannot be quantised: {error}") from error
        integer = replace(node, params=made, type=types[node.name])
        _prove(integer, ins)
        nodes.append(integer)
    inputs = tuple(replace(i, type=types[i.name]) for i in graph.inputs)
    return replace(graph, inputs=inputs, nodes=tuple(nodes), notes=(*graph.notes, *calibration.notes)).verify()


def select_codes(node: Node, calibration: Calibration, allocation: Allocation) -> WeightCodes:
    """The rows of each width that the allocation asks for; what a QDQ model prescribes stays as it is."""
    prescribed = calibration.prescribed_weights(node)
    if prescribed is not None:
        return prescribed
    bits = np.asarray(allocation.weight_bits[node.name], np.uint8)
    found = calibration.weights(node, sorted({int(b) for b in bits}))
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
    if not low.any() or ("weight_scale" in node.params and not power_of_two and not (chosen.scale[low] == 0).any()):
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


def corrected_biases(
    graph: Graph, calibration: Calibration, codes: Mapping[str, WeightCodes], quants: Mapping[str, Quant]
) -> dict[str, NDArray[np.float64]]:
    """The bias of every linear node, such that each output channel keeps its float mean (before the clamp).

    The quantised network runs beside the float one, layer by layer, so that a correction sees the corrections before
    it (Nagel et al., "Data-free quantization", ICCV 2019, section 4.2, with measured means).
    """
    dataset = calibration.dataset.first(_CORRECTION_SAMPLES)
    exact = {i.name: torch.as_tensor(np.array(dataset.inputs[i.name], np.float32)) for i in graph.inputs}
    coded = {name: represent(x, quants[name]) for name, x in exact.items()}
    floats = parameters(graph)
    biases: dict[str, NDArray[np.float64]] = {}
    last = {v: i for i, n in enumerate(graph.nodes) for v in n.inputs}
    with torch.inference_mode():
        for step, node in enumerate(graph.nodes):
            params = floats.get(node.name, {})
            clamp = NO_CLAMP
            op = node.op
            if isinstance(op, (Conv2D, Dense)):
                op, clamp = replace(op, clamp=NO_CLAMP), op.clamp
            x = op.real([exact[v] for v in node.inputs], params)
            if node.name in codes:
                params = {
                    "weight": torch.as_tensor(codes[node.name].real(), dtype=torch.float32),
                    "bias": params["bias"],
                }
            q = op.real([coded[v] for v in node.inputs], params)
            if not node.inputs:
                x, q = (y.expand(len(dataset), *y.shape[1:]) for y in (x, q))
            if node.name in codes:
                shift = (x - q).reshape(-1, x.shape[-1]).double().mean(dim=0)
                if calibration.prescribed_weights(node) is not None:
                    shift = torch.zeros_like(shift)
                q = q + shift.float()
                biases[node.name] = node.params["bias"].astype(np.float64) + shift.numpy()
            exact[node.name] = _limit(x, clamp)
            coded[node.name] = represent(_limit(q, clamp), quants[node.name])
            for name in node.inputs:
                if last[name] == step:
                    exact.pop(name, None)
                    coded.pop(name, None)
    return biases


def _limit(x: torch.Tensor, clamp: Clamp) -> torch.Tensor:
    return clamp.real(x)


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
