"""Channels out by what they tell of the labels (Chen et al., 2020): SimpleNet-310k on CIFAR-10, no fine-tuning.

Layer by layer, 70 % of each layer's parameters: every group of channels keeps the share sqrt(0.3), since a layer loses
inputs and outputs. Globally, one ranking until 40 % of all parameters are left. Each with statistics as they come out,
and put right as re-estimated BatchNorm would.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import common
import numpy as np

from dnnc.compress.activation_samples import Statistics
from dnnc.compress.budget import Budget, solve, weight_count
from dnnc.compress.channel_order import by_share, channel_order, per_group
from dnnc.compress.channel_scores import channel_scores, without_redundancy
from dnnc.compress.mutual_information import MutualInformation
from dnnc.compress.surgery import channel_map

KEEP, GLOBAL_PARAMS = 0.3**0.5, 0.4
#: Shown as a name, with how much shared information counts.
SCORES = {
    "input L1": ("input-l1", 0.0),
    "output L1": ("output-l1", 0.0),
    "entropy": ("entropy", 0.0),
    "mutual information (MI)": ("mi", 0.0),
    "MI times output L1 (w1)": ("weighted-mi", 0.0),
    "MI times output L1 and mean size (w4)": ("signal-weighted-mi", 0.0),
    "MI weighted by class (w2)": ("class-weighted-mi", 0.0),
    "MI of parts of the image (w3)": ("cell-weighted-mi", 0.0),
    "MI times output L1, less what is shared": ("weighted-mi", 0.5),
}
RANDOM = "random"
COLUMNS = ("score", "70 % of each layer", "recalibrated", "60 % of all", "recalibrated")


def main() -> None:
    options = common.arguments(__doc__, seeds=5)
    if options.smoke:
        graph, data = common.digits()
    else:
        graph, data = common.cifar("simplenet_310k", augment="none", limit=options.pick(None, 4000, None))
    samples = options.pick(10000, 2000, 256)
    cmap = channel_map(graph)
    # Nothing here is chosen by how it does, so the test images judge all rows.
    judge = data.test if not options.quick else data.test.first(1000)
    measured: dict[str, list[float]] = {}
    preferred: dict[str, list[float]] = {}

    statistics = Statistics(graph, cmap, common.setting(data), samples, labelled=True)

    def measure(name: str, kind: Any, redundancy: float, seed: int) -> list[float]:
        where = common.setting(data, seed)
        plain, repaired = (MutualInformation(recalibrate=r) for r in (False, True))
        scores = channel_scores(kind, statistics if kind != RANDOM else replace(statistics, setting=where), 32)
        found = []
        in_layers = without_redundancy(statistics, scores, redundancy) if redundancy else scores
        gone = [by_share(cmap, in_layers, KEEP)]
        if not redundancy:
            order = channel_order(cmap, per_group(cmap, scores), "global", 0.1)
            silent = replace(where, progress=lambda *_: None)
            whole = solve(
                lambda s: plain.without(graph, cmap, order.gone(s), silent), Budget(params=GLOBAL_PARAMS), graph, silent
            )
            gone.append(order.gone(whole.strength))
        for ids in gone:
            for method in (plain, repaired):
                pruned = method.without(graph, cmap, ids, where)
                found.append(common.accuracy(pruned, judge))
                if "(w" in name:
                    preferred.setdefault(name, []).append(common.accuracy(pruned, data.held_out))
        left = weight_count(plain.without(graph, cmap, gone[0], where)) / weight_count(graph)
        print(f"{name}: {', '.join(f'{a:.2f}' for a in found)} %; {left:.3f} of the parameters by layers", flush=True)
        return found

    for name, (kind, redundancy) in SCORES.items():
        measured[name] = measure(name, kind, redundancy, 0)
    draws = np.array([measure(f"{RANDOM} {seed}", "random", 0.0, seed) for seed in range(options.seeds)])
    table = common.Table("Mutual information, SimpleNet-310k, per cent of test images right", options, COLUMNS)
    table.row("all channels", *[f"{common.accuracy(graph, judge):.2f}"] * 4)
    for name, found in measured.items():
        table.row(name, *[f"{a:.2f}" for a in found], *["-"] * (4 - len(found)))
    table.row(
        f"random, mean of {len(draws)} (worst..best)",
        *[f"{c.mean():.2f} ({c.min():.2f}..{c.max():.2f})" for c in draws.T],
    )
    claims = common.Table("Mutual information: the claims", options)
    wmi, mi = measured["MI times output L1 (w1)"], measured["mutual information (MI)"]
    out, into = measured["output L1"], measured["input L1"]
    for column, text in ((0, "70 % of each layer"), (1, "70 % of each layer, recalibrated")):
        # Which form of the weight: held-out images say, the paper does not.
        best = max((n for n in measured if "(w" in n), key=lambda n: preferred[n][column])
        claims.goal(
            f"{text}: w1 above output L1",
            "> 0 points (paper: 13.24)",
            f"{wmi[column] - out[column]:+.2f}",
            wmi[column] > out[column],
        )
        claims.goal(
            f"{text}: {best[-3:-1]}, best of w1..w4 on held-out images, above output L1",
            "> 0 points",
            f"{measured[best][column] - out[column]:+.2f}",
            measured[best][column] > out[column],
        )
        claims.goal(
            f"{text}: output L1 above input L1",
            "> 0 points",
            f"{out[column] - into[column]:+.2f}",
            out[column] > into[column],
        )
        claims.goal(f"{text}: plain MI above output L1", "", f"{mi[column] - out[column]:+.2f}", None)
    for column, text in ((2, "60 % of all"), (3, "60 % of all, recalibrated")):
        claims.goal(f"{text}: w1 above output L1 (paper: -5, it loses)", "", f"{wmi[column] - out[column]:+.2f}", None)
    table.finish(
        f"statistics of {samples} training images; {len(data.held_out)} held-out ones chose among w1..w4",
        f"{len(judge)} test images judge every row once",
        f"global: scores over the largest of their group, a tenth of which stays; {GLOBAL_PARAMS:.0%} of all left",
    )
    claims.finish(append=True)


if __name__ == "__main__":
    main()
