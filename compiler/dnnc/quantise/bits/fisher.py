"""Widths by sensitivity: the Fisher information predicts what each width loses, an exact search spends the budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from dnnc.cost.target import Target
from dnnc.errors import BudgetError, OptionError
from dnnc.progress import Progress, silent
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.bits.policy import Policy, activation_widths, require_width
from dnnc.quantise.bytes import table_bytes
from dnnc.quantise.calibrate import Calibration
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.fisher import Fisher as Information
from dnnc.quantise.fisher import fisher
from dnnc.quantise.heads import head
from dnnc.quantise.integer import quantise
from dnnc.quantise.measure import changed, correct_percent, float_outputs, integer_outputs
from dnnc.quantise.menu import Menu, menu

#: Widths that are not offered: 1 bit needs training, and 7 bits are stored as 8.
_UNOFFERED = (1, 7)
#: Without a budget and without labels: how far the outputs may move (see `measure.changed`), 2 % of the probability of
#: a classifier, 1 % of the variance (20 dB) of other outputs, beyond what 8 bits everywhere cost.
_MOVED = {True: 0.02, False: 0.01}
#: The default with labels, in points.
_DROP = 0.5
#: The search ends when it knows the size to this share of the 8-bit network.
_RESOLUTION = 0.015
#: Samples that a network is measured on: as many as these multiply-accumulates allow, within limits.
_MEASURE_MACS = 3e10
_MEASURE_SAMPLES = (100, 1000)

Bits = dict[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class Fisher(Policy):
    """One of three budgets, met by exact optimisation of the predicted loss:

    average: bits of a weight on average. flash_bytes: packed weights, biases, multipliers and tables (code comes on
    top). max_drop: the smallest network whose measured integer accuracy on held-out labelled samples drops by at most
    that many points. Without a budget it is max_drop=0.5 where there are labels, and else the smallest network whose
    outputs on the calibration samples move no further than 2 % of probability (classifiers) or 1 % of variance (others)
    beyond what 8 bits cost.

    group: whether a layer or every output channel has a width. error: whether a width's loss is the Fisher times the
    squared error of the channel's output (see `menu.output_loss`), or of the single weights. activations: bits of all
    activations.
    """

    name: ClassVar[str] = "fisher"
    average: float | None = None
    flash_bytes: int | None = None
    max_drop: float | None = None
    group: Literal["layer", "channel"] = "layer"
    error: Literal["output", "weight"] = "output"
    activations: int = 8

    def __post_init__(self) -> None:
        budgets = [k for k in ("average", "flash_bytes", "max_drop") if getattr(self, k) is not None]
        if len(budgets) > 1:
            raise OptionError(f"bit policy 'fisher' takes one budget, found {' and '.join(budgets)}")
        for key in budgets:
            if not getattr(self, key) >= 0:
                raise OptionError(
                    f"bit policy 'fisher': option '{key}' expects a number >= 0, found {getattr(self, key)}"
                )

    def allocate(
        self,
        calibration: Calibration,
        target: Target,
        held_out: Dataset | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> Allocation:
        require_width("activation", self.activations, target)
        widths = [b for b in target.weight_bits if b not in _UNOFFERED]
        activation_bits = activation_widths(calibration, self.activations)
        labelled = held_out is not None and held_out.labels is not None
        information = fisher(calibration, calibration.dataset, sorted(set(activation_bits.values())), seed, progress)
        progress("allocate bits", 0, 0)
        choices = menu(calibration, information, widths, self.group == "channel", self.error == "output")
        allocation = _Maker(choices, information, activation_bits)
        if self.average is not None:
            return allocation(self._by_average(choices, self.average))
        if self.flash_bytes is not None:
            return allocation(self._by_flash(calibration, choices, self.flash_bytes))
        if self.max_drop is not None and (held_out is None or held_out.labels is None):
            raise OptionError("bit policy 'fisher': max_drop needs labels: give data with 'y'")
        if held_out is not None and labelled:
            return self._by_drop(calibration, target, allocation, held_out, progress)
        return self._by_change(calibration, target, allocation, progress)

    def _by_average(self, choices: Menu, average: float) -> Bits:
        weights = sum(n.params["weight"].size for n in choices.nodes)
        found = choices.least_bits(average * weights + 1e-6)
        if found is None:
            raise BudgetError(
                f"an average of {average:g} bits a weight cannot be met: the narrowest width is {choices.widths[0]}"
            )
        return found

    def _by_flash(self, calibration: Calibration, choices: Menu, flash_bytes: int) -> Bits:
        tables = table_bytes(calibration.graph, self.activations)
        found = choices.least_bytes(flash_bytes - tables)
        if found is None:
            least = tables + choices.stored_bytes(choices.uniform(choices.widths[0]))
            raise BudgetError(
                f"{flash_bytes} bytes of flash cannot be met: weights and tables take at least {least} bytes"
            )
        return found

    def _by_drop(
        self, calibration: Calibration, target: Target, allocation: _Maker, held_out: Dataset, progress: Progress
    ) -> Allocation:
        """The smallest network whose measured drop is allowed."""
        limit = _DROP if self.max_drop is None else self.max_drop
        graph, name = calibration.graph, calibration.graph.outputs[0].model_name
        part = held_out.first(_sample_count(calibration, len(held_out)))
        if part.labels is None:
            raise TypeError("the samples that accuracy is measured on have labels")
        labels = part.labels
        expected = correct_percent(float_outputs(graph, part)[name], labels)

        def drop(bits: Bits) -> float:
            integer = quantise(graph, calibration, allocation(bits), target)
            return expected - correct_percent(integer_outputs(integer, part)[name], labels)

        bits, measured = _smallest(allocation.choices, drop, limit + 1e-9, progress)
        if measured > limit + 1e-9:
            text = f"accuracy drops by {measured:.2f} points at the widest weights, {limit:g} are allowed"
            if self.max_drop is not None:
                raise BudgetError(f"max_drop={limit:g} cannot be met on {len(part)} held-out samples: {text}")
            return allocation(bits, f"fisher: {text}")
        note = (
            f"fisher: the smallest network found whose accuracy drops by at most {limit:g} points; it drops by "
            f"{measured:.2f} on {len(part)} held-out samples"
        )
        return allocation(bits, note)

    def _by_change(
        self, calibration: Calibration, target: Target, allocation: _Maker, progress: Progress
    ) -> Allocation:
        """The smallest network whose outputs stay near the float ones."""
        graph = calibration.graph
        part = calibration.dataset.first(_sample_count(calibration, len(calibration.dataset)))
        expected = float_outputs(graph, part)
        softmax = {o.model_name: head(graph, o.value).logits for o in graph.outputs}

        def moved(bits: Bits) -> float:
            """In units of what is allowed beyond what 8 bits cost; the worst output counts."""
            found = integer_outputs(quantise(graph, calibration, allocation(bits), target), part)
            return max(changed(expected[name], found[name], softmax[name]) / _MOVED[softmax[name]] for name in expected)

        floor = moved(allocation.choices.uniform(allocation.choices.widths[-1]))
        bits, measured = _smallest(allocation.choices, lambda b: moved(b) - floor, 1.0, progress)
        note = (
            "fisher: there are no labels, so the smallest network found whose outputs stay near the float ones was "
            f"chosen: beyond 8 bits they move by {100 * measured:.0f} % of what is allowed, on {len(part)} samples"
        )
        return allocation(bits, note)


@dataclass(frozen=True, eq=False)
class _Maker:
    """Makes an Allocation of widths."""

    choices: Menu
    information: Information
    activation_bits: dict[str, int]

    def __call__(self, bits: Bits, *notes: str) -> Allocation:
        sensitivity = self.choices.loss(bits)
        activations = {
            v: losses[self.activation_bits[v]]
            for v, losses in self.information.activations.items()
            if self.activation_bits[v] in losses
        }
        return Allocation(bits, self.activation_bits, sensitivity, activations, sum(sensitivity.values()), notes=notes)


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
        progress("measure accuracy", step, steps + 1)
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
    graph = calibration.graph
    macs = sum(n.op.work(graph.input_types(n), n.params, n.type).macs for n in graph.nodes)
    return min(available, int(np.clip(_MEASURE_MACS / max(macs, 1), *_MEASURE_SAMPLES)))
