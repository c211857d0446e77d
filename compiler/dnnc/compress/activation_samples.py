"""What each channel held on each of many samples: its mean over positions, and means over parts of the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc.compress.feed import Batch
from dnnc.compress.method import Setting
from dnnc.compress.surgery import ChannelMap
from dnnc.evaluate import evaluate_batches
from dnnc.ir.graph import Graph
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.threads import one_thread

#: Parts of an image in each direction.
CELLS = 4
_BATCH = 256


@dataclass(frozen=True, eq=False)
class View:
    """Of one value: ids [C] of its channels, each once; means float32 [N, C]; cells [N, parts, C] means over parts of
    the image and energy [parts, C] mean squares there, both None where they were not asked for.
    """

    value: str
    ids: NDArray[np.int64]
    means: NDArray[np.float32]
    cells: NDArray[np.float32] | None = None
    energy: NDArray[np.float64] | None = None


def statistics_samples(setting: Setting, count: int, labelled: bool) -> Dataset:
    """Up to `count` samples to take statistics of: of `setting.sample`, or as they are trained on where that has too
    few (and labels remain classes, where they are needed).
    """
    if len(setting.sample) >= count or len(setting.train) <= len(setting.sample):
        return setting.sample.spread(count)
    parts: list[Batch] = []
    for batch in setting.train.batches(_BATCH, torch.Generator().manual_seed(setting.seed)):
        parts.append(batch)
        if sum(len(b) for b in parts) >= count:
            break
    labels = [b.labels for b in parts if b.labels is not None and b.labels.dim() == 1]
    if labelled and len(labels) < len(parts):
        return setting.sample
    inputs = {name: torch.cat([b.inputs[name] for b in parts])[:count].numpy() for name in setting.sample.inputs}
    classes = torch.cat(labels)[:count].numpy().astype(np.int64) if len(labels) == len(parts) else None
    return Dataset(inputs, classes)


@dataclass(frozen=True, eq=False)
class Statistics:
    """Views of a network over up to `samples` samples, taken when they are first asked for. labelled: whether labels
    have to be classes.
    """

    graph: Graph
    cmap: ChannelMap
    setting: Setting
    samples: int
    labelled: bool

    @cached_property
    def dataset(self) -> Dataset:
        return statistics_samples(self.setting, self.samples, self.labelled)

    @cached_property
    def means(self) -> list[View]:
        return views(self.graph, self.cmap, self.dataset, self.setting)

    @cached_property
    def cells(self) -> list[View]:
        return views(self.graph, self.cmap, self.dataset, self.setting, cells=True)


@one_thread()
def views(graph: Graph, cmap: ChannelMap, dataset: Dataset, setting: Setting, cells: bool = False) -> list[View]:
    """One pass over `dataset`: every value that some layer reads removable channels from. Where cells are asked for:
    the values as layers make them, before pools.
    """
    names = [p for g in cmap.groups for p in g.producers]
    if not cells:
        read = [graph.by_name[c].inputs[0] for g in cmap.groups for c in g.consumers]
        # A channel that no layer reads is looked at where it is made.
        names = [*read, *(p for g in cmap.groups if not g.consumers for p in g.producers)]
    wanted = {name: _pooling(cmap, name) for name in dict.fromkeys(names)}
    means: dict[str, list[torch.Tensor]] = {name: [] for name in wanted}
    parts: dict[str, list[torch.Tensor]] = {name: [] for name in wanted}
    energy: dict[str, torch.Tensor] = {}
    last = next(reversed(wanted), None)

    def hook(name: str, value: torch.Tensor) -> torch.Tensor:
        if name in wanted:
            pooling = wanted[name][1]
            means[name].append(value.reshape(len(value), -1, value.shape[-1]).mean(dim=1) @ pooling)
            if cells:
                split = _cells(value)
                parts[name].append(split @ pooling)
                square = (_cells(value * value) @ pooling).double().sum(dim=0)
                energy[name] = energy[name] + square if name in energy else square
            if name == last:
                setting.progress("statistics of channels", _BATCH * (len(means[name]) - 1), len(dataset))
        return value

    evaluate_batches(graph, dataset.inputs, _BATCH, hook)
    return [
        View(
            name,
            ids,
            torch.cat(means[name]).numpy(),
            torch.cat(parts[name]).numpy() if cells else None,
            (energy[name] / len(dataset)).numpy() if cells else None,
        )
        for name, (ids, _) in wanted.items()
    ]


def _pooling(cmap: ChannelMap, value: str) -> tuple[NDArray[np.int64], torch.Tensor]:
    """(ids, the matrix [positions of the last axis, ids] that averages the positions of each)."""
    of = cmap.of[value]
    ids = np.unique(of[of >= 0])
    matrix = (of[:, None] == ids).astype(np.float32)
    return ids, torch.from_numpy(matrix / matrix.sum(axis=0))


def _cells(value: torch.Tensor) -> torch.Tensor:
    """Means [N, parts, C] over up to CELLS parts of each axis between the first and the last."""
    for axis in range(1, value.dim() - 1):
        pieces: Sequence[torch.Tensor] = value.tensor_split(min(CELLS, value.shape[axis]), dim=axis)
        value = torch.stack([p.mean(dim=axis) for p in pieces], dim=axis)
    return value.reshape(len(value), -1, value.shape[-1])
