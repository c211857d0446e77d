"""Biases and multipliers of linear layers in 16 bits: half the table, where the rounding cannot be noticed.

A layer's biases become b16 * 2**s and its multipliers m16 * 2**t, with one s and one t a layer and int16 codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnnc.ir.op import Array

#: Larger shifts do not fit the int16 factors 2**s and 2**t by which kernels for all weights expand the codes. Those for
#: the weights that are not zero shift: any multiplier below 2**31 is a code for them.
LARGEST_SHIFT, LARGEST_SPARSE_SHIFT = 14, 16
#: What the rounding of both tables may move an output by, in steps of its scale; rounding the output moves it by 1/2.
LARGEST_ERROR = 0.25


@dataclass(frozen=True)
class Halves:
    """Values that are codes * 2**shift; codes int16 [O]."""

    codes: NDArray[np.int16]
    shift: int

    @property
    def values(self) -> NDArray[np.int64]:
        return self.codes.astype(np.int64) << self.shift


def round_to_halves(values: Array, largest_shift: int = LARGEST_SHIFT) -> Halves | None:
    """The nearest codes at the smallest shift at which they fit; None where that is more than the largest."""
    values = np.asarray(values, np.int64)
    for shift in range(largest_shift + 1):
        codes = (values + (1 << shift >> 1)) >> shift
        if np.all((codes >= -(2**15)) & (codes < 2**15)):
            return Halves(codes.astype(np.int16), shift)
    return None


def exact_halves(values: Array, largest_shift: int = LARGEST_SHIFT) -> Halves | None:
    """`round_to_halves` where that loses nothing, else None."""
    found = round_to_halves(values, largest_shift)
    return found if found is not None and np.array_equal(found.values, np.asarray(values, np.int64)) else None


def compact(
    bias: Array, multiplier: Array, reach: Array, span: int, largest_shift: int = LARGEST_SHIFT
) -> tuple[Array, Array]:
    """Biases and multipliers int32 [O] of 16 bits each where no output moves by more than LARGEST_ERROR, else as given.

    For layers without a left shift. reach [O]: a bound of |accumulator|, its bias counted. span: the largest distance
    of an output code from the zero point, plus one.

    With v = acc * m and v' = (acc + db) * (m + dm), in units of 2**-32 steps: |v' - v| <= |acc + db| * |dm| + |db| * m.
    Where |v| <= span steps, |acc * dm| <= span * |dm| / m too; beyond, both saturate, or move by less.
    """
    small_bias, small_multiplier = (round_to_halves(v, largest_shift) for v in (bias, multiplier))
    if small_bias is None or small_multiplier is None:
        return bias, multiplier
    exact = np.abs(np.asarray(multiplier, np.float64))
    moved_bias = np.abs(small_bias.values - bias).astype(np.float64)
    moved_multiplier = np.abs(small_multiplier.values - multiplier).astype(np.float64)
    relative = np.divide(moved_multiplier, exact, out=np.where(moved_multiplier > 0, np.inf, 0.0), where=exact > 0)
    by_multiplier = np.minimum((reach + moved_bias) * moved_multiplier * 2.0**-32, span * relative)
    by_bias = moved_bias * (exact + moved_multiplier) * 2.0**-32
    if np.any(by_multiplier + by_bias > LARGEST_ERROR):
        return bias, multiplier
    return small_bias.values.astype(np.int32), small_multiplier.values.astype(np.int32)
