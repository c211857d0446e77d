"""Samples that stand for what the network will see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs by graph input name, [N, *shape] in the graph's layout (float32, or uint8 where the file held bytes).

    labels: int64 [N] class indices, or None. synthetic: made up from the model, not seen in the world. warnings: what
    the user should know of the figures that rest on these samples.
    """

    inputs: Mapping[str, Array]
    labels: NDArray[np.int64] | None = None
    synthetic: bool = False
    warnings: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def take(self, index: Array | slice) -> Dataset:
        """The samples at `index`."""
        labels = None if self.labels is None else self.labels[index]
        inputs = {name: values[index] for name, values in self.inputs.items()}
        return Dataset(inputs, labels, self.synthetic, self.warnings)

    def first(self, count: int) -> Dataset:
        """The first `count` samples, or all of them."""
        return self.take(slice(0, count))

    def spread(self, count: int) -> Dataset:
        """`count` samples from all over, or all of them: files are often sorted by class."""
        if count >= len(self):
            return self
        return self.take(np.linspace(0, len(self) - 1, count).round().astype(np.int64))

    def halves(self, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Two disjoint halves (the first may have one sample more), each with its share of every label."""
        count = len(self)
        order = np.random.default_rng(seed).permutation(count)
        if self.labels is not None:
            order = order[np.argsort(self.labels[order], kind="stable")]
        return self.take(np.sort(order[0::2])), self.take(np.sort(order[1::2]))

    def parts(self, every: int, most: int, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Disjoint: all but, and one of `every` samples (at most `most`), each with its share of every label."""
        order = np.random.default_rng(seed).permutation(len(self))
        if self.labels is not None:
            order = order[np.argsort(self.labels[order], kind="stable")]
        every = max(every, -(-len(self) // most))
        apart = np.zeros(len(self), bool)
        apart[order[every - 1 :: every]] = True
        return self.take(np.flatnonzero(~apart)), self.take(np.flatnonzero(apart))
