"""The quantisation of a value by minimum squared error over a sample of what it takes, not by its maximum."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc.ir.op import Op
from dnnc.ir.types import Quant
from dnnc.ops.pointwise import Pointwise

Array = NDArray[Any]

#: Limits that are tried, as shares of the largest magnitude; then changes of either end, as shares of the range, finer
#: and finer: the error is smooth in them.
_COARSE = np.geomspace(0.04, 1.0, 40)
_FINE = (np.linspace(-0.06, 0.06, 7), np.linspace(-0.015, 0.015, 7))
#: Exponents below the one that covers the whole range that are tried for power-of-two scales.
_SHORTER = 4


def fixed_quant(op: Op, bits: int, power_of_two: bool) -> Quant | None:
    """The quantisation of a function whose range is known beforehand, or None."""
    if not isinstance(op, Pointwise):
        return None
    lowest, steps = -(2 ** (bits - 1)), 2**bits
    if op.function == "sigmoid" or (op.function == "hard_sigmoid" and power_of_two):
        return Quant(bits, 1.0 / steps, lowest)
    if op.function == "hard_sigmoid":
        return Quant(bits, 1.0 / (steps - 1), lowest)
    if op.function in ("tanh", "softsign"):
        return Quant(bits, 2.0 / steps, 0)
    return None


def is_bytes(samples: Array) -> bool:
    """Whole numbers in 0..255, as pixels are: scale 1 represents them without any error."""
    return bool(
        samples.size and samples.min() >= 0 and 1 < samples.max() <= 255 and np.array_equal(samples, np.floor(samples))
    )


def choose_quant(samples: Array, lo: float, hi: float, bits: int, power_of_two: bool) -> Quant:
    """The asymmetric quantisation of least mean squared error; real 0 is always exactly representable.

    samples: some of the values; lo, hi: the least and greatest of all of them.
    """
    lo, hi = min(float(lo), 0.0), max(float(hi), 0.0)
    if hi - lo < 1e-30:
        return Quant(bits, 2.0 ** (1 - bits), 0)
    values = torch.tensor(np.ravel(samples), dtype=torch.float64)
    if power_of_two:
        return _best(values, _shift_candidates(lo, hi, bits))
    reach = max(-lo, hi)
    best = _best(values, [_covering(max(lo, -f * reach), min(hi, f * reach), bits) for f in reversed(_COARSE)])
    for steps in _FINE:
        span = best.real_hi - best.real_lo
        ends = [(max(lo, min(best.real_lo + a * span, 0.0)), min(hi, max(best.real_hi + b * span, 0.0)))
                for a in steps for b in steps]  # fmt: skip
        best = _best(values, [best, *(_covering(a, b, bits) for a, b in dict.fromkeys(ends))])
    return best


def _covering(lo: float, hi: float, bits: int) -> Quant:
    span = max(hi - lo, 1e-30)
    scale = span / (2**bits - 1)
    lowest = -(2 ** (bits - 1))
    zero_point = int(np.clip(np.floor(lowest - lo / scale + 0.5), lowest, -lowest - 1))
    return Quant(bits, float(scale), zero_point)


def _shift_candidates(lo: float, hi: float, bits: int) -> list[Quant]:
    """Power-of-two scales from the one that covers the range downwards; shorter ranges keep one end, or the middle."""
    lowest = -(2 ** (bits - 1))
    exponent = int(np.ceil(np.log2((hi - lo) / (2**bits - 1)) - 1e-9))
    found = []
    for e in range(exponent - _SHORTER, exponent + 2):
        scale = 2.0**e
        from_lo, from_hi = lowest - lo / scale, -lowest - 1 - hi / scale
        for zero in (from_lo, from_hi, (from_lo + from_hi) / 2):
            found.append(Quant(bits, scale, int(np.clip(np.floor(zero + 0.5), lowest, -lowest - 1))))
    return list(dict.fromkeys(found))


def _best(values: torch.Tensor, candidates: list[Quant]) -> Quant:
    """The candidate of least squared error; of equals the first."""
    errors = [squared_error(values, q) for q in candidates]
    return candidates[int(np.argmin(errors))]


def squared_error(values: torch.Tensor, quant: Quant) -> float:
    """Mean squared error of representing `values`."""
    return float(((values - represent(values, quant)) ** 2).mean())


def represent(values: torch.Tensor, quant: Quant) -> torch.Tensor:
    """The reals that stand for `values` under `quant`: rounded half up, saturated."""
    codes = torch.floor(values / quant.scale + (quant.zero_point + 0.5)).clamp_(quant.lo, quant.hi)
    return (codes - quant.zero_point) * quant.scale
