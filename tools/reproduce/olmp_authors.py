"""OLMP as its authors' code does it (github IdiosyncraticDragon/OLMP, exp_lenet300100.py), slips included.

Thresholds t = max(mu + c sigma, 0) with mu and sigma of the reference's layers; each layer is masked anew with the
probability 1 / (1 + gamma * step), until step 15,000 of 30,000; every 1,000 steps a search for the c of the layers that
were drawn. Its "NCS" accepts nothing (it asks for a fitness below 0, and densities are above): Gaussian draws around
where it began, ever narrower. It judges by the one batch at hand, and every candidate moves the live mask.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from dnnc.compress.splicing import Spliced
from dnnc.compress.stream import Loss, Lot, batches_of, logits_of
from dnnc.ir.graph import Graph

STEPS, PRUNE_STEPS, EVERY, EVALUATIONS, POPULATION = 30001, 15000, 1000, 1600, 10
BOUND, SIGMA, DELTA, GAMMA = 10.0, 5.0, 0.08, 2e-4


class _Authors:
    def __init__(self, graph: Graph, seed: int) -> None:
        self.net, self.rng = Spliced(graph), np.random.default_rng(seed)
        self.layers = len(self.net.names)
        parts = [self.net.weights[self.net.layer == i].abs() for i in range(self.layers)]
        self.mean = [float(p.mean()) for p in parts]
        self.deviation = [float(p.std(correction=0)) for p in parts]
        self.c = np.zeros(self.layers)

    def mask(self, layers: Iterable[int], c: np.ndarray) -> None:
        """Prune and splice some layers, in place."""
        net = self.net
        for i in layers:
            threshold = max(self.mean[i] + c[i] * self.deviation[i], 0.0)
            start, stop = (int(v) for v in torch.nonzero(net.layer == i)[[0, -1], 0])
            size, mask = net.weights[start : stop + 1].abs(), net.mask[start : stop + 1]
            mask[:] = torch.where(mask, size > 0.9 * threshold, size > 1.1 * threshold)

    def right(self, lot: Lot) -> float:
        """The part of a batch that is classified correctly."""
        with torch.inference_mode():
            logits = logits_of(self.net.graph, self.net._view(self.net.weights * self.net.mask))(lot.inputs)
            return float((logits.argmax(1) == lot.labels).float().mean())

    def search(self, layers: list[int], lot: Lot) -> None:
        """The "NCS": the sparsest of 1,600 draws that the batch bears."""
        bound, sigma = self.right(lot) - DELTA, SIGMA
        best, best_fit = self.c.copy(), 1.1
        for generation in range(EVALUATIONS // POPULATION):
            for _ in range(POPULATION):
                c = self.c.copy()
                c[layers] = np.clip(c[layers] + sigma * self.rng.standard_normal(len(layers)), 1e-4, BOUND - 1e-4)
                self.mask(layers, c)
                fit = self.net.count / len(self.net.weights)
                if fit < best_fit and self.right(lot) >= bound:
                    best, best_fit = c, fit
            if generation % 10 == 9:
                sigma *= 0.99
        self.c = best


def compress(graph: Graph, train: Lot, seed: int) -> Graph:
    """The whole run; the graph with zeros."""
    run = _Authors(graph, seed)
    net, loss = run.net, Loss()
    lots = batches_of(train, 64, torch.Generator().manual_seed(seed))
    speed = torch.zeros_like(net.weights)
    rates = torch.ones_like(net.weights)
    for part in net._parts:
        if part.key == "bias":
            rates[part.start : part.stop] = 2.0
    for step in range(STEPS):
        lot = next(lots)
        if step < PRUNE_STEPS:
            drawn = [i for i in range(run.layers) if run.rng.random() < 1 / (1 + GAMMA * step)]
            if step % EVERY == 0 and len(drawn) >= 2:
                run.search(drawn, lot)
            run.mask(drawn, run.c)
        net.backward(lot, loss)
        rate = 0.01 * (1 + 1e-4 * step) ** -0.75
        speed.mul_(0.9).addcmul_(rates, net.grads.add(net.weights, alpha=5e-4), value=rate)
        net.weights.sub_(speed)
    return net.result()
