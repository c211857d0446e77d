"""Any mix of budgets at once: flash, RAM, cycles or milliseconds, energy.

All but RAM are sums over layers, and go to `dnnc.quantise.programme` as they are. RAM is the peak of what the memory
planner makes of a network, so it is asked: the solver starts from what no planner can undercut (the values that live
at a step, but those that may overlap), and an answer whose plan is too large rules out all answers whose values are at
least as wide where it matters. A wider value never makes an arena smaller, so what is found is optimal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dnnc.errors import BudgetError
from dnnc.ir.graph import Graph
from dnnc.ops.lifetimes import lifetimes
from dnnc.quantise.bits.costing import Choices, Source
from dnnc.quantise.calibrate import Calibration
from dnnc.quantise.programme import Cut, Problem, Solution, evaluated, solve

Bits = dict[str, NDArray[np.uint8]]
Widths = dict[str, int]

#: Names of budgets, and how figures of them are shown.
UNITS = {
    "flash_bytes": ("flash", "bytes"),
    "ram_bytes": ("RAM", "bytes"),
    "cycles": ("time", "cycles"),
    "energy_uj": ("energy", "microjoules"),
}
_ROUNDS = 200


@dataclass(frozen=True, eq=False)
class Decision:
    """Widths of weights by node [O] and of values, and what they are predicted to cost by resource."""

    bits: Bits
    activation_bits: Widths
    costs: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Allocator:
    """Chooses widths within budgets. ram: bytes that a decision's values need, None where no one asks."""

    calibration: Calibration
    choices: Choices
    source: Source | None = None
    ram: Callable[[Bits, Widths], int] | None = None
    _offsets: dict[str, float] = field(default_factory=dict, repr=False)

    def least_loss(self, budgets: Mapping[str, float]) -> Decision | None:
        """The decision of least predicted loss within `budgets`; None: there is none."""
        return self._solve(budgets, None)

    def least_cost(self, resource: str, budgets: Mapping[str, float]) -> Decision | None:
        """The decision that takes least of a resource within `budgets`."""
        if resource != "ram_bytes":
            return self._solve(budgets, resource)
        narrow = {g: min(widths) for g, widths in self.choices.problem.groups.items()}
        cuts = [Cut({(g, b): 1.0 for b in of if b != narrow[g]}, 0.0) for g, of in self.choices.problem.groups.items()]
        return self._solve(budgets, None, tuple(c for c in cuts if c.weights), with_ram=True)

    def uniform(self, budgets: Mapping[str, float]) -> tuple[Decision, ...]:
        """The decisions within `budgets` that give all weights one width, and every value its widest."""
        problem, found = self.choices.problem, []
        widest = {g: max(of) for g, of in problem.groups.items()}
        for width in self.choices.widths:
            options = []
            for item, bits in zip(problem.items, self.choices.bits, strict=True):
                fitting = (
                    k
                    for k, of in enumerate(item.widths)
                    if all(widest[g] == b for g, b in of.items()) and (bits is None or bool(np.all(bits[k] == width)))
                )
                options.append(next(fitting, None))
            known = [k for k in options if k is not None]
            if len(known) == len(options):
                decision = self._decision(evaluated(problem, known), "ram_bytes" in budgets)
                if all(decision.costs[k] <= most * (1 + 1e-12) for k, most in budgets.items()):
                    found.append(decision)
        return tuple(found)

    def within(self, budgets: Mapping[str, float]) -> Decision:
        """`least_loss`. Raises BudgetError naming the budget, the layer that needs most of it, and what would do."""
        found = self.least_loss(budgets)
        if found is not None:
            return found
        for name, most in budgets.items():
            least = self.least_cost(name, {})
            if least is None or least.costs[name] > most:
                raise BudgetError(self._impossible(name, most, least, {}))
        name = next(iter(budgets))
        others = {k: v for k, v in budgets.items() if k != name}
        raise BudgetError(self._impossible(name, budgets[name], self.least_cost(name, others), others))

    def _impossible(self, name: str, most: float, least: Decision | None, others: Mapping[str, float]) -> str:
        what, unit = UNITS[name]
        together = f" together with {' and '.join(f'{k}={_figure(v)}' for k, v in others.items())}" if others else ""
        text = f"{name}={_figure(most)} cannot be met{together}: "
        if least is None:
            return text + "the other budgets cannot be met together, either"
        layer, share = self._largest(name, least)
        return (
            f"{text}{what} takes at least {_figure(least.costs[name])} {unit}, which would do; layer '{layer}' alone "
            f"takes {_figure(share)} of them"
        )

    def _largest(self, name: str, decision: Decision) -> tuple[str, float]:
        """The layer that takes most of a resource, and how much."""
        if name == "ram_bytes":
            live = live_bytes(self.calibration.graph, decision.activation_bits)
            step = int(np.argmax(live))
            return self.calibration.graph.nodes[step].name, float(live[step])
        column = self.choices.problem.resources.index(name)
        found: dict[str, float] = {}
        for item, bits in zip(self.choices.problem.items, self.choices.bits, strict=True):
            for option, cost in enumerate(item.costs[:, column]):
                if bits is None or np.array_equal(bits[option], decision.bits[item.name]):
                    found[item.name] = min(float(cost), found.get(item.name, np.inf))
        layer = max(found, key=lambda n: found[n])
        return layer, found[layer]

    def _solve(
        self, budgets: Mapping[str, float], minimise: str | None, cuts: tuple[Cut, ...] = (), with_ram: bool = False
    ) -> Decision | None:
        sums = {name: most for name, most in budgets.items() if name != "ram_bytes"}
        problem = self._with_ram(self.choices.problem.with_cuts(*cuts), budgets.get("ram_bytes"))
        slack = dict.fromkeys(sums, 0.0)
        for _ in range(_ROUNDS):
            found = solve(problem, {k: v - self._offset(k) - slack[k] for k, v in sums.items()}, minimise)
            if found is None:
                return None
            decision = self._decision(found, with_ram or "ram_bytes" in budgets)
            over = {k: decision.costs[k] - v for k, v in sums.items() if decision.costs[k] > v * (1 + 1e-12)}
            if over:
                # What layers do to their neighbours: as much less for the layers by themselves.
                slack = {k: slack[k] + over.get(k, 0.0) for k in slack}
                continue
            most = budgets.get("ram_bytes")
            if most is None or decision.costs["ram_bytes"] <= most:
                return decision
            cut = self._too_wide(found, most)
            if cut is None:
                return None
            problem = problem.with_cuts(cut)
        return None

    def _decision(self, found: Solution, with_ram: bool) -> Decision:
        bits, widths = self.choices.decided(found.options, found.widths)
        costs = dict(found.costs)
        if self.source is not None:
            costs |= _totals(self.source, bits, widths)
        if with_ram and self.ram is not None:
            costs["ram_bytes"] = float(self.ram(bits, widths))
        return Decision(bits, widths, costs)

    def _offset(self, resource: str) -> float:
        """What a network takes beyond its layers, at the widest of all."""
        if not self._offsets and self.source is not None:
            widest = solve(self.choices.problem, {})
            if widest is not None:
                totals = _totals(self.source, *self.choices.decided(widest.options, widest.widths))
                self._offsets.update({name: total - widest.costs[name] for name, total in totals.items()})
        return self._offsets.get(resource, 0.0)

    def _with_ram(self, problem: Problem, most: float | None) -> Problem:
        """With what no planner can undercut: at each step all values but the output, and all but inputs that die."""
        if most is None:
            return problem
        group_of, graph = self.calibration.ties.group_of, self.calibration.graph
        cuts = []
        for values in _never_overlapping(graph):
            weights: dict[tuple[str, int], float] = {}
            for value in values:
                for width in problem.groups[group_of[value]]:
                    key = (group_of[value], width)
                    weights[key] = weights.get(key, 0.0) + graph.types[value].size * width / 8
            cuts.append(Cut({k: w / max(most, 1.0) for k, w in weights.items()}, 1.0 + 1e-9))
        return problem.with_cuts(*cuts)

    def _too_wide(self, found: Solution, most: float) -> Cut | None:
        """That one of the values becomes narrower: of those that are full where memory is, where that is enough."""
        groups = self.choices.problem.groups
        bits, widths = self.choices.decided(found.options, found.widths)
        graph, group_of = self.calibration.graph, self.calibration.ties.group_of
        live = live_bytes(graph, widths)
        fullest = {group_of[v] for v in _live(graph)[int(np.argmax(live))]}
        narrow = {g: w if g in fullest else min(groups[g]) for g, w in found.widths.items()}
        values = {v: narrow[g] for g, members in self.choices.members.items() for v in members}
        blamed = found.widths
        if self.ram is not None and self.ram(bits, values) > most:
            blamed = narrow
        wide = {g: w for g, w in blamed.items() if w > min(groups[g])}
        if not wide:
            return None
        weights = {(g, b): -1.0 for g, w in wide.items() for b in groups[g] if b < w}
        return Cut(weights, -1.0)


