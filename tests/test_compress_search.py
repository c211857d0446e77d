"""Derivative-free searches: they find minima, are repeatable, and count what they evaluate."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from dnnc.compress.search import Kind, Point, coordinate, minimise, ncs, parallel

pytestmark = pytest.mark.quick
KINDS: tuple[Kind, ...] = ("ncs", "cma", "coordinate")
GOAL = np.array([1.5, -0.7, 0.3])


def bowl(point: Point) -> float:
    """Narrow along one axis, with its least value 0 at GOAL."""
    return float((np.array([1.0, 4.0, 9.0]) * (point - GOAL) ** 2).sum())


@pytest.mark.parametrize("kind", KINDS)
def test_finds_the_minimum(kind: Kind) -> None:
    found = minimise(kind, parallel(bowl, 1), np.zeros(3), 0.5, 600, seed=1)
    assert found.value == bowl(found.point) < 0.05 < bowl(np.zeros(3))
    assert found.evaluations <= 620


@pytest.mark.parametrize("kind", KINDS)
def test_threads_change_nothing(kind: Kind) -> None:
    one = minimise(kind, parallel(bowl, 1), np.zeros(3), 0.5, 90, seed=3)
    many = minimise(kind, parallel(bowl, 4), np.zeros(3), 0.5, 90, seed=3)
    np.testing.assert_array_equal(one.point, many.point)
    assert one.value == many.value and one.evaluations == many.evaluations


@pytest.mark.parametrize("kind", KINDS)
def test_the_start_is_a_candidate(kind: Kind) -> None:
    """Nothing better exists: the start itself comes back."""
    found = minimise(kind, parallel(bowl, 1), GOAL, 0.5, 40, seed=0)
    np.testing.assert_array_equal(found.point, GOAL)


@pytest.mark.parametrize("kind", KINDS)
def test_worthless_candidates(kind: Kind) -> None:
    """Half of the space is infinitely bad; the best of the other half is found nevertheless."""
    found = minimise(kind, parallel(lambda p: bowl(p) if p[0] < 1 else np.inf, 1), np.zeros(3), 0.5, 600, seed=2)
    assert found.point[0] < 1 and found.value < bowl(np.array([1.0, -0.7, 0.3])) + 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_one_dimension(kind: Kind) -> None:
    found = minimise(kind, parallel(lambda p: (float(p[0]) - 2) ** 2, 1), np.zeros(1), 0.5, 200, seed=0)
    assert abs(found.point[0] - 2) < 0.1


def test_ncs_moves_its_walks() -> None:
    """The authors' code accepts no candidate ever: all generations draw around the start, and cannot reach far."""
    found = ncs(parallel(lambda p: float(((p - 30) ** 2).sum()), 1), np.zeros(2), 1.0, 1500, seed=0)
    assert np.all(np.abs(found.point - 30) < 1)


def test_coordinate_follows_a_slope() -> None:
    """Steps double while they succeed: 1000 is reached from steps of 1 in few evaluations."""
    found = coordinate(parallel(lambda p: abs(float(p[0]) - 1000), 1), np.zeros(1), 1.0, 80, seed=0)
    assert abs(found.point[0] - 1000) < 1


def test_candidates_run_side_by_side() -> None:
    together = threading.Barrier(2, timeout=10)

    def value(point: Point) -> float:
        together.wait()
        time.sleep(0.01)
        return float(point[0])

    assert list(parallel(value, 2)([np.array([3.0]), np.array([5.0])])) == [3.0, 5.0]
