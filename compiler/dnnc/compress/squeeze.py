"""Squeezing: of correlated channels a minimal set stays, and the layers that read them make up for the rest.

One-shot, without training: layer after layer from the front, units go that their readers miss least, and the readers
are fitted by least squares to what the original network computes. After Ozen & Orailoglu ("Squeezing correlated neurons
for resource-efficient DNNs", ECML PKDD 2020); `metric=variance,fit=absorb,allocation=error` is nearest to their method,
the defaults are what measured best.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from dnnc.compress.absorb import Choice, Fit, Metric, Squeezer, linear_layers
from dnnc.compress.budget import Budget, solve, weight_count
from dnnc.compress.collect import output_metrics
from dnnc.compress.inverse_hessian import Path
from dnnc.compress.method import Compressed, Method, Setting, Usage
from dnnc.compress.subset import Algorithm
from dnnc.compress.surgery import ChannelMap, remove
from dnnc.compress.widths import Allocation, Costs, Widths, walk
from dnnc.errors import OptionError
from dnnc.ir.graph import Graph

#: How often widths are corrected after the target's compiler and core were asked.
_CORRECTIONS = 6
#: Counts of channels that kernels like where cycles are limited.
_QUANTUM = 4


@dataclass(frozen=True)
class Squeeze(Method):
    """size: times fewer parameters; speed: times fewer modelled cycles on the target; params, macs: fractions to keep;
    flash_bytes, cycles: on the target, at 8 bits; max_drop: points of accuracy on held-out samples.

    algorithm: how a minimal set is found; metric: "consumer", what readers see of an error, weighted by how much it
    moves the network's outputs, or "variance"; fit: "refit" all weights of the readers, or "absorb" units into those
    that stay; allocation: of the budget over layers, by predicted loss for what is saved, by equal relative error, or
    evenly. damping: share of the mean variance that is added to all directions.
    """

    name: ClassVar[str] = "squeeze"
    size: float | None = None
    speed: float | None = None
    params: float | None = None
    macs: float | None = None
    flash_bytes: int | None = None
    cycles: int | None = None
    max_drop: float | None = None
    algorithm: Algorithm = "elimination"
    metric: Metric = "consumer"
    fit: Fit = "refit"
    allocation: Allocation = "loss"
    damping: float = 0.01

    def __post_init__(self) -> None:
        for key, what in (("size", "how many times fewer parameters"), ("speed", "how many times fewer cycles")):
            value = getattr(self, key)
            if value is not None and not value >= 1:
                raise OptionError(f"squeeze: option '{key}' is {what}, {key} >= 1; found {value:g}")
        for relative, absolute in (("size", "params"), ("speed", "cycles")):
            if getattr(self, relative) is not None and getattr(self, absolute) is not None:
                raise OptionError(f"squeeze: options '{relative}' and '{absolute}' limit the same; give one of them")
        if not 0 < self.damping <= 1:
            raise OptionError(f"squeeze: option 'damping' expects 0 < damping <= 1, found {self.damping:g}")
        Budget(self.params, self.macs, self.flash_bytes, self.cycles, self.max_drop).check(self.name)

    def apply(self, graph: Graph, setting: Setting) -> Compressed:
        """Raises OptionError for budgets that need labels or an emulated target where there are none."""
        usage = self._usage(graph, setting)
        budget = self._budget(setting, usage)
        squeezer = self.squeezer(graph, setting)
        if not squeezer.cmap.groups:
            return Compressed(graph, ("squeeze: no channel of this network can be removed",))
        plan = Plan(squeezer, self.allocation, setting, usage)
        if not budget.resources:
            states, _ = plan.walk({"params": 0.5, "macs": 0.5}, 1)
            make = lambda strength: plan.squeeze(states[round(strength * (len(states) - 1))])  # noqa: E731
            found = solve(make, budget, graph, setting)
            return Compressed(found.graph, self._notes(graph, found.graph), found.missed)
        result = plan.squeeze(plan.widths(budget))
        missed = budget.shortfall(result, graph, setting)
        if missed is None and budget.max_drop is not None:
            # The budget is met as mildly as can be: what is left to do is to say what that costs.
            missed = solve(
                lambda _: result, replace(budget, params=None, macs=None, flash_bytes=None, cycles=None), graph, setting
            ).missed
        return Compressed(result, self._notes(graph, result), missed)

    def _usage(self, graph: Graph, setting: Setting) -> Usage | None:
        if self.speed is None and self.cycles is None and self.flash_bytes is None:
            return None
        if setting.measure is None:
            raise OptionError(
                f"squeeze: speed, cycles and flash_bytes are measured on an emulated core, and target "
                f"'{setting.target.name}' has none"
            )
        return setting.measure(graph)

    def _budget(self, setting: Setting, usage: Usage | None) -> Budget:
        params = 1 / self.size if self.size is not None else self.params
        cycles = int(usage.cycles / self.speed) if usage is not None and self.speed is not None else self.cycles
        return Budget(params, self.macs, self.flash_bytes, cycles, self.max_drop).or_default(setting)

    def squeezer(self, graph: Graph, setting: Setting) -> Squeezer:
        """What squeezes the network by these options, whatever the budget."""
        choice = Choice(self.algorithm, self.metric, self.fit, self.damping)
        names = [n.name for n in linear_layers(graph)]
        metrics = output_metrics(graph, names, setting.sample, setting.seed, setting.progress)
        return Squeezer(graph, setting.sample, metrics, choice, setting.seed)

    def _notes(self, before: Graph, after: Graph) -> tuple[str, ...]:
        return (
            f"{self}: {weight_count(before):,} parameters to {weight_count(after):,}, "
            f"{before.macs:,} multiply-accumulates to {after.macs:,}",
        )


class Plan:
    """What widths to give the groups of a network, and the network squeezed to them."""

    def __init__(self, squeezer: Squeezer, allocation: Allocation, setting: Setting, usage: Usage | None) -> None:
        self.squeezer, self.allocation, self.setting, self.usage = squeezer, allocation, setting, usage
        self.graph = squeezer.original
        self.cmap: ChannelMap = squeezer.cmap
        self.costs = Costs.of(self.graph, self.cmap, None if usage is None else usage.layer_cycles)
        self.paths: list[Path] = []
        for step, group in enumerate(self.cmap.groups):
            setting.progress("how layers correlate", step, len(self.cmap.groups))
            self.paths.append(squeezer.path(self.graph, group, frozenset()))

    def walk(self, prices: Mapping[str, float], quantum: int) -> tuple[list[Widths], list[float]]:
        return walk(self.costs, self.paths, prices, self.allocation, quantum)

    def widths(self, budget: Budget) -> Widths:
        """The widths of least predicted loss that keep to the budget, or the fewest where none do."""
        limits = {k: v for k, v in (("params", budget.params), ("macs", budget.macs)) if v is not None}
        if "params" in limits:
            # Weights that are zero already do not count.
            limits["params"] *= weight_count(self.graph) / self.costs.total("params", self.costs.units)
        quantum = _QUANTUM if budget.cycles is not None else 1
        if budget.measured and self.usage is not None:
            # In shares of what there was, as predicted: corrected by what is measured.
            if budget.cycles is not None:
                limits["cycles"] = budget.cycles / self.usage.cycles
            if budget.flash_bytes is not None:
                all_of = self.costs.total("params", self.costs.units)
                over = self.usage.flash_bytes - budget.flash_bytes
                limits["params"] = min(limits.get("params", 1.0), max(1 - over / all_of, 1e-6))
        walks = [self.walk(prices, quantum) for prices in _mixtures(sorted(limits))]
        widths = self._best(walks, limits)
        for step in range(_CORRECTIONS if budget.measured else 0):
            self.setting.progress("measuring on the target", step, _CORRECTIONS)
            assert self.setting.measure is not None
            found = self.setting.measure(remove(self.graph, self._ids(widths)))
            missed = False
            assert self.usage is not None
            for kind, used, allowed, whole in (
                ("cycles", found.cycles, budget.cycles, self.usage.cycles),
                ("params", found.flash_bytes, budget.flash_bytes, self.usage.flash_bytes),
            ):
                if allowed is not None and used > allowed:
                    # As much more of what is predicted as what was saved falls short of what is wanted.
                    share = (whole - allowed) / max(whole - used, 1)
                    limits[kind] = max(1 - (1 - limits[kind]) * min(1.005 * share, 2.0), 0.0)
                    missed = True
            if not missed:
                break
            widths = self._best(walks, limits)
        return widths

    def squeeze(self, widths: Widths) -> Graph:
        """The network with so many units left in every group."""
        squeezer = self.squeezer
        current, gone = self.graph, frozenset[int]()
        layers = linear_layers(self.graph)
        waiting = {group.name: (group, int(w)) for group, w in zip(self.cmap.groups, widths, strict=True)}
        for step, node in enumerate(layers):
            self.setting.progress("squeezing", step, len(layers))
            fitted = False
            for group, keep in list(waiting.values()):
                if node.name in group.consumers:
                    del waiting[group.name]
                    if keep < len(group.ids):
                        current, gone = squeezer.squeeze(current, group, gone, keep)
                        fitted = True
            if gone and not fitted and squeezer.can_refit(node.name):
                new = squeezer.refitted(current, node.name, gone)
                current = current.with_nodes(new if n.name == node.name else n for n in current.nodes)
        return remove(current, gone)

    def _ids(self, widths: Widths) -> list[int]:
        """Units of so many as go: which, the cost does not depend on."""
        return [int(i) for group, width in zip(self.cmap.groups, widths, strict=True) for i in group.ids[width:]]

    def _best(self, walks: list[tuple[list[Widths], list[float]]], limits: Mapping[str, float]) -> Widths:
        best, least = walks[0][0][-1], np.inf
        for states, losses in walks:
            for widths, loss in zip(states, losses, strict=True):
                if all(
                    self.costs.total(k, widths) <= v * self.costs.total(k, self.costs.units) for k, v in limits.items()
                ):
                    if loss < least:
                        best, least = widths, loss
                    break
        return best


def _mixtures(kinds: list[str]) -> list[dict[str, float]]:
    """Prices of several limited resources to try: each alone, all alike, and between."""
    if len(kinds) == 1:
        return [{kinds[0]: 1.0}]
    if len(kinds) == 2:
        return [{kinds[0]: i / 8, kinds[1]: 1 - i / 8} for i in range(9)]
    return [dict.fromkeys(kinds, 1.0), *({k: 4.0 if k == one else 1.0 for k in kinds} for one in kinds)]
