"""How many bits every tensor gets: what a bit policy decides and the quantiser carries out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Allocation:
    """weight_bits: node name -> uint8 [O], a width for each output channel. activation_bits: value name -> bits.

    sensitivity: node name -> predicted increase of the loss by the widths of its weights (nats for a classifier, half
    the relative squared error of the output otherwise); empty where the policy asks no one. narrower_loss: the same if
    the node had the next narrower width on offer, of nodes of one width that have one. notes: for the report.
    """

    weight_bits: Mapping[str, NDArray[np.uint8]]
    activation_bits: Mapping[str, int]
    sensitivity: Mapping[str, float] = field(default_factory=dict)
    activation_sensitivity: Mapping[str, float] = field(default_factory=dict)
    predicted_loss: float | None = None
    notes: tuple[str, ...] = field(default=())
    narrower_loss: Mapping[str, float] = field(default_factory=dict)

    def average_bits(self, sizes: Mapping[str, int]) -> float:
        """Mean width of a weight; sizes: node name -> weights of one output channel."""
        total = sum(int(np.sum(b, dtype=np.int64)) * sizes[n] for n, b in self.weight_bits.items())
        count = sum(len(b) * sizes[n] for n, b in self.weight_bits.items())
        return total / max(count, 1)
