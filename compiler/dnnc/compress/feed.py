"""Where training gets its samples from: arrays, or a torch DataLoader of the user's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dnnc.errors import DataError
from dnnc.ir.graph import Graph
from dnnc.quantise.dataset import Dataset


@dataclass(frozen=True, eq=False)
class Batch:
    """inputs: by graph input name, float32 [N, *shape] in the graph's layout. labels: int64 [N], float probabilities
    [N, classes] (mixed samples), or None.
    """

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor | None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def to(self, device: str | torch.device) -> Batch:
        labels = None if self.labels is None else self.labels.to(device)
        return Batch({name: x.to(device) for name, x in self.inputs.items()}, labels)


#: Changes a batch before it is trained on (data augmentation). The generator is the only source of chance.
Augment = Callable[[Batch, torch.Generator], Batch]


class Feed(ABC):
    """Samples in batches, anew every epoch."""

    @property
    @abstractmethod
    def labelled(self) -> bool:
        """Whether batches have labels."""

    @abstractmethod
    def __len__(self) -> int:
        """Samples of one epoch."""

    @abstractmethod
    def batches(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """One epoch, shuffled and augmented by `generator`; a last batch of fewer than `size` samples is left out
        unless it is the only one.
        """


@dataclass(frozen=True, eq=False)
class ArrayFeed(Feed):
    """Samples of a data set in memory."""

    dataset: Dataset
    augment: Augment | None = None

    @property
    def labelled(self) -> bool:
        return self.dataset.labels is not None

    def __len__(self) -> int:
        return len(self.dataset)

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        order = torch.randperm(len(self), generator=generator).numpy()
        size = min(size, len(self))
        for start in range(0, len(self) - size + 1, size):
            part = self.dataset.take(order[start : start + size])
            labels = None if part.labels is None else torch.from_numpy(np.asarray(part.labels, np.int64))
            inputs = {name: torch.from_numpy(np.ascontiguousarray(x, np.float32)) for name, x in part.inputs.items()}
            batch = Batch(inputs, labels)
            yield batch if self.augment is None else self.augment(batch, generator)


@dataclass(frozen=True, eq=False)
class LoaderFeed(Feed):
    """Batches of an iterable such as a torch DataLoader: x or (x, y), x in the model's own layout.

    Shuffling, batch size and augmentation are the loader's own.
    """

    loader: Iterable[Any]
    graph: Graph

    @property
    def labelled(self) -> bool:
        return self._batch(next(iter(self.loader))).labels is not None

    def __len__(self) -> int:
        dataset = getattr(self.loader, "dataset", None)
        return len(dataset) if dataset is not None else sum(len(b) for b in map(self._batch, self.loader))

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        for item in self.loader:
            yield self._batch(item)

    def _batch(self, item: Any) -> Batch:
        parts = item if isinstance(item, (tuple, list)) else (item,)
        if len(parts) > 2:
            raise DataError(f"a loader's batch is x or (x, y), found {len(parts)} parts")
        x, y = (*parts, None)[:2]
        given = x if isinstance(x, dict) else {self.graph.inputs[0].model_name: x}
        inputs = {}
        for source in self.graph.inputs:
            if source.model_name not in given:
                raise DataError(f"the loader's batches lack input '{source.model_name}'; found {sorted(given)}")
            value = torch.as_tensor(given[source.model_name]).float()
            if tuple(value.shape[1:]) != source.layout.sample_shape:
                raise DataError(
                    f"the loader's batches for input '{source.model_name}': expected samples of "
                    f"{list(source.layout.sample_shape)}, found {list(value.shape[1:])}"
                )
            inputs[source.name] = value.permute(0, *(p + 1 for p in source.layout.perm)).contiguous()
        return Batch(inputs, None if y is None else torch.as_tensor(y))

    def collect(self, count: int) -> Dataset:
        """The first `count` samples, as arrays."""
        batches: list[Batch] = []
        for batch in self.batches(0, torch.Generator()):
            batches.append(batch)
            if sum(len(b) for b in batches) >= count:
                break
        inputs = {k: torch.cat([b.inputs[k] for b in batches])[:count].numpy() for k in batches[0].inputs}
        labels = [b.labels for b in batches if b.labels is not None]
        return Dataset(inputs, torch.cat(labels)[:count].numpy().astype(np.int64) if labels else None)
