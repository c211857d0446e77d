"""How well the integer program does what the float model does, on real samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc.errors import DataError
from dnnc.evaluate import evaluate_batches
from dnnc.ir.graph import Graph
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.measure import correct_percent
from dnnc.simulate import dequantise_outputs, quantise_inputs, simulate

Array = NDArray[Any]


@dataclass(frozen=True)
class Comparison:
    """Top-1 in per cent against labels (None without labels), and against each other.

    agreement_percent: samples for which both give the same class; None where no output has classes. sqnr_db: power of
    the float outputs over that of the integer program's error, by model name; None where the error is zero.
    """

    samples: int
    float_percent: float | None
    integer_percent: float | None
    agreement_percent: float | None
    sqnr_db: Mapping[str, float | None]


def compare(float_graph: Graph, integer_graph: Graph, dataset: Dataset, codes: Mapping[str, Array]) -> Comparison:
    """The float model on `dataset` against output codes int32 [N, *shape] of the integer program on the same samples.

    The first output is the one with classes, along its last axis. Raises DataError where labels do not fit it.
    """
    expected = evaluate_batches(float_graph, dataset.inputs)
    found = dequantise_outputs(integer_graph, codes)
    first = integer_graph.outputs[0].model_name
    classes = classes_of(expected[first])
    labels = dataset.labels
    if labels is not None and classes is not None and classes.shape != labels.shape:
        raise DataError(
            f"there is one label a sample, but output '{first}' has {classes.size // len(dataset)} rows of classes"
        )
    return Comparison(
        samples=len(dataset),
        float_percent=None if labels is None else correct_percent(expected[first], labels),
        integer_percent=None if labels is None else correct_percent(found[first], labels),
        agreement_percent=None if classes is None else 100.0 * float(np.mean(classes == classes_of(found[first]))),
        sqnr_db={name: sqnr_db(expected[name], found[name]) for name in expected},
    )


def classes_of(output: Array) -> NDArray[np.int64] | None:
    """The largest element's index of every sample [N, ..., classes]; None where there is only one element."""
    if output.ndim < 2 or output.shape[-1] < 2:
        return None
    # Axes of one element between batch and classes say nothing: [N, 1, 1, 10] has one answer a sample.
    positions = tuple(size for size in output.shape[1:-1] if size != 1)
    classes: NDArray[np.int64] = output.argmax(axis=-1).astype(np.int64)
    return classes.reshape(len(output), *positions)


def layer_sqnr_db(float_graph: Graph, integer_graph: Graph, dataset: Dataset) -> dict[str, float | None]:
    """SQNR of every value of the integer graph that the float graph has too, by name."""
    real: dict[str, Array] = {}

    def record(name: str, value: Any) -> Any:
        real[name] = value.detach().numpy()
        return value

    evaluate_batches(float_graph, dataset.inputs, batch_size=len(dataset), hook=record)
    codes: dict[str, Array] = {}
    simulate(integer_graph, quantise_inputs(integer_graph, dataset.inputs), watch=codes.__setitem__)
    found: dict[str, float | None] = {}
    for name, value in codes.items():
        quant = integer_graph.types[name].quant
        if name in real and quant is not None:
            found[name] = sqnr_db(real[name], quant.scale * (value.astype(np.float64) - quant.zero_point))
    return found


def sqnr_db(expected: Array, found: Array) -> float | None:
    """10 log10(power of `expected` / power of the difference); None where either is zero."""
    error = float(np.sum(np.square(expected.astype(np.float64) - found)))
    signal = float(np.sum(np.square(expected, dtype=np.float64)))
    return 10.0 * float(np.log10(signal / error)) if error > 0 and signal > 0 else None
