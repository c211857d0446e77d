"""The Fisher information (Tu et al., 2016) on LeNet-300-100 and LeNet-5: which weights can go, which need their bits.

Pruning is without retraining: error against density. Bits: error against average bits, at equal bits in total, the map
that says which weight has which width included; and as dnnc compiles it, at equal bytes of flash.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray

from dnnc.compress.fisher import Fisher, two_steps
from dnnc.compress.importance import Scores, adam_moment, magnitude, times_squares, true_fisher
from dnnc.compress.method import Setting
from dnnc.compress.weight_masks import masked, order
from dnnc.errors import BudgetError
from dnnc.ir.graph import Graph
from dnnc.quantise.bits.activations import activation_widths
from dnnc.quantise.bits.parameter_groups import SCALE_BITS, grouped_bits, rounded
from dnnc.quantise.bits.search import Bits, Maker
from dnnc.quantise.bytes import linear_nodes
from dnnc.quantise.calibrate import calibrate
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.fisher import fisher
from dnnc.quantise.integer import quantise
from dnnc.quantise.measure import correct_percent, integer_outputs
from dnnc.quantise.menu import menu

NETWORKS = {"LeNet-300-100": "lenet300", "LeNet-5": "lenet5"}
DENSITIES = (0.2, 0.1, 0.05, 0.02, 0.01)
AVERAGES = (2, 2.5, 3, 4)
MAGNITUDE = "magnitude"
ONE_SHOT, ROUNDS = "true F w^2, softened, one-shot", "true F w^2, softened, taken anew"
PAPER, TRUE = "magnitude, then Adam's moment (the paper)", "true F w^2, one-shot"
UNIFORM = "uniform"
GROUPS: dict[str, tuple[Any, int]] = {
    "Fisher, a width a layer": ("layer", 1),
    "Fisher, a width an output channel": ("channel", 1),
    "Fisher, 2 groups of weights (k-means)": ("k-means", 2),
    "Fisher, 4 groups of weights (k-means)": ("k-means", 4),
    "Fisher, 4 groups of weights (quantiles)": ("quantiles", 4),
}


def with_weights(graph: Graph, weights: Mapping[str, Any]) -> Graph:
    nodes = [
        replace(n, params={**n.params, "weight": np.asarray(weights[n.name], np.float32)}) if n.name in weights else n
        for n in graph.nodes
    ]
    return graph.with_nodes(nodes).verify()


def rankings(graph: Graph, where: Setting, steps: int, samples: int) -> Iterator[tuple[str, Callable[[float], Graph]]]:
    """By name, the graph of each density."""

    def ranked(scores: Scores, ranking: Any = "global") -> Callable[[float], Graph]:
        best = order(scores, ranking)
        return lambda density: masked(graph, best.keep(round(density * best.count)))

    sizes = magnitude(graph)
    yield MAGNITUDE, ranked(sizes)
    yield "magnitude, layer by layer", ranked(sizes, "layer")
    moment = adam_moment(graph, where.train, steps, where.seed, where.progress)
    yield "Adam's moment", ranked(moment)
    yield "Adam's moment times w^2", ranked(times_squares(graph, moment))
    yield PAPER, lambda density: masked(graph, two_steps(sizes, moment, density, 0.5, "global"))
    for temperature, suffix in ((1.0, ""), (4.0, "softened, ")):
        information = true_fisher(graph, where, samples, temperature)
        yield f"true F, {suffix}one-shot", ranked(information)
        yield f"true F w^2, {suffix}one-shot", ranked(times_squares(graph, information))
    yield ROUNDS, Fisher(rounds=8, samples=max(samples // 2, 64)).weight_maker(graph, where)


def prune(name: str, graph: Graph, data: common.Data, options: common.Options) -> None:
    """Error against density."""
    errors: dict[str, list[list[float]]] = {}
    for seed in range(options.seeds):
        where = common.setting(data, seed)
        for label, make in rankings(graph, where, *options.pick((3000, 1024), (300, 256), (20, 64))):
            errors.setdefault(label, []).append([100 - common.accuracy(make(d), data.test) for d in DENSITIES])
            print(f"{name}, {label}, seed {seed}: {', '.join(f'{e:.2f}' for e in errors[label][-1])}", flush=True)
    mean = {label: np.mean(e, axis=0) for label, e in errors.items()}
    table = common.Table(
        f"{name}: per cent of test errors by density", options, ("score", *(f"{d:.0%}" for d in DENSITIES))
    )
    table.row("all weights", *[f"{100 - common.accuracy(graph, data.test):.2f}"] * len(DENSITIES))
    for label, e in mean.items():
        table.row(label, *[f"{v:.2f}" for v in e])
    for label in (ONE_SHOT, ROUNDS):
        low = [i for i, d in enumerate(DENSITIES) if d <= 0.1]
        missed = [f"{DENSITIES[i]:.0%}" for i in low if mean[label][i] >= mean[MAGNITUDE][i]]
        table.note(f"{label}, below magnitude at every density <= 10 %: {verdict(options, not missed, missed)}")
    table.finish(
        "means over seeds, which choose samples and batches; nothing is retrained; no image decided anything",
        append=True,
    )
    if name.endswith("300-100") or options.smoke:
        shown = (MAGNITUDE, PAPER, TRUE, ONE_SHOT, ROUNDS)
        curves = {k: [(100 * d, float(e)) for d, e in zip(DENSITIES, mean[k], strict=True)] for k in shown}
        common.plot(options, curves, f"weights left, per cent ({name})", "test errors, per cent", log=True)


def uniform_weights(graph: Graph, average: float) -> dict[str, Any]:
    """Rounded to nearest, one scale a layer and width; of 2.5 bits, output channels have 3 and 2 in turns."""
    found = {}
    for node in linear_nodes(graph.nodes):
        weight = np.asarray(node.params["weight"], np.float64)
        made = np.zeros_like(weight)
        width = widths_in_turns(len(weight), average)
        for bits in np.unique(width):
            part = weight[width == bits]
            made[width == bits] = rounded(part.ravel(), np.ones(part.size), int(bits))[0].reshape(part.shape)
        found[node.name] = made
    return found


def widths_in_turns(channels: int, average: float) -> NDArray[np.uint8]:
    return np.where(np.arange(channels) % 2, np.floor(average), np.ceil(average)).astype(np.uint8)


def group(name: str, graph: Graph, data: common.Data, options: common.Options) -> None:
    """Error against average bits, rounding to nearest: the paper's groups and others, map and scales included."""
    where = common.setting(data)
    information = true_fisher(graph, where, options.pick(1024, 512, 64), 4.0)
    sizes = [n.params["weight"].size for n in linear_nodes(graph.nodes)]
    columns = ("widths", *(f"{a:g} bits" for a in AVERAGES), "map, bits a weight", "its entropy")
    table = common.Table(f"{name}: per cent of test errors by average bits, rounding to nearest", options, columns)
    baseline = [100 - common.accuracy(with_weights(graph, uniform_weights(graph, a)), data.test) for a in AVERAGES]
    table.row(UNIFORM, *[f"{e:.2f}" for e in baseline], "0", "0")
    for label, (grouping, count) in GROUPS.items():
        cells, below, found = [], [], None
        for average, reference in zip(AVERAGES, baseline, strict=True):
            scales = SCALE_BITS * len(sizes) * (1 if average % 1 == 0 else 2)
            try:
                found = grouped_bits(graph, information, average * sum(sizes) + scales, grouping, count)
            except BudgetError:
                cells.append("map too large")
                continue
            error = 100 - common.accuracy(with_weights(graph, found.weights), data.test)
            cells.append(f"{error:.2f}")
            below += [f"{average:g}"] * (error < reference)
        bits = (np.nan, np.nan) if found is None else (found.map_bits, found.entropy_bits)
        table.row(label, *cells, *(f"{b / sum(sizes):.3f}" for b in bits))
        table.note(f"{label}: below uniform at {', '.join(below) or 'no'} bits")
    table.finish("equal bits in total: codes, 16 bits a scale, and the map at a fixed width", append=True)


