"""Optimal brain surgery on linear layers: what goes is what costs least once all that stays has made up for it.

A layer's squared output error is a quadratic form in its weights whose Hessian H is the second moment of what they
multiply. With P = H^-1, taking out columns B of weights W costs 1/2 tr(W_B P_BB^-1 W_B^T), the rest compensates by
W -= W_B P_BB^-1 P_B:, and then P -= P_:B P_BB^-1 P_B: (Hassibi & Stork, "Optimal brain surgeon", NIPS 1992; Frantar &
Alistarh, "Optimal brain compression", NeurIPS 2022). Rounding with the same compensation is in dnnc.quantise.weights.

Second moments are centred where the bias is fitted too, which is nearly always.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc.quantise.moments import DAMPING
from dnnc.quantise.threads import one_thread

Array = NDArray[Any]

#: Rows longer than this are pruned in blocks of columns: exact elimination takes the cube of a row's length for each.
MAX_EXACT = 288
#: Numbers that the inverses of one batch of rows may take.
_ELEMENTS = 32_000_000
#: Columns that choose what goes together, where rows are long (Frantar & Alistarh, "SparseGPT", ICML 2023).
_BLOCK = 128


@dataclass(frozen=True, eq=False)
class Reader:
    """A linear layer that reads units: weight [O, K] at its optimum, the error's Hessian [K, K] (damped), and the
    columns of each unit [U, B] (-1: none; a unit takes at most B). All float64.

    To count errors in another metric M over the outputs, give M^(1/2) W as the weight.
    """

    weight: torch.Tensor
    hessian: torch.Tensor
    columns: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Path:
    """order: units by the time they went; loss [len(order)]: the error, 1/2 tr(W H W^T) in all, once they are gone."""

    order: NDArray[np.int64]
    loss: NDArray[np.float64]


def damped(hessian: torch.Tensor, share: float = DAMPING) -> torch.Tensor:
    """H [..., K, K] as float64 with `share` of its mean diagonal added: directions not seen must not be free."""
    matrix = hessian.double()
    mean = matrix.diagonal(dim1=-2, dim2=-1).mean(dim=-1)[..., None, None]
    return matrix + (share * mean + 1e-12) * torch.eye(matrix.shape[-1], dtype=torch.float64)


def inverse(hessian: torch.Tensor) -> torch.Tensor:
    """Of a positive definite matrix."""
    return torch.cholesky_inverse(torch.linalg.cholesky(hessian))


@one_thread()
def eliminate(readers: Sequence[Reader], leave: int = 1) -> Path:
    """Units by the order in which they are best taken out of all their readers at once, until `leave` are left."""
    units = len(readers[0].columns)
    states = [_State(reader) for reader in readers]
    alive = torch.ones(units, dtype=torch.bool)
    order, losses, total = [], [], 0.0
    for _ in range(max(units - leave, 0)):
        cost = torch.stack([state.costs() for state in states]).sum(dim=0)
        unit = int(torch.where(alive, cost, torch.inf).argmin())
        total += max(float(cost[unit]), 0.0)
        for state in states:
            state.remove(unit)
        alive[unit] = False
        order.append(unit)
        losses.append(total)
    return Path(np.array(order, np.int64), np.array(losses))


class _State:
    """What is left of a reader, and the inverse of its Hessian over that; a last row and column stand for "none"."""

    def __init__(self, reader: Reader) -> None:
        k = len(reader.hessian)
        self.columns = torch.tensor(np.where(reader.columns < 0, k, reader.columns))
        self.inverse = torch.zeros(k + 1, k + 1, dtype=torch.float64)
        self.inverse[:k, :k] = inverse(reader.hessian)
        self.inverse[k, k] = 1
        self.gone = torch.zeros(k + 1, dtype=torch.bool)
        self.weight = torch.cat([reader.weight.double(), torch.zeros(len(reader.weight), 1, dtype=torch.float64)], 1)

    def costs(self) -> torch.Tensor:
        """[U], meaningless for units that are gone."""
        blocks = self.inverse[self.columns[:, :, None], self.columns[:, None, :]]
        weights = self.weight.T[self.columns]
        # "None" appears several times in a block: each time it is to be alone.
        none = (self.columns[:, :, None] == len(self.inverse) - 1) | (self.columns[:, None, :] == len(self.inverse) - 1)
        eye = torch.eye(blocks.shape[1], dtype=torch.float64)
        factor = torch.linalg.cholesky(torch.where(none, eye, blocks))
        solved: torch.Tensor = torch.linalg.solve_triangular(factor, weights, upper=False)
        return 0.5 * (solved * solved).sum(dim=(1, 2))

    def remove(self, unit: int) -> None:
        gone = self.columns[unit]
        gone = gone[gone < len(self.inverse) - 1]
        rows = self.inverse[gone]
        solved = torch.linalg.solve(rows[:, gone], rows)
        self.weight -= self.weight[:, gone] @ solved
        self.inverse -= rows.T @ solved
        self.weight[:, gone] = 0
        self.inverse[gone] = 0
        self.inverse[:, gone] = 0
        self.inverse[gone, gone] = 1
        self.gone[gone] = True
        if 4 * int(self.gone.sum()) > len(self.gone):
            self._shrink()

    def _shrink(self) -> None:
        """Leave out rows and columns that are gone: their units are left with "none"."""
        stay = (~self.gone).nonzero()[:, 0]
        place = torch.full((len(self.gone),), len(stay) - 1)
        place[stay] = torch.arange(len(stay))
        self.columns = place[self.columns]
        self.inverse = self.inverse[stay][:, stay].contiguous()
        self.weight = self.weight[:, stay].contiguous()
        self.gone = self.gone[stay]


@one_thread()
def prune(weight: Array, hessian: Array | torch.Tensor, keep: int) -> tuple[Array, NDArray[np.bool_]]:
    """`keep` of the weights [O, ...], the others 0, those that stay reconstructed; and which these are.

    hessian: [K, K] or, with groups of output channels, [G, K, K], not damped yet. Rows of up to MAX_EXACT weights lose
    them one by one (exact OBS), and share what is kept by what it costs; longer ones in blocks of columns.
    """
    rows, moments = _grouped(weight, hessian)
    if not 0 <= keep <= weight.size:
        raise ValueError(f"keep is between 0 and {weight.size}, found {keep}")
    if rows.shape[2] <= MAX_EXACT:
        cost = torch.stack([_exact_costs(r, h) for r, h in zip(rows, moments, strict=True)])
        kept = torch.zeros(cost.numel(), dtype=torch.bool)
        kept[torch.argsort(cost.reshape(-1), descending=True, stable=True)[:keep]] = True
        mask = kept.reshape(cost.shape)
    else:
        density = keep / weight.size
        mask = torch.stack([_block_mask(r, h, density) for r, h in zip(rows, moments, strict=True)])
    chosen = mask.reshape(weight.shape).numpy()
    return reconstruct(weight, chosen, hessian), chosen


@one_thread()
def reconstruct(
    weight: Array, mask: NDArray[np.bool_], hessian: Array | torch.Tensor, damping: float = DAMPING
) -> Array:
    """`weight` [O, ...] with zeros where `mask` is false and, in every row, the surviving weights of least error.

    hessian: second moments of the layer's inputs, [K, K] or [G, K, K] in the order of the weights, not damped yet; a
    diagonal one, [K] or [G, K], knows of nothing that could compensate. (W H)_S H_SS^-1 for the surviving columns S.
    """
    if mask.shape != weight.shape:
        raise ValueError(f"the mask {mask.shape} does not fit the weights {weight.shape}")
    if np.ndim(hessian) == 1 or (np.ndim(hessian) == 2 and hessian.shape[0] != hessian.shape[1]):
        return np.where(mask, weight, 0).astype(weight.dtype)
    rows, moments = _grouped(weight, hessian, damping)
    kept = torch.tensor(np.ascontiguousarray(mask)).reshape(rows.shape)
    found = torch.zeros_like(rows)
    for group, matrix in enumerate(moments):
        patterns, which = torch.unique(kept[group], dim=0, return_inverse=True)
        for index, pattern in enumerate(patterns):
            same = (which == index).nonzero()[:, 0]
            stay, go = pattern.nonzero()[:, 0], (~pattern).nonzero()[:, 0]
            old = rows[group, same]
            new = torch.zeros_like(old)
            new[:, stay] = old[:, stay]
            if len(stay) and len(go):
                factor = torch.linalg.cholesky(matrix[stay][:, stay])
                new[:, stay] += torch.cholesky_solve(matrix[stay][:, go] @ old[:, go].T, factor).T
            found[group, same] = new
    return found.reshape(weight.shape).numpy().astype(weight.dtype)


def _grouped(
    weight: Array, hessian: Array | torch.Tensor, damping: float = DAMPING
) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows [G, R, K], damped Hessians [G, K, K])"""
    moments = torch.as_tensor(np.asarray(hessian) if not isinstance(hessian, torch.Tensor) else hessian)
    moments = moments if moments.dim() == 3 else moments[None]
    rows = torch.tensor(np.asarray(weight, np.float64)).reshape(len(moments), len(weight) // len(moments), -1)
    if moments.shape[1:] != (rows.shape[2],) * 2:
        raise ValueError(f"rows of {rows.shape[2]} weights have second moments of {list(moments.shape)}")
    return rows, damped(moments, damping)


def _exact_costs(rows: torch.Tensor, hessian: torch.Tensor) -> torch.Tensor:
    """What the loss of every weight of [R, K] cost when it went, as a sequence that never falls along a row's order.

    So the weights above any threshold are, in every row, a prefix of what was left.
    """
    count, k = rows.shape
    start = inverse(hessian)
    step = max(1, _ELEMENTS // (k * k))
    parts = []
    for first in range(0, count, step):
        w = rows[first : first + step].clone()
        p = start.expand(len(w), k, k).clone()
        index = torch.arange(len(w))
        gone = torch.zeros(w.shape, dtype=torch.bool)
        costs = torch.zeros_like(w)
        floor = torch.zeros(len(w), dtype=torch.float64)
        for _ in range(k):
            cost = (w * w / (2 * p.diagonal(dim1=1, dim2=2))).masked_fill(gone, torch.inf)
            least, column = cost.min(dim=1)
            floor = torch.maximum(floor, least)
            costs[index, column] = floor
            gone[index, column] = True
            row = p[index, column]
            pivot = row[index, column]
            w -= (w[index, column] / pivot)[:, None] * row
            p -= row[:, :, None] * (row / pivot[:, None])[:, None, :]
            p[index, column, column] = 1
            w[index, column] = 0
        parts.append(costs)
    return torch.cat(parts)


def _block_mask(rows: torch.Tensor, hessian: torch.Tensor, density: float) -> torch.Tensor:
    """Which of [R, K] stay: block after block those of largest w^2 / U_jj^2, U^T U = H^-1 being upper triangular, after
    the blocks before have passed on what they lost.
    """
    factor = torch.linalg.cholesky(inverse(hessian), upper=True)
    k = rows.shape[1]
    work, mask = rows.clone(), torch.zeros(rows.shape, dtype=torch.bool)
    for start in range(0, k, _BLOCK):
        stop = min(start + _BLOCK, k)
        score = (work[:, start:stop] / factor.diagonal()[start:stop]) ** 2
        # So many that the total comes out right, whatever rounding did in the blocks before.
        wanted = round(density * rows.shape[0] * stop) - int(mask.sum())
        best = torch.argsort(score.reshape(-1), descending=True, stable=True)[: max(wanted, 0)]
        chosen = torch.zeros(score.numel(), dtype=torch.bool)
        chosen[best] = True
        mask[:, start:stop] = chosen.reshape(score.shape)
        for j in range(start, stop):
            error = torch.where(mask[:, j], 0.0, work[:, j]) / factor[j, j]
            work[:, j:] -= error[:, None] * factor[j, j:]
    return mask
