"""Weights of 1..8 bits as bytes for vectors: planes of 8, 4, 2 and 1 bits.

A *unit* is the lanes * group codes that one step of a kernel's inner loop takes, as one row of bytes. A width is a sum
of plane widths (7 = 4 + 2 + 1); a plane of p bits holds the p bits of 8 / p consecutive units in one row, the first in
the lowest bits. So unpacking is a load, a shift and a mask a plane, for all lanes at once and with no shuffle, and a
weight of b bits takes b bits. Codes are offset binary as in dnnc.fixed (w = u - offset; one bit: w = 2 * u - 1), except
for 8 bits, which are two's complement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
#: Units of weights that share rows in every plane; counts of units are multiples of it.
UNITS = 8


@dataclass(frozen=True)
class Plane:
    """`bits` bits of every code from bit `base` on; `units` share a row."""

    bits: int
    base: int

    @property
    def units(self) -> int:
        return 8 // self.bits


@dataclass(frozen=True)
class Packed:
    """planes: uint8 [rows, unit] each (int8 for the one plane of 8 bits), in the order of `planes_of(bits)`."""

    bits: int
    planes: tuple[Array, ...]

    @property
    def nbytes(self) -> int:
        return sum(plane.nbytes for plane in self.planes)


def planes_of(bits: int) -> tuple[Plane, ...]:
    """The planes of a width, from the highest bits down."""
    found, base = [], bits
    for width in (8, 4, 2, 1):
        if base >= width:
            base -= width
            found.append(Plane(width, base))
    return tuple(found)


def sharing(bits: int) -> int:
    """The most units that share a row of a plane."""
    return max(plane.units for plane in planes_of(bits))


def offset_of(bits: int) -> int:
    """What is taken from a code's bits to give the weight; one bit stands for -1 and +1 instead."""
    return 0 if bits in (1, 8) else 1 << (bits - 1)


def pack_units(weights: Array, bits: int) -> Packed:
    """Weights int8 [units, unit] of `bits` bits; a weight that stands for nothing may be 0 at any width.

    Raises ValueError where a weight does not fit.
    """
    codes = np.asarray(weights, np.int64)
    if bits == 8:
        return Packed(8, (codes.astype(np.int8),))
    codes = (codes + 1) // 2 if bits == 1 else codes + offset_of(bits)
    if codes.size and (codes.min() < 0 or codes.max() >= 1 << bits):
        raise ValueError(f"a weight does not fit {bits} bits")
    made = []
    for plane in planes_of(bits):
        rows = -(-len(codes) // plane.units)
        field = np.zeros((rows * plane.units, codes.shape[1]), np.int64)
        field[: len(codes)] = (codes >> plane.base) & ((1 << plane.bits) - 1)
        shifts = (np.arange(plane.units) * plane.bits)[None, :, None]
        made.append((field.reshape(rows, plane.units, -1) << shifts).sum(axis=1).astype(np.uint8))
    return Packed(bits, tuple(made))


def unpack_units(packed: Packed, units: int) -> NDArray[np.int64]:
    """Inverse of pack_units, as the kernels do it: weights [units, unit]."""
    if packed.bits == 8:
        return packed.planes[0].astype(np.int64)
    codes = np.zeros((units, packed.planes[0].shape[1]), np.int64)
    index = np.arange(units)
    for plane, rows in zip(planes_of(packed.bits), packed.planes, strict=True):
        shift = ((index % plane.units) * plane.bits)[:, None]
        field = (rows[index // plane.units].astype(np.int64) >> shift) & ((1 << plane.bits) - 1)
        codes |= field << plane.base
    return codes * 2 - 1 if packed.bits == 1 else codes - offset_of(packed.bits)
