"""The diagonal of the true Fisher information at the trained weights, and what it predicts of quantisation.

F_i = E_x E_{y ~ p(y|x)} [(d log p(y|x) / d w_i)^2]: labels come from the model's own distribution (exactly, as an
expectation over the classes, where there are few), and gradients are those of single samples: squaring the mean
gradient of a batch would measure something else. Outputs that are no logits get the Gauss-Newton form (see
dnnc.quantise.heads).
The predicted increase of the loss by an error e is 1/2 sum_i F_i e_i^2, for weights and activations alike
(Zandonati et al., "FIT", ICLR 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc.evaluate import evaluate
from dnnc.ir.graph import Graph, Node
from dnnc.ir.types import Quant
from dnnc.ops.activation import Clamp
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.progress import Progress, silent
from dnnc.quantise.bytes import linear_nodes
from dnnc.quantise.calibrate import Calibration
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.gradients import sample_slopes
from dnnc.quantise.heads import Head, cotangent_count, heads
from dnnc.quantise.moments import patch_view
from dnnc.quantise.ranges import represent
from dnnc.quantise.threads import one_thread

Array = NDArray[Any]

#: Multiply-accumulates that the Fisher may take (some two seconds on two cores), and the limits of its samples.
_MAC_BUDGET = 4e10
_SAMPLES = (16, 64)
#: Elements that a batch may unfold, and that per-sample gradients may hold at a time.
_UNFOLDED = 8_000_000
_GRADIENTS = 8_000_000


@dataclass(frozen=True, eq=False)
class Fisher:
    """weights: linear node -> F [O, ...] of the weight's shape; activations: value -> {bits: predicted loss of giving
    the value that many bits}; samples: how many inputs it rests on; logits: whether its unit is the nat.
    """

    weights: Mapping[str, NDArray[np.float64]]
    activations: Mapping[str, Mapping[int, float]]
    samples: int
    logits: bool

    def weight_loss(self, node: Node, real: Array) -> NDArray[np.float64]:
        """Predicted increase of the loss [O] when the node's weights become `real`, by output channel."""
        error = np.asarray(real, np.float64) - np.asarray(node.params["weight"], np.float64)
        loss: NDArray[np.float64] = 0.5 * (self.weights[node.name] * error**2).reshape(len(error), -1).sum(axis=1)
        return loss


@one_thread()
def fisher(
    calibration: Calibration,
    dataset: Dataset,
    activation_bits: Sequence[int] = (8,),
    seed: int = 0,
    progress: Progress = silent,
) -> Fisher:
    """The Fisher of `calibration.graph` over (some of) `dataset`. The same seed gives the same result."""
    graph = calibration.graph
    count = _sample_count(graph, heads(graph, dataset.labels is not None), len(dataset))
    return _fisher(
        graph, dataset, count, {b: partial(calibration.quant, bits=b) for b in activation_bits}, seed, progress
    )


@one_thread()
def weight_fisher(
    graph: Graph,
    dataset: Dataset,
    count: int,
    seed: int = 0,
    progress: Progress = silent,
    temperature: float = 1.0,
) -> Fisher:
    """The Fisher of a float graph's weights alone, over `count` samples of `dataset` (all, where there are fewer).

    temperature: what logits are divided by before they become probabilities (see `heads.cotangents`).
    """
    return _fisher(graph, dataset, min(count, len(dataset)), {}, seed, progress, temperature)


