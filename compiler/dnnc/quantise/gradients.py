"""Gradients of single samples at a network's values, for what the Fisher information is a mean of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dnnc.evaluate import evaluate, parameters
from dnnc.ir.graph import Graph
from dnnc.progress import Progress
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.heads import Head, cotangents


@dataclass(frozen=True, eq=False)
class Slopes:
    """Of one batch. values: [N, *shape], detached. wanted: the names that have gradients. gradients: for each vector
    of `heads.cotangents`, the gradients by name, without those that nothing reaches.
    """

    values: Mapping[str, torch.Tensor]
    wanted: Sequence[str]
    gradients: Iterator[dict[str, torch.Tensor]]


def sample_slopes(
    graph: Graph,
    dataset: Dataset,
    of: Sequence[Head],
    names: Iterable[str],
    size: int,
    variances: Mapping[str, float],
    seed: int,
    progress: Progress,
    stage: str,
    temperature: float = 1.0,
) -> Iterator[Slopes]:
    """The gradients at the values `names`, `size` samples of `dataset` at a time; `variances`: of the plain heads."""
    names, params = tuple(names), parameters(graph)
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, len(dataset), size):
        progress(stage, start, len(dataset))
        batch = dataset.take(slice(start, start + size))
        values: dict[str, torch.Tensor] = {}

        def record(name: str, value: torch.Tensor, values: dict[str, torch.Tensor] = values) -> torch.Tensor:
            values[name] = value
            return value

        inputs = {k: torch.as_tensor(np.array(v, np.float32)).requires_grad_(True) for k, v in batch.inputs.items()}
        evaluate(graph, inputs, params, record)
        wanted = [v for v in names if values[v].requires_grad]
        fixed = {k: v.detach() for k, v in values.items()}
        vectors = cotangents(of, fixed, variances, generator, temperature)
        yield Slopes(fixed, wanted, _gradients(values, of, wanted, vectors))


def _gradients(
    values: Mapping[str, torch.Tensor],
    of: Sequence[Head],
    wanted: Sequence[str],
    vectors: Iterable[list[torch.Tensor]],
) -> Iterator[dict[str, torch.Tensor]]:
    for vector in vectors:
        found = torch.autograd.grad(
            [values[h.value] for h in of],
            [values[v] for v in wanted],
            vector,
            retain_graph=True,
            allow_unused=True,
        )
        yield {v: g for v, g in zip(wanted, found, strict=True) if g is not None}
