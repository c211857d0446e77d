"""Sparse weights as records of few bits: a weight, and how many zeros follow it.

The weights of a layer are one run [O * K] in the order of the kernel's loops: output channel, kernel row, kernel
column, input channel of the group. A record of `bits` = gap_bits + value_bits bits is the weight above the number of
zeros that follow. Where that number does not fit, a record of weight 0 stands at the first zero that is left: it skips
(number + 1) * 2**gap_bits places. The first half-word is the place of the first record; the last gap reaches the end.
Where about every other weight is 0, a bitmap is shorter: a bit for every place, and the weight after each that is 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The widest record: kernels read one from two half-words.
MAX_BITS = 17
_FIRST = 2**16 - 1


@dataclass(frozen=True, eq=False)
class Records:
    """words uint16 [n]: the place of the first record; the records, the lowest bit first; and a half-word more, which
    kernels read and do not use.
    """

    words: NDArray[np.uint16]
    count: int
    gap_bits: int
    value_bits: int

    @property
    def bits(self) -> int:
        return self.gap_bits + self.value_bits


#: Instructions that a record takes on an Armv7E-M (tools/calibrate_cost): of one pixel; of many: itself, each row of
#: them, each of them.
_SINGLE, _MANY, _ROW, _PIXEL = 26.0, 44.0, 20.0, 7.0


def record_instructions(out_h: int, out_w: int) -> float:
    """Of one record for one of the pixels that it is met by, about."""
    pixels = out_h * out_w
    return _SINGLE if pixels == 1 else _PIXEL + (_MANY + _ROW * out_h) / pixels


def pack_records(weight: NDArray[Any]) -> Records:
    """Codes int8 of any shape, in order, at the width of gaps that makes the fewest bytes; the narrowest of these."""
    flat = np.asarray(weight, np.int64).ravel()
    value_bits = _value_bits(flat)
    halves = _halves(flat, value_bits)
    gap_bits = min(halves, key=lambda g: halves[g])
    first, values, numbers = _records(flat, gap_bits)
    bits = gap_bits + value_bits
    fields = (values & ((1 << value_bits) - 1)) << gap_bits | numbers
    stream = fields[:, None] >> np.arange(bits) & 1
    return Records(_words(first, stream.ravel()), len(values), gap_bits, value_bits)


def pack_bitmap(weight: NDArray[Any]) -> Records:
    """Codes int8 of any shape, in order: for each a bit 0, or a bit 1 and the weight above it."""
    flat = np.asarray(weight, np.int64).ravel()
    value_bits = _value_bits(flat)
    fields = flat << 1 | (flat != 0)
    every = fields[:, None] >> np.arange(1 + value_bits) & 1
    taken = (flat != 0)[:, None] | (np.arange(1 + value_bits) == 0)
    return Records(_words(0, every[taken]), len(flat), 1, value_bits)


def unpack_bitmap(records: Records, size: int) -> NDArray[np.int64]:
    """Inverse of pack_bitmap: the codes [size], read as the kernel reads them."""
    found = np.zeros(size, np.int64)
    at = 16
    for place in range(size):
        halves = int(records.words[at >> 4]) | int(records.words[(at >> 4) + 1]) << 16
        record = halves >> (at & 15) & ((1 << records.bits) - 1)
        at += records.bits if record & 1 else 1
        if record & 1:
            value = record >> 1
            found[place] = value - (value >> (records.value_bits - 1) << records.value_bits)
    return found


def _words(first: int, stream: NDArray[Any]) -> NDArray[np.uint16]:
    """The place of the first record, the bits in half-words, and a half-word more."""
    data = np.packbits(stream.astype(np.uint8), bitorder="little").tobytes()
    words = np.frombuffer(data + b"\0" * (len(data) % 2), "<u2")
    return np.concatenate([[first], words, [0]]).astype(np.uint16)


def record_bytes(weight: NDArray[Any], value_bits: int) -> int:
    """Bytes of the records of codes that are 0 where `weight` is, the others having `value_bits` bits or fewer."""
    return 2 * (2 + min(_halves(np.asarray(weight).ravel(), value_bits).values()))


def unpack_records(records: Records, size: int) -> NDArray[np.int64]:
    """Inverse of pack_records: the codes [size], read as the kernel reads them."""
    found = np.zeros(size, np.int64)
    place, bits, gap_bits = int(records.words[0]), records.bits, records.gap_bits
    at = 16
    while place < size:
        halves = int(records.words[at >> 4]) | int(records.words[(at >> 4) + 1]) << 16
        record = halves >> (at & 15) & ((1 << bits) - 1)
        number, value = record & ((1 << gap_bits) - 1), record >> gap_bits
        value -= value >> (records.value_bits - 1) << records.value_bits
        found[place] = value
        place += number + 1 if value else (number + 1) << gap_bits
        at += bits
    return found


def _value_bits(values: NDArray[np.int64]) -> int:
    """Bits of the widest value in two's complement."""
    reach = int(np.maximum(values, ~values).max(initial=0))
    return reach.bit_length() + 1


def _distances(places: NDArray[np.int64], size: int, gap_bits: int) -> tuple[int, NDArray[np.int64]]:
    """Of weights at `places`: the place of the first record, and how far it is from there (if that is not the first
    weight) and from every weight to the next one, or to the end.
    """
    start = int(places[0]) if len(places) else size
    far = max(-(-(start - _FIRST) // (1 << gap_bits)), 0) << gap_bits
    return start - far, np.concatenate([[far], np.diff(np.append(places, size))])


def _skips(distances: NDArray[np.int64], gap_bits: int) -> NDArray[np.int64]:
    """How many times 2**gap_bits places are skipped after each weight, the first entry being before the first one."""
    own = np.concatenate([[0], (distances[1:] - 1) % (1 << gap_bits) + 1])
    skips: NDArray[np.int64] = (distances - own) >> gap_bits
    return skips


def _halves(flat: NDArray[Any], value_bits: int) -> dict[int, int]:
    """Half-words that the records take, by the bits of gaps."""
    places = np.flatnonzero(flat)
    found = {}
    for gap_bits in range(1, MAX_BITS - value_bits + 1):
        _, distances = _distances(places, len(flat), gap_bits)
        count = len(places) + int((-(-_skips(distances, gap_bits) // (1 << gap_bits))).sum())
        found[gap_bits] = -(-count * (gap_bits + value_bits) // 16)
    return found


def _records(flat: NDArray[np.int64], gap_bits: int) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """The first place, and (value, number) of every record."""
    places = np.flatnonzero(flat)
    first, distances = _distances(places, len(flat), gap_bits)
    skips, span = _skips(distances, gap_bits).tolist(), 1 << gap_bits
    values: list[int] = []
    numbers: list[int] = []
    for weight, distance, skip in zip([0, *flat[places].tolist()], distances.tolist(), skips, strict=True):
        if weight:
            values.append(weight)
            numbers.append((distance - 1) % span)
        for done in range(0, skip, span):
            values.append(0)
            numbers.append(min(skip - done, span) - 1)
    return first, np.array(values, np.int64), np.array(numbers, np.int64)
