"""The multiple-choice knapsack, solved exactly: one option for every item, least total loss within a budget.

A Lagrange multiplier gives a lower bound and a good solution; what no better solution can contain is struck out by its
reduced cost; the rest is a dynamic programme over undominated states (after Pisinger, "A minimal algorithm for the
multiple-choice knapsack problem", EJOR 83, 1995).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Stands for the cost of an option that an item does not have.
_NEVER = 2**60


@dataclass(frozen=True)
class Choice:
    """options: the index chosen for each item; cost and loss: the totals."""

    options: tuple[int, ...]
    cost: int
    loss: float


@dataclass(frozen=True, eq=False)
class _Problem:
    """costs int64 and losses float64 [items, options]; missing options cost _NEVER and lose infinitely."""

    costs: NDArray[np.int64]
    losses: NDArray[np.float64]
    budget: int

    def total(self, options: NDArray[np.int64]) -> Choice:
        rows = np.arange(len(options))
        cost, loss = int(self.costs[rows, options].sum()), float(self.losses[rows, options].sum())
        return Choice(tuple(int(o) for o in options), cost, loss)

    def at_price(self, price: float) -> NDArray[np.int64]:
        """The best options when a unit of cost is worth `price`; of equals the cheaper."""
        priced = self.losses + price * self.costs
        best = priced == priced.min(axis=1, keepdims=True)
        return np.asarray(np.argmin(np.where(best, self.costs, _NEVER), axis=1), np.int64)

    def cost(self, options: NDArray[np.int64]) -> int:
        return int(self.costs[np.arange(len(options)), options].sum())


def choose(costs: Sequence[Any], losses: Sequence[Any], budget: int) -> Choice | None:
    """One option for each item with the least total loss at a total cost of at most `budget`; None: even the cheapest
    options exceed it.

    costs: whole numbers, one array an item; losses: finite reals of the same shapes.
    """
    if not len(costs):
        return Choice((), 0, 0.0) if budget >= 0 else None
    width = max(len(c) for c in costs)
    problem = _Problem(
        np.full((len(costs), width), _NEVER, np.int64), np.full((len(costs), width), np.inf), int(budget)
    )
    for item, (cost, loss) in enumerate(zip(costs, losses, strict=True)):
        problem.costs[item, : len(cost)] = cost
        problem.losses[item, : len(cost)] = loss
    if int(problem.costs.min(axis=1).sum()) > budget:
        return None
    free = problem.at_price(0.0)
    if problem.cost(free) <= budget:
        return problem.total(free)
    price = _price(problem)
    return _search(problem, price, _fill(problem, problem.at_price(price)))


def _price(problem: _Problem) -> float:
    """The least price, up to rounding, at which the best options are affordable."""
    finite = problem.losses[np.isfinite(problem.losses)]
    low, high = 0.0, max(float(finite.max() - finite.min()), 1e-300) * 2
    while problem.cost(problem.at_price(high)) > problem.budget:
        low, high = high, high * 16
    for _ in range(200):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if problem.cost(problem.at_price(middle)) <= problem.budget:
            high = middle
        else:
            low = middle
    return high


def _fill(problem: _Problem, options: NDArray[np.int64]) -> Choice:
    """Spend what is left, always on the change that lowers the loss most: a good solution to begin with."""
    rows = np.arange(len(options))
    options = options.copy()
    while True:
        left = problem.budget - problem.cost(options)
        affordable = problem.costs - problem.costs[rows, options][:, None] <= left
        gains = np.where(affordable, problem.losses[rows, options][:, None] - problem.losses, 0.0)
        item, option = divmod(int(np.argmax(gains)), gains.shape[1])
        if gains[item, option] <= 0:
            return problem.total(options)
        options[item] = option


def _search(problem: _Problem, price: float, start: Choice) -> Choice:
    """Every state that could still beat `start` is kept, so the result is optimal."""
    priced = problem.losses + price * problem.costs
    least = priced.min(axis=1)
    reduced = priced - least[:, None]
    # A solution's loss is at least this lower bound plus the reduced costs of its options.
    lower = float(least.sum()) - price * problem.budget
    gap = max(start.loss - lower, 0.0) * (1 + 1e-12) + 1e-15 * abs(start.loss)
    second = np.sort(reduced, axis=1)[:, 1] if reduced.shape[1] > 1 else np.zeros(len(reduced))
    # Items with no second option within the gap have no choice left.
    settled = second > gap
    rows = np.flatnonzero(settled)
    options = np.argmin(reduced, axis=1)
    base = int(problem.costs[rows, options[rows]].sum())
    order = np.flatnonzero(~settled)
    order = order[np.argsort(-second[order], kind="stable")]
    cheapest = np.append(np.cumsum(problem.costs[order].min(axis=1)[::-1])[::-1], 0)
    spent, excess = np.full(1, base, np.int64), np.zeros(1)
    trail: list[tuple[int, NDArray[np.int64], NDArray[np.int64]]] = []
    for position, item in enumerate(order.tolist()):
        keep = np.flatnonzero(reduced[item] <= gap)
        new_spent = (spent[:, None] + problem.costs[item, keep]).ravel()
        new_excess = (excess[:, None] + reduced[item, keep]).ravel()
        index = np.flatnonzero((new_excess <= gap) & (new_spent + cheapest[position + 1] <= problem.budget))
        # Undominated: in order of cost, only those with less loss so far than all cheaper ones.
        so_far = (new_excess - price * new_spent)[index]
        by_cost = np.lexsort((so_far, new_spent[index]))
        so_far = so_far[by_cost]
        first = np.ones(len(index), bool)
        first[1:] = so_far[1:] < np.minimum.accumulate(so_far)[:-1]
        index = index[by_cost][first]
        if not len(index):
            return start
        spent, excess = new_spent[index], new_excess[index]
        trail.append((item, index // len(keep), keep[index % len(keep)]))
    state = int(np.argmin(excess - price * spent))
    for item, parent, option in reversed(trail):
        options[item] = option[state]
        state = int(parent[state])
    return min(problem.total(options), start, key=lambda c: (c.loss, c.cost))
