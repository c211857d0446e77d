"""One option for every layer with the least total loss, within any number of budgets at once: solved exactly.

An integer programme (Yao et al., "HAWQ-V3", ICML 2021, choose widths so), with two things that make layers depend on
each other: the width of a value is one for all layers that make or read it, and a kernel's code is paid for once,
however many layers call it. HiGHS (through scipy) solves it by branch and cut, with no gap left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

Reals = NDArray[np.float64]

#: The solver's constraints hold to this share of a budget; what it returns is checked in full.
_TOLERANCE = 2e-6
#: The solver ends when it knows the optimum to 1e-6, so losses are scaled to this; those that are so many times the
#: optimum of the relaxed problem are left out first, as numbers of one order are solved more exactly.
_SCALE, _HOPELESS = 1e4, 1e4
#: Of equals the cheaper: what all of a resource is worth, of the relaxed problem's loss.
_TIE = 1e-9


@dataclass(frozen=True, eq=False)
class Item:
    """A layer. losses [options], costs [options, resources]; widths: of every option the widths of the groups of values
    that it needs; kernels: of every option the kernels that it calls.
    """

    name: str
    losses: Reals
    costs: Reals
    widths: tuple[Mapping[str, int], ...]
    kernels: tuple[frozenset[str], ...]


@dataclass(frozen=True)
class Cut:
    """The weights of the widths (by group and width) that are chosen add up to at most `limit`."""

    weights: Mapping[tuple[str, int], float]
    limit: float


@dataclass(frozen=True, eq=False)
class Problem:
    """groups: of every group of values the loss of each width that it may have. charges: of every kernel what its code
    costs once, [resources]; base: what is spent whatever is chosen, [resources].
    """

    resources: tuple[str, ...]
    items: tuple[Item, ...]
    groups: Mapping[str, Mapping[int, float]]
    charges: Mapping[str, Reals]
    base: Reals
    cuts: tuple[Cut, ...] = field(default=())

    def with_cuts(self, *cuts: Cut) -> Problem:
        return replace(self, cuts=(*self.cuts, *cuts))


@dataclass(frozen=True, eq=False)
class Solution:
    """options: of every item; widths: of every group; loss; costs: by resource."""

    options: tuple[int, ...]
    widths: Mapping[str, int]
    loss: float
    costs: Mapping[str, float]


def undominated(item: Item) -> NDArray[np.int64]:
    """The options that no other one of the same widths and of no more kernels matches in loss and in every cost."""
    figures = np.column_stack([item.losses, item.costs])
    keep: list[int] = []
    # What comes first in this order is dominated by nothing that comes later.
    for option in np.lexsort([np.arange(len(figures)), *figures.T[::-1]]).tolist():
        if not any(
            item.widths[other] == item.widths[option]
            and item.kernels[other] <= item.kernels[option]
            and bool(np.all(figures[other] <= figures[option]))
            for other in keep
        ):
            keep.append(option)
    return np.sort(np.array(keep, np.int64))


def evaluated(problem: Problem, options: Sequence[int]) -> Solution:
    """What an option for every item loses and costs in all."""
    widths: dict[str, int] = {name: next(iter(of)) for name, of in problem.groups.items() if len(of) == 1}
    used: set[str] = set()
    loss, costs = 0.0, problem.base.astype(float)
    for item, option in zip(problem.items, options, strict=True):
        loss += float(item.losses[option])
        costs = costs + item.costs[option]
        widths.update(item.widths[option])
        used |= item.kernels[option]
    for kernel in sorted(used):
        costs = costs + problem.charges[kernel]
    widths = {name: widths[name] for name in problem.groups}
    loss += sum(of[widths[name]] for name, of in problem.groups.items())
    return Solution(tuple(options), widths, loss, dict(zip(problem.resources, costs.tolist(), strict=True)))


def solve(problem: Problem, budgets: Mapping[str, float], minimise: str | None = None) -> Solution | None:
    """The solution of least loss (or of least cost of the resource `minimise`) that keeps to `budgets`, the most of a
    resource; None: there is none.
    """
    kept = [undominated(item) for item in problem.items]
    shrink = 1.0
    for _ in range(4):
        found = _Programme(problem, kept, {k: v * shrink if v > 0 else v for k, v in budgets.items()}).solve(minimise)
        if found is None:
            return None
        solution = evaluated(problem, found)
        if all(solution.costs[name] <= most * (1 + 1e-12) for name, most in budgets.items()):
            return solution
        shrink -= _TOLERANCE
    return None


class _Programme:
    """The matrices. Variables: an option of an item each, a width of a group each, a kernel each."""

    def __init__(self, problem: Problem, kept: Sequence[NDArray[np.int64]], budgets: Mapping[str, float]) -> None:
        self.problem, self.kept, self.budgets = problem, kept, budgets
        self.owner = np.repeat(np.arange(len(kept)), [len(k) for k in kept])
        self.option = np.concatenate([*kept, np.zeros(0, np.int64)])
        self.states = [(name, width) for name, of in problem.groups.items() for width in of]
        count = len(self.option)
        self.state_at = {state: count + i for i, state in enumerate(self.states)}
        self.kernels = list(problem.charges)
        self.kernel_at = {kernel: count + len(self.states) + i for i, kernel in enumerate(self.kernels)}
        self.size = count + len(self.states) + len(self.kernels)
        of_states = [problem.groups[name][width] for name, width in self.states]
        losses = [problem.items[i].losses[k] for i, k in zip(self.owner, self.option, strict=True)]
        self.losses = np.array([*losses, *of_states, *[0.0] * len(self.kernels)])
        rows = [problem.items[i].costs[k] for i, k in zip(self.owner, self.option, strict=True)]
        width = len(problem.resources)
        self.costs = np.concatenate(
            [
                np.array(rows, float).reshape(-1, width),
                np.zeros((len(self.states), width)),
                np.array([problem.charges[k] for k in self.kernels], float).reshape(-1, width),
            ]
        )
        self.rows = self._rows()

    def _rows(self) -> list[LinearConstraint]:
        problem = self.problem
        equal, one = _Rows(self.size), _Rows(self.size)
        for index, kept in enumerate(self.kept):
            places = np.flatnonzero(self.owner == index)
            one.add(places, np.ones(len(places)), 1.0)
            item = problem.items[index]
            needs = [item.widths[k] for k in kept]
            for group in dict.fromkeys(g for need in needs for g in need):
                for width in problem.groups[group]:
                    fitting = places[[need.get(group, width) == width for need in needs]]
                    equal.add([*fitting, self.state_at[group, width]], [*np.ones(len(fitting)), -1.0], 0.0)
        for name, of in problem.groups.items():
            one.add([self.state_at[name, width] for width in of], np.ones(len(of)), 1.0)
        most = _Rows(self.size)
        for index, kept in enumerate(self.kept):
            places = np.flatnonzero(self.owner == index)
            calls = [problem.items[index].kernels[k] for k in kept]
            for kernel in sorted(set().union(*calls)):
                using = places[[kernel in call for call in calls]]
                most.add([*using, self.kernel_at[kernel]], [*np.ones(len(using)), -1.0], 0.0)
        for cut in problem.cuts:
            most.add([self.state_at[s] for s in cut.weights], list(cut.weights.values()), cut.limit)
        for name, limit in self.budgets.items():
            column = problem.resources.index(name)
            scale = max(abs(limit), 1e-30)
            costs, left = self.costs[:, column] / scale, (limit - float(problem.base[column])) / scale
            places = np.flatnonzero(costs)
            most.add(places, costs[places], left)
        found = [block.constraint(equality) for block, equality in ((equal, True), (one, True), (most, False))]
        return [constraint for constraint in found if constraint is not None]

    def solve(self, minimise: str | None) -> list[int] | None:
        """The option of each item, or None."""
        if minimise is not None:
            wanted = self.costs[:, self.problem.resources.index(minimise)]
            relaxed = self._run(wanted / max(float(np.abs(wanted).max(initial=0.0)), 1e-30), relax=True)
            if relaxed is None:
                return None
            scale = _SCALE / max(float(wanted @ relaxed), 1e-30)
            return self._picked(self._run(wanted * scale, False))
        relaxed = self._run(self.losses / max(float(np.abs(self.losses).max(initial=0.0)), 1e-300), relax=True)
        if relaxed is None:
            return None
        least = max(float(self.losses @ relaxed), 1e-12 * float(np.abs(self.losses).max(initial=0.0)), 1e-300)
        limits = [self.problem.resources.index(name) for name in self.budgets] or range(self.costs.shape[1])
        worth = self.costs[:, list(limits)]
        ties = (worth / np.maximum(worth.sum(axis=0), 1e-30)).sum(axis=1) * _TIE
        objective = (self.losses / least + ties) * _SCALE
        hopeless = self.losses > _HOPELESS * least
        if hopeless.any():
            found = self._run(np.where(hopeless, 0.0, objective), False, hopeless)
            if found is not None and self.losses @ found <= _HOPELESS * least:
                return self._picked(found)
        return self._picked(self._run(objective, False))

    def _run(self, objective: Reals, relax: bool, without: NDArray[np.bool_] | None = None) -> Reals | None:
        if not self.size:
            return np.zeros(0)
        upper = np.ones(self.size) if without is None else np.where(without, 0.0, 1.0)
        whole = np.zeros(self.size)
        if not relax:
            whole[: len(self.option)] = 1
        result: Any = milp(
            objective, integrality=whole, bounds=Bounds(0, upper), constraints=self.rows, options={"mip_rel_gap": 0.0}
        )
        return None if result.x is None else np.asarray(result.x, np.float64)

    def _picked(self, found: Reals | None) -> list[int] | None:
        if found is None:
            return None
        chosen = found[: len(self.option)]
        return [
            int(self.option[places[np.argmax(chosen[places])]])
            for places in (np.flatnonzero(self.owner == index) for index in range(len(self.kept)))
        ]


class _Rows:
    """Rows of a sparse matrix with their right-hand sides."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.rows: list[Reals] = []
        self.columns: list[NDArray[np.int64]] = []
        self.values: list[Reals] = []
        self.right: list[float] = []

    def add(self, columns: Any, values: Any, right: float) -> None:
        self.columns.append(np.asarray(columns, np.int64))
        self.values.append(np.asarray(values, np.float64))
        self.rows.append(np.full(len(self.columns[-1]), len(self.right), np.float64))
        self.right.append(right)

    def constraint(self, equality: bool) -> LinearConstraint | None:
        if not self.right:
            return None
        rows, columns = np.concatenate(self.rows).astype(np.int64), np.concatenate(self.columns)
        matrix = coo_array((np.concatenate(self.values), (rows, columns)), (len(self.right), self.width)).tocsr()
        right = np.array(self.right)
        return LinearConstraint(matrix, right if equality else np.full(len(right), -np.inf), right)
