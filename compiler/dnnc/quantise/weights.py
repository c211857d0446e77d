"""Weight codes and scales of one layer at any width, by least error of the layer's output.

Scales are searched per output channel; codes are rounded with error feedback through the inverse of the input's
covariance (Frantar et al., "GPTQ", ICLR 2023, algorithm 1; columns in order of decreasing variance). Output channels
are independent of one another, so any mixture of widths is a choice of rows.

A masked layer (`is_masked`) keeps its zeros at code 0, so that the back end can leave them out: errors are fed back to
the other weights of a channel only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc import fixed
from dnnc.quantise.bytes import is_masked
from dnnc.quantise.moments import DAMPING, Moments

Array = NDArray[Any]

#: Scales that are tried, in units of the one that reaches the channel's largest weight: from, to, how many.
_FACTORS = {1: (0.1, 1.0, 46), 2: (0.2, 1.2, 51), 3: (0.3, 1.15, 35), 4: (0.4, 1.1, 29)}
_FACTORS_WIDE = (0.6, 1.05, 19)
_BLOCK = 64
#: Up to so many weights that are not zero, a masked channel is rounded in the metric of their inputs alone; beyond that
#: the inverse would take too long for each channel, and what errors add to zeros is handed on when their turn comes.
_OWN_METRIC = 512
#: Elements of all channels' metrics that are held at a time.
_METRIC_ELEMENTS = 2**23


@dataclass(frozen=True, eq=False)
class WeightCodes:
    """codes int8 of the weight's own shape, scale float64 [O] (real = scale * code), bits uint8 [O].

    prescribed: codes and scales that the model came with or was trained for, which nothing may change.
    """

    codes: NDArray[np.int8]
    scale: NDArray[np.float64]
    bits: NDArray[np.uint8]
    prescribed: bool = False

    def real(self) -> NDArray[np.float64]:
        """The weights that the codes stand for."""
        return self.codes * self.scale.reshape(-1, *(1,) * (self.codes.ndim - 1))


@dataclass(frozen=True, eq=False)
class _Grid:
    """What rows [G, R, K] may be rounded to: step [G, R, 1], lowest and highest code [R, 1] or numbers."""

    step: torch.Tensor
    lo: torch.Tensor
    hi: torch.Tensor

    def codes(self, rows: torch.Tensor) -> torch.Tensor:
        found = torch.floor(rows / self.step + 0.5).clamp(self.lo, self.hi)
        # One bit has no zero.
        return torch.where((found == 0) & (self.hi - self.lo == 2), torch.where(rows >= 0, 1.0, -1.0), found)


def _grid(scale: torch.Tensor, bits: Sequence[int], rows: int) -> _Grid:
    """scale [G, widths * rows]: `rows` rows of every width."""
    limits = torch.tensor([fixed.code_range(b) for b in bits for _ in range(rows)], dtype=torch.float32)
    return _Grid(scale.clamp_min(1e-30).float()[..., None], limits[:, :1], limits[:, 1:])


def quantise_weights(
    weight: Array, widths: Sequence[int], moments: Moments | None, power_of_two: bool = False
) -> dict[int, WeightCodes]:
    """All output channels of `weight` [O, ...] at each of `widths`.

    moments: of the layer's inputs, groups in the order of the output channels; without them all weights count alike and
    codes are rounded to nearest. A masked layer, whose zeros stay, has no 1 bit: it gets 2 (`WeightCodes.bits`).
    """
    masked = is_masked(np.asarray(weight))
    asked, widths = widths, [max(b, 2) if masked else b for b in widths]
    groups = 1 if moments is None else len(moments.mean)
    rows = torch.tensor(np.asarray(weight, np.float32)).reshape(groups, len(weight) // groups, -1)
    per_group, k = rows.shape[1:]
    importance = torch.ones(groups, k)
    if moments is not None:
        diagonal = moments.diagonal
        importance = diagonal + DAMPING * diagonal.mean(dim=1, keepdim=True) + 1e-30
    scales = [search_scale(rows, importance, b, power_of_two) for b in widths]
    stacked = rows.repeat(1, len(widths), 1)
    grid = _grid(torch.cat(scales, dim=1), widths, per_group)
    if moments is None or not moments.full:
        codes = grid.codes(stacked)
    elif masked and int((rows != 0).sum(dim=2).max()) <= _OWN_METRIC:
        codes = _masked_feedback(stacked, moments, grid)
    else:
        codes = _feedback(stacked, *moments.factor, grid, masked)
    codes = codes.reshape(groups, len(widths), per_group, k)
    return {
        b: WeightCodes(
            codes[:, i].reshape(weight.shape).numpy().astype(np.int8),
            scales[i].reshape(-1).double().numpy(),
            np.full(len(weight), widths[i], np.uint8),
        )
        for i, b in enumerate(asked)
    }


def search_scale(rows: torch.Tensor, importance: torch.Tensor, bits: int, power_of_two: bool) -> torch.Tensor:
    """The scale [G, R] of each row of [G, R, K] with the least squared error weighted by `importance` [G, K].

    An all-zero row gets scale 0, to be replaced by what its bias needs.
    """
    largest = rows.abs().amax(dim=2)
    reach = float(max(-fixed.weight_range(bits)[0], 1))
    if power_of_two:
        top = torch.exp2(torch.ceil(torch.log2(largest.clamp_min(1e-38) / reach)))
        candidates = [top * 2.0**-e for e in range(-1, 4)]
    else:
        lo, hi, count = _FACTORS.get(bits, _FACTORS_WIDE)
        candidates = [largest / reach * f for f in np.linspace(lo, hi, count)]
    importance = importance[:, None, :]
    best = torch.full_like(largest, torch.inf)
    chosen = torch.zeros_like(largest)
    for scale in candidates:
        grid = _grid(scale, [bits], rows.shape[1])
        error = ((rows - grid.codes(rows) * grid.step) ** 2 * importance).sum(dim=2)
        better = error < best
        best, chosen = torch.where(better, error, best), torch.where(better, scale, chosen)
    return torch.where(largest > 0, chosen, torch.zeros_like(chosen))


def _feedback(
    rows: torch.Tensor, factor: torch.Tensor, order: torch.Tensor, grid: _Grid, masked: bool = False
) -> torch.Tensor:
    """Codes [G, R, K], column by column in `order`; each column's error is spread over those still to come.

    masked: zeros stay, and what they were to take is their error.
    """
    k = rows.shape[2]
    index = order[:, None, :].expand(rows.shape)
    work = torch.gather(rows, 2, index)
    kept = work != 0
    codes = torch.empty_like(work)
    for start in range(0, k, _BLOCK):
        stop = min(start + _BLOCK, k)
        errors = torch.empty(*work.shape[:2], stop - start)
        for i in range(start, stop):
            column = work[:, :, i : i + 1]
            code = grid.codes(column)
            if masked:
                code = code * kept[:, :, i : i + 1]
            codes[:, :, i : i + 1] = code
            error = (column - code * grid.step) / factor[:, i : i + 1, i : i + 1]
            work[:, :, i:stop] -= error * factor[:, i : i + 1, i:stop]
            errors[:, :, i - start : i - start + 1] = error
        if stop < k:
            work[:, :, stop:] -= torch.bmm(errors, factor[:, start:stop, stop:])
    return torch.empty_like(codes).scatter_(2, index, codes)


def _masked_feedback(rows: torch.Tensor, moments: Moments, grid: _Grid) -> torch.Tensor:
    """Codes [G, R, K] of few weights a channel: `_feedback` for each with the covariance of the inputs it reads."""
    groups, count = rows.shape[:2]
    kept = rows != 0
    most = max(int(kept.sum(dim=2).max()), 1)
    # The weights of each row first, in their order; then as many zeros as make all rows equally long.
    places = torch.argsort((~kept).int(), dim=2, stable=True)[:, :, :most]
    codes = torch.zeros_like(rows)
    step = max(_METRIC_ELEMENTS // (most * most), 1)
    for group in range(groups):
        covariance = moments.covariance[group]
        for start in range(0, count, step):
            some = slice(start, min(start + step, count))
            at, row = places[group, some], rows[group, some]
            own = torch.gather(row, 1, at)
            matrix = covariance[at[:, :, None], at[:, None, :]].clone()
            spare = own == 0  # no other weight's error is theirs
            matrix.masked_fill_(spare[:, :, None] | spare[:, None, :], 0.0)
            mean = covariance.diagonal().mean()
            matrix.diagonal(dim1=1, dim2=2).add_(spare * mean)
            factor, order = Moments(moments.mean[group : group + 1], matrix).factor
            part = _Grid(
                grid.step[group, some][:, None], *(v.expand(count, 1)[some][:, None] for v in (grid.lo, grid.hi))
            )
            found = _feedback(own[:, None], factor, order, part, masked=True)
            codes[group, some] = codes[group, some].scatter_(1, at, found[:, 0])
    return codes
