"""What quantisation does to a network, measured on samples with the bit-accurate simulator."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc.evaluate import evaluate_batches
from dnnc.ir.graph import Graph
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.threads import one_thread
from dnnc.simulate import dequantise_outputs, quantise_inputs, simulate

Array = NDArray[Any]
_BATCH = 64


@one_thread()
def float_outputs(graph: Graph, dataset: Dataset) -> dict[str, Array]:
    """Outputs of the float graph by model name, [N, *shape]."""
    return evaluate_batches(graph, dataset.inputs)


@one_thread()
def integer_outputs(graph: Graph, dataset: Dataset) -> dict[str, Array]:
    """Outputs of the integer graph as reals, batch by batch."""
    parts = []
    for start in range(0, len(dataset), _BATCH):
        codes = quantise_inputs(graph, dataset.take(slice(start, start + _BATCH)).inputs)
        parts.append(dequantise_outputs(graph, simulate(graph, codes)))
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def correct_percent(output: Array, labels: NDArray[np.int64]) -> float:
    """Top-1 accuracy of the classes along the last axis; outputs of one element a sample are compared with 0."""
    flat = output.reshape(len(output), -1)
    answers = flat.argmax(axis=1) if flat.shape[1] > 1 else (flat[:, 0] > 0).astype(np.int64)
    return 100.0 * float(np.mean(answers == labels))


def changed(expected: Array, found: Array, probabilities: bool) -> float:
    """How far outputs moved. Probabilities: the mean total variation distance, 0..1. Others: the squared error in units
    of the variance of the expected ones.
    """
    expected, found = expected.astype(np.float64), found.astype(np.float64)
    if probabilities:
        return float(np.abs(expected - found).reshape(-1, expected.shape[-1]).sum(axis=1).mean() / 2)
    variance = float(((expected - expected.mean(axis=0)) ** 2).sum())
    return float(((expected - found) ** 2).sum()) / max(variance, 1e-12)
