"""The search for the smallest network that measures well, on candidates made up for it: numbers that are their size."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dnnc.progress import silent
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.bits.search import Candidates, _smallest

pytestmark = pytest.mark.quick


def made(candidate: float) -> Allocation:
    raise AssertionError("what is measured is the candidate itself")


def searched(measure: Callable[[float], float], *others: float) -> tuple[float, float]:
    return _smallest(Candidates(lambda most: most, float, made, 100.0, 0.0, 100.0, others), measure, 1.0, silent)


def test_ends_near_the_smallest_that_measures_well() -> None:
    found, measured = searched(lambda size: 0.5 if size >= 37 else 2.0)
    assert 37 <= found < 37 + 2 and measured == 0.5


def test_the_widest_where_none_measures_well() -> None:
    assert searched(lambda size: 2.0 + size, 10.0) == (100.0, 102.0)


def test_others_count_where_the_prediction_misleads() -> None:
    """What lies at half of the range measures badly, so bisection sees nothing below it."""
    others = (12.0, 25.0, 90.0)
    assert searched(lambda size: 0.25 if size > 60 or size == 25 else 2.0, *others) == (25.0, 0.25)


def test_others_are_measured_only_where_they_are_smaller() -> None:
    seen = []

    def measure(size: float) -> float:
        seen.append(size)
        return 0.0

    found, _ = searched(measure, 99.0)
    assert 99.0 not in seen and found < 2
