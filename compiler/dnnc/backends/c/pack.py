"""Weights of linear layers in the order in which the inner loops consume them.

Output channels come in tiles of four; the last tile of a group is padded. Inside a tile, for each pair of k, for each
of the four channels, lies the pair (w[c][k0], w[c][k1]), packed by `fixed.pack_pairs`. k runs over
(kernel row, kernel column, input channel of the group); a depthwise layer's k runs over the taps alone, and its tiles
are four neighbouring channels. A tile is padded to whole blocks (`BLOCKS`), so that each one starts at a word.

Padding holds weight 0, for which the offset-binary code is 2**(bits - 1); one bit has no 0 and holds +1, so there the
kernel must see activations 0 at padded k. Where kernels may see any activations there (`COLUMNS`), it holds code 0.
Padded channels are computed and never stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dnnc import fixed

TILE = 4

#: natural: pairs of consecutive k. sxtb16: (k0, k2), (k1, k3) of every four k, as SXTB16 parts four int8 activations;
#: k is first padded to whole fours. sums: sxtb16, then every half-word as one number: 8 bits c0 + 256 c1 (so c1 must be
#: above -128), 5 bits u0 + 32 u1 + 1024 u2 with all u3 by themselves, 4 bits u0 + 16 u1 + 256 u2 + 4096 w3, 2 bits
#: u0 + 2**14 w1. See kernels/armv7em/dnnc_smlad_w*_sums.c.
#: columns: k runs over (kernel column, kernel row, input channel), and blocks of a single pair come in twos. unsigned:
#: likewise, and 8 bits are offset binary. See kernels/generic/dnnc_tile.h.
Order = Literal["natural", "sxtb16", "sums", "columns", "unsigned"]
COLUMNS: tuple[Order, ...] = ("columns", "unsigned")
_SWAPPED: tuple[Order, ...] = ("sxtb16", "sums")


@dataclass(frozen=True)
class Block:
    """The smallest run of whole words that holds whole k-pairs of all four channels of a tile."""

    k_pairs: int
    words: int

    @property
    def k(self) -> int:
        """Values of k in a block."""
        return 2 * self.k_pairs


def _block(bits: int) -> Block:
    packing = fixed.PACKINGS[bits]
    pairs = int(np.lcm(TILE, packing.pairs))
    return Block(pairs // TILE, pairs // packing.pairs * packing.words)


#: By width: 1 -> 4 k-pairs in 1 word, 2 -> 2 in 1, 3 -> 5 in 4, 4 -> 1 in 1, 5 -> 3 in 4, 6 -> 2 in 3, 7, 8 -> 1 in 2.
BLOCKS: dict[int, Block] = {bits: _block(bits) for bits in fixed.WEIGHT_BITS}


def stored_width(bits: int) -> int:
    """The width whose kernel reads weights of `bits` bits: 7 is stored as 8."""
    return 8 if bits == 7 else bits


def padded_k(k: int, bits: int, order: Order = "natural") -> int:
    """k rounded up to whole blocks: what the kernel's loop covers, and the im2col row must hold."""
    if order in COLUMNS:
        step = max(BLOCKS[bits].k, 4)
        return -(-k // step) * step
    if order != "natural":
        k = -(-k // 4) * 4
    return -(-k // BLOCKS[bits].k) * BLOCKS[bits].k


def tile_words(k: int, bits: int, order: Order = "natural") -> int:
    """Words of one tile of four channels."""
    return padded_k(k, bits, order) // BLOCKS[bits].k * BLOCKS[bits].words


def tiles(channels: int) -> int:
    return -(-channels // TILE)


def pack_linear(weight: NDArray[Any], bits: int, groups: int = 1, order: Order = "natural") -> NDArray[np.uint32]:
    """Codes [O, ...k] (any trailing axes, flattened in order) to words; O is a multiple of `groups`.

    A depthwise layer [C, KH, KW, 1] is packed with groups=1: its k are the taps.
    """
    rows = np.asarray(weight, np.int64).reshape(groups, len(weight) // groups, -1)
    k = rows.shape[2]
    fill = _padding(bits, order)
    padded = np.full((groups, tiles(rows.shape[1]) * TILE, padded_k(k, bits, order)), fill, np.int64)
    padded[:, : rows.shape[1], :k] = rows
    if order in _SWAPPED:
        padded = _swap(padded)
    pairs = padded.reshape(-1, TILE, padded.shape[2] // 2, 2).transpose(0, 2, 1, 3)
    words = fixed.pack_pairs(pairs.reshape(-1, 2), stored_width(bits))
    if order == "unsigned":
        return _offset(words, bits)
    return _sums(words, bits, -1) if order == "sums" else words


def unpack_linear(
    words: NDArray[Any], bits: int, outputs: int, k: int, groups: int = 1, order: Order = "natural"
) -> NDArray[np.int64]:
    """Inverse of pack_linear: codes [outputs, k]."""
    per_group = outputs // groups
    padded = padded_k(k, bits, order)
    if order == "sums":
        words = _sums(np.asarray(words, np.uint32), bits, 1)
    if order == "unsigned":
        words = _offset(np.asarray(words, np.uint32), bits)
    count = groups * tiles(per_group) * TILE * padded // 2
    pairs = fixed.unpack_pairs(words, bits, count).reshape(-1, padded // 2, TILE, 2)
    rows = pairs.transpose(0, 2, 1, 3).reshape(groups, tiles(per_group) * TILE, padded)
    if order in _SWAPPED:
        rows = _swap(rows)
    return rows[:, :per_group, :k].reshape(outputs, k)


def _padding(bits: int, order: Order) -> int:
    """The weight that pads k."""
    if order not in COLUMNS:
        return 1 if bits == 1 else 0
    if stored_width(bits) == 8 and order == "columns":
        return 0
    return fixed.weight_range(stored_width(bits))[0]


def _offset(words: NDArray[np.uint32], bits: int) -> NDArray[np.uint32]:
    """8-bit fields in two's complement to offset binary, and back; narrower ones are offset binary already."""
    return words ^ np.uint32(0x80808080) if stored_width(bits) == 8 else words


def _sums(words: NDArray[np.uint32], bits: int, sign: int) -> NDArray[np.uint32]:
    """Half-words of fields to sums (sign -1), and back (sign 1)."""
    if bits == 2:
        return _turn_back(words) if sign > 0 else _turn(words)
    if bits == 4:
        return words ^ np.uint32(0x80008000)
    if bits == 5:
        return _fields_moved(words, _TRIPLES, _NATURAL_5) if sign > 0 else _fields_moved(words, _NATURAL_5, _TRIPLES)
    if bits != 8:
        raise ValueError(f"weights of {bits} bits are not packed as sums")
    halves = words.astype("<u4").view("<u2")
    borrow = (halves >> 7 & 1) << 8
    sums = halves + borrow if sign > 0 else halves - borrow
    return np.asarray(sums.astype("<u2").view("<u4"), np.uint32)


#: Where the fields of a block of 5 bits lie, (word, bit), for each k-pair and channel in turn.
_NATURAL_5 = tuple((n // 3, 5 * (n % 3)) for n in range(12))
_TRIPLES = tuple((pair, 5 * c) if c < 3 else (3, 5 * pair) for pair in range(3) for c in range(TILE))


def _fields_moved(
    words: NDArray[np.uint32], source: tuple[tuple[int, int], ...], target: tuple[tuple[int, int], ...]
) -> NDArray[np.uint32]:
    """Blocks of four words with their pairs of 5-bit fields moved."""
    blocks = words.reshape(-1, 4)
    moved = np.zeros_like(blocks)
    for (word, bit), (to_word, to_bit) in zip(source, target, strict=True):
        moved[:, to_word] |= (blocks[:, word] >> bit & 0x001F001F) << to_bit
    return moved.reshape(-1)


def _turn(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Nibble 4 * i of every half: its channels a, b to bits 0 (offset binary) and 14 (signed), turned left by 4 * i."""
    turned = np.zeros_like(words)
    for shift in range(0, 16, 4):
        low, high = words >> shift & 0x00030003, words >> (shift + 2) & 0x00030003
        both = low | (high ^ 0x00020002) << 14
        turned |= both << shift | both >> (32 - shift) if shift else both
    return turned


def _turn_back(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    fields = np.zeros_like(words)
    for shift in range(0, 16, 4):
        both = words >> shift | words << (32 - shift) if shift else words
        fields |= (both & 0x00030003) << shift | ((both >> 14 & 0x00030003) ^ 0x00020002) << (shift + 2)
    return fields


def _swap(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The inner two of every whole four along the last axis, exchanged: from one order to the other and back."""
    fours = rows.shape[-1] // 4 * 4
    whole = rows[..., :fours].reshape(*rows.shape[:-1], -1, 4)[..., [0, 2, 1, 3]]
    return np.concatenate([whole.reshape(*rows.shape[:-1], fours), rows[..., fours:]], axis=-1)


def per_tile(values: NDArray[Any], groups: int = 1) -> NDArray[Any]:
    """A value a channel [O] to four a tile, padded with 0: bias, multiplier, shift."""
    rows = np.asarray(values).reshape(groups, -1)
    padded = np.zeros((groups, tiles(rows.shape[1]) * TILE), rows.dtype)
    padded[:, : rows.shape[1]] = rows
    return padded.reshape(-1)


def per_tile_pairs(first: NDArray[Any], second: NDArray[Any], groups: int = 1) -> NDArray[Any]:
    """Two values of one type a channel [O] to eight a tile: four of the first, four of the second."""
    parts = [per_tile(values, groups).reshape(-1, TILE) for values in (first, second)]
    return np.concatenate(parts, axis=1).reshape(-1)