def _fisher(
    graph: Graph,
    dataset: Dataset,
    count: int,
    quants: Mapping[int, Callable[[str], Quant]],
    seed: int,
    progress: Progress,
    temperature: float = 1.0,
) -> Fisher:
    """quants: what a value's elements become, by the bits whose loss is asked for."""
    of = heads(graph, dataset.labels is not None)
    part = dataset.take(np.sort(np.random.default_rng(seed).permutation(len(dataset))[:count]))
    nodes = linear_nodes(graph.nodes)
    weights = {n.name: torch.zeros(_grouped_shape(n)) for n in nodes}
    errors: dict[str, dict[int, float]] = {v: dict.fromkeys(quants, 0.0) for v in graph.types}
    variances = head_variances(graph, of, part)
    size = max(1, min(32, _UNFOLDED // max(sum(_unfolded(graph, n) for n in nodes), 1)))
    for slopes in sample_slopes(
        graph, part, of, graph.types, size, variances, seed, progress, "Fisher information", temperature
    ):
        fixed = slopes.values
        patches = {n.name: _patches(n, fixed[n.inputs[0]]) for n in nodes}
        passed = {n.name: _passed(n, fixed[n.name]) for n in nodes}
        squares = {v: torch.zeros_like(fixed[v]) for v in slopes.wanted}
        for gradients in slopes.gradients:
            for value, gradient in gradients.items():
                squares[value].addcmul_(gradient, gradient)
            for node in nodes:
                if node.name in gradients:
                    gradient, mask = gradients[node.name], passed[node.name]
                    slope = gradient if mask is None else gradient * mask
                    slope = slope.reshape(len(slope), -1, slope.shape[-1])
                    weights[node.name] += weight_gradient_squares(patches[node.name], slope, _groups(node))
        for value in slopes.wanted:
            for b, quant in quants.items():
                error = fixed[value] - represent(fixed[value], quant(value))
                errors[value][b] += float((error * error * squares[value]).sum()) / 2
    return Fisher(
        {n.name: (weights[n.name].double() / count).reshape(n.params["weight"].shape).numpy() for n in nodes},
        {v: {b: e / count for b, e in by_bits.items()} for v, by_bits in errors.items()},
        count,
        any(h.logits for h in of),
    )


def weight_gradient_squares(patches: torch.Tensor, slope: torch.Tensor, groups: int) -> torch.Tensor:
    """Sum over samples of the squared gradient of each weight, [G, R, K].

    patches: what the weights multiply, [N, P, G, K]; slope: gradients of the layer's output, [N, P, G * R]. Exact for
    every sample: the gradient is summed over its positions before it is squared.
    """
    count, positions, _, k = patches.shape
    slope = slope.reshape(count, positions, groups, -1)
    if positions == 1:
        return torch.einsum("ngr,ngk->grk", slope[:, 0] ** 2, patches[:, 0] ** 2)
    total = torch.zeros(groups, slope.shape[3], k)
    step = max(1, _GRADIENTS // max(groups * slope.shape[3] * k, 1))
    for start in range(0, count, step):
        left = slope[start : start + step].permute(0, 2, 3, 1)
        right = patches[start : start + step].permute(0, 2, 1, 3)
        total += (left @ right).square_().sum(dim=0)
    return total


def _passed(node: Node, value: torch.Tensor) -> torch.Tensor | None:
    """1 where the clamp lets the gradient pass and 0 where it limits, or None where there is no clamp."""
    clamp = node.op.clamp if isinstance(node.op, (Conv2D, Dense)) else Clamp()
    if clamp.lo is None and clamp.hi is None:
        return None
    inside = torch.ones_like(value, dtype=torch.bool)
    if clamp.lo is not None:
        inside &= value > clamp.lo
    if clamp.hi is not None:
        inside &= value < clamp.hi
    return inside.to(value.dtype)


def _groups(node: Node) -> int:
    return node.op.groups if isinstance(node.op, Conv2D) else 1


def _grouped_shape(node: Node) -> tuple[int, int, int]:
    weight = node.params["weight"]
    return _groups(node), len(weight) // _groups(node), weight[0].size


def _patches(node: Node, x: torch.Tensor) -> torch.Tensor:
    """What the weights multiply: [N, P, G, K]."""
    if not isinstance(node.op, Conv2D):
        return x.reshape(len(x), -1, 1, x.shape[-1])
    view = patch_view(node, x)
    groups, depth = node.op.groups, node.params["weight"].shape[3]
    grouped = view.reshape(*view.shape[:5], groups, depth).permute(0, 1, 2, 5, 3, 4, 6)
    return grouped.reshape(len(x), view.shape[1] * view.shape[2], groups, -1)


def _unfolded(graph: Graph, node: Node) -> int:
    """Elements of the patches of one sample."""
    positions = graph.types[node.name].size // len(node.params["weight"])
    groups, _, k = _grouped_shape(node)
    return positions * groups * k


def _sample_count(graph: Graph, of: Sequence[Head], available: int) -> int:
    macs = graph.macs
    wanted = int(_MAC_BUDGET / max(macs * (1 + 2 * cotangent_count(graph, of)), 1))
    return min(available, max(_SAMPLES[0], min(_SAMPLES[1], wanted)))


def head_variances(graph: Graph, of: Sequence[Head], dataset: Dataset) -> dict[str, float]:
    """The variance of each plain head over the samples, summed over its elements."""
    plain = [h.value for h in of if not h.logits]
    if not plain:
        return {}
    seen: dict[str, torch.Tensor] = {}

    def record(name: str, value: torch.Tensor) -> torch.Tensor:
        if name in plain:
            seen[name] = value
        return value

    with torch.inference_mode():
        evaluate(graph, {k: torch.as_tensor(np.array(v, np.float32)) for k, v in dataset.inputs.items()}, hook=record)
    return {v: max(float(y.double().var(dim=0, unbiased=False).sum()), 1e-12) for v, y in seen.items()}
