"""NORMATIVE integer arithmetic. Every execution (simulator, C, TVM) means exactly what is written here.

real = scale * (q - zero_point).  Rounding is half up everywhere; there is one rounding per operation and no mode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

WEIGHT_BITS = (1, 2, 3, 4, 5, 6, 7, 8)
ACTIVATION_BITS = (4, 8, 16)
INT32_MAX = 2**31 - 1


def rescale(accumulator: Any, multiplier: Any, left_shift: Any) -> Any:
    """round_half_up(accumulator * multiplier * 2**(left_shift - 32)), over any 64-bit integers.

    Works on Python ints, int64 arrays and int64 expressions alike: only `<<`, `*`, `+`, `>>` are used.
    Requires |accumulator << left_shift| < 2**31 and |multiplier| < 2**31. On Armv7E-M this is one SMMULR.
    """
    return (((accumulator << left_shift) * multiplier) + (1 << 31)) >> 32


def saturate(value: Array, lo: int, hi: int) -> Array:
    """Clamp to lo..hi, both included."""
    return np.clip(value, lo, hi)


def requantise(
    accumulator: Array, multiplier: Array | int, left_shift: int, zero_point: int, lo: int, hi: int
) -> Array:
    """clamp(zero_point + rescale(accumulator)): int64 accumulators to activation codes (int64)."""
    scaled = rescale(np.asarray(accumulator, np.int64), np.asarray(multiplier, np.int64), left_shift)
    return saturate(scaled + zero_point, lo, hi)


def multipliers(ratio: Array | float) -> tuple[NDArray[np.int32], int]:
    """(m, l) such that m * 2**(l - 32) is nearest to `ratio` for every channel, with the smallest shared l >= 0.

    ratio: scale_in * scale_weight / scale_out, any sign. A power of two stays one exactly.
    """
    ratio = np.asarray(ratio, np.float64)
    if not np.all(np.isfinite(ratio)):
        raise ValueError("a requantisation ratio is not finite")
    left_shift = 0
    while np.any(np.floor(np.abs(ratio) * 2.0 ** (32 - left_shift) + 0.5) > INT32_MAX):
        left_shift += 1
    return np.floor(ratio * 2.0 ** (32 - left_shift) + 0.5).astype(np.int32), left_shift


def round_half_up(value: Array) -> Array:
    """floor(value + 0.5) as int64: the one rounding from reals to integers."""
    return np.floor(np.asarray(value, np.float64) + 0.5).astype(np.int64)


# --- packed weights ------------------------------------------------------------------------------------------------
#
# Weights are stored as a stream of *pairs* (two consecutive k of one output channel). The first of a pair lies in the
# low half of a 32-bit word, the second in the high half, at the same bit offset: so `(word >> s) & mask` yields both as
# 16-bit lanes, ready for SMLAD. Fields are offset binary (u = w + 2**(bits-1)), except for 8 bits (and 7, stored as 8),
# which are two's complement bytes for SXTB16, and 1 bit, where u in {0, 1} stands for w = 2*u - 1 in {-1, +1}.


@dataclass(frozen=True)
class Packing:
    """How weights of one width lie in 32-bit words. `pairs` pairs fill `words` words; `offset`: w = u - offset."""

    bits: int
    pairs: int
    words: int
    offset: int

    @property
    def stored_bits(self) -> float:
        """Bits of flash per weight."""
        return self.words * 16 / self.pairs


PACKINGS: dict[int, Packing] = {
    1: Packing(1, 16, 1, 1),
    2: Packing(2, 8, 1, 2),
    3: Packing(3, 5, 1, 4),
    4: Packing(4, 4, 1, 8),
    5: Packing(5, 3, 1, 16),
    6: Packing(6, 8, 3, 32),
    7: Packing(7, 2, 1, 0),
    8: Packing(8, 2, 1, 0),
}


def weight_range(bits: int) -> tuple[int, int]:
    """Smallest and largest weight code; 1 bit means {-1, +1}."""
    return (-1, 1) if bits == 1 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def code_range(bits: int) -> tuple[int, int]:
    """The codes to choose from. Of 8 bits, -128 is left out: kernels that read two weights as one number need that."""
    lo, hi = weight_range(bits)
    return (-hi if bits == 8 else lo), hi


def pack_pairs(pairs: Array, bits: int) -> NDArray[np.uint32]:
    """Pack int weight pairs [n, 2] of `bits` bits into little-endian words; a short last group is filled with u = 0.

    Raises ValueError where a weight does not fit.
    """
    packing = PACKINGS[bits]
    pairs = np.asarray(pairs, np.int64)
    lo, hi = weight_range(bits)
    if pairs.size and (pairs.min() < lo or pairs.max() > hi or (bits == 1 and np.any(pairs == 0))):
        raise ValueError(f"a weight is outside {lo}..{hi}, the range of {bits} bits")
    groups = -(-len(pairs) // packing.pairs)
    codes = (pairs + 1) // 2 if bits == 1 else pairs + packing.offset
    padded = np.zeros((groups * packing.pairs, 2), np.int64)
    padded[: len(pairs)] = codes & ((1 << (8 if bits >= 7 else bits)) - 1)
    lanes = padded.reshape(groups, packing.pairs, 2)
    halves = np.zeros((groups, packing.words, 2), np.int64)
    for j, pieces in enumerate(_pieces(bits)):
        for source, width, word, target in pieces:
            halves[:, word] |= ((lanes[:, j] >> source) & ((1 << width) - 1)) << target
    return (halves[..., 0] | halves[..., 1] << 16).astype(np.uint32).reshape(-1)


def unpack_pairs(words: Array, bits: int, count: int) -> NDArray[np.int64]:
    """Inverse of pack_pairs: the first `count` pairs [count, 2]."""
    packing = PACKINGS[bits]
    grouped = np.asarray(words, np.int64).reshape(-1, packing.words)
    halves = np.stack([grouped & 0xFFFF, grouped >> 16], axis=-1)
    lanes = np.zeros((len(grouped), packing.pairs, 2), np.int64)
    for j, pieces in enumerate(_pieces(bits)):
        for source, width, word, target in pieces:
            lanes[:, j] |= ((halves[:, word] >> target) & ((1 << width) - 1)) << source
    codes = lanes.reshape(-1, 2)[:count]
    if bits == 1:
        return codes * 2 - 1
    if bits >= 7:
        return np.where(codes >= 128, codes - 256, codes)
    return codes - packing.offset


def packed_words(pairs: int, bits: int) -> int:
    """Words that `pairs` pairs of `bits` bits take."""
    packing = PACKINGS[bits]
    return -(-pairs // packing.pairs) * packing.words


def _pieces(bits: int) -> list[list[tuple[int, int, int, int]]]:
    """For every pair of a group: (bit in the field, width, word, bit in the half) of each of its pieces."""
    if bits == 6:
        # Two whole fields a word; the four bits left over in each of three words make two more fields.
        whole = [[(0, 6, j // 2, 6 * (j % 2))] for j in range(6)]
        return [*whole, [(0, 4, 0, 12), (4, 2, 1, 12)], [(0, 4, 2, 12), (4, 2, 1, 14)]]
    width = 8 if bits >= 7 else bits
    return [[(0, width, 0, width * j)] for j in range(PACKINGS[bits].pairs)]
