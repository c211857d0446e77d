"""Which of correlated units stand for the rest: subset selection on their covariance, three ways, in one metric.

Units a with covariance S are to be told from a subset of them by least squares. What counts of the residual is G:
tr(G S_{R|kept}); G = 1 is its variance, G = sum w w^T over the weights that read the units is what readers see of it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray

from dnnc.compress.inverse_hessian import Path, Reader, damped, eliminate

Matrix = NDArray[np.float64]
Algorithm = Literal["elimination", "cholesky", "qr"]


def order(covariance: Matrix, metric: Matrix | None, algorithm: Algorithm, keep: int | None = None) -> Path:
    """Units [C] by the time they go, the last but one included, and what is lost by then.

    covariance: damped. metric: G, None for 1. keep: how many shall stay, which only "qr" needs to know: its subsets are
    not nested, and without `keep` it takes the network's rank to be half of its units.
    """
    if algorithm == "elimination":
        return _eliminated(covariance, metric)
    units = len(covariance)
    if algorithm == "cholesky":
        chosen = _pivots(covariance, metric)
    else:
        chosen = _qr_pivots(covariance, metric, max(1, units // 2 if keep is None else keep))
    return Path(chosen[:0:-1], _lost(covariance, metric, chosen)[:0:-1])


def residual(covariance: Matrix, metric: Matrix | None, kept: NDArray[np.int64]) -> float:
    """tr(G S_{R|kept})"""
    factor = scipy.linalg.cho_factor(covariance[np.ix_(kept, kept)])
    rest = covariance - covariance[:, kept] @ scipy.linalg.cho_solve(factor, covariance[kept])
    return max(float(np.trace(rest) if metric is None else np.sum(rest * metric)), 0.0)


def _eliminated(covariance: Matrix, metric: Matrix | None) -> Path:
    """Backwards: every time the unit whose loss the others make up for best. With G = 1, without regard to what went
    before: the unit of smallest conditional variance 1 / (S^-1)_ii.
    """
    units = len(covariance)
    if metric is not None:
        values, vectors = np.linalg.eigh(metric)
        root = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
        return eliminate([Reader(torch.tensor(root), torch.tensor(covariance), np.arange(units)[:, None])])
    inverse = scipy.linalg.cho_solve(scipy.linalg.cho_factor(covariance), np.eye(units))
    # What every unit is made of: to begin with, itself. Those that went are told from those that are left.
    mix, alive = np.eye(units), np.ones(units, bool)
    gone, lost, total = [], [], 0.0
    for _ in range(units - 1):
        unit = int(np.where(alive, 1 / np.maximum(inverse.diagonal(), 1e-300), np.inf).argmin())
        row = inverse[unit] / inverse[unit, unit]
        total += 0.5 * float(mix[:, unit] @ mix[:, unit]) / inverse[unit, unit]
        mix = mix - np.outer(mix[:, unit], row)
        inverse = inverse - np.outer(inverse[:, unit], row)
        alive[unit] = False
        gone.append(unit)
        lost.append(total)
    return Path(np.array(gone, np.int64), np.array(lost))


def _lost(covariance: Matrix, metric: Matrix | None, chosen: NDArray[np.int64]) -> Matrix:
    """[i]: half the residual where the units before chosen[i] are kept."""
    rest = covariance.copy()
    lost = []
    for unit in chosen:
        lost.append(0.5 * max(float(np.trace(rest) if metric is None else np.sum(rest * metric)), 0.0))
        rest = rest - np.outer(rest[:, unit], rest[unit]) / max(rest[unit, unit], 1e-300)
    return np.array(lost)


def _pivots(covariance: Matrix, metric: Matrix | None) -> NDArray[np.int64]:
    """All units in the order of a Cholesky factorisation with pivots: the largest residual variance first or, with a
    metric, the one that explains most of what is left.
    """
    rest, left = covariance.copy(), np.ones(len(covariance), bool)
    chosen = []
    for _ in range(len(covariance)):
        diagonal = np.maximum(rest.diagonal(), 1e-300)
        score = diagonal if metric is None else np.einsum("ij,ij->j", rest, metric @ rest) / diagonal
        unit = int(np.where(left, score, -np.inf).argmax())
        rest = rest - np.outer(rest[:, unit], rest[unit]) / diagonal[unit]
        left[unit] = False
        chosen.append(unit)
    return np.array(chosen, np.int64)


def _qr_pivots(covariance: Matrix, metric: Matrix | None, rank: int) -> NDArray[np.int64]:
    """All units; the first `rank` are the pivots of a QR factorisation of the `rank` leading directions (Golub & Van
    Loan, "Matrix computations", 5.5.7; with a metric, the directions are those of what readers see).
    """
    values, vectors = np.linalg.eigh(covariance)
    half = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
    if metric is None:
        leading = vectors[:, ::-1][:, :rank].T
    else:
        _, directions = np.linalg.eigh(half @ metric @ half.T)
        leading = directions[:, ::-1][:, :rank].T @ half
    _, _, pivots = scipy.linalg.qr(leading, pivoting=True, mode="economic")
    return np.asarray(pivots, np.int64)


def damped_covariance(covariance: torch.Tensor, share: float) -> Matrix:
    """float64, fit for `order`."""
    matrix: Matrix = damped(covariance, share).numpy()
    return matrix
