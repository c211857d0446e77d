"""Which channels go first: scores of channels, ranked inside each group or across all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dnnc.compress.surgery import ChannelMap
from dnnc.ir.graph import Graph
from dnnc.ops.conv import Conv2D
from dnnc.quantise.bytes import linear_nodes

Ranking = Literal["global", "layer"]
#: By channel id, float64 [ids].
ChannelScores = NDArray[np.float64]
Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ChannelOrder:
    """worst: the ids that may go, worst first: of all groups (ranking global) or of each (layer)."""

    worst: tuple[Ids, ...]

    def gone(self, strength: float) -> Ids:
        """The worst share `strength` (0..1) of what may go, of each group's or of all."""
        return np.concatenate([np.zeros(0, np.int64), *(w[: round(strength * len(w))] for w in self.worst)])

    def refined(self, strength: float, later: ChannelOrder) -> ChannelOrder:
        """The order whose worst share is this one's, and whose others are in that of `later`."""
        first = [w[: round(strength * len(w))] for w in self.worst]
        rest = [new[~np.isin(new, old)] for new, old in zip(later.worst, first, strict=True)]
        return ChannelOrder(tuple(np.concatenate(pair) for pair in zip(first, rest, strict=True)))


def id_count(cmap: ChannelMap) -> int:
    """One more than the largest id."""
    return 1 + max((int(g.ids.max()) for g in cmap.groups), default=-1)


def channel_order(cmap: ChannelMap, scores: ChannelScores, ranking: Ranking, floor: float = 0.0) -> ChannelOrder:
    """Smallest scores first, of equal ones the smaller id; `floor` is the share of every group that never goes, rounded
    up and at least one channel.
    """
    may_go = []
    for group in cmap.groups:
        ids = group.ids[np.argsort(scores[group.ids], kind="stable")]
        may_go.append(ids[: len(ids) - max(1, ceil(floor * len(ids)))])
    if ranking == "layer":
        return ChannelOrder(tuple(may_go))
    everything = np.sort(np.concatenate([np.zeros(0, np.int64), *may_go]))
    return ChannelOrder((everything[np.argsort(scores[everything], kind="stable")],))


def by_share(cmap: ChannelMap, scores: ChannelScores, keep: float) -> Ids:
    """The ids that go when every group keeps the share `keep` of its channels, rounded, at least one."""
    gone = [np.zeros(0, np.int64)]
    for group in cmap.groups:
        kept = max(1, round(keep * len(group.ids)))
        gone.append(group.ids[np.argsort(scores[group.ids], kind="stable")][: len(group.ids) - kept])
    return np.concatenate(gone)


def per_group(cmap: ChannelMap, scores: ChannelScores) -> ChannelScores:
    """Scores over the largest of their group: what one ranking of all groups needs where scales differ."""
    found = scores.copy()
    for group in cmap.groups:
        found[group.ids] /= max(float(np.abs(scores[group.ids]).max()), 1e-300)
    return found


def written(graph: Graph, cmap: ChannelMap, of_weights: Mapping[str, NDArray[np.float64]]) -> ChannelScores:
    """Sums of weights' scores over all weights that make a channel, in every layer that does."""
    found = np.zeros(id_count(cmap))
    for name, scores in of_weights.items():
        ids = cmap.of[name]
        np.add.at(found, ids[ids >= 0], scores.reshape(len(scores), -1).sum(axis=1)[ids >= 0])
    return found


def read(graph: Graph, cmap: ChannelMap, of_weights: Mapping[str, NDArray[np.float64]]) -> ChannelScores:
    """Sums of weights' scores over all weights that read a channel; layers that only follow a channel, such as
    depthwise ones, do not read it.
    """
    found = np.zeros(id_count(cmap))
    for node in linear_nodes(graph.nodes):
        if node.name in cmap.followers:
            continue
        ids, scores = cmap.of[node.inputs[0]], of_weights[node.name]
        groups = node.op.groups if isinstance(node.op, Conv2D) else 1
        columns = scores.reshape(groups, len(scores) // groups, -1, scores.shape[-1]).sum(axis=(1, 2)).reshape(-1)
        np.add.at(found, ids[ids >= 0], columns[ids >= 0])
    return found
