"""How much channels matter, by what they hold and by who reads them (Chen et al., "Exploiting Data Entropy for Neural
Network Compression", IEEE BigData 2020).

Where the paper leaves it open: what a channel says of a sample is its mean over positions, as its reader finds it; bins
are of equal frequency for mutual information, and of equal width for the entropy (equal frequency makes all entropies
equal). A channel that several layers read counts by the most that it tells any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dnnc.compress import entropy
from dnnc.compress.activation_samples import Statistics, View
from dnnc.compress.channel_order import ChannelScores, id_count, read, written
from dnnc.compress.importance import magnitude
from dnnc.errors import OptionError

Labels = NDArray[np.int64]
ChannelKind = Literal[
    "weighted-mi",
    "signal-weighted-mi",
    "class-weighted-mi",
    "cell-weighted-mi",
    "mi",
    "entropy",
    "output-l1",
    "input-l1",
    "random",
]
#: Kinds that need labels.
LABELLED = ("weighted-mi", "signal-weighted-mi", "class-weighted-mi", "cell-weighted-mi", "mi")
#: Bins of a channel when its redundancy with others is measured: C^2 joint histograms.
_PAIR_BINS = 8


def channel_scores(kind: ChannelKind, of: Statistics, bins: int) -> ChannelScores:
    """[ids] >= 0.

    input-l1, output-l1: sums of |w| over the weights that make, or read, a channel. entropy: of what it holds. mi: with
    the labels. weighted-mi: times output-l1. signal-weighted-mi: times output-l1 and the mean size of what the channel
    holds, which is how much its readers get of it. class-weighted-mi: classes of which a layer's channels tell little
    weigh more. cell-weighted-mi: of parts of the image, weighted by the energy there. random: the baseline, by the
    seed.
    Raises OptionError where labels are needed and missing.
    """
    graph, cmap, setting = of.graph, of.cmap, of.setting
    if kind == "random":
        return np.random.default_rng(setting.seed).random(id_count(cmap))
    if kind == "input-l1":
        return written(graph, cmap, magnitude(graph))
    of_readers = read(graph, cmap, magnitude(graph))
    if kind == "output-l1":
        return of_readers
    dataset = of.dataset
    if kind in LABELLED and dataset.labels is None:
        raise OptionError(
            f"score '{kind}' needs labels: give data with 'y', or take score=entropy, output-l1 or input-l1"
        )
    seen = of.cells if kind == "cell-weighted-mi" else of.means
    if kind == "entropy" or dataset.labels is None:
        count = entropy.bins_for(len(dataset), 1, bins)
        of_view: Callable[[View], NDArray[np.float64]] = lambda v: entropy.entropy(  # noqa: E731
            entropy.histograms(entropy.equal_width(v.means, count))
        )
    else:
        labels = np.unique(dataset.labels, return_inverse=True)[1].astype(np.int64)
        count = entropy.bins_for(len(labels), int(labels.max()) + 1, bins)
        measure = _BY_KIND.get(kind, _plain)
        of_view = lambda v: measure(v, labels, count)  # noqa: E731
    found = np.zeros(id_count(cmap))
    for index, view in enumerate(seen):
        setting.progress("information of channels", index, len(seen))
        np.maximum.at(found, view.ids, of_view(view))
    return found * of_readers if kind in ("weighted-mi", "signal-weighted-mi") else found


def _plain(view: View, labels: Labels, bins: int) -> NDArray[np.float64]:
    return entropy.mutual_information(entropy.equal_frequency(view.means, bins), labels)


def _by_signal(view: View, labels: Labels, bins: int) -> NDArray[np.float64]:
    return np.asarray(_plain(view, labels, bins) * np.abs(view.means).mean(axis=0))


def _by_class(view: View, labels: Labels, bins: int) -> NDArray[np.float64]:
    """Each class weighs by the inverse of what all channels together tell of it."""
    terms = entropy.class_information(entropy.equal_frequency(view.means, bins), labels)
    weight = 1 / np.maximum(terms.sum(axis=0), 1e-9)
    return np.asarray(terms @ (weight / weight.mean()))


def _by_cell(view: View, labels: Labels, bins: int) -> NDArray[np.float64]:
    if view.cells is None or view.energy is None:
        raise ValueError(f"the view of '{view.value}' has no cells")
    share = view.energy / np.maximum(view.energy.sum(axis=0), 1e-30)
    found = np.zeros(len(view.ids))
    for part in range(view.cells.shape[1]):
        codes = entropy.equal_frequency(view.cells[:, part], bins)
        found += share[part] * entropy.mutual_information(codes, labels)
    return found


_BY_KIND: dict[str, Callable[[View, Labels, int], NDArray[np.float64]]] = {
    "signal-weighted-mi": _by_signal,
    "class-weighted-mi": _by_class,
    "cell-weighted-mi": _by_cell,
}


def without_redundancy(of: Statistics, scores: ChannelScores, weight: float) -> ChannelScores:
    """Ranks [ids] (larger is better) of a forward selection in each group: the channel next with the most score, over
    the group's largest, less `weight` times what it shares on average with those chosen before, as a part of its
    entropy (Peng et al., "Feature selection based on mutual information: mRMR", TPAMI 2005).
    """
    ranks = np.zeros_like(scores)
    seen = {int(i): (view, place) for view in of.means for place, i in enumerate(view.ids)}
    for done, group in enumerate(of.cmap.groups):
        of.setting.progress("redundancy of channels", done, len(of.cmap.groups))
        columns = np.stack([seen[int(i)][0].means[:, seen[int(i)][1]] for i in group.ids], axis=1)
        shared = entropy.pairwise_information(entropy.equal_frequency(columns, _PAIR_BINS))
        own = np.sqrt(np.maximum(np.diagonal(shared), 1e-12))
        shared = shared / own / own[:, None]
        worth = scores[group.ids] / max(float(scores[group.ids].max()), 1e-300)
        left, overlap = np.ones(len(worth), bool), np.zeros(len(worth))
        for chosen in range(len(worth)):
            value = np.where(left, worth - weight * overlap / max(chosen, 1), -np.inf)
            best = int(value.argmax())
            left[best] = False
            overlap += shared[best]
            ranks[group.ids[best]] = len(worth) - chosen
    return ranks
