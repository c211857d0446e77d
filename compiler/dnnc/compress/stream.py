"""Batches for tight training loops: whole data sets in memory, with the teacher's answers worked out once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from dnnc.compress.feed import ArrayFeed, Feed
from dnnc.evaluate import evaluate, parameters
from dnnc.ir.graph import Graph
from dnnc.ops.softmax import Softmax
from dnnc.quantise.dataset import Dataset

Inputs = Mapping[str, torch.Tensor]
#: Samples [N, *shape] by input name to logits [N, classes].
Network = Callable[[Inputs], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Lot:
    """A batch. soft: the teacher's logits, or None."""

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor | None
    soft: torch.Tensor | None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def to(self, device: str) -> Lot:
        return Lot(
            {k: x.to(device) for k, x in self.inputs.items()},
            None if self.labels is None else self.labels.to(device),
            None if self.soft is None else self.soft.to(device),
        )

    def take(self, index: torch.Tensor | slice) -> Lot:
        return Lot(
            {k: x[index] for k, x in self.inputs.items()},
            None if self.labels is None else self.labels[index],
            None if self.soft is None else self.soft[index],
        )


@dataclass(frozen=True)
class Loss:
    """Cross-entropy to labels and, as the fraction `distil`, the divergence from the teacher at `temperature` (times
    its square, Hinton 2015). Without labels: the divergence alone.
    """

    distil: float = 0.0
    temperature: float = 2.0

    def __call__(self, logits: torch.Tensor, lot: Lot) -> torch.Tensor:
        share = self.distil if lot.labels is not None else 1.0
        total = logits.new_zeros(())
        if lot.labels is not None and share < 1:
            total = total + (1 - share) * F.cross_entropy(logits, lot.labels)
        if lot.soft is not None and share > 0:
            t = self.temperature
            target = F.softmax(lot.soft / t, dim=1)
            total = total + share * t * t * F.kl_div(F.log_softmax(logits / t, dim=1), target, reduction="batchmean")
        return total

    def gradient(self, logits: torch.Tensor, lot: Lot) -> torch.Tensor:
        """That of the loss by the logits [N, classes]: what autograd finds, in a third of the time."""
        share = self.distil if lot.labels is not None else 1.0
        total = torch.zeros_like(logits)
        if lot.labels is not None and share < 1:
            total = F.softmax(logits, dim=1)
            total.scatter_add_(1, lot.labels[:, None], total.new_full((len(total), 1), -1.0))
            total *= 1 - share
        if lot.soft is not None and share > 0:
            t = self.temperature
            total.add_(F.softmax(logits / t, dim=1) - F.softmax(lot.soft / t, dim=1), alpha=share * t)
        return total / len(logits)


def logits_of(graph: Graph, params: Mapping[str, Mapping[str, torch.Tensor]]) -> Network:
    """A network's answers before a Softmax at its end; outputs of more axes are flattened."""
    output = graph.outputs[0]
    last = graph.by_name.get(output.value)
    # The loss takes logarithms itself; those of probabilities are logits too, up to a constant.
    probabilities = last is not None and isinstance(last.op, Softmax)

    def network(inputs: Inputs) -> torch.Tensor:
        found = evaluate(graph, inputs, params)[output.model_name].flatten(1)
        return found.clamp_min(1e-9).log() if probabilities else found

    return network


def answers(graph: Graph, inputs: Inputs, batch: int = 500) -> torch.Tensor:
    """A network's logits for many samples, without gradients."""
    network = logits_of(graph, parameters(graph))
    count = len(next(iter(inputs.values())))
    with torch.inference_mode():
        parts = [network({k: x[s : s + batch] for k, x in inputs.items()}) for s in range(0, count, batch)]
    return torch.cat(parts).clone()


def lot_of(dataset: Dataset, teacher: Graph | None) -> Lot:
    """A data set as one lot in memory."""
    inputs = {k: torch.from_numpy(np.ascontiguousarray(v, np.float32)) for k, v in dataset.inputs.items()}
    labels = None if dataset.labels is None else torch.from_numpy(np.asarray(dataset.labels, np.int64))
    return Lot(inputs, labels, None if teacher is None else answers(teacher, inputs))


def stream(feed: Feed, teacher: Graph | None, batch: int, seed: int, device: str = "cpu") -> Iterator[Lot]:
    """Batches without end. Arrays that are not augmented are held in memory with the teacher's answers; else the
    teacher answers every batch.
    """
    generator = torch.Generator().manual_seed(seed)
    if isinstance(feed, ArrayFeed) and feed.augment is None:
        yield from batches_of(lot_of(feed.dataset, teacher).to(device), batch, generator)
    while True:
        for made in feed.batches(batch, generator):
            yield Lot(made.inputs, made.labels, None if teacher is None else answers(teacher, made.inputs)).to(device)


def batches_of(whole: Lot, batch: int, generator: torch.Generator) -> Iterator[Lot]:
    """Batches of a lot without end, shuffled every epoch."""
    size = min(batch, len(whole))
    while True:
        order = torch.randperm(len(whole), generator=generator)
        for start in range(0, len(whole) - size + 1, size):
            yield whole.take(order[start : start + size])
