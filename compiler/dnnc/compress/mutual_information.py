"""Channels out by what they tell of the labels, or by simpler measures (Chen et al., IEEE BigData 2020)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dnnc.compress.activation_samples import Statistics
from dnnc.compress.budget import Budget, accuracy, solve, weight_count
from dnnc.compress.channel_order import Ids, Ranking, by_share, channel_order, per_group
from dnnc.compress.channel_scores import LABELLED, ChannelKind, channel_scores, without_redundancy
from dnnc.compress.method import Compressed, Method, Setting
from dnnc.compress.recalibrate import recalibrate
from dnnc.compress.surgery import ChannelMap, channel_map, remove
from dnnc.errors import OptionError
from dnnc.ir.graph import Graph
from dnnc.quantise.bytes import linear_nodes

#: Samples that statistics are put right on.
_SAMPLE = 512


@dataclass(frozen=True)
class MutualInformation(Method):
    """Removes the channels of the lowest score, with all that depends on them.

    score: weighted-mi (mutual information with the labels times the L1 of the weights that read the channel), mi,
    signal-weighted-mi, class-weighted-mi, cell-weighted-mi (see channel_scores), and, which need no labels, entropy,
    output-l1, input-l1, random. ranking: in every group of channels the same share goes, or one ranking of all, in
    which scores count as parts of their group's largest and every group keeps the share `floor`. redundancy: how much a
    channel loses by what it shares with better ones (0..1 or so; ranking=layer). samples, bins: of the estimates.
    recalibrate: whether what stays gets the means and deviations back that it had (see dnnc.compress.recalibrate).

    keep: share of channels that every group keeps; params, macs: fractions of the network's that may be left;
    flash_bytes and cycles on the target; max_drop: points of accuracy on held-out samples. Default: max_drop=0.5,
    without labels params=0.5.
    """

    name: ClassVar[str] = "mutual-information"
    score: ChannelKind = "weighted-mi"
    keep: float | None = None
    params: float | None = None
    macs: float | None = None
    flash_bytes: int | None = None
    cycles: int | None = None
    max_drop: float | None = None
    ranking: Ranking = "layer"
    floor: float = 0.1
    redundancy: float = 0.0
    samples: int = 10000
    bins: int = 32
    recalibrate: bool = True

    def __post_init__(self) -> None:
        what = f"compression method '{self.name}'"
        budget = self._budget().check(what)
        for key in ("keep", "floor"):
            value = getattr(self, key)
            if value is not None and not 0 < value <= 1:
                raise OptionError(f"{what}: option '{key}' is a share of channels, 0 < {key} <= 1; found {value:g}")
        if self.keep is not None and budget.resources:
            raise OptionError(f"{what} takes keep or a budget of resources, found both")
        if self.ranking == "global" and (self.keep is not None or self.redundancy):
            raise OptionError(f"{what}: options 'keep' and 'redundancy' are of ranking=layer")
        if not self.redundancy >= 0:
            raise OptionError(f"{what}: option 'redundancy' expects a number >= 0, found {self.redundancy:g}")
        for key, least in (("samples", 2), ("bins", 2)):
            if getattr(self, key) < least:
                raise OptionError(f"{what}: option '{key}' expects {least} or more, found {getattr(self, key)}")

    def _budget(self) -> Budget:
        return Budget(self.params, self.macs, self.flash_bytes, self.cycles, self.max_drop)

    def apply(self, graph: Graph, setting: Setting) -> Compressed:
        cmap = channel_map(graph)
        if not cmap.groups:
            return Compressed(graph, ("mutual-information: there is no channel to take out",))
        statistics = Statistics(graph, cmap, setting, self.samples, self.score in LABELLED)
        scores = channel_scores(self.score, statistics, self.bins)
        if self.redundancy:
            scores = without_redundancy(statistics, scores, self.redundancy)
        if self.keep is not None:
            found = self.without(graph, cmap, by_share(cmap, scores, self.keep), setting)
            missed = self._dropped(graph, found, setting)
        else:
            if self.ranking == "global":
                scores = per_group(cmap, scores)
            ranked = channel_order(cmap, scores, self.ranking, self.floor if self.ranking == "global" else 0.0)
            make: Callable[[float], Graph] = lambda s: self.without(graph, cmap, ranked.gone(s), setting)  # noqa: E731
            budget = self._budget().or_default(setting)
            solved = solve(make, budget, graph, setting)
            found, missed = solved.graph, solved.missed
        notes = (
            f"mutual-information: channels ranked by {self.score}, {self.ranking}",
            f"mutual-information: {weight_count(found):,} of {weight_count(graph):,} parameters are left",
        )
        return Compressed(found, notes, missed)

    def without(self, graph: Graph, cmap: ChannelMap, gone: Ids, setting: Setting) -> Graph:
        """The graph without those channels, and with statistics put right where they are to be."""
        found = remove(graph, gone)
        if not self.recalibrate or not len(gone):
            return found
        kept = {n.name: np.flatnonzero(~np.isin(cmap.of[n.name], gone)) for n in linear_nodes(graph.nodes)}
        return recalibrate(found, graph, setting.sample.spread(_SAMPLE), kept)

    def _dropped(self, graph: Graph, found: Graph, setting: Setting) -> str | None:
        if self.max_drop is None:
            return None
        held_out = setting.labelled("max_drop")
        drop = accuracy(graph, held_out) - accuracy(found, held_out)
        return (
            f"max_drop={self.max_drop:g}: accuracy drops by {drop:.2f} points" if drop > self.max_drop + 1e-9 else None
        )
