"""The exact choice within several budgets against enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnc.quantise.programme import Cut, Item, Problem, Solution, evaluated, solve, undominated

pytestmark = pytest.mark.quick


def problem(seed: int, items: int = 4, groups: int = 2) -> Problem:
    """Random: items of up to four options for each width of up to two groups, and three kernels."""
    rng = np.random.default_rng(seed)
    names = [f"g{i}" for i in range(groups)]
    widths = {name: {4: float(rng.integers(0, 5)), 8: 0.0} if i else {8: 0.5} for i, name in enumerate(names)}
    made = []
    for index in range(items):
        touched = [n for n in names if rng.random() < 0.7]
        needs, kernels = [], []
        for combination in itertools.product(*(widths[n] for n in touched)):
            for _ in range(int(rng.integers(1, 4))):
                needs.append(dict(zip(touched, combination, strict=True)))
                kernels.append(frozenset(k for k in "abc" if rng.random() < 0.4))
        made.append(
            Item(
                f"i{index}",
                rng.integers(0, 20, len(needs)).astype(float),
                rng.integers(0, 30, (len(needs), 2)).astype(float),
                tuple(needs),
                tuple(kernels),
            )
        )
    # A group that no item touches keeps a width of its own choice.
    seen = {g for item in made for need in item.widths for g in need}
    kept = {n: w for n, w in widths.items() if n in seen}
    charges = {k: rng.integers(0, 15, 2).astype(float) for k in "abc"}
    return Problem(("bytes", "cycles"), tuple(made), kept, charges, np.array([3.0, 7.0]))


def feasible(given: Problem, budgets: dict[str, float]) -> list[Solution]:
    found = []
    for picks in itertools.product(*(range(len(item.losses)) for item in given.items)):
        needs: dict[str, set[int]] = {}
        for item, pick in zip(given.items, picks, strict=True):
            for group, width in item.widths[pick].items():
                needs.setdefault(group, set()).add(width)
        if any(len(widths) > 1 for widths in needs.values()):
            continue
        solution = evaluated(given, picks)
        cuts = (
            sum(w for s, w in cut.weights.items() if solution.widths[s[0]] == s[1]) <= cut.limit for cut in given.cuts
        )
        if all(solution.costs[name] <= most for name, most in budgets.items()) and all(cuts):
            found.append(solution)
    return found


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(20, 110), st.integers(20, 110))
def test_no_solution_is_better(seed: int, most_bytes: int, most_cycles: int) -> None:
    given_problem, budgets = problem(seed), {"bytes": float(most_bytes), "cycles": float(most_cycles)}
    for limits in (budgets, {"bytes": float(most_bytes)}, {}):
        found, expected = solve(given_problem, limits), feasible(given_problem, limits)
        assert (found is None) == (not expected)
        if found is not None:
            assert all(found.costs[name] <= most for name, most in limits.items())
            assert found.loss == pytest.approx(min(s.loss for s in expected), rel=1e-6, abs=1e-6)
        least = solve(given_problem, limits, "cycles")
        assert (least is None) == (not expected)
        if least is not None:
            assert least.costs["cycles"] == min(s.costs["cycles"] for s in expected)


def test_cuts_hold() -> None:
    for seed in range(12):
        plain = problem(seed, groups=2)
        if "g1" not in plain.groups:
            continue
        cut = plain.with_cuts(Cut({("g1", 8): 1.0}, 0.0))
        found, expected = solve(cut, {}), feasible(cut, {})
        assert found is not None and found.widths["g1"] == 4
        assert found.loss == pytest.approx(min(s.loss for s in expected))


def test_losses_of_very_different_size() -> None:
    losses = np.array([[1e9, 3e-7, 1e-7], [1e9, 2e-7, 1.5e-7], [5.0, 4e-9, 3e-9]])
    costs = np.array([1.0, 2.0, 3.0])[:, None]
    items = [Item(str(i), row, costs, ({},) * 3, (frozenset(),) * 3) for i, row in enumerate(losses)]
    given_problem = Problem(("bytes",), tuple(items), {}, {}, np.zeros(1))
    for budget, options in (
        (9, (2, 2, 2)),
        (8, (2, 2, 1)),
        (7, (2, 1, 1)),
        (6, (1, 1, 1)),
        (5, (1, 1, 0)),
        (3, (0,) * 3),
    ):
        found = solve(given_problem, {"bytes": float(budget)})
        assert found is not None and found.options == options
    assert solve(given_problem, {"bytes": 2.0}) is None


def test_a_second_kernel_is_paid_for_once() -> None:
    """Two layers would each save 30 by narrow weights, whose kernel takes 50: together that pays, alone it does not."""
    kernels = (frozenset({"w8"}), frozenset({"w4"}))
    items = [Item(n, np.array([0.0, 1.0]), np.array([[60.0], [30.0]]), ({}, {}), kernels) for n in "ab"]
    charges = {"w8": np.array([10.0]), "w4": np.array([50.0])}
    both = Problem(("bytes",), tuple(items), {}, charges, np.zeros(1))
    least = solve(both, {}, "bytes")
    assert least is not None and least.options == (1, 1) and least.costs == {"bytes": 110.0}
    one = Problem(("bytes",), tuple(items[:1]), {}, charges, np.zeros(1))
    least = solve(one, {}, "bytes")
    assert least is not None and least.options == (0,) and least.costs == {"bytes": 70.0}


def test_of_equals_the_cheaper() -> None:
    item = Item("a", np.array([1.0, 1.0, 1.0]), np.array([[5.0], [3.0], [4.0]]), ({},) * 3, (frozenset(),) * 3)
    assert undominated(item).tolist() == [1]
    found = solve(Problem(("bytes",), (item,), {}, {}, np.zeros(1)), {"bytes": 9.0})
    assert found is not None and found.options == (1,)


def test_nothing_to_choose() -> None:
    empty = Problem(("bytes",), (), {}, {}, np.array([4.0]))
    assert solve(empty, {"bytes": 4.0}) is not None
