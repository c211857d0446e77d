"""Costs of what kernels do, not negative, from what layers took: least squares of relative errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from dnnc.cost.kernels.counts import Key

#: What a count costs where layers do not tell, in units of the relative error: it draws costs to nothing, barely.
_PRIOR = 1e-7


def fit(rows: Sequence[Mapping[Key, float]], values: Sequence[float]) -> dict[Key, float]:
    """Costs by count; rows that share no count are fitted apart."""
    found: dict[Key, float] = {}
    for members in _connected(rows):
        keys = sorted({key for i in members for key in rows[i]})
        column = {key: j for j, key in enumerate(keys)}
        matrix = np.zeros((len(members), len(keys)))
        for row, i in enumerate(members):
            for key, count in rows[i].items():
                matrix[row, column[key]] = count / values[i]
        scale = np.maximum(np.linalg.norm(matrix, axis=0), 1e-30)
        costs = _solve(matrix / scale) / scale
        found |= {key: float(costs[column[key]]) for key in keys if costs[column[key]] > 0}
    return found


def _solve(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    padded = np.concatenate([matrix, _PRIOR * np.eye(matrix.shape[1])])
    wanted = np.concatenate([np.ones(len(matrix)), np.zeros(matrix.shape[1])])
    costs: NDArray[np.float64] = nnls(padded, wanted, maxiter=50 * matrix.shape[1])[0]
    return costs


def _connected(rows: Sequence[Mapping[Key, float]]) -> list[list[int]]:
    """Indices of rows, together where they share a piece of code."""
    owner: dict[str, int] = {}
    groups: dict[int, set[int]] = {}
    for index, row in enumerate(rows):
        joined = {owner[part] for part, _ in row if part in owner}
        members = {index}.union(*(groups.pop(g) for g in joined)) if joined else {index}
        groups[index] = members
        for part, group in owner.items():
            if group in joined:
                owner[part] = index
        for part, _ in row:
            owner[part] = index
    return [sorted(members) for members in groups.values()]
