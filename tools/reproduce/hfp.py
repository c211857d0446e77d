"""Holistic filter pruning (Enderich et al., WACV 2021): 60 % of multiplications and of parameters out of one network.

Quarter-width VGG-16 on CIFAR-10, against uniform L1: the channels of the smallest norm go, the same share of every
layer, at once. All train for as many epochs in sum, with the same recipe, and learn from the labels and from the
network as it was. --rules tries both ways of closing gates.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import common
import numpy as np

from dnnc.compress.budget import weight_count
from dnnc.compress.channel_order import by_share, written
from dnnc.compress.hfp import Hfp
from dnnc.compress.importance import magnitude
from dnnc.compress.method import Setting
from dnnc.compress.surgery import channel_map, remove
from dnnc.compress.train import Recipe, train
from dnnc.ir.graph import Graph

LEFT = 0.4
DISTIL = 0.5


@dataclass(frozen=True, eq=False)
class Outcome:
    graph: Graph
    params: float
    macs: float


def outcome(graph: Graph, original: Graph) -> Outcome:
    """With what is left, as shares."""
    return Outcome(graph, weight_count(graph) / weight_count(original), graph.macs / original.macs)


def uniform_l1(graph: Graph, setting: Setting, epochs: int) -> Outcome:
    """Every layer keeps the same share of its channels: the largest that keeps to both budgets."""
    cmap = channel_map(graph)
    scores = written(graph, cmap, magnitude(graph))
    for keep in np.arange(1.0, 0.0, -0.005):
        pruned = remove(graph, by_share(cmap, scores, float(keep)).tolist())
        found = outcome(pruned, graph)
        if max(found.params, found.macs) <= LEFT:
            break
    recipe = Recipe(epochs=epochs, distil=DISTIL)
    tuned = train(pruned, setting.train, recipe, teacher=graph, seed=setting.seed, progress=setting.progress)
    return outcome(tuned, graph)


def main() -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--rules", action="store_true", help="both rules, not the default one alone")

    options = common.arguments(__doc__, seeds=1, add=add)
    graph, data = common.digits() if options.smoke else common.cifar("vgg16_quarter")
    closing, tuning = options.pick((3, 9), (1, 4), (4, 4))
    what = "digits" if options.smoke else "quarter-width VGG-16"
    table = common.Table(f"HFP, {what}: at most {LEFT:.0%} of multiplications and of parameters", options)
    reference = common.accuracy(graph, data.test)
    table.goal("accuracy before", "", f"{reference:.2f} %", None)
    found: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        setting = common.setting(data, seed)
        runs = {
            f"HFP, rule={rule}": outcome(
                Hfp(LEFT, LEFT, epochs=closing, finetune=tuning, distil=DISTIL, rule=rule).apply(graph, setting).graph,
                graph,
            )
            for rule in (("taylor", "gates") if options.rest.rules else ("taylor",))
        }
        runs["uniform L1"] = uniform_l1(graph, setting, closing + tuning)
        for name, run in runs.items():
            accuracy = common.accuracy(run.graph, data.test)
            found.setdefault(name, []).append(accuracy)
            hit = all(0.99 * LEFT <= share <= 1.01 * LEFT for share in (run.params, run.macs))
            of_hfp = name.startswith("HFP")
            shares = f"{100 * run.params:.2f} % params, {100 * run.macs:.2f} % MACs"
            table.goal(
                f"{name}, seed {seed}: left", "40 % within 1 %" if of_hfp else "", shares, hit if of_hfp else None
            )
            drop = reference - accuracy
            goal = "<= 0.5 points" if of_hfp else ""
            table.goal(f"{name}, seed {seed}: drop", goal, f"{drop:.2f} points", drop <= 0.5 if of_hfp else None)
    baseline = float(np.median(found["uniform L1"]))
    for name in found:
        if name.startswith("HFP"):
            ahead = float(np.median(found[name])) - baseline
            table.goal(f"{name}: ahead of uniform L1", "> 0 points", f"{ahead:+.2f} points", ahead > 0)
    table.finish(
        f"{closing} epochs in which gates close and {tuning} of fine-tuning; uniform L1: {closing + tuning}",
        f"weights stored by train_networks.py; {len(data.held_out)} held-out training images were not trained on and "
        "decided nothing; test images were measured at the end",
    )


if __name__ == "__main__":
    main()
