"""What is left of the quantisation error after rounding, taken back where it costs nothing: in scales and biases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc.evaluate import parameters
from dnnc.ir.types import Quant
from dnnc.ops.activation import NO_CLAMP
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.quantise.calibrate import Calibration
from dnnc.quantise.ranges import represent
from dnnc.quantise.weights import WeightCodes

#: Samples that means and gains are measured on.
_SAMPLES = 128
#: Gains outside mean that the layer is broken anyhow.
_GAINS = (0.5, 2.0)


@dataclass(frozen=True, eq=False)
class Corrected:
    """By linear node: codes with their scales corrected, and biases float64 [O]."""

    codes: Mapping[str, WeightCodes]
    biases: Mapping[str, NDArray[np.float64]]


def correct(calibration: Calibration, codes: Mapping[str, WeightCodes], quants: Mapping[str, Quant]) -> Corrected:
    """The gain and bias of every output channel that bring its quantised output (before the clamp) nearest to the float
    one: least squares of y on gain * q + bias.

    The quantised network runs beside the float one, layer by layer, so that a correction sees those before it (after
    Nagel et al., "Data-free quantization", ICCV 2019, section 4.2, with measured means; the gain undoes the shrinking
    of coarse scales, which multiplies with depth). Gains are 1 where scales are powers of two; what a QDQ model
    prescribes is not touched.
    """
    graph = calibration.graph
    dataset = calibration.dataset.spread(_SAMPLES)
    exact = {i.name: torch.as_tensor(np.array(dataset.inputs[i.name], np.float32)) for i in graph.inputs}
    coded = {name: represent(x, quants[name]) for name, x in exact.items()}
    floats = parameters(graph)
    corrected: dict[str, WeightCodes] = {}
    biases: dict[str, NDArray[np.float64]] = {}
    last = {v: i for i, n in enumerate(graph.nodes) for v in n.inputs}
    with torch.inference_mode():
        for step, node in enumerate(graph.nodes):
            params = floats.get(node.name, {})
            ys, qs = [exact[v] for v in node.inputs], [coded[v] for v in node.inputs]
            if isinstance(node.op, (Conv2D, Dense)):
                bare, clamp = replace(node.op, clamp=NO_CLAMP), node.op.clamp
                y = bare.real(ys, params)
                chosen = codes[node.name]
                weight = torch.as_tensor(chosen.real(), dtype=torch.float32)
                q = bare.real(qs, {"weight": weight, "bias": torch.zeros_like(params["bias"])})
                bias = params["bias"].double()
                if not chosen.prescribed:
                    gain, bias = _fit(y, q, allow_gain=not calibration.power_of_two)
                    q = q * gain.float()
                    chosen = replace(chosen, scale=chosen.scale * gain.numpy())
                corrected[node.name], biases[node.name] = chosen, bias.numpy()
                y, q = clamp.real(y), clamp.real(q + bias.float())
            else:
                y, q = node.op.real(ys, params), node.op.real(qs, params)
                if not node.inputs:
                    y, q = (v.expand(len(dataset), *v.shape[1:]) for v in (y, q))
            exact[node.name], coded[node.name] = y, represent(q, quants[node.name])
            for name in node.inputs:
                if last[name] == step:
                    exact.pop(name, None)
                    coded.pop(name, None)
    return Corrected(corrected, biases)


def _fit(y: torch.Tensor, q: torch.Tensor, allow_gain: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(gain [O], bias [O]) of the least squares of y on gain * q + bias; y, q: [N, ..., O]."""
    y, q = y.reshape(-1, y.shape[-1]).double(), q.reshape(-1, q.shape[-1]).double()
    mean_y, mean_q = y.mean(dim=0), q.mean(dim=0)
    gain = torch.ones_like(mean_q)
    if allow_gain:
        covariance = ((y - mean_y) * (q - mean_q)).mean(dim=0)
        variance = ((q - mean_q) ** 2).mean(dim=0)
        measurable = variance > 1e-12 * (mean_q**2 + 1e-12)
        fitted = (covariance / variance.clamp_min(1e-300)).clamp(*_GAINS)
        gain = torch.where(measurable, fitted, gain)
    return gain, mean_y - gain * mean_q
