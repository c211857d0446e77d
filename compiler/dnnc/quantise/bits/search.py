"""The smallest network that measures well: bisection along the exact optima of the predicted loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

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

#: The search ends when it knows the size to this share of it.
_RESOLUTION, _MOST_STEPS = 0.015, 12
#: Samples that a network is measured on: as many as these multiply-accumulates allow, within limits. Of 1,000 samples a
#: drop of half a point is five; a network in the middle of the range that seems to drop too far by chance hides all
#: smaller ones from the search.
_MEASURE_MACS = 1e11
_MEASURE_SAMPLES = (100, 4000)
#: How far outputs may move, beyond what the widest weights cost (see `measure.changed`): 2 % of the probability of a
#: classifier, 1 % of the variance (20 dB) of other outputs.
MOVED = {True: 0.02, False: 0.01}

Bits = dict[str, NDArray[np.uint8]]
C = TypeVar("C")


@dataclass(frozen=True, eq=False)
class Maker:
    """Makes an Allocation of widths from `choices`; activation_bits: of the values, where a call names no others."""

    choices: Menu
    fisher: Fisher
    activation_bits: dict[str, int]

    def __call__(self, bits: Bits, *notes: str, activation_bits: dict[str, int] | None = None) -> Allocation:
        sensitivity = self.choices.loss(bits)
        widths = self.activation_bits if activation_bits is None else activation_bits
        activations = {v: losses[widths[v]] for v, losses in self.fisher.activations.items() if widths[v] in losses}
        narrower = self.choices.narrower_loss(bits)
        return Allocation(bits, widths, sensitivity, activations, sum(sensitivity.values()), notes, narrower)


@dataclass(frozen=True, eq=False)
class Candidates(Generic[C]):
    """What is searched: `at` gives the best candidate that takes at most so much of what is to be small (None: there is
    none), `size` what a candidate takes of it; low, high: where the search begins and ends; widest: the candidate that
    loses least. others: candidates that no prediction led to, measured where they are smaller than what was found.
    """

    at: Callable[[float], C | None]
    size: Callable[[C], float]
    make: Callable[[C], Allocation]
    widest: C
    low: float
    high: float
    others: tuple[C, ...] = ()


def smallest_by_drop(
    calibration: Calibration,
    target: Target,
    candidates: Candidates[C],
    held_out: Dataset,
    limit: float,
    progress: Progress,
) -> tuple[C, float, int]:
    """(candidate, measured drop in points, samples) of the smallest network found whose integer accuracy on `held_out`,
    which has labels, drops by at most `limit` points; of the widest where none does.
    """
    graph, name = calibration.graph, calibration.graph.outputs[0].model_name
    part = held_out.spread(_sample_count(calibration, len(held_out)))
    labels = part.labels
    if labels is None:
        raise TypeError("accuracy is measured on samples with labels")
    expected = correct_percent(float_outputs(graph, part)[name], labels)

    def drop(candidate: C) -> float:
        integer = quantise(graph, calibration, candidates.make(candidate), target)
        return expected - correct_percent(integer_outputs(integer, part)[name], labels)

    return *_smallest(candidates, drop, limit + 1e-9, progress), len(part)


def smallest_by_change(
    calibration: Calibration, target: Target, candidates: Candidates[C], progress: Progress
) -> tuple[C, float, int]:
    """(candidate, how far outputs move as a share of what MOVED allows, samples) of the smallest network found that
    keeps to it, on the calibration samples.
    """
    graph = calibration.graph
    part = calibration.dataset.spread(_sample_count(calibration, len(calibration.dataset)))
    expected = float_outputs(graph, part)
    softmax = {o.model_name: head(graph, o.value).logits for o in graph.outputs}

    def moved(candidate: C) -> float:
        """The worst output counts."""
        found = integer_outputs(quantise(graph, calibration, candidates.make(candidate), target), part)
        return max(changed(expected[name], found[name], softmax[name]) / MOVED[softmax[name]] for name in expected)

    floor = moved(candidates.widest)
    return *_smallest(candidates, lambda candidate: moved(candidate) - floor, 1.0, progress), len(part)


def _smallest(
    candidates: Candidates[C], measure: Callable[[C], float], limit: float, progress: Progress
) -> tuple[C, float]:
    """Bisection over what candidates may take, then the others: (candidate, what was measured) of the smallest one that
    was found within `limit`, or of the widest where none is.
    """
    low, high = candidates.low, candidates.high
    halvings = int(np.ceil(np.log2(max((high - low) / max(_RESOLUTION * low, 1e-9), 1))))
    steps = min(max(halvings, 1), _MOST_STEPS)
    best: tuple[C, float] | None = None
    for step in range(steps):
        progress("measure candidates", step, steps + 1)
        middle = (low + high) / 2
        candidate = candidates.at(middle)
        measured = np.inf if candidate is None else measure(candidate)
        if candidate is not None and measured <= limit:
            best, high = (candidate, measured), candidates.size(candidate)
        else:
            low = middle
        if high - low <= _RESOLUTION * high:
            break
    for other in sorted(candidates.others, key=candidates.size):
        if best is not None and candidates.size(other) >= candidates.size(best[0]):
            break
        if (measured := measure(other)) <= limit:
            best = other, measured
            break
    return best if best is not None else (candidates.widest, measure(candidates.widest))


def _sample_count(calibration: Calibration, available: int) -> int:
    macs = calibration.graph.macs
    return min(available, int(np.clip(_MEASURE_MACS / max(macs, 1), *_MEASURE_SAMPLES)))