def _totals(source: Source, bits: Bits, widths: Widths) -> dict[str, float]:
    """What the network takes of the resources that the source knows better than the sum of its layers does."""
    network = source.network(bits, widths)
    found = {"cycles": float(network.cycles), "energy_uj": network.energy_uj or 0.0}
    return {**found, "flash_bytes": float(network.flash_bytes)} if source.knows_code else found


def live_bytes(graph: Graph, widths: Mapping[str, int]) -> NDArray[np.float64]:
    """Bytes of the values that live at each node, by the widths of values; none of them overlap."""
    return np.array([sum(graph.types[v].size * widths[v] / 8 for v in values) for values in _live(graph)])


def _live(graph: Graph) -> list[set[str]]:
    """The values with bytes of their own that live while each node runs."""
    lives = lifetimes(graph).items()
    return [{name for name, (first, last) in lives if first <= step <= last} for step in range(len(graph.nodes))]


def _never_overlapping(graph: Graph) -> list[list[str]]:
    """Sets of values of which no two can share a byte."""
    alive = _live(graph)
    found: dict[frozenset[str], None] = {}
    for step, node in enumerate(graph.nodes):
        after = alive[step + 1] if step + 1 < len(alive) else {o.value for o in graph.outputs}
        found[frozenset(alive[step] - {node.name})] = None
        found[frozenset(v for v in alive[step] if v == node.name or v in after)] = None
    return [sorted(values) for values in found if values]


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or float(value).is_integer() else f"{value:.3g}"
