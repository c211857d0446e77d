"""What a bit allocation can choose from: for every layer or output channel, what each width costs and loses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc.ir.graph import Node
from dnnc.quantise.bytes import channel_bytes, linear_bytes, linear_nodes
from dnnc.quantise.calibrate import Calibration
from dnnc.quantise.fisher import Fisher
from dnnc.quantise.knapsack import choose
from dnnc.quantise.moments import Moments
from dnnc.quantise.threads import one_thread


@dataclass(frozen=True, eq=False)
class Menu:
    """nodes: the linear layers; widths: ascending; losses: node -> predicted increase of the loss [O, widths];
    by_channel: whether every output channel has a width of its own, or the layer has one.
    """

    nodes: tuple[Node, ...]
    widths: tuple[int, ...]
    losses: dict[str, NDArray[np.float64]]
    by_channel: bool

    def least_bits(self, budget_bits: float) -> dict[str, NDArray[np.uint8]] | None:
        """The widths that lose least when all weights together may have `budget_bits` bits; None: too few."""
        sizes = [n.params["weight"][0].size for n in self.nodes]
        costs = [[k * b * (1 if self.by_channel else len(n.params["weight"])) for b in self.widths]
                 for n, k in zip(self.nodes, sizes, strict=True)]  # fmt: skip
        return self._choose(costs, int(budget_bits))

    def least_bytes(self, budget_bytes: int) -> dict[str, NDArray[np.uint8]] | None:
        """The widths that lose least when the layers' weights and tables may take `budget_bytes`; None: too few."""
        by_layer = self._choose_layers(budget_bytes)
        if not self.by_channel:
            return by_layer
        costs = [[channel_bytes(n, b) for b in self.widths] for n in self.nodes]
        # Unfilled tiles, and what each width of a layer needs besides, are not the choice of any one channel: the
        # search is told the largest budget with which they fit as well.
        least, most, found = 0, budget_bytes, None
        while most - least > max(budget_bytes >> 10, 4):
            middle = (least + most) // 2
            bits = self._choose(costs, middle)
            if bits is None:
                least = middle
            elif self.stored_bytes(bits) <= budget_bytes:
                least, found = middle, bits
            else:
                most = middle
        options = [b for b in (found, by_layer) if b is not None]
        return min(options, key=lambda b: sum(self.loss(b).values())) if options else None

    def stored_bytes(self, bits: dict[str, NDArray[np.uint8]]) -> int:
        """Bytes of the layers' packed weights and tables."""
        return sum(linear_bytes(n, bits[n.name]) for n in self.nodes)

    def largest(self, bits: dict[str, NDArray[np.uint8]]) -> tuple[str, int]:
        """The layer that takes most bytes, and how many."""
        node = max(self.nodes, key=lambda n: linear_bytes(n, bits[n.name]))
        return node.name, linear_bytes(node, bits[node.name])

    def uniform(self, width: int) -> dict[str, NDArray[np.uint8]]:
        """One width for all."""
        return {n.name: self._all(n, width) for n in self.nodes}

    def loss(self, bits: dict[str, NDArray[np.uint8]]) -> dict[str, float]:
        """Predicted increase of the loss by node."""
        found = {}
        for name, table in self.losses.items():
            columns = np.searchsorted(self.widths, bits[name])
            found[name] = float(table[np.arange(len(table)), columns].sum())
        return found

    def narrower_loss(self, bits: dict[str, NDArray[np.uint8]]) -> dict[str, float]:
        """By node of one width the predicted increase of the loss at the next narrower width, where there is one."""
        found = {}
        for name, table in self.losses.items():
            column = int(np.searchsorted(self.widths, bits[name][0])) if len(bits[name]) else 0
            if column > 0 and bool(np.all(bits[name] == bits[name][0])):
                found[name] = float(table[:, column - 1].sum())
        return found

    def _choose_layers(self, budget_bytes: int) -> dict[str, NDArray[np.uint8]] | None:
        costs = [[linear_bytes(n, self._all(n, b)) for b in self.widths] for n in self.nodes]
        return replace(self, by_channel=False)._choose(costs, budget_bytes)

    def _all(self, node: Node, width: int) -> NDArray[np.uint8]:
        return np.full(len(node.params["weight"]), width, np.uint8)

    def _choose(self, costs: Sequence[Sequence[int]], budget: int) -> dict[str, NDArray[np.uint8]] | None:
        """costs: by node and width, of a channel or of the layer."""
        items = [len(n.params["weight"]) if self.by_channel else 1 for n in self.nodes]
        losses = [self.losses[n.name] if self.by_channel else self.losses[n.name].sum(axis=0)[None] for n in self.nodes]
        choice = choose(
            [c for c, count in zip(costs, items, strict=True) for _ in range(count)],
            list(np.concatenate(losses)),
            budget,
        )
        if choice is None:
            return None
        picked = np.array(self.widths, np.uint8)[list(choice.options)]
        parts = np.split(picked, np.cumsum(items)[:-1])
        return {
            n.name: part if self.by_channel else self._all(n, int(part[0]))
            for n, part in zip(self.nodes, parts, strict=True)
        }


@one_thread()
def menu(
    calibration: Calibration, fisher: Fisher, widths: Sequence[int], by_channel: bool, of_output: bool = True
) -> Menu:
    """The menu of a calibrated graph: losses are of the codes that the quantiser would use.

    of_output: by the error that the codes make in each channel's output, else by the errors of the single weights.
    """
    nodes = tuple(linear_nodes(calibration.graph.nodes))
    widths = tuple(sorted(widths))
    losses = {}
    for node in nodes:
        codes, moments = calibration.weights(node, widths), calibration.moments[node.name]
        columns = [
            output_loss(node, fisher, codes[b].real(), moments)
            if of_output and moments.full
            else fisher.weight_loss(node, codes[b].real())
            for b in widths
        ]
        losses[node.name] = np.stack(columns, axis=1)
    return Menu(nodes, widths, losses, by_channel)


def output_loss(node: Node, fisher: Fisher, real: NDArray[np.float64], moments: Moments) -> NDArray[np.float64]:
    """Predicted increase of the loss [O] when the node's weights become `real`: 1/2 G_o e^T C e, C being the covariance
    of what the weights multiply and G_o the channel's Fisher per unit of its output's error: its diagonal summed over
    the weights, over their inputs' power.

    This is the Fisher's Kronecker form (Martens & Grosse, "K-FAC", ICML 2015) on the diagonal's scale. Error feedback
    makes errors that cancel in the output, which the diagonal alone cannot see; a shift of the mean goes to the bias.
    """
    groups, k = moments.mean.shape
    weight = np.asarray(node.params["weight"], np.float64)
    error = torch.as_tensor((real - weight).reshape(groups, -1, k))
    covariance = moments.covariance.double()
    power = (moments.diagonal.double() + moments.mean.double() ** 2).sum(dim=1, keepdim=True).clamp_min(1e-30)
    information = torch.as_tensor(fisher.weights[node.name].reshape(groups, -1, k)).sum(dim=2) / power
    loss = 0.5 * information * ((error @ covariance) * error).sum(dim=2)
    return loss.reshape(-1).clamp_min(0).numpy()
