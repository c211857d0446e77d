"""Widths by groups of single weights, as in Tu et al. (ISVLSI 2016), and what they cost with their map.

Weights of like Fisher information share a width and a scale, wherever in the layer they lie. So the stored network has
to say of every weight which group it is in, and no kernel of dnnc reads such a layout: this module measures what there
would be to gain, against one width a layer or an output channel, which need no map or hardly any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc import fixed
from dnnc.errors import BudgetError
from dnnc.ir.graph import Graph
from dnnc.quantise.bytes import linear_nodes
from dnnc.quantise.knapsack import choose
from dnnc.quantise.weights import search_scale

Array = NDArray[Any]
Grouping = Literal["layer", "channel", "quantiles", "k-means"]
#: Widths on offer; a group of 0 bits is zeros.
WIDTHS = (0, 1, 2, 3, 4, 5, 6, 8)
#: Bits of a group's scale, and of the index of an output channel's width.
SCALE_BITS, CHANNEL_MAP_BITS = 16, 4
_ROUNDS = 50
#: Items that the exact search is asked about, and prices that are tried for more.
_EXACT_ITEMS, _PRICES = 32, 80
#: Information of weights that hardly any sample moves, as a share of the layer's mean.
_LEAST = 1e-8


@dataclass(frozen=True, eq=False)
class GroupedBits:
    """weights: by node, what the codes stand for. value_bits: of all codes; scale_bits: of all groups' scales;
    map_bits: of saying which group each weight (or channel) is in, at a fixed width; entropy_bits: the least that any
    code of that map can take; loss: predicted, in the Fisher's units.
    """

    weights: Mapping[str, NDArray[np.float64]]
    value_bits: int
    scale_bits: int
    map_bits: int
    entropy_bits: float
    loss: float

    @property
    def total_bits(self) -> int:
        """All of it, with the map at a fixed width."""
        return self.value_bits + self.scale_bits + self.map_bits


def groups_of_weights(information: Array, grouping: Grouping, count: int) -> NDArray[np.int64]:
    """Of every weight of a layer [O, ...], its group 0..count-1: by output channel, or by log F, into `count` groups of
    equal size or into clusters.
    """
    if grouping == "layer":
        return np.zeros(information.shape, np.int64)
    if grouping == "channel":
        rows = np.arange(len(information)).reshape(-1, *(1,) * (information.ndim - 1))
        return np.broadcast_to(rows, information.shape).astype(np.int64)
    logs = np.log(np.maximum(information, _LEAST * max(float(information.mean()), 1e-300))).reshape(-1)
    ordered = np.sort(logs)
    edges = np.unique(ordered[(np.arange(1, count) * len(logs)) // count])
    if grouping == "k-means":
        # Lloyd's iteration on a line, from the quantiles: a cluster ends half-way between two centres.
        for _ in range(_ROUNDS):
            sums = np.concatenate([[0.0], np.cumsum(ordered)])
            places = np.concatenate([[0], np.searchsorted(ordered, edges), [len(ordered)]])
            sizes = np.diff(places)
            centres = np.diff(sums[places])[sizes > 0] / sizes[sizes > 0]
            moved = (centres[1:] + centres[:-1]) / 2
            if len(moved) == len(edges) and np.allclose(moved, edges, rtol=0, atol=1e-9):
                break
            edges = moved
    return np.searchsorted(edges, logs, side="right").reshape(information.shape).astype(np.int64)


def grouped_bits(
    graph: Graph,
    information: Mapping[str, Array],
    budget_bits: float,
    grouping: Grouping,
    count: int = 4,
    map_included: bool = True,
) -> GroupedBits:
    """Widths of all groups that lose least by sum 1/2 F e^2, within `budget_bits` for codes, scales and the map (left
    out where it is not to be included). Codes are rounded to nearest; scales are searched.

    information: the Fisher of every linear layer's weights. Raises BudgetError where the budget is too small.
    """
    items: list[tuple[str, NDArray[np.bool_]]] = []
    entropy, map_bits = 0.0, 0
    for node in linear_nodes(graph.nodes):
        labels = groups_of_weights(information[node.name], grouping, count)
        present = np.unique(labels)
        items += [(node.name, labels == g) for g in present]
        if grouping == "channel":
            map_bits += CHANNEL_MAP_BITS * len(labels)
            entropy += CHANNEL_MAP_BITS * len(labels)
        elif len(present) > 1:
            map_bits += labels.size * int(np.ceil(np.log2(len(present))))
            share = np.bincount(labels.reshape(-1)) / labels.size
            entropy -= labels.size * float((share * np.log2(np.where(share > 0, share, 1))).sum())
    scale_bits = SCALE_BITS * len(items)
    tables = [
        [rounded(np.asarray(graph.by_name[n].params["weight"])[m], information[n][m], b) for b in WIDTHS]
        for n, m in items
    ]
    losses = np.array([[loss for _, loss in row] for row in tables])
    costs = [[int(m.sum()) * b for b in WIDTHS] for _, m in items]
    left = int(budget_bits) - scale_bits - (map_bits if map_included else 0)
    options = _spend(np.array(costs, np.int64), losses, left)
    if options is None:
        raise BudgetError(
            f"{budget_bits:,.0f} bits cannot be met: scales and the map of groups by {grouping} take "
            f"{scale_bits + map_bits:,} already"
        )
    weights = {n.name: np.zeros(n.params["weight"].shape) for n in linear_nodes(graph.nodes)}
    for (name, mask), row, option in zip(items, tables, options, strict=True):
        weights[name][mask] = row[option][0]
    value_bits = sum(cost[option] for cost, option in zip(costs, options, strict=True))
    loss = sum(float(losses[i, option]) for i, option in enumerate(options))
    return GroupedBits(weights, value_bits, scale_bits, map_bits, entropy, loss)


def _spend(costs: NDArray[np.int64], losses: Array, budget: int) -> tuple[int, ...] | None:
    """The option of each item; exact for few items. With many, the best at one price of a bit for all, which leaves
    less of the budget unspent than any one item can cost.
    """
    if int(costs.min(axis=1).sum()) > budget:
        return None
    if len(costs) <= _EXACT_ITEMS:
        choice = choose(list(costs), list(losses), budget)
        return None if choice is None else choice.options
    rows = np.arange(len(costs))
    low, high = 0.0, float(losses.max()) + 1.0
    best = costs.argmin(axis=1)
    for _ in range(_PRICES):
        price = (low * high) ** 0.5 if low else high / 2**20
        options = (losses + price * costs).argmin(axis=1)
        if int(costs[rows, options].sum()) <= budget:
            best, high = options, price
        else:
            low = price
        if low == 0.0 and high < 1e-300:
            break
    return tuple(int(o) for o in best)


def rounded(weight: Array, information: Array, bits: int) -> tuple[NDArray[np.float64], float]:
    """(what codes of `bits` stand for, predicted loss 1/2 sum F e^2) of the weights of a group [n], which share a
    scale: that of the least loss.
    """
    real = np.asarray(weight, np.float64)
    found = np.zeros_like(real)
    if bits and np.any(real):
        rows = torch.from_numpy(real.astype(np.float32))[None, None]
        importance = torch.from_numpy(np.asarray(information, np.float64))[None]
        importance = (importance / importance.mean().clamp_min(1e-300) + _LEAST).float()
        scale = float(search_scale(rows, importance, bits, power_of_two=False)[0, 0])
        lo, hi = fixed.weight_range(bits)
        codes = np.where(real >= 0, 1, -1) if bits == 1 else np.clip(np.floor(real / scale + 0.5), lo, hi)
        found = codes * scale
    return found, float(0.5 * (np.asarray(information) * (found - real) ** 2).sum())
