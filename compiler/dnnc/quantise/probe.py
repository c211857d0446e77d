"""What a layer's weights of few bits do to the answers, measured: one layer, one width at a time.

The Fisher information predicts a small error's loss from slopes. At two or three bits errors are not small, and what a
layer late in the network seems not to matter for can be predicted eightfold too low (vgg_small's last convolution at 2
bits). A forward pass of what follows the layer tells; which of its channels it is stays the Fisher's word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc.evaluate import evaluate, parameters
from dnnc.ir.graph import Graph, Node
from dnnc.progress import Progress, silent
from dnnc.quantise.calibrate import Calibration
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.fisher import head_variances
from dnnc.quantise.heads import Head, heads
from dnnc.quantise.menu import Menu
from dnnc.quantise.threads import one_thread
from dnnc.quantise.weights import WeightCodes

#: Multiply-accumulates that probing may take (a few seconds), and the limits of its samples. A network of which not
#: even the least is affordable keeps the prediction.
_MAC_BUDGET = 1e11
_SAMPLES = (16, 256)
#: Samples at a time, of which all values are kept: at most so many, and so many elements.
_BATCH, _KEPT = 32, 32_000_000

Reals = NDArray[np.float64]
Values = dict[str, torch.Tensor]


@one_thread()
def probed(calibration: Calibration, found: Menu, seed: int = 0, progress: Progress = silent) -> Menu:
    """The menu with the losses of every layer and width scaled to what was measured of it."""
    graph, samples = calibration.graph, calibration.dataset
    after = {node.name: _after(graph, node) for node in found.nodes}
    work = sum(graph.work(node).macs for nodes in after.values() for node in nodes) * len(found.widths)
    count = int(min(_SAMPLES[1], _MAC_BUDGET / max(work, 1)))
    if count < _SAMPLES[0]:
        return found
    picked = np.sort(np.random.default_rng(seed).permutation(len(samples))[:count])
    measured = _measured(calibration, found, after, samples.take(picked), progress)
    return replace(found, losses={name: _scaled(found.losses[name], measured[name]) for name in found.losses})


def _scaled(losses: Reals, measured: Reals) -> Reals:
    """losses [O, widths] so that each column sums up to `measured` [widths]; where nothing was predicted it is shared
    equally. A wider width never loses more: what was measured the other way round is noise."""
    measured = np.maximum.accumulate(measured[::-1])[::-1]
    sums = losses.sum(axis=0)
    shares = np.where(sums > 0, losses / np.where(sums > 0, sums, 1.0), 1.0 / max(len(losses), 1))
    return shares * measured


def _after(graph: Graph, node: Node) -> tuple[Node, ...]:
    """The node, and all that depend on it, in order."""
    reached, found = {node.name}, [node]
    for other in graph.nodes:
        if other.name not in reached and any(v in reached for v in other.inputs):
            reached.add(other.name)
            found.append(other)
    return tuple(found)


def _measured(
    calibration: Calibration, found: Menu, after: Mapping[str, Sequence[Node]], samples: Dataset, progress: Progress
) -> dict[str, Reals]:
    """By node the divergence of the answers at each width, a mean over samples."""
    graph = calibration.graph
    of = heads(graph, samples.labels is not None)
    variances = head_variances(graph, of, samples)
    totals = {node.name: np.zeros(len(found.widths)) for node in found.nodes}
    params = parameters(graph)
    rounded = {
        node.name: [
            {**params, node.name: _rounded(calibration, node, codes, params[node.name])}
            for codes in calibration.weights(node, found.widths).values()
        ]
        for node in found.nodes
    }
    size = int(np.clip(_KEPT // max(sum(t.size for t in graph.types.values()), 1), 1, _BATCH))
    for start in range(0, len(samples), size):
        progress("measure layers by themselves", start, len(samples))
        kept: Values = {}

        def keep(name: str, value: torch.Tensor, kept: Values = kept) -> torch.Tensor:
            kept[name] = value
            return value

        part = samples.take(slice(start, start + size))
        with torch.inference_mode():
            inputs = {k: torch.as_tensor(np.array(v, np.float32)) for k, v in part.inputs.items()}
            evaluate(graph, inputs, params, keep)
            for node in found.nodes:
                for column, changed in enumerate(rounded[node.name]):
                    answers = _answers(after[node.name], changed, kept)
                    totals[node.name][column] += _divergence(of, kept, answers, variances)
    return {name: total / len(samples) for name, total in totals.items()}


def _rounded(
    calibration: Calibration, node: Node, codes: WeightCodes, params: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The node's parameters with these codes, and the bias that takes out what they do to the mean."""
    weight = np.asarray(node.params["weight"], np.float64)
    error = torch.as_tensor(codes.real() - weight)
    mean = calibration.moments[node.name].mean.double()
    shift = torch.einsum("gok,gk->go", error.reshape(len(mean), -1, mean.shape[1]), mean).reshape(-1)
    found = dict(params)
    found["weight"] = torch.as_tensor(codes.real(), dtype=torch.float32)
    found["bias"] = params["bias"] - shift.float()
    return found


def _answers(nodes: Sequence[Node], params: Mapping[str, Mapping[str, torch.Tensor]], kept: Values) -> Values:
    """What becomes of the values from the first of these nodes on."""
    values: Values = {}
    for node in nodes:
        inputs = [values.get(v, kept[v]) for v in node.inputs]
        values[node.name] = node.op.real(inputs, params.get(node.name, {}))
    return values


def _divergence(of: Sequence[Head], before: Values, after: Values, variances: Mapping[str, float]) -> float:
    """Summed over samples: KL in nats of logits, half the squared error of others in units of their variance."""
    total = 0.0
    for head in of:
        if head.value not in after:
            continue
        x, y = before[head.value].double(), after[head.value].double()
        if head.logits:
            p, q = x.log_softmax(dim=-1), y.log_softmax(dim=-1)
            total += float((p.exp() * (p - q)).sum())
        else:
            total += float(((x - y) ** 2).sum()) / (2 * variances[head.value])
    return total
