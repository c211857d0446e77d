"""Derivative-free minimisation in a few dimensions: repaired NCS, CMA-ES and a coordinate search.

All ask for the values of several points at once, so that `parallel` may compute them side by side, and all give the
same result for a seed however many cores there are.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Point = NDArray[np.float64]
#: The values of several points, in order; infinity where a point is worthless.
Values = Callable[[Sequence[Point]], Sequence[float]]
Kind = Literal["ncs", "cma", "coordinate"]


@dataclass(frozen=True, eq=False)
class Found:
    """The best point seen, its value, and how many points were evaluated."""

    point: Point
    value: float
    evaluations: int


def parallel(value: Callable[[Point], float], workers: int) -> Values:
    """The values of points, computed by up to `workers` threads (torch and numpy let others run while they compute)."""
    if workers < 2:
        return lambda points: [value(p) for p in points]

    def values(points: Sequence[Point]) -> Sequence[float]:
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(value, points))

    return values


def minimise(kind: Kind, values: Values, start: Point, step: float, evaluations: int, seed: int = 0) -> Found:
    """The best of about `evaluations` points around `start`, which is one of them, at first `step` apart."""
    start = np.asarray(start, np.float64)
    searches = {"ncs": ncs, "cma": cma_es, "coordinate": coordinate}
    return searches[kind](values, start, step, evaluations, seed)


class _Best:
    """Remembers the best point; counts."""

    def __init__(self, values: Values) -> None:
        self.values, self.point, self.value, self.count = values, np.empty(0), np.inf, 0

    def __call__(self, points: Sequence[Point]) -> list[float]:
        found = [float(v) for v in self.values(points)]
        self.count += len(points)
        for point, value in zip(points, found, strict=True):
            if value < self.value or self.point.size == 0:
                self.point, self.value = point.copy(), value
        return found

    def found(self) -> Found:
        return Found(self.point, self.value, self.count)


def ncs(values: Values, start: Point, step: float, evaluations: int, seed: int = 0, population: int = 6) -> Found:
    """Negatively correlated search (Tang, Yang and Yao, JSAC 2016): parallel Gaussian walks that keep apart.

    A child takes its place if its part of both losses (above the best so far) is below lambda times its part of
    both Bhattacharyya distances to the other walks; lambda is drawn around 1, ever closer. A walk that moves often
    takes larger steps, otherwise smaller ones (the 1/5 rule), every 5 generations.
    """
    rng = np.random.default_rng(seed)
    best = _Best(values)
    places = np.stack([start, *(start + step * rng.standard_normal(start.size) for _ in range(population - 1))])
    fits = np.array(best(list(places)))
    sigmas, wins = np.full(population, step), np.zeros(population)
    generations = max((evaluations - population) // population, 0)
    for generation in range(generations):
        children = places + sigmas[:, None] * rng.standard_normal(places.shape)
        child_fits = np.array(best(list(children)))
        spread = 0.1 - 0.1 * generation / generations
        weight = 1 + spread * rng.standard_normal(population)
        for i in range(population):
            if not np.isfinite(child_fits[i]):
                continue
            others = np.arange(population) != i
            far = _share(
                _distance(children[i], places[others], sigmas[i], sigmas[others]),
                _distance(places[i], places[others], sigmas[i], sigmas[others]),
            )
            if _share(child_fits[i] - best.value, fits[i] - best.value) < weight[i] * far:
                places[i], fits[i] = children[i], child_fits[i]
                wins[i] += 1
        if generation % 5 == 4:
            sigmas = np.where(wins > 1, sigmas / 0.9, np.where(wins < 1, sigmas * 0.9, sigmas))
            wins[:] = 0
    return best.found()


def _share(of: float, other: float) -> float:
    """What part of both is the first; a half of nothing."""
    both = of + other
    return 0.5 if both <= 0 else 0.0 if np.isinf(both) else of / both


def _distance(point: Point, others: Point, sigma: float, sigmas: Point) -> float:
    """The least Bhattacharyya distance of an isotropic Gaussian to several."""
    middle = (sigma**2 + sigmas**2) / 2
    apart = np.square(others - point).sum(axis=1) / (8 * middle)
    return float(np.min(apart + point.size / 2 * np.log(middle / (sigma * sigmas)))) if len(others) else 0.0


def cma_es(values: Values, start: Point, step: float, evaluations: int, seed: int = 0) -> Found:
    """CMA-ES (Hansen 2001) by the `cma` package; it needs two dimensions, one is searched by `coordinate`."""
    if start.size < 2:
        return coordinate(values, start, step, evaluations, seed)
    with warnings.catch_warnings():  # of optional plots
        warnings.simplefilter("ignore")
        import cma

    best = _Best(values)
    best([start])
    settings: dict[str, Any] = {"seed": seed + 1, "verbose": -9, "verb_log": 0, "maxfevals": evaluations - 1}
    strategy = cma.CMAEvolutionStrategy(start.copy(), step, settings)
    while not strategy.stop():
        points = [np.asarray(p, np.float64) for p in strategy.ask()]
        strategy.tell(points, best(points))
    return best.found()


def coordinate(values: Values, start: Point, step: float, evaluations: int, seed: int = 0) -> Found:
    """One coordinate after another moves to the better of two neighbours; its step doubles then, else it halves.

    `seed` decides the order of the coordinates.
    """
    best = _Best(values)
    best([start])
    place, value, steps = start.copy(), best.value, np.full(start.size, step)
    rng = np.random.default_rng(seed)
    while best.count + 2 <= evaluations and np.any(steps > 1e-3 * step):
        for i in rng.permutation(start.size):
            if best.count + 2 > evaluations:
                break
            points = [place.copy(), place.copy()]
            points[0][i] += steps[i]
            points[1][i] -= steps[i]
            found = best(points)
            if min(found) < value:
                place, value = points[int(np.argmin(found))], min(found)
                steps[i] *= 2
            else:
                steps[i] /= 2
    return best.found()
