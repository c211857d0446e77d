"""Statistics put right after one-shot changes: what re-estimating BatchNorm does, for graphs that have it folded in.

Every channel in front of its layer's clamp gets the mean and the deviation back that it had in the reference network
(Nagel et al., "Data-Free Quantization", ICCV 2019, section 4.2, for the mean; BatchNorm re-estimation for both).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc.compress.trainable import head_layers, unclamped
from dnnc.evaluate import evaluate, parameters
from dnnc.ir.graph import Graph
from dnnc.ir.op import Array
from dnnc.quantise.bytes import is_linear
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.threads import one_thread

Index = NDArray[np.int64]

#: Elements of the largest value that all samples together may have, and rows that channels are compared by.
_ELEMENTS = 64_000_000
_ROWS = 4096
#: Factors that a channel's weights may get: more would be noise made large.
_LARGEST = 4.0
#: Deviations below this share of the layer's are taken for none.
_CONSTANT = 1e-4


@one_thread()
def recalibrate(graph: Graph, reference: Graph, sample: Dataset, kept: Mapping[str, Index] | None = None) -> Graph:
    """The graph with weights scaled and biases moved, channel by channel and layer by layer from the front.

    Layers are matched by node name; those of `reference` alone, or of the graph alone, stay as they are. kept: which
    of the reference's channels a layer's own are; None finds it out: they are the ones, in order, that resemble them
    most over the samples. The network's last layers keep their weights, and only their means are put right. Zero
    weights stay zero, and so do biases of channels without weights.
    """
    part = sample.spread(max(16, _ELEMENTS // max(t.size for t in reference.types.values())))
    inputs = {k: torch.as_tensor(np.array(v, np.float32)) for k, v in part.inputs.items()}
    wanted = _observe(reference, inputs)
    before = _observe(graph, inputs)
    heads = head_layers(graph)
    plain, clamps = unclamped(graph, before)
    changes: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def hook(name: str, y: torch.Tensor) -> torch.Tensor:
        if name not in clamps:
            return y
        if name in wanted:
            chosen = (kept or {}).get(name)
            index = match(before[name], wanted[name]) if chosen is None else torch.as_tensor(np.asarray(chosen))
            dead = (torch.as_tensor(np.array(graph.by_name[name].params["weight"])) == 0).flatten(1).all(1)
            changes[name] = _change(y, wanted[name], index, dead, name not in heads)
            factor, shift = changes[name]
            y = y * factor + shift
        return clamps[name].real(y)

    with torch.inference_mode():
        evaluate(plain, inputs, parameters(plain), hook)
    nodes = []
    for node in graph.nodes:
        if node.name in changes:
            factor, shift = (v.double().numpy() for v in changes[node.name])
            weight, bias = (np.asarray(node.params[k], np.float64) for k in ("weight", "bias"))
            scaled: Array = weight * factor.reshape(-1, *(1,) * (weight.ndim - 1))
            new = {"weight": scaled.astype(np.float32), "bias": (bias * factor + shift).astype(np.float32)}
            node = replace(
                node, params={k: v for k, v in node.params.items() if k not in ("weight_scale", "weight_bits")} | new
            )
        nodes.append(node)
    return graph.with_nodes(nodes).verify()


class _Seen:
    """Of a layer's output in front of its clamp: mean and deviation [O], some rows [R, O] and the bias [O]."""

    def __init__(self, y: torch.Tensor, bias: torch.Tensor) -> None:
        flat = y.reshape(-1, y.shape[-1])
        variance, self.mean = torch.var_mean(flat, dim=0, unbiased=False)
        self.deviation = variance.sqrt()
        self.rows = flat[torch.linspace(0, len(flat) - 1, min(len(flat), _ROWS)).long()].clone()
        self.bias = bias


@torch.inference_mode()
def _observe(graph: Graph, inputs: Mapping[str, torch.Tensor]) -> dict[str, _Seen]:
    plain, clamps = unclamped(graph, (n.name for n in graph.nodes if is_linear(n)))
    params = parameters(plain)
    found: dict[str, _Seen] = {}

    def hook(name: str, y: torch.Tensor) -> torch.Tensor:
        if name not in clamps:
            return y
        found[name] = _Seen(y, params[name]["bias"])
        return clamps[name].real(y)

    evaluate(plain, inputs, params, hook)
    return found


def _change(
    y: torch.Tensor, wanted: _Seen, index: torch.Tensor, dead: torch.Tensor, scale: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Factor and shift [O] of a layer's output."""
    variance, mean = torch.var_mean(y.reshape(-1, y.shape[-1]), dim=0, unbiased=False)
    deviation = variance.sqrt()
    factor = torch.ones_like(mean)
    if scale:
        least = _CONSTANT * float(wanted.deviation.mean())
        moving = (deviation > least) & (wanted.deviation[index] > least)
        ratio = wanted.deviation[index] / deviation.clamp_min(least + 1e-30)
        factor = torch.where(moving, ratio.clamp(1 / _LARGEST, _LARGEST), factor)
    shift = wanted.mean[index] - mean * factor
    return torch.where(dead, 1.0, factor), torch.where(dead, 0.0, shift)


def match(of: _Seen, reference: _Seen) -> torch.Tensor:
    """Which channels of the reference [O'] those of a layer [O <= O'] are, in order: the assignment of the largest sum
    of correlations, where equal biases count as much as a perfect one (by dynamic programming over both lists).
    """
    count, total = len(of.mean), len(reference.mean)
    if count == total or count > total or len(of.rows) != len(reference.rows):
        return torch.arange(count).clamp_max(total - 1)
    units = [
        (s.rows - s.rows.mean(0)) / (s.rows.std(0, unbiased=False) * len(s.rows) ** 0.5 + 1e-12)
        for s in (of, reference)
    ]
    alike = (units[0].T @ units[1]).double().numpy() + (of.bias[:, None] == reference.bias[None]).double().numpy()
    # best[j]: the largest sum where the channels so far went to the first j of the reference.
    best = np.zeros(total + 1)
    took = np.zeros((count, total), bool)
    for i in range(count):
        following = np.full(total + 1, -np.inf)
        for j in range(i, total):
            taken = best[j] + alike[i, j]
            took[i, j] = taken > following[j]
            following[j + 1] = max(taken, following[j])
        best = following
    found = np.zeros(count, np.int64)
    j = total - 1
    for i in range(count - 1, -1, -1):
        while not took[i, j]:
            j -= 1
        found[i] = j
        j -= 1
    return torch.as_tensor(found)
