"""Squeezing correlated channels (Ozen & Orailoglu, ECML PKDD 2020): one-shot, nothing is trained.

Quarter-width VGG-16 on CIFAR-10: accuracy against size for the method as it was published (a minimal set of channels by
variance, the rest absorbed by the next layer), in the metric of the layers that read, and with these layers refitted;
against the channels of largest L1 norm, the same share of every layer, with and without statistics put right. Then the
goals: parameters, and cycles as the emulated Cortex-M7 counts them, at 8 bits.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import common
import numpy as np
import torch

from dnnc.build import usage
from dnnc.compress.budget import Budget, weight_count
from dnnc.compress.channel_order import by_share, written
from dnnc.compress.feed import ArrayFeed
from dnnc.compress.importance import magnitude
from dnnc.compress.method import Setting
from dnnc.compress.recalibrate import recalibrate
from dnnc.compress.squeeze import Plan, Squeeze
from dnnc.compress.surgery import channel_map, remove
from dnnc.cost.loader import load_target
from dnnc.ir.graph import Graph
from dnnc.quantise.dataset import Dataset

SIZE, SPEED, DROP = 4.9, 3.4, 1.0
VARIANTS = {
    "as published: variance, absorb": Squeeze(metric="variance", fit="absorb", allocation="error"),
    "readers' metric, absorb": Squeeze(fit="absorb"),
    "readers' metric, refit (default)": Squeeze(),
}


def largest(graph: Graph, setting: Setting, share: float) -> Graph:
    """Every layer keeps the same share of its channels, those of largest L1 norm: the most that leave so many
    parameters.
    """
    cmap = channel_map(graph)
    scores = written(graph, cmap, magnitude(graph))
    for keep in np.arange(1.0, 0.0, -0.005):
        pruned = remove(graph, by_share(cmap, scores, float(keep)).tolist())
        if weight_count(pruned) <= share * weight_count(graph):
            break
    return pruned


def main() -> None:
    options = common.arguments(__doc__)
    graph, data = common.digits() if options.smoke else common.cifar("vgg16_quarter", augment="none")
    # The same images as the networks were trained on, but more of them than other methods look at.
    count = options.pick(4096, 2048, 512)
    batch = next(iter(data.train.batches(count, torch.Generator().manual_seed(0))))
    sample = Dataset({k: x.numpy() for k, x in batch.inputs.items()}, np.asarray(batch.labels))
    setting = replace(common.setting(data), train=ArrayFeed(sample), sample=sample)
    table = common.Table(
        f"Squeeze, {'digits' if options.smoke else 'quarter-width VGG-16'}: one-shot, nothing trained", options
    )
    reference = common.accuracy(graph, data.test)
    table.goal("before", "", f"{reference:.2f} %, {weight_count(graph):,} parameters", None)

    curves: dict[str, list[tuple[float, float]]] = {}

    def point(name: str, found: Graph) -> float:
        accuracy = common.accuracy(found, data.test)
        size = weight_count(graph) / weight_count(found)
        curves.setdefault(name, []).append((size, accuracy))
        macs = found.macs / graph.macs
        table.goal(f"{name}, {size:.2f}x smaller", "", f"{accuracy:.2f} %, {100 * macs:.1f} % of MACs", None)
        return accuracy

    sizes = options.pick((2.0, 3.0, SIZE, 7.0), (2.0, SIZE), (2.0, SIZE))
    for size in sizes:
        pruned = largest(graph, setting, 1 / size)
        point("L1", pruned)
        point("L1, statistics put right", recalibrate(pruned, graph, sample))
    at_goal: dict[str, float] = {}
    for name, method in VARIANTS.items():
        plan = Plan(method.squeezer(graph, setting), method.allocation, setting, None)
        for size in sizes:
            accuracy = point(name, plan.squeeze(plan.widths(Budget(params=1 / size))))
            if size == SIZE:
                at_goal[name] = accuracy
    best = at_goal["readers' metric, refit (default)"]
    l1 = max(accuracy for name in ("L1", "L1, statistics put right") for s, accuracy in curves[name] if s > SIZE - 0.5)
    table.goal(
        f"{SIZE}x fewer parameters: drop", f"<= {DROP:g} point", f"{reference - best:.2f}", reference - best <= DROP
    )
    table.goal("ahead of L1 at that size", "> 0 points", f"{best - l1:+.2f} points", best > l1)

    if not options.smoke:
        target = load_target("cortex-m7")
        measure = partial(usage, samples=Dataset(sample.inputs), target=target)
        before = measure(graph)
        for method in (Squeeze(size=SIZE), Squeeze(speed=SPEED), Squeeze(size=SIZE, speed=SPEED)):
            found = method.apply(graph, replace(setting, measure=measure))
            after = measure(found.graph)
            drop = reference - common.accuracy(found.graph, data.test)
            fewer, faster = weight_count(graph) / weight_count(found.graph), before.cycles / after.cycles
            goal = f">= {SIZE}x, >= {SPEED}x, <= {DROP:g} point"
            table.goal(
                f"{method}",
                goal,
                f"{fewer:.2f}x fewer parameters, {faster:.2f}x fewer cycles, drop {drop:.2f}",
                fewer >= SIZE and faster >= SPEED and drop <= DROP,
            )
    common.plot(options, curves, "times fewer parameters", "% of test images", log=True)
    table.finish(
        f"{len(sample)} training images for statistics; no held-out images decided anything; every row is one look at "
        f"{len(data.test)} test images; of the defaults, the number of refits (four) was first chosen with a look at "
        "some of them",
    )


if __name__ == "__main__":
    main()
