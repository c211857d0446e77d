"""Budgets of structured methods: how much may be left, how far accuracy may fall, and the strength that meets both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dnnc.compress.method import Setting
from dnnc.errors import OptionError
from dnnc.evaluate import evaluate_batches
from dnnc.ir.graph import Graph
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.measure import correct_percent

#: Strengths tried by bisection; measuring on the emulated core takes seconds, so a budget in its terms gets fewer.
_STEPS, _MEASURED_STEPS = 12, 7
#: Where nothing is asked for: points of accuracy, or without labels the fraction of the parameters that is kept.
DEFAULT_DROP, DEFAULT_PARAMS = 0.5, 0.5


def weight_count(graph: Graph) -> int:
    """Parameters of all nodes that are not zero, biases included."""
    return sum(int(np.count_nonzero(p)) for n in graph.nodes for k, p in n.params.items() if k in ("weight", "bias"))


def accuracy(graph: Graph, dataset: Dataset) -> float:
    """Per cent of labelled samples that the float graph classifies correctly."""
    if dataset.labels is None:
        raise OptionError("accuracy needs labels: give data with 'y'")
    found = evaluate_batches(graph, dataset.inputs, batch_size=500)
    return correct_percent(found[graph.outputs[0].model_name], dataset.labels)


@dataclass(frozen=True)
class Budget:
    """params, macs: fractions of the original network's that may be left. flash_bytes, cycles: on the target, compiled
    at 8 bits. max_drop: points of accuracy on held-out samples. None: not asked for.
    """

    params: float | None = None
    macs: float | None = None
    flash_bytes: int | None = None
    cycles: int | None = None
    max_drop: float | None = None

    def check(self, method: str) -> Budget:
        """self; raises OptionError for values that cannot be meant."""
        for key in ("params", "macs"):
            value = getattr(self, key)
            if value is not None and not 0 < value <= 1:
                raise OptionError(f"{method}: option '{key}' is the fraction to keep, 0 < {key} <= 1; found {value:g}")
        for key in ("flash_bytes", "cycles"):
            value = getattr(self, key)
            if value is not None and value <= 0:
                raise OptionError(f"{method}: option '{key}' expects a positive number, found {value}")
        if self.max_drop is not None and not self.max_drop >= 0:
            raise OptionError(f"{method}: option 'max_drop' expects points of accuracy >= 0, found {self.max_drop:g}")
        return self

    def or_default(self, setting: Setting) -> Budget:
        """self; where nothing is limited, what a method keeps to by itself."""
        if self != Budget():
            return self
        return Budget(params=DEFAULT_PARAMS) if setting.judges is None else Budget(max_drop=DEFAULT_DROP)

    @property
    def resources(self) -> bool:
        """Whether anything but accuracy is limited."""
        return any(v is not None for v in (self.params, self.macs, self.flash_bytes, self.cycles))

    @property
    def measured(self) -> bool:
        return self.flash_bytes is not None or self.cycles is not None

    def shortfall(self, graph: Graph, original: Graph, setting: Setting) -> str | None:
        """What of the resources `graph` exceeds, in words; None where it keeps to them."""
        parts = []
        for key, found, all_of in (
            ("params", weight_count(graph), weight_count(original)),
            ("macs", graph.macs, original.macs),
        ):
            limit = getattr(self, key)
            if limit is not None and found > limit * all_of * (1 + 1e-9):
                parts.append(f"{key}={limit:g} allows {limit * all_of:,.0f} of {all_of:,}, {found:,} are left")
        if self.measured:
            if setting.measure is None:
                raise OptionError(
                    f"flash_bytes and cycles are measured on an emulated core, and target '{setting.target.name}' has "
                    f"none"
                )
            usage = setting.measure(graph)
            for key in ("flash_bytes", "cycles"):
                limit, found = getattr(self, key), getattr(usage, key)
                if limit is not None and found > limit:
                    parts.append(f"{key}={limit:,} is allowed, {found:,} are taken")
        return "; ".join(parts) or None


@dataclass(frozen=True, eq=False)
class Found:
    """The graph of `strength`. missed: what budget it misses, None where it meets all."""

    graph: Graph
    strength: float
    missed: str | None


def solve(make: Callable[[float], Graph], budget: Budget, original: Graph, setting: Setting) -> Found:
    """The graph make(strength), 0 (nothing) <= strength <= 1 (all that can be), that meets `budget`.

    With resources limited: the mildest that keeps to them; max_drop is then checked. With max_drop alone: the strongest
    that keeps to it. Larger strengths are taken to leave less and to lose more.
    """
    steps = _MEASURED_STEPS if budget.measured else _STEPS
    drop: Callable[[Graph], float] | None = None
    if budget.max_drop is not None:
        held_out = setting.labelled("max_drop")
        reference = accuracy(original, held_out)
        drop = lambda graph: reference - accuracy(graph, held_out)  # noqa: E731
    low, high = 0.0, 1.0
    if budget.resources:
        best, strength = make(1.0), 1.0
        missed = budget.shortfall(best, original, setting)
        if missed is not None:
            return Found(best, 1.0, missed)
        for step in range(steps):
            setting.progress("searching the budget", step, steps)
            middle = (low + high) / 2
            graph = make(middle)
            if budget.shortfall(graph, original, setting) is None:
                best, strength, high = graph, middle, middle
            else:
                low = middle
        if drop is not None and budget.max_drop is not None and (lost := drop(best)) > budget.max_drop + 1e-9:
            return Found(best, strength, f"max_drop={budget.max_drop:g}: accuracy drops by {lost:.2f} points")
        return Found(best, strength, None)
    if drop is None or budget.max_drop is None:
        raise ValueError("a budget limits something")
    best, strength = make(0.0), 0.0
    if (lost := drop(best)) > budget.max_drop + 1e-9:
        return Found(best, 0.0, f"max_drop={budget.max_drop:g}: accuracy drops by {lost:.2f} points at the least")
    for step in range(steps):
        setting.progress("searching the budget", step, steps)
        middle = (low + high) / 2
        graph = make(middle)
        if drop(graph) <= budget.max_drop + 1e-9:
            best, strength, low = graph, middle, middle
        else:
            high = middle
    return Found(best, strength, None)
