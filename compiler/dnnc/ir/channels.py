"""What is known of the channels of an integer value, and which of them a node is asked to keep.

Channels are the positions along the last axis; a scalar has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnnc.ir.types import Shape, TensorType

Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]


def channel_count(shape: Shape) -> int:
    return shape[-1] if shape else 1


@dataclass(frozen=True, eq=False)
class Interval:
    """Lowest and highest code of every channel, int64 [C], wherever it stands and whatever the network is given."""

    lo: Codes
    hi: Codes

    @classmethod
    def full(cls, value: TensorType) -> Interval:
        """All codes that the value's type has."""
        if value.quant is None:
            raise TypeError("codes belong to an integer tensor")
        count = channel_count(value.shape)
        return cls(np.full(count, value.quant.lo, np.int64), np.full(count, value.quant.hi, np.int64))

    @property
    def constant(self) -> Mask:
        """The channels that hold one code only."""
        same: Mask = self.lo == self.hi
        return same

    def including(self, code: int) -> Interval:
        return Interval(np.minimum(self.lo, code), np.maximum(self.hi, code))

    def merged(self, count: int) -> Interval:
        """`count` channels, each of which may hold what any channel of this one holds."""
        return Interval(np.full(count, self.lo.min()), np.full(count, self.hi.max()))


def union(intervals: Sequence[Interval]) -> Interval:
    """Intervals of values with equally many channels, any of which may be meant."""
    return Interval(
        np.minimum.reduce([interval.lo for interval in intervals]),
        np.maximum.reduce([interval.hi for interval in intervals]),
    )


@dataclass(frozen=True, eq=False)
class Known:
    """The intervals of a node's inputs and of its output."""

    ins: tuple[Interval, ...]
    out: Interval


@dataclass(frozen=True, eq=False)
class Channels:
    """The channels of a node's inputs and of its output that are kept."""

    ins: tuple[Mask, ...]
    out: Mask

    def all(self) -> Channels:
        """Every channel."""
        return Channels(tuple(np.ones_like(mask) for mask in self.ins), np.ones_like(self.out))

    def tied(self) -> Channels:
        """The inputs and the output keep the same channels; an input of a single channel serves all of them."""
        count = len(self.out)
        kept = self.out.copy()
        for mask in self.ins:
            if len(mask) == count:
                kept |= mask
        return Channels(tuple(kept if len(mask) == count else np.ones_like(mask) for mask in self.ins), kept)