def deploy(name: str, graph: Graph, data: common.Data, options: common.Options) -> None:
    """The same as dnnc compiles it: integer networks of equal bytes."""
    target = common.setting(data).target
    calibration = calibrate(graph, data.sample, target)
    information = fisher(calibration, calibration.dataset)
    widths = [b for b in target.weight_bits if b not in (1, 7)]
    choices = {c: menu(calibration, information, widths, c) for c in (False, True)}
    make = Maker(choices[True], information, activation_widths(calibration, 8))
    test, labels = data.test, data.test.labels
    if labels is None:
        raise SystemExit("the test images have no labels")

    def error(bits: Bits | None) -> float:
        if bits is None:
            return float("nan")
        integer = quantise(calibration.graph, calibration, make(bits), target)
        return 100 - correct_percent(integer_outputs(integer, test)[graph.outputs[0].model_name], labels)

    by_layer, by_channel = "Fisher, a width a layer", "Fisher, a width an output channel"
    rows: dict[str, list[float]] = {UNIFORM: [], by_layer: [], by_channel: []}
    averages = options.pick(AVERAGES, AVERAGES, AVERAGES[::3])
    for average in averages:
        bits = {n.name: widths_in_turns(len(n.params["weight"]), average) for n in choices[True].nodes}
        stored = choices[True].stored_bytes(bits)
        rows[UNIFORM].append(error(bits))
        rows[by_layer].append(error(choices[False].least_bytes(stored)))
        rows[by_channel].append(error(choices[True].least_bytes(stored)))
        found = ", ".join(f"{r[-1]:.2f}" for r in rows.values())
        print(f"{name}, {average:g} bits, {stored:,} bytes: {found}", flush=True)
    columns = ("widths", *(f"{a:g} bits" for a in averages))
    table = common.Table(f"{name}: per cent of test errors by average bits, integers as compiled", options, columns)
    for label, errors in rows.items():
        table.row(label, *[f"{e:.2f}" for e in errors])
    for label in (by_layer, by_channel):
        above = [f"{a:g} bits" for a, e, u in zip(averages, rows[label], rows[UNIFORM], strict=True) if not e < u]
        table.note(f"{label}, below uniform at equal bytes: {verdict(options, not above, above)}")
    table.finish(
        "equal bytes of weights, scales, biases and channel maps; 8-bit activations; codes with error feedback",
        "2 bits are the narrowest that are offered, so that all are alike there",
        append=True,
    )


def verdict(options: common.Options, met: bool, where: list[str]) -> str:
    return "not judged" if options.smoke else "met" if met else f"missed at {', '.join(where)}"


def main() -> None:
    parts = {part.__name__: part for part in (prune, group, deploy)}

    def own(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--only", choices=NETWORKS, help="one network; its tables go after those that are there")
        parser.add_argument("--part", choices=parts, help="one kind of table, likewise")

    options = common.arguments(__doc__, 2, own)
    names = ["digits"] if options.smoke else [options.rest.only] if options.rest.only else list(NETWORKS)
    if not (options.rest.only or options.rest.part):
        # Tables follow one another in one file.
        (options.output / f"{options.name}.md").unlink(missing_ok=True)
    for name in names:
        graph, data = common.digits() if options.smoke else common.lenet(NETWORKS[name])
        if options.quick:
            few = data.test.first(2000)
            data = replace(data, load_test=partial(Dataset.first, few, 2000))
        for part in [options.rest.part] if options.rest.part else parts:
            parts[part](name, graph, data, options)


if __name__ == "__main__":
    main()
