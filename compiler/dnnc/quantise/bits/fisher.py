"""Widths by sensitivity: the Fisher information predicts what each width loses, an exact search spends the budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from dnnc.cost.target import Target
from dnnc.errors import BudgetError, OptionError
from dnnc.progress import Progress, silent
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.bits.activations import activation_widths, choose_activations
from dnnc.quantise.bits.policy import Policy, require_width
from dnnc.quantise.bits.search import Bits, Maker, smallest_by_change, smallest_by_drop
from dnnc.quantise.bytes import other_bytes
from dnnc.quantise.calibrate import Calibration
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.fisher import fisher
from dnnc.quantise.menu import Menu, menu

#: Widths that are not offered: 1 bit needs training, and 7 bits are stored as 8.
_UNOFFERED = (1, 7)
#: The default with labels, in points.
_DROP = 0.5


@dataclass(frozen=True)
class Fisher(Policy):
    """One of three budgets, met by exact optimisation of the predicted loss:

    average: bits of a weight on average. flash_bytes: weights and tables (biases, multipliers, parameters of calls);
    code comes on top. max_drop: the smallest network whose measured integer accuracy on held-out labelled samples drops
    by at most that many points. Without a budget it is max_drop=0.5 where there are labels, and else the smallest
    network whose outputs on the calibration samples move no further than 2 % of probability (classifiers) or 1 % of
    variance (others) beyond what 8 bits cost.

    group: whether a layer or every output channel has a width (single weights: see parameter_groups.py). error: whether
    a width's loss is the Fisher times the squared error of the channel's output (see `menu.output_loss`), or of the
    single weights. activations: bits of all activations; activation_average instead lets the Fisher choose among the
    target's widths, for that many bits of an element on average.
    """

    name: ClassVar[str] = "fisher"
    average: float | None = None
    flash_bytes: int | None = None
    max_drop: float | None = None
    group: Literal["layer", "channel", "parameter"] = "layer"
    error: Literal["output", "weight"] = "output"
    activations: int = 8
    activation_average: float | None = None

    @property
    def flash_budget_bytes(self) -> int | None:
        return self.flash_bytes

    def __post_init__(self) -> None:
        if self.group == "parameter":
            raise OptionError(
                "bit policy 'fisher': group=parameter gives single weights widths of their own, and no kernel reads "
                "the map that this needs; allowed: layer, channel"
            )
        budgets = [k for k in ("average", "flash_bytes", "max_drop") if getattr(self, k) is not None]
        if len(budgets) > 1:
            raise OptionError(f"bit policy 'fisher' takes one budget, found {' and '.join(budgets)}")
        for key in [*budgets, *(["activation_average"] if self.activation_average is not None else [])]:
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
        labelled = held_out if held_out is not None and held_out.labels is not None else None
        if self.max_drop is not None and labelled is None:
            raise OptionError("bit policy 'fisher': max_drop needs labels: give data with 'y'")
        offered = [self.activations] if self.activation_average is None else list(target.activation_bits)
        information = fisher(calibration, calibration.dataset, sorted({8, *offered}), seed, progress)
        progress("allocate bits", 0, 0)
        if self.activation_average is None:
            activation_bits = activation_widths(calibration, self.activations)
        else:
            activation_bits = choose_activations(calibration, target, information, self.activation_average)
        widths = [b for b in target.weight_bits if b not in _UNOFFERED]
        choices = menu(calibration, information, widths, self.group == "channel", self.error == "output")
        make = Maker(choices, information, activation_bits)
        if self.average is not None:
            return make(self._by_average(choices, self.average))
        if self.flash_bytes is not None:
            return make(self._by_flash(calibration, choices, self.flash_bytes))
        if labelled is not None:
            return self._by_drop(calibration, target, make, labelled, progress)
        bits, measured, samples = smallest_by_change(calibration, target, make, progress)
        return make(
            bits,
            "fisher: there are no labels, so the smallest network found whose outputs stay near the float ones was "
            f"chosen: beyond 8 bits they move by {100 * measured:.0f} % of what is allowed, on {samples} samples",
        )

    def _by_average(self, choices: Menu, average: float) -> Bits:
        weights = sum(n.params["weight"].size for n in choices.nodes)
        found = choices.least_bits(average * weights + 1e-6)
        if found is None:
            raise BudgetError(
                f"an average of {average:g} bits a weight cannot be met: the narrowest width is {choices.widths[0]}"
            )
        return found

    def _by_flash(self, calibration: Calibration, choices: Menu, flash_bytes: int) -> Bits:
        tables = other_bytes(calibration.graph, self.activations)
        found = choices.least_bytes(flash_bytes - tables)
        if found is None:
            least = tables + choices.stored_bytes(choices.uniform(choices.widths[0]))
            raise BudgetError(
                f"{flash_bytes} bytes of flash cannot be met: weights and tables take at least {least} bytes"
            )
        return found

    def _by_drop(
        self, calibration: Calibration, target: Target, make: Maker, held_out: Dataset, progress: Progress
    ) -> Allocation:
        limit = _DROP if self.max_drop is None else self.max_drop
        bits, measured, samples = smallest_by_drop(calibration, target, make, held_out, limit, progress)
        if measured > limit + 1e-9:
            text = f"accuracy drops by {measured:.2f} points even at the widest weights, on {samples} held-out samples"
            if self.max_drop is not None:
                raise BudgetError(f"max_drop={limit:g} cannot be met: {text}")
            return make(bits, f"fisher: {text}")
        return make(
            bits,
            f"fisher: the smallest network found whose accuracy drops by at most {limit:g} points; it drops by "
            f"{measured:.2f} on {samples} held-out samples",
        )
