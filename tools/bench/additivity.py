"""Does the loss that bit policies add up, layer by layer, rank whole networks as they measure? Rank correlations.

usage: tools/bench/run additivity [--count 60] [--samples 512] [--widths 2,3,4,5,6,8] [NAME ...]

Random assignments of a width to every layer, from --widths. Predicted: the sum over layers of what each was measured to
lose by itself (bits fisher, the default); of the Fisher information times the error of their output
(sensitivity=predicted) or of their weights (error=weight); as HAWQ-V2 does, the
mean of the Hessian's diagonal (Hutchinson's estimate of its trace, Rademacher probes, labels where there are any) times
the squared error of the weights (Dong et al., NeurIPS 2020); and the noise-to-signal ratio of the weights (SQNR).
Measured: the divergence of the float model's answers from those of the network with weights, biases and values on their
grids, KL in nats, on samples of which the first half were calibrated on and the last half unseen. Spearman's rank
correlation, with its 95 % interval over resampled assignments.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

import models
from dnnc import frontend
from dnnc.cost.loader import load_target
from dnnc.errors import DnncError
from dnnc.evaluate import evaluate, parameters
from dnnc.ir.graph import Graph
from dnnc.progress import silent
from dnnc.quantise.bytes import linear_nodes
from dnnc.quantise.calibrate import Calibration, calibrate
from dnnc.quantise.correct import correct
from dnnc.quantise.data import load_data
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.fisher import fisher
from dnnc.quantise.heads import head
from dnnc.quantise.menu import menu
from dnnc.quantise.probe import probed
from dnnc.quantise.ranges import represent
from dnnc.quantise.synthesise import synthesise
from dnnc.quantise.weights import WeightCodes
from dnnc.report.markdown import table

NAMES = ("resnet8_cifar10_jpeg", "kws_dscnn")
SENSITIVITIES = ("fisher", "fisher{sensitivity=predicted}", "the same, error=weight", "HAWQ-V2", "SQNR")
HEADINGS = ("network", "layers", "assignments", *SENSITIVITIES, "CPU s")
PROBES, PROBED, RESAMPLED = 16, 32, 2000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--count", type=int, default=60, help="random assignments")
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--widths", default="2,3,4,5,6,8")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    widths = [int(b) for b in options.widths.split(",")]
    known = {network.name: network for network in models.NETWORKS}
    rows = []
    for name in options.names or NAMES:
        started = time.process_time()
        try:
            graph = frontend.read(models.model_file(name))
            load = known[name].data if name in known else None
            data = (
                synthesise(graph, options.samples) if load is None else load_data(load(options.samples // 2)[0], graph)
            )
            unseen = data if load is None else load_data(load(options.samples)[1], graph)
        except (DnncError, FileNotFoundError) as error:
            print(f"{name}: skipped: {error}", file=sys.stderr)
            continue
        seen = data.first(options.samples // 2)
        held = unseen.take(slice(len(seen), None)) if load is None else unseen.first(options.samples // 2)
        found = correlations(graph, seen, held, widths, options.count, options.seed)
        cells = [f"{rho:.3f} ({low:.2f} to {high:.2f})" for rho, low, high in found]
        layers = str(len(linear_nodes(graph.nodes)))
        rows.append((name, layers, str(options.count), *cells, f"{time.process_time() - started:.0f}"))
    print(table(HEADINGS, rows, ("network",)))
    return 0


def correlations(
    graph: Graph, seen: Dataset, held: Dataset, widths: list[int], count: int, seed: int
) -> list[tuple[float, float, float]]:
    """(rank correlation, lower and upper end of its interval) of each of SENSITIVITIES."""
    calibration = calibrate(graph, seen, load_target("cortex-m7"), seed)
    graph = calibration.graph
    information = fisher(calibration, calibration.dataset, (8,), seed, silent)
    nodes = linear_nodes(graph.nodes)
    codes = {n.name: calibration.weights(n, widths) for n in nodes}
    errors = {n.name: {b: codes[n.name][b].real() - n.params["weight"] for b in widths} for n in nodes}
    traces = hessian_means(graph, seen.spread(PROBED), seed)
    tables: list[dict[str, dict[int, float]]] = []
    predicted = [menu(calibration, information, widths, False, of_output) for of_output in (True, False)]
    for losses in (probed(calibration, predicted[0], seed).losses, *(found.losses for found in predicted)):
        tables.append({n.name: dict(zip(sorted(widths), losses[n.name].sum(axis=0), strict=True)) for n in nodes})
    square = {n: {b: float((e**2).sum()) for b, e in of.items()} for n, of in errors.items()}
    power = {n.name: float((n.params["weight"].astype(np.float64) ** 2).sum()) for n in nodes}
    tables.append({n: {b: traces[n] * s for b, s in of.items()} for n, of in square.items()})
    tables.append({n: {b: s / max(power[n], 1e-30) for b, s in of.items()} for n, of in square.items()})
    rng = np.random.default_rng(seed)
    picked = [{n.name: int(rng.choice(widths)) for n in nodes} for _ in range(count)]
    samples = joined(seen, held)
    expected = logits(graph, parameters(graph), samples, calibration, False)
    measured = []
    for index, choice in enumerate(picked):
        print(f"\r{graph.name}: {index} of {count}", end="", file=sys.stderr)
        measured.append(
            divergence(expected, answers(calibration, {n: codes[n][b] for n, b in choice.items()}, samples))
        )
    print(file=sys.stderr)
    found = []
    for losses in tables:
        totals = np.array([sum(losses[n][b] for n, b in choice.items()) for choice in picked])
        again = [rng.integers(0, count, count) for _ in range(RESAMPLED)]
        spread = [float(spearmanr(totals[i], np.array(measured)[i]).statistic) for i in again]
        low, high = np.quantile(spread, (0.025, 0.975))
        found.append((float(spearmanr(totals, measured).statistic), float(low), float(high)))
    return found


def joined(a: Dataset, b: Dataset) -> Dataset:
    return Dataset({n: np.concatenate([a.inputs[n], b.inputs[n]]) for n in a.inputs})


def answers(calibration: Calibration, codes: dict[str, WeightCodes], samples: Dataset) -> torch.Tensor:
    """Logits (or outputs) of the quantised network, with the biases and gains that the quantiser would give it."""
    quants = {v: calibration.quant(v, 8) for v in calibration.graph.types}
    corrected = correct(calibration, codes, quants)
    params = parameters(calibration.graph)
    for name, of in corrected.codes.items():
        params[name]["weight"] = torch.as_tensor(of.real(), dtype=torch.float32)
        params[name]["bias"] = torch.as_tensor(corrected.biases[name], dtype=torch.float32)
    return logits(calibration.graph, params, samples, calibration, True)


def logits(graph: Graph, params: Any, samples: Dataset, calibration: Calibration, coded: bool) -> torch.Tensor:
    """Of the first output; coded: every value on its grid."""
    wanted, kept = head(graph, graph.outputs[0].value).value, []

    def hook(name: str, value: torch.Tensor) -> torch.Tensor:
        if name == wanted:
            kept.append(value)
        return represent(value, calibration.quant(name, 8)) if coded else value

    with torch.inference_mode():
        for start in range(0, len(samples), 64):
            part = samples.take(slice(start, start + 64)).inputs
            evaluate(graph, {k: torch.as_tensor(np.array(v, np.float32)) for k, v in part.items()}, params, hook)
    return torch.cat(kept)


def divergence(expected: torch.Tensor, found: torch.Tensor) -> float:
    """Mean KL in nats."""
    p, q = expected.double().log_softmax(-1), found.double().log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).mean())


def hessian_means(graph: Graph, samples: Dataset, seed: int) -> dict[str, float]:
    """Of every layer the mean of the diagonal of the Hessian of the mean cross entropy by its weights, Hutchinson's
    estimate; labels are the model's own answers where there are none.
    """
    params = parameters(graph)
    names = [n.name for n in linear_nodes(graph.nodes)]
    leaves = [params[n]["weight"].requires_grad_(True) for n in names]
    wanted: dict[str, torch.Tensor] = {}
    value = head(graph, graph.outputs[0].value).value

    def hook(name: str, found: torch.Tensor) -> torch.Tensor:
        if name == value:
            wanted["logits"] = found
        return found

    evaluate(graph, {k: torch.as_tensor(np.array(v, np.float32)) for k, v in samples.inputs.items()}, params, hook)
    scores = wanted["logits"].reshape(len(samples), -1)
    labels = scores.argmax(-1) if samples.labels is None else torch.as_tensor(samples.labels)
    loss = torch.nn.functional.cross_entropy(scores, labels)
    gradients = torch.autograd.grad(loss, leaves, create_graph=True)
    generator = torch.Generator().manual_seed(seed)
    totals = dict.fromkeys(names, 0.0)
    for _ in range(PROBES):
        probes = [torch.randint(0, 2, leaf.shape, generator=generator).float() * 2 - 1 for leaf in leaves]
        products = torch.autograd.grad(gradients, leaves, probes, retain_graph=True)
        for name, probe, product in zip(names, probes, products, strict=True):
            totals[name] += float((probe * product).mean()) / PROBES
    return totals


if __name__ == "__main__":
    sys.exit(main())
