"""Calibration inputs made up from the model alone, where the user has none.

Where the model tells the BatchNorm statistics of its layers, the inputs are optimised so that every such layer's output
has them (Cai et al., "ZeroQ", CVPR 2020, equation 5). Otherwise they are Gaussian: see dnnc.quantise.noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from dnnc.evaluate import evaluate, parameters
from dnnc.ir.graph import Graph, Node
from dnnc.ops.activation import NO_CLAMP
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.progress import Progress, silent
from dnnc.quantise.dataset import Array, Dataset
from dnnc.quantise.noise import Noise, gaussian_inputs
from dnnc.quantise.threads import one_thread

#: Multiply-accumulates that the optimisation may take: some three seconds on two cores.
_MAC_BUDGET = 8e10
_STEPS = (40, 300)
#: Samples that are optimised together; their statistics are matched as those of one batch.
_BATCH = 32


@one_thread()
def synthesise(graph: Graph, count: int = 64, seed: int = 0, progress: Progress = silent) -> Dataset:
    """`count` samples without labels; `warnings` says how they came about. The same seed gives the same samples."""
    generator = torch.Generator().manual_seed(seed)
    noise = gaussian_inputs(graph, count, generator)
    matched = {n.name for n in graph.nodes if "bn_mean" in n.params and isinstance(n.op, (Conv2D, Dense))}
    if not matched:
        warning = (
            "no calibration data were given and the model tells no BatchNorm statistics: activation ranges come from "
            f"Gaussian inputs ({noise.assumed}); figures are weaker than with --data"
        )
        return Dataset({k: v.numpy() for k, v in noise.inputs.items()}, synthetic=True, warnings=(warning,))
    parts = []
    batches = -(-count // _BATCH)
    for index in range(batches):
        part = {k: v[index * _BATCH : (index + 1) * _BATCH] for k, v in noise.inputs.items()}
        start = replace(noise, inputs=part)
        parts.append(_match_statistics(graph, start, _steps(graph, count), (index, batches), progress))
    inputs = {name: np.concatenate([p[name] for p in parts]) for name in noise.inputs}
    warning = (
        "no calibration data were given: activation ranges come from inputs synthesised to match the model's BatchNorm "
        "statistics, so figures are weaker than with --data"
    )
    return Dataset(inputs, synthetic=True, warnings=(warning,))


def _steps(graph: Graph, count: int) -> int:
    macs = graph.macs
    return int(np.clip(_MAC_BUDGET / max(3 * macs * count, 1), *_STEPS))


def _match_statistics(
    graph: Graph, start: Noise, steps: int, batch: tuple[int, int], progress: Progress
) -> dict[str, Array]:
    """Adam on the inputs; the loss is the squared distance of means and deviations in units of the deviation."""
    plain = graph.with_nodes(_unclamped(graph))
    clamps = {n.name: n.op.clamp for n in graph.nodes if isinstance(n.op, (Conv2D, Dense)) and "bn_mean" in n.params}
    params = parameters(plain)
    terms: list[torch.Tensor] = []

    def hook(name: str, value: torch.Tensor) -> torch.Tensor:
        if name not in clamps:
            return value
        flat = value.reshape(-1, value.shape[-1])
        mean, std = params[name]["bn_mean"], params[name]["bn_std"]
        deviation = (flat.var(dim=0, unbiased=False) + 1e-12).sqrt()
        # A channel that is nearly constant must not rule the sum.
        scale = std.clamp_min(float(std.mean()) * 1e-2 + 1e-8)
        terms.append((((flat.mean(dim=0) - mean) / scale) ** 2).mean() + (((deviation - std) / scale) ** 2).mean())
        return clamps[name].real(value)

    def loss(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        terms.clear()
        evaluate(plain, inputs, params, hook)
        return torch.stack(terms).sum()

    scale, offset = _coarse_range(start, loss)
    inputs = {
        k: (v.clone() if k in start.limits else scale * (v + offset)).requires_grad_(True)
        for k, v in start.inputs.items()
    }
    spread = {k: (start.limits[k][1] - start.limits[k][0]) / 4 if k in start.limits else scale for k in inputs}
    optimiser = torch.optim.Adam([{"params": [x], "spread": spread[k]} for k, x in inputs.items()])
    for step in range(steps):
        if step % 10 == 0:
            progress("synthesise inputs", batch[0] * steps + step, batch[1] * steps)
        optimiser.zero_grad()
        loss(inputs).backward()  # type: ignore[no-untyped-call]
        for group in optimiser.param_groups:
            group["lr"] = group["spread"] * (0.1 * (1 - step / steps) + 0.002)
        optimiser.step()
        with torch.no_grad():
            for name, (lo, hi) in start.limits.items():
                inputs[name].clamp_(lo, hi)
    return {k: _settled(v.detach(), start.inputs[k]).numpy() for k, v in inputs.items()}


def _settled(made: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """Whole numbers where the noise was whole numbers: pixels stay pixels."""
    return made.round() if torch.equal(start, start.round()) else made


def _coarse_range(start: Noise, loss: Callable[[dict[str, torch.Tensor]], torch.Tensor]) -> tuple[float, float]:
    """(scale, offset in scales) of noise without limits that comes nearest to the statistics."""
    if start.limits:
        return 1.0, 0.0
    candidates = [(2.0**power, offset) for power in range(-9, 9) for offset in (0.0, 1.0, 2.0)]
    with torch.no_grad():
        losses = [float(loss({k: s * (v[:8] + o) for k, v in start.inputs.items()})) for s, o in candidates]
    return candidates[int(np.nanargmin(losses))]


def _unclamped(graph: Graph) -> list[Node]:
    """The nodes, where those with statistics leave their clamp to the hook: the statistics are of what it reads."""
    return [
        replace(n, op=replace(n.op, clamp=NO_CLAMP))
        if "bn_mean" in n.params and isinstance(n.op, (Conv2D, Dense))
        else n
        for n in graph.nodes
    ]
