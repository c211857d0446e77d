"""The Fisher information of channels: of a factor in front of each, which is 1, and 0 where the channel is taken out.

1/2 F is the second-order loss of that (Theis et al., "Faster gaze prediction with dense networks and Fisher pruning",
2018). Unlike the sum of F w^2 over the channel's weights, it knows that they go together.
"""

from __future__ import annotations

import numpy as np
import torch

from dnnc.compress.channel_order import ChannelScores, id_count
from dnnc.compress.surgery import ChannelMap
from dnnc.evaluate import evaluate, parameters
from dnnc.ir.graph import Graph
from dnnc.progress import Progress, silent
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.fisher import head_variances
from dnnc.quantise.heads import cotangents, heads
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
    generator = torch.Generator().manual_seed(seed)
    variances = head_variances(graph, of, part)
    makers = tuple(dict.fromkeys(p for g in cmap.groups for p in g.producers))
    ids = {m: torch.as_tensor(np.array(cmap.of[m])) for m in makers}
    params, total = parameters(graph), torch.zeros(id_count(cmap), dtype=torch.float64)
    for start in range(0, count, _BATCH):
        progress("Fisher information of channels", start, count)
        batch = part.take(slice(start, start + _BATCH))
        values: dict[str, torch.Tensor] = {}

        def record(name: str, value: torch.Tensor, values: dict[str, torch.Tensor] = values) -> torch.Tensor:
            values[name] = value
            return value

        inputs = {k: torch.as_tensor(np.array(v, np.float32)).requires_grad_(True) for k, v in batch.inputs.items()}
        evaluate(graph, inputs, params, record)
        wanted = [m for m in makers if values[m].requires_grad]
        fixed = {k: v.detach() for k, v in values.items()}
        for vectors in cotangents(of, fixed, variances, generator, temperature):
            gradients = torch.autograd.grad(
                [values[h.value] for h in of],
                [values[m] for m in wanted],
                vectors,
                retain_graph=True,
                allow_unused=True,
            )
            slopes = torch.zeros(len(batch), len(total))
            for maker, gradient in zip(wanted, gradients, strict=True):
                if gradient is not None:
                    product = (fixed[maker] * gradient).reshape(len(batch), -1, gradient.shape[-1]).sum(dim=1)
                    movable = ids[maker] >= 0
                    slopes.index_add_(1, ids[maker][movable], product[:, movable])
            total += slopes.double().square().sum(dim=0)
    found: ChannelScores = (total / max(count, 1)).numpy()
    return found
