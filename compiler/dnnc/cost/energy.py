"""Energy of an operation and of an access, in pJ, at 45 nm and 0.9 V.

Source: M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, figure 1.1.9: additions of
integers 0.03 (8 bits) and 0.1 (32), products 0.2 and 3.1, 64 bits of a memory of 8 kB 10, of 32 kB 20, of 1 MB 100, of
DRAM 1300 to 2600. Between these points: additions are linear in the width, products a*b^2 + c*b through both (the
form of QKeras' qtools, Apache-2.0), memories straight lines in the logarithms of size and energy.
"""

from __future__ import annotations

from bisect import bisect_right
from math import log

#: Of DRAM, the lower of Horowitz' two figures.
DRAM_PJ_PER_BIT = 1300 / 64
#: Partial sums are this wide.
ACCUMULATOR_BITS = 32

_ADD_SLOPE = (0.1 - 0.03) / (32 - 8)
_ADD_CONSTANT = 0.03 - 8 * _ADD_SLOPE
_PRODUCT_SQUARE = (3.1 / 32 - 0.2 / 8) / (32 - 8)
_PRODUCT_LINEAR = 0.2 / 8 - 8 * _PRODUCT_SQUARE
#: Bytes, and pJ of 64 bits.
_SRAM_POINTS = ((8 * 1024, 10.0), (32 * 1024, 20.0), (1024 * 1024, 100.0))


def add_pj(bits: float) -> float:
    """Of an integer addition."""
    return _ADD_CONSTANT + _ADD_SLOPE * bits


def multiply_pj(weight_bits: float, activation_bits: float) -> float:
    """Of an integer product; for operands of one width the quadratic, else what is bilinear in both and equals it."""
    return _PRODUCT_SQUARE * weight_bits * activation_bits + _PRODUCT_LINEAR * (weight_bits + activation_bits) / 2


def mac_pj(weight_bits: float, activation_bits: float) -> float:
    """Of a product and its addition to a partial sum."""
    return multiply_pj(weight_bits, activation_bits) + add_pj(ACCUMULATOR_BITS)


def sram_pj_per_bit(size_bytes: int) -> float:
    """Of an access to a memory of that size; below 8 kB as of 8 kB, above 1 MB the last line goes on."""
    size = max(size_bytes, _SRAM_POINTS[0][0])
    index = min(max(bisect_right([s for s, _ in _SRAM_POINTS], size), 1), len(_SRAM_POINTS) - 1)
    (low, low_pj), (high, high_pj) = _SRAM_POINTS[index - 1 : index + 1]
    exponent = log(high_pj / low_pj) / log(high / low)
    return float(low_pj * (size / low) ** exponent / 64)
