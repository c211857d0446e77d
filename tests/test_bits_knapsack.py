"""The exact knapsack against enumeration and against HiGHS."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from dnnc.quantise.knapsack import choose

pytestmark = pytest.mark.quick

options = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12) | st.floats(0, 1)), min_size=1, max_size=4)


def enumerated(costs: Any, losses: Any, budget: int) -> float | None:
    best = None
    for picks in itertools.product(*(range(len(c)) for c in costs)):
        cost = sum(c[i] for c, i in zip(costs, picks, strict=True))
        loss = sum(v[i] for v, i in zip(losses, picks, strict=True))
        if cost <= budget and (best is None or loss < best):
            best = loss
    return best


@given(st.lists(options, min_size=0, max_size=5), st.integers(-1, 120))
def test_as_good_as_enumeration_and_never_over_budget(items: list[list[tuple[int, float]]], budget: int) -> None:
    costs = [[c for c, _ in item] for item in items]
    losses = [[float(v) for _, v in item] for item in items]
    found, expected = choose(costs, losses, budget), enumerated(costs, losses, budget)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert found.cost <= budget
        assert found.cost == sum(c[o] for c, o in zip(costs, found.options, strict=True))
        assert found.loss == pytest.approx(expected, abs=1e-9)


def test_agrees_with_highs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        sizes = rng.integers(9, 600, 25)
        bits = np.array([2, 3, 4, 5, 6, 8])
        costs = sizes[:, None] * bits
        losses = np.exp(2 * rng.standard_normal((25, 1))) * sizes[:, None] * 4.0**-bits * rng.uniform(0.8, 1.2, (25, 6))
        budget = int(sizes.sum() * 4)
        one_each = np.kron(np.eye(25), np.ones(6))
        solved = milp(
            losses.ravel(),
            integrality=np.ones(150),
            bounds=Bounds(0, 1),
            constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(costs.ravel()[None], -np.inf, budget)],
            options={"mip_rel_gap": 0},
        )
        found = choose(list(costs), list(losses), budget)
        assert found is not None and found.loss == pytest.approx(solved.fun, rel=1e-6)


def test_thousands_of_channels_take_no_time() -> None:
    rng = np.random.default_rng(1)
    sizes = rng.choice([9, 64, 288, 1152], 3000)
    costs = sizes[:, None] * np.array([2, 3, 4, 5, 6, 8])
    losses = np.exp(2 * rng.standard_normal((3000, 1))) * sizes[:, None] * 4.0 ** -np.array([2, 3, 4, 5, 6, 8])
    started = time.process_time()
    found = choose(list(costs), list(losses), int(sizes.sum() * 4))
    assert found is not None and found.cost <= sizes.sum() * 4
    assert time.process_time() - started < 5
