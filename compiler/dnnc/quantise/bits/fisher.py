"""Widths by sensitivity: the Fisher information predicts what each width loses, an exact search spends the budgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from dnnc.cost.families import has_model, model_of
from dnnc.cost.target import Target
from dnnc.errors import BudgetError, OptionError
from dnnc.progress import Progress, silent
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.bits.activations import activation_widths, choose_activations
from dnnc.quantise.bits.budgets import UNITS, Allocator, Decision, live_bytes
from dnnc.quantise.bits.costing import LayerModel, Source, choices
from dnnc.quantise.bits.policy import Policy, Programs, require_width
from dnnc.quantise.bits.search import Bits, Candidates, Maker, smallest_by_change, smallest_by_drop
from dnnc.quantise.bytes import other_bytes
from dnnc.quantise.calibrate import Calibration
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.fisher import Fisher as Information
from dnnc.quantise.fisher import fisher
from dnnc.quantise.menu import Menu, menu
from dnnc.quantise.probe import probed

#: Widths that are not offered: 1 bit needs training, and 7 bits are stored as 8.
_UNOFFERED = (1, 7)
#: The default with labels, in points.
_DROP = 0.5
#: Options that are budgets of the target, any number of which hold at once.
_BUDGETS = ("flash_bytes", "ram_bytes", "cycles", "milliseconds", "energy_uj")


@dataclass(frozen=True)
class Fisher(Policy):
    """The widths that lose least within budgets, or the smallest network that is accurate enough; by exact optimisation
    of the predicted loss.

    average: bits of a weight on average, which goes with no other budget. Budgets of the target, any of which hold
    together: flash_bytes of weights and tables (biases, multipliers, parameters of calls), and of the kernels' code
    where the target's cost model knows it; ram_bytes of the arena, as the memory planner lays it out; cycles, or
    milliseconds at the target's clock; energy_uj, microjoules.
    max_drop: the network that takes least of what `minimise` names (flash, unless told otherwise) among those whose
    measured integer accuracy on held-out labelled samples drops by at most that many points. Without a budget it is
    max_drop=0.5 where there are labels, and else the smallest network whose outputs on the calibration samples move no
    further than 2 % of probability (classifiers) or 1 % of variance (others) beyond what 8 bits cost.

    group: whether a layer or every output channel has a width (single weights: see parameter_groups.py). error: whether
    a width's loss is the Fisher times the squared error of the channel's output (see `menu.output_loss`), or of the
    single weights. sensitivity: whether what a layer loses in all is measured (`quantise.probe`), or predicted as well.
    activations: bits of all activations. activation_group=value: every value has its own width, one of
    the target's up to `activations`, chosen together with the weights'; ram_bytes implies it. activation_average
    instead lets the Fisher choose among the target's widths beforehand, for that many bits of an element on average.
    """

    name: ClassVar[str] = "fisher"
    average: float | None = None
    flash_bytes: int | None = None
    max_drop: float | None = None
    group: Literal["layer", "channel", "parameter"] = "layer"
    error: Literal["output", "weight"] = "output"
    sensitivity: Literal["measured", "predicted"] = "measured"
    activations: int = 8
    activation_average: float | None = None
    ram_bytes: int | None = None
    cycles: float | None = None
    milliseconds: float | None = None
    energy_uj: float | None = None
    minimise: Literal["flash_bytes", "ram_bytes", "cycles", "energy_uj"] | None = None
    activation_group: Literal["network", "value"] = "network"

    @property
    def flash_budget_bytes(self) -> int | None:
        return self.flash_bytes

    def __post_init__(self) -> None:
        if self.group == "parameter":
            raise OptionError(
                "bit policy 'fisher': group=parameter gives single weights widths of their own, and no kernel reads "
                "the map that this needs; allowed: layer, channel"
            )
        given = [k for k in ("average", *_BUDGETS, "max_drop") if getattr(self, k) is not None]
        if self.average is not None and (len(given) > 1 or self.minimise):
            others = [*(k for k in given if k != "average"), *(["minimise"] if self.minimise else [])]
            raise OptionError(f"bit policy 'fisher' takes one budget, found average and {' and '.join(others)}")
        for key in [*given, *(["activation_average"] if self.activation_average is not None else [])]:
            if not getattr(self, key) >= 0:
                raise OptionError(
                    f"bit policy 'fisher': option '{key}' expects a number >= 0, found {getattr(self, key)}"
                )
        if self.activation_average is not None and self._of_target:
            raise OptionError(
                "bit policy 'fisher': activation_average goes with average, flash_bytes or max_drop alone; the widths "
                "of activations are chosen with the weights' by activation_group=value"
            )

    @property
    def _of_target(self) -> bool:
        """Whether anything is asked for that more than the sizes of layers decides."""
        hard = (k for k in _BUDGETS if k != "flash_bytes")
        several = self.flash_bytes is not None and self.max_drop is not None
        asked = any(getattr(self, k) is not None for k in hard) or several or self.minimise is not None
        return asked or self.activation_group == "value"

    def allocate(
        self,
        calibration: Calibration,
        target: Target,
        held_out: Dataset | None = None,
        seed: int = 0,
        progress: Progress = silent,
        programs: Programs | None = None,
    ) -> Allocation:
        require_width("activation", self.activations, target)
        labelled = held_out if held_out is not None and held_out.labels is not None else None
        if self.max_drop is not None and labelled is None:
            raise OptionError("bit policy 'fisher': max_drop needs labels: give data with 'y'")
        source = programs.source if programs is not None else None
        if source is None and has_model(target):
            source = LayerModel(calibration.graph, model_of(target))
        budgets = self._budgets(target, source)
        mixed = self.activation_group == "value" or "ram_bytes" in (*budgets, self.minimise)
        offered = [b for b in target.activation_bits if b <= self.activations] if mixed else [self.activations]
        asked = offered if self.activation_average is None else list(target.activation_bits)
        information = fisher(calibration, calibration.dataset, sorted({8, *asked}), seed, progress)
        progress("allocate bits", 0, 0)
        if self.activation_average is None:
            activation_bits = activation_widths(calibration, self.activations)
        else:
            activation_bits = choose_activations(calibration, target, information, self.activation_average)
        widths = [b for b in target.weight_bits if b not in _UNOFFERED]
        found = menu(calibration, information, widths, self.group == "channel", self.error == "output")
        if self.sensitivity == "measured":
            found = probed(calibration, found, seed, progress)
        make = Maker(found, information, activation_bits)
        if self.average is not None:
            return make(self._by_average(found, self.average))
        if self._of_target or (source is not None and source.knows_code and self.activation_average is None):
            costs = _allocator(calibration, target, found, information, offered, source, make, programs)
            if self.minimise is None and self.max_drop is None and budgets:
                return _made(make, costs.within(budgets))
            return self._smallest(calibration, target, costs, make, budgets, labelled, progress)
        if self.flash_bytes is not None:
            return make(self._by_flash(calibration, found, self.flash_bytes))
        if labelled is not None:
            return self._by_drop(calibration, target, _by_size(found, make), make, labelled, progress)
        return self._by_change(calibration, target, _by_size(found, make), make, progress)

    def _budgets(self, target: Target, source: Source | None) -> dict[str, float]:
        """The most of each resource. Raises OptionError where the target has no model of one."""
        found = {k: float(v) for k in _BUDGETS if (v := getattr(self, k)) is not None}
        timed = [k for k in (*found, *([self.minimise] if self.minimise else [])) if not k.endswith("_bytes")]
        if timed and source is None:
            raise OptionError(
                f"bit policy 'fisher': what {timed[0]} a layer takes on target '{target.name}' is not known: it has no "
                f"cost model; budgets that need none: flash_bytes, ram_bytes"
            )
        if source is not None and (most := found.pop("milliseconds", None)) is not None:
            found["cycles"] = min(found.get("cycles", float("inf")), most * 1e-3 * source.clock_hz)
        return found

    def _smallest(
        self,
        calibration: Calibration,
        target: Target,
        costs: Allocator,
        make: Maker,
        budgets: dict[str, float],
        labelled: Dataset | None,
        progress: Progress,
    ) -> Allocation:
        """The decision that takes least of a resource among those that measure well and keep to the budgets."""
        resource = self.minimise or "flash_bytes"
        asked = {**budgets, resource: budgets.get(resource, float("inf"))}
        finite = {k: v for k, v in asked.items() if v < float("inf")}
        widest = costs.within(finite) if finite else costs.least_loss({})
        least = costs.least_cost(resource, {k: v for k, v in finite.items() if k != resource})
        if widest is None or least is None:
            raise BudgetError("the network has nothing to choose widths of")
        if resource == "ram_bytes":
            widest = costs.least_loss({**finite, resource: finite.get(resource, 2.0**50)}) or widest
            least = costs.least_loss({**finite, resource: least.costs.get(resource, 2.0**50)}) or least
        candidates = Candidates(
            at=lambda most: costs.least_loss({**finite, resource: most}),
            size=lambda decision: decision.costs[resource],
            make=lambda decision: _made(make, decision),
            widest=widest,
            low=least.costs[resource],
            high=widest.costs[resource],
            others=() if resource == "ram_bytes" else costs.uniform(finite),
        )
        what = UNITS[resource][0]
        if labelled is not None:
            limit = _DROP if self.max_drop is None else self.max_drop
            found, measured, samples = smallest_by_drop(calibration, target, candidates, labelled, limit, progress)
            return _made(make, found, self._drop_note(measured, limit, samples, f"least {what}"))
        found, measured, samples = smallest_by_change(calibration, target, candidates, progress)
        return _made(make, found, _change_note(measured, samples))

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
            narrowest = choices.uniform(choices.widths[0])
            least = tables + choices.stored_bytes(narrowest)
            layer, largest = choices.largest(narrowest)
            raise BudgetError(
                f"{flash_bytes} bytes of flash cannot be met: weights and tables take at least {least} bytes, which "
                f"would do; layer '{layer}' alone takes {largest} of them"
            )
        return found

    def _by_drop(
        self,
        calibration: Calibration,
        target: Target,
        candidates: Candidates[Bits],
        make: Maker,
        held_out: Dataset,
        progress: Progress,
    ) -> Allocation:
        limit = _DROP if self.max_drop is None else self.max_drop
        bits, measured, samples = smallest_by_drop(calibration, target, candidates, held_out, limit, progress)
        return make(bits, self._drop_note(measured, limit, samples, "smallest"))

    def _by_change(
        self, calibration: Calibration, target: Target, candidates: Candidates[Bits], make: Maker, progress: Progress
    ) -> Allocation:
        bits, measured, samples = smallest_by_change(calibration, target, candidates, progress)
        return make(bits, _change_note(measured, samples))

    def _drop_note(self, measured: float, limit: float, samples: int, what: str) -> str:
        """Raises BudgetError where a bound that was asked for is missed."""
        if measured > limit + 1e-9:
            text = f"accuracy drops by {measured:.2f} points even at the widest weights, on {samples} held-out samples"
            if self.max_drop is not None:
                raise BudgetError(f"max_drop={limit:g} cannot be met: {text}")
            return f"fisher: {text}"
        network = "the smallest network found" if what == "smallest" else f"the network of {what} found"
        return (
            f"fisher: {network} whose accuracy drops by at most {limit:g} points; it drops by {measured:.2f} on "
            f"{samples} held-out samples"
        )


def _change_note(measured: float, samples: int) -> str:
    return (
        "fisher: there are no labels, so the smallest network found whose outputs stay near the float ones was "
        f"chosen: beyond 8 bits they move by {100 * measured:.0f} % of what is allowed, on {samples} samples"
    )


def _by_size(found: Menu, make: Maker) -> Candidates[Bits]:
    """Networks by the bytes of their layers' weights and tables."""
    uniform = [found.uniform(width) for width in found.widths]
    widest, narrowest = uniform[-1], uniform[0]
    return Candidates(
        at=lambda most: found.least_bytes(int(most)),
        size=lambda bits: float(found.stored_bytes(bits)),
        make=make,
        widest=widest,
        low=float(found.stored_bytes(narrowest)),
        high=float(found.stored_bytes(widest)),
        others=tuple(uniform),
    )


def _allocator(
    calibration: Calibration,
    target: Target,
    found: Menu,
    information: Information,
    activation_bits: list[int],
    source: Source | None,
    make: Maker,
    programs: Programs | None,
) -> Allocator:
    """Everything that can be chosen on a target, with what it costs. Without a planner RAM is what the source says, and
    without one the most bytes of values that live at once.
    """
    offered = choices(calibration, found, information, activation_bits, source, isinstance(target, Target))

    def ram(bits: Bits, values: dict[str, int]) -> int:
        if programs is not None:
            return programs.arena(make(bits, activation_bits=values))
        if source is not None:
            return source.network(bits, values).ram_bytes
        return int(live_bytes(calibration.graph, values).max(initial=0))

    return Allocator(calibration, offered, source, ram)


def _made(make: Maker, decision: Decision, *notes: str) -> Allocation:
    known = {k: v for k, v in decision.costs.items() if v}
    figures = ", ".join(f"{v:,.0f} {UNITS[k][1]} of {UNITS[k][0]}" for k, v in known.items())
    said = f"fisher: the chosen widths are predicted to take {figures}" if figures else ""
    return make(decision.bits, *notes, *([said] if said else []), activation_bits=decision.activation_bits)
