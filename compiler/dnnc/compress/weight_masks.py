"""Masks of weights: the best stay, the others become exact zeros, which all later stages keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dnnc.compress.importance import Scores
from dnnc.ir.graph import Graph, Node, freeze

Ranking = Literal["global", "layer"]
#: By node name, True where a weight stays.
Masks = Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class Order:
    """Which weights stay, however many are wanted: names and sizes of the layers, and their weights' indices, best
    first, either one order of all (`ranking` global, indices into the concatenated layers) or one a layer.
    """

    shapes: Mapping[str, tuple[int, ...]]
    ranking: Ranking
    best: tuple[NDArray[np.int64], ...]

    @property
    def count(self) -> int:
        return sum(len(b) for b in self.best)

    def keep(self, kept: int) -> Masks:
        """About `kept` weights: exactly that many of a global order; of layers, each one's share, rounded."""
        parts = self._flags(kept)
        if self.ranking == "global":
            parts = np.split(parts[0], np.cumsum([int(np.prod(s)) for s in self.shapes.values()])[:-1])
        return {name: part.reshape(s) for (name, s), part in zip(self.shapes.items(), parts, strict=True)}

    def refined(self, kept: int, later: Order) -> Order:
        """The order whose first `kept` are in that of `later`, and whose others are in this one's."""
        best = [
            np.concatenate([new[flags[new]], old[~flags[old]]])
            for old, new, flags in zip(self.best, later.best, self._flags(kept), strict=True)
        ]
        return replace(self, best=tuple(best))

    def _flags(self, kept: int) -> list[NDArray[np.bool_]]:
        found = []
        for best in self.best:
            flags = np.zeros(len(best), np.bool_)
            flags[best[: kept if self.ranking == "global" else max(1, round(kept * len(best) / self.count))]] = True
            found.append(flags)
        return found


def order(scores: Scores, ranking: Ranking) -> Order:
    """Largest scores first; of equal ones the earlier. Every layer's largest comes before all others, so that no layer
    dies before the last one does.
    """
    shapes = {name: s.shape for name, s in scores.items()}
    if ranking == "layer":
        return Order(shapes, ranking, tuple(_descending(s.reshape(-1)) for s in scores.values()))
    parts = [s.reshape(-1).astype(np.float64).copy() for s in scores.values()]
    for part in parts:
        part[part.argmax()] = np.inf
    return Order(shapes, ranking, (_descending(np.concatenate(parts)),))


def masked(graph: Graph, masks: Masks) -> Graph:
    """The same graph with zeros where the masks are False; biases stay."""
    nodes = [_masked(n, masks[n.name]) if n.name in masks else n for n in graph.nodes]
    return graph.with_nodes(nodes).verify()


def _masked(node: Node, mask: NDArray[np.bool_]) -> Node:
    weight = np.where(mask, node.params["weight"], np.float32(0))
    return replace(node, params=freeze({**node.params, "weight": weight}))


def _descending(values: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.argsort(-values, kind="stable").astype(np.int64)
