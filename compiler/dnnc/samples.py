"""What the user's data are used for: to calibrate and to train on, and, apart from that, to measure accuracy on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dnnc.compress.feed import ArrayFeed, Augment, Feed, LoaderFeed
from dnnc.ir.graph import Graph
from dnnc.progress import Progress, silent
from dnnc.quantise.calibrate import MINIMUM_SAMPLES
from dnnc.quantise.data import Source, load_data, synthesise
from dnnc.quantise.dataset import Dataset

#: Made up where the user gives no data.
SYNTHETIC_SAMPLES = 64
#: Accuracy of the integer program is measured on no more: its standard error is below a point by then.
HELD_OUT_SAMPLES = 2000
#: Calibration and statistics rest on no more; training takes all.
CALIBRATION_SAMPLES, STATISTICS_SAMPLES = 4096, 10000
#: Where something is trained, this part of the samples is held out, and not more than that many.
HELD_OUT_PART, HELD_OUT_MOST = 5, 5000


@dataclass(frozen=True, eq=False)
class Samples:
    """train: what is trained on; statistics: (some of) it as arrays, for compression methods; calibration: likewise,
    for ranges. held_out: labelled samples that nothing was learnt from, None without labels.
    """

    train: Feed
    statistics: Dataset
    calibration: Dataset
    held_out: Dataset | None

    @property
    def measured_on(self) -> Dataset | None:
        """As many of the held-out samples as the accuracy of an integer program is measured on."""
        if self.held_out is None or len(self.held_out) <= HELD_OUT_SAMPLES:
            return self.held_out
        picked = np.random.default_rng(0).permutation(len(self.held_out))[:HELD_OUT_SAMPLES]
        return self.held_out.take(np.sort(picked))


def is_loader(data: Any) -> bool:
    """Whether data come in batches (a torch DataLoader, or any iterable of them) and not as arrays."""
    arrays = (str, bytes, Mapping, tuple, list, np.ndarray, Dataset)
    return isinstance(data, Iterable) and not isinstance(data, arrays) and not hasattr(data, "__array__")


def gather(
    graph: Graph,
    data: Source | Iterable[Any] | None,
    *,
    training: bool = False,
    held_out: Source | None = None,
    augment: Augment | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Samples:
    """The samples of `data`, split; made up where there are none.

    training: whether something will be trained, for which a fifth is held out and not half. held_out: samples of the
    user's own choice to measure on; then nothing else is held out. A loader's batches are all trained on, so without
    `held_out` there is nothing to measure on. Raises DataError.
    """
    chosen = None if held_out is None else load_data(held_out, graph)
    if data is not None and is_loader(data):
        loader = LoaderFeed(data, graph)  # type: ignore[arg-type]
        return _samples(loader.collect(STATISTICS_SAMPLES), chosen, loader)
    if data is None:
        return _samples(synthesise(graph, SYNTHETIC_SAMPLES, seed, progress), chosen, None, augment)
    given = load_data(data, graph)  # type: ignore[arg-type]
    if given.labels is None or chosen is not None:
        return _samples(given, chosen, None, augment)
    if len(given) < 2 * MINIMUM_SAMPLES:
        warning = "too few samples to keep some of them apart: accuracy is measured on those that were learnt from"
        return _samples(replace(given, warnings=(*given.warnings, warning)), given, None, augment)
    train, rest = given.parts(HELD_OUT_PART, HELD_OUT_MOST, seed) if training else given.halves(seed)
    return _samples(train, rest, None, augment)


def _samples(train: Dataset, held_out: Dataset | None, feed: Feed | None, augment: Augment | None = None) -> Samples:
    return Samples(
        feed or ArrayFeed(train, augment),
        train.spread(STATISTICS_SAMPLES),
        train.spread(CALIBRATION_SAMPLES),
        held_out,
    )
