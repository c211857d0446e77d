"""The smallest network that measures well: bisection along the exact optima of the predicted loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnnc.cost.target import Target
from dnnc.progress import Progress
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.calibrate import Calibration
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.fisher import Fisher
from dnnc.quantise.heads import head
from dnnc.quantise.integer import quantise
from dnnc.quantise.measure import changed, correct_percent, float_outputs, integer_outputs
from dnnc.quantise.menu import Menu

#: The search ends when it knows the size to this share of the widest network's.
_RESOLUTION = 0.015
#: Samples that a network is measured on: as many as these multiply-accumulates allow, within limits.
_MEASURE_MACS = 3e10
_MEASURE_SAMPLES = (100, 1000)
#: How far outputs may move, beyond what the widest weights cost (see `measure.changed`): 2 % of the probability of a
#: classifier, 1 % of the variance (20 dB) of other outputs.
MOVED = {True: 0.02, False: 0.01}

Bits = dict[str, NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class Maker:
    """Makes an Allocation of widths from `choices`."""

    choices: Menu
    fisher: Fisher
    activation_bits: dict[str, int]

    def __call__(self, bits: Bits, *notes: str) -> Allocation:
        sensitivity = self.choices.loss(bits)
        activations = {
            v: losses[self.activation_bits[v]]
            for v, losses in self.fisher.activations.items()
            if self.activation_bits[v] in losses
        }
        return Allocation(bits, self.activation_bits, sensitivity, activations, sum(sensitivity.values()), notes=notes)


def smallest_by_drop(
    calibration: Calibration, target: Target, make: Maker, held_out: Dataset, limit: float, progress: Progress
) -> tuple[Bits, float, int]:
    """(widths, measured drop in points, samples) of the smallest network found whose integer accuracy on `held_out`,
    which has labels, drops by at most `limit` points; of the widest where none does.
    """
    graph, name = calibration.graph, calibration.graph.outputs[0].model_name
    part = held_out.spread(_sample_count(calibration, len(held_out)))
    labels = part.labels
    if labels is None:
        raise TypeError("accuracy is measured on samples with labels")
    expected = correct_percent(float_outputs(graph, part)[name], labels)

    def drop(bits: Bits) -> float:
        integer = quantise(graph, calibration, make(bits), target)
        return expected - correct_percent(integer_outputs(integer, part)[name], labels)

    return *_smallest(make.choices, drop, limit + 1e-9, progress), len(part)


def smallest_by_change(
    calibration: Calibration, target: Target, make: Maker, progress: Progress
) -> tuple[Bits, float, int]:
    """(widths, how far outputs move as a share of what MOVED allows, samples) of the smallest network found that keeps
    to it, on the calibration samples.
    """
    graph = calibration.graph
    part = calibration.dataset.spread(_sample_count(calibration, len(calibration.dataset)))
    expected = float_outputs(graph, part)
    softmax = {o.model_name: head(graph, o.value).logits for o in graph.outputs}

    def moved(bits: Bits) -> float:
        """The worst output counts."""
        found = integer_outputs(quantise(graph, calibration, make(bits), target), part)
        return max(changed(expected[name], found[name], softmax[name]) / MOVED[softmax[name]] for name in expected)

    floor = moved(make.choices.uniform(make.choices.widths[-1]))
    return *_smallest(make.choices, lambda bits: moved(bits) - floor, 1.0, progress), len(part)


def _smallest(choices: Menu, measure: Callable[[Bits], float], limit: float, progress: Progress) -> tuple[Bits, float]:
    """Bisection over the flash that weights may take: (widths, what was measured) of the smallest network within
    `limit`, or of the widest where none is.
    """
    widest, narrowest = choices.uniform(choices.widths[-1]), choices.uniform(choices.widths[0])
    low, high = choices.stored_bytes(narrowest), choices.stored_bytes(widest)
    resolution = max(int(_RESOLUTION * high), 1)
    steps = max(int(np.ceil(np.log2(max((high - low) / resolution, 1)))), 1)
    best: tuple[Bits, float] | None = None
    for step in range(steps):
        progress("measure candidates", step, steps + 1)
        middle = (low + high) // 2
        bits = choices.least_bytes(middle)
        measured = np.inf if bits is None else measure(bits)
        if bits is not None and measured <= limit:
            best, high = (bits, measured), choices.stored_bytes(bits)
        else:
            low = middle
        if high - low <= resolution:
            break
    return best if best is not None else (widest, measure(widest))


def _sample_count(calibration: Calibration, available: int) -> int:
    macs = calibration.graph.macs
    return min(available, int(np.clip(_MEASURE_MACS / max(macs, 1), *_MEASURE_SAMPLES)))
