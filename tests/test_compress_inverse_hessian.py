"""Elimination with compensation against what least squares and brute force say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from dnnc.compress.inverse_hessian import MAX_EXACT, Reader, damped, eliminate, prune, reconstruct

pytestmark = pytest.mark.quick


def moments(k: int, seed: int, rank: int | None = None) -> np.ndarray:
    """Second moments of correlated inputs."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(4 * k, rank or k)) @ rng.normal(size=(rank or k, k)) + 0.1 * rng.normal(size=(4 * k, k))
    return mixed.T @ mixed / len(mixed)


def error(weight: np.ndarray, other: np.ndarray, hessian: np.ndarray) -> float:
    d = (weight - other).reshape(len(weight), -1)
    return 0.5 * float(np.trace(d @ hessian @ d.T))


def least_squares(weight: np.ndarray, mask: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """Row by row, from a square root of the Hessian: no normal equations."""
    root = np.linalg.cholesky(hessian).T
    found = np.zeros_like(weight)
    for r, kept in enumerate(mask):
        found[r, kept] = np.linalg.lstsq(root[:, kept], root @ weight[r], rcond=None)[0]
    return found


def test_reconstruction_is_least_squares() -> None:
    rng = np.random.default_rng(0)
    hessian = damped(torch.tensor(moments(12, 1))).numpy()
    weight = rng.normal(size=(5, 12))
    mask = rng.random((5, 12)) < 0.5
    mask[3] = False
    mask[4] = True
    found = reconstruct(weight, mask, hessian, damping=0.0)
    np.testing.assert_allclose(found, least_squares(weight, mask, hessian), atol=1e-9)
    assert not found[~mask].any()
    np.testing.assert_array_equal(found[4], weight[4])


def test_reconstruction_of_groups_and_of_a_diagonal() -> None:
    rng = np.random.default_rng(3)
    weight = rng.normal(size=(6, 2, 2, 3)).astype(np.float32)
    mask = rng.random(weight.shape) < 0.6
    hessians = np.stack([moments(12, s) for s in range(2)])
    whole = reconstruct(weight, mask, hessians)
    assert whole.dtype == np.float32
    for g in range(2):
        rows = slice(3 * g, 3 * g + 3)
        np.testing.assert_array_equal(whole[rows], reconstruct(weight[rows], mask[rows], hessians[g]))
    diagonal = hessians.diagonal(axis1=1, axis2=2)
    np.testing.assert_array_equal(reconstruct(weight, mask, diagonal), np.where(mask, weight, 0))
    with pytest.raises(ValueError, match="does not fit"):
        reconstruct(weight, mask[:3], hessians)


@pytest.mark.parametrize("block", [1, 3])
def test_losses_of_a_path_are_those_of_least_squares(block: int) -> None:
    """Two readers of the same units; the reported loss is what re-solving from scratch gives, and each step is the
    cheapest there is.
    """
    rng = np.random.default_rng(5)
    units = 5
    columns = np.arange(units * block).reshape(block, units).T
    hessians = [damped(torch.tensor(moments(units * block, s, rank=units))) for s in (1, 2)]
    weights = [rng.normal(size=(n, units * block)) for n in (4, 7)]
    path = eliminate([Reader(torch.tensor(w), h, columns) for w, h in zip(weights, hessians, strict=True)])
    assert len(path.order) == units - 1 and len(set(path.order)) == units - 1

    def loss(gone: set[int]) -> float:
        kept = np.ones(units * block, bool)
        kept[columns[sorted(gone)].reshape(-1)] = False
        total = 0.0
        for w, h in zip(weights, hessians, strict=True):
            mask = np.broadcast_to(kept, w.shape)
            total += error(w, least_squares(w, mask, h.numpy()), h.numpy())
        return total

    for step, (unit, found) in enumerate(zip(path.order, path.loss, strict=True)):
        before = set(path.order[:step])
        each = {u: loss(before | {u}) for u in range(units) if u not in before}
        assert unit == min(each, key=each.__getitem__)
        assert found == pytest.approx(each[unit], rel=1e-8)


def test_units_with_different_numbers_of_columns() -> None:
    hessian = damped(torch.tensor(moments(5, 8)))
    weight = torch.tensor(np.random.default_rng(1).normal(size=(3, 5)))
    columns = np.array([[0, 1], [2, -1], [3, -1], [4, -1], [-1, -1]])
    path = eliminate([Reader(weight, hessian, columns)], leave=0)
    assert path.order[0] == 4 and path.loss[0] == 0, "nobody reads unit 4"
    assert path.loss[-1] == pytest.approx(0.5 * float((weight @ hessian @ weight.T).trace()))


def test_a_copy_of_a_unit_costs_nothing() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(500, 6))
    x[:, 4] = x[:, 1]
    path = eliminate(
        [
            Reader(
                torch.tensor(rng.normal(size=(3, 6))), damped(torch.tensor(x.T @ x / 500), 1e-6), np.arange(6)[:, None]
            )
        ]
    )
    assert path.order[0] in (1, 4)
    assert path.loss[0] < 1e-4 * path.loss[1]


def test_exact_pruning_is_near_the_best_there_is() -> None:
    """Of all masks of a small layer: greedy elimination comes within a tenth of the best, magnitude does not."""
    rng = np.random.default_rng(11)
    hessian = moments(8, 4, rank=4)
    whole = damped(torch.tensor(hessian)).numpy()
    weight = rng.normal(size=(1, 8))
    found, mask = prune(weight, hessian, 4)
    assert mask.sum() == 4 and np.count_nonzero(found) == 4
    masks = [np.isin(np.arange(8), kept)[None] for kept in itertools.combinations(range(8), 4)]
    best = min(error(weight, least_squares(weight, m, whole), whole) for m in masks)
    assert error(weight, found, whole) <= 1.1 * best
    largest = np.abs(weight) >= np.sort(np.abs(weight))[0, -4]
    assert error(weight, np.where(largest, weight, 0), whole) > 1.1 * best


def test_pruning_shares_what_is_kept_by_what_it_costs() -> None:
    rng = np.random.default_rng(4)
    weight = rng.normal(size=(2, 10))
    weight[1] *= 100
    _, mask = prune(weight, moments(10, 6), 10)
    assert mask.sum() == 10 and mask[1].sum() == 10
    for keep in (0, 20):
        found, mask = prune(weight, moments(10, 6), keep)
        assert mask.sum() == keep
    np.testing.assert_array_equal(found, weight)
    with pytest.raises(ValueError, match="between 0 and 20"):
        prune(weight, moments(10, 6), 21)


def test_long_rows_are_pruned_in_blocks() -> None:
    k = MAX_EXACT + 50
    rng = np.random.default_rng(7)
    hessian = moments(k, 9, rank=60)
    weight = rng.normal(size=(4, k))
    keep = weight.size // 4
    found, mask = prune(weight, hessian, keep)
    assert mask.sum() == keep
    largest = np.abs(weight) >= np.sort(np.abs(weight), axis=None)[-keep]
    plain = np.where(largest, weight, 0)
    assert error(weight, found, hessian) < 0.2 * error(weight, plain, hessian)
    assert error(weight, found, hessian) < error(weight, reconstruct(weight, largest, hessian), hessian)
