"""The Fisher information of channels: of a factor in front of each, which is 1, and 0 where the channel is taken out.

1/2 F is the second-order loss of that (Theis et al., "Faster gaze prediction with dense networks and Fisher pruning",
2018). Unlike the sum of F w^2 over the channel's weights, it knows that they go together.
"""

from __future__ import annotations

import numpy as np
import torch

from dnnc.compress.channel_order import ChannelScores, id_count
from dnnc.compress.surgery import ChannelMap
from dnnc.ir.graph import Graph
from dnnc.progress import Progress, silent
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.fisher import head_variances
from dnnc.quantise.gradients import sample_slopes
from dnnc.quantise.heads import heads
from dnnc.quantise.threads import one_thread

_BATCH = 32


@one_thread()
def gate_information(
    graph: Graph,
    cmap: ChannelMap,
    dataset: Dataset,
    count: int,
    seed: int = 0,
    progress: Progress = silent,
    temperature: float = 1.0,
) -> ChannelScores:
    """F [ids] over `count` samples, per sample: the gradient of a factor on all that makes the channel, squared."""
    of = heads(graph, dataset.labels is not None)
    count = min(count, len(dataset))
    part = dataset.take(np.sort(np.random.default_rng(seed).permutation(len(dataset))[:count]))
    variances = head_variances(graph, of, part)
    makers = tuple(dict.fromkeys(p for g in cmap.groups for p in g.producers))
    ids = {m: torch.as_tensor(np.array(cmap.of[m])) for m in makers}
    total = torch.zeros(id_count(cmap), dtype=torch.float64)
    for slopes in sample_slopes(
        graph, part, of, makers, _BATCH, variances, seed, progress, "Fisher information of channels", temperature
    ):
        samples = len(next(iter(slopes.values.values())))
        for gradients in slopes.gradients:
            moved = torch.zeros(samples, len(total))
            for maker, gradient in gradients.items():
                product = (slopes.values[maker] * gradient).reshape(samples, -1, gradient.shape[-1]).sum(dim=1)
                movable = ids[maker] >= 0
                moved.index_add_(1, ids[maker][movable], product[:, movable])
            total += moved.double().square().sum(dim=0)
    found: ChannelScores = (total / max(count, 1)).numpy()
    return found
