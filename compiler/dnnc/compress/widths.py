"""How many units each group of channels keeps: what layers of given widths cost, and what is best given up next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dnnc.compress.inverse_hessian import Path
from dnnc.compress.surgery import ChannelMap
from dnnc.ir.graph import Graph
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense

Vector = NDArray[np.float64]
Widths = NDArray[np.int64]
Allocation = Literal["loss", "error", "even"]

#: Share of a layer's cycles that go with its outputs alone: requantisation, storing, loops.
_PER_OUTPUT = 0.1


@dataclass(frozen=True, eq=False)
class Costs:
    """Of every layer with weights, by widths [G]: rows [L, G + 1] output channels and columns [L, G + 1] weights of an
    output channel that a whole group stands for (the last: those that stay). params, macs and cycles [L] of one weight;
    fixed [L]: those of one output.
    """

    units: Widths
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    unit: Mapping[str, Vector]
    fixed: Mapping[str, Vector]

    @classmethod
    def of(cls, graph: Graph, cmap: ChannelMap, layer_cycles: Mapping[str, int] | None = None) -> Costs:
        """layer_cycles: of each node of `graph`, where they are known."""
        layers = [n for n in graph.nodes if isinstance(n.op, Conv2D | Dense)]
        count = len(cmap.groups)
        index = {int(i): g for g, group in enumerate(cmap.groups) for i in group.ids}
        shares = []
        for node in layers:
            weight = node.params["weight"]
            depth, follows = weight.shape[-1], node.name in cmap.followers
            read = np.full(depth, -1) if follows else cmap.of[node.inputs[0]][:depth]
            for ids, times in ((cmap.of[node.name], 1), (read, weight[0].size // depth)):
                places = [index.get(int(i), count) for i in ids]
                shares.append(np.bincount(places, minlength=count + 1) * float(times))
        rows, columns = np.array(shares[0::2]), np.array(shares[1::2])
        positions = np.array([graph.types[n.name].size / len(n.params["weight"]) for n in layers])
        ones, weights = np.ones(len(layers)), rows.sum(axis=1) * columns.sum(axis=1)
        unit, fixed = {"params": ones, "macs": positions}, {"params": ones, "macs": 0 * ones}
        if layer_cycles is not None:
            cycles = np.array([layer_cycles.get(n.name, 0) for n in layers], np.float64)
            unit["cycles"] = (1 - _PER_OUTPUT) * cycles / weights
            fixed["cycles"] = _PER_OUTPUT * cycles / rows.sum(axis=1)
        return cls(np.array([len(g.ids) for g in cmap.groups]), rows, columns, unit, fixed)

    def total(self, kind: str, widths: Widths) -> float:
        rows, columns = self._left(widths)
        return float((self.unit[kind] * rows * columns + self.fixed[kind] * rows).sum())

    def saved(self, kind: str, widths: Widths) -> Vector:
        """[G]: by one unit less of each group, as a share of what the whole network costs."""
        rows, columns = self._left(widths)
        unit, fixed = self.unit[kind], self.fixed[kind]
        each = self.rows[:, :-1].T @ (unit * columns + fixed) + self.columns[:, :-1].T @ (unit * rows)
        share: Vector = each / self.units / self.total(kind, self.units)
        return share

    def _left(self, widths: Widths) -> tuple[Vector, Vector]:
        share = np.append(widths / self.units, 1.0)
        return self.rows @ share, self.columns @ share


def walk(
    costs: Costs, paths: Sequence[Path], prices: Mapping[str, float], allocation: Allocation, quantum: int = 1
) -> tuple[list[Widths], list[float]]:
    """Widths from all units to the fewest, `quantum` units of one group less at every step, and the loss predicted.

    prices: how much the shares of each kind of cost count. "loss": next goes what costs the least predicted loss for
    what it saves. "error": every group's error is the same share of the largest that it can have. "even": all groups
    keep the same share of their units.
    """
    curves = [np.concatenate([[0.0], p.loss]) for p in paths]
    hulls = [convex(c) for c in curves]
    widths = costs.units.copy()
    states, losses = [widths.copy()], [0.0]
    while True:
        step = np.where(widths % quantum, widths % quantum, quantum)
        able = np.flatnonzero(widths - step >= min(quantum, 1))
        if not len(able):
            return states, losses
        after = costs.units - widths + step
        if allocation == "even":
            score = widths / costs.units
        elif allocation == "error":
            score = np.array([-c[min(a, len(c) - 1)] / max(c[-1], 1e-300) for c, a in zip(curves, after, strict=True)])
        else:
            before = costs.units - widths
            rise = np.array([h[min(a, len(h) - 1)] - h[b] for h, a, b in zip(hulls, after, before, strict=True)])
            saved = sum((p * costs.saved(kind, widths) for kind, p in prices.items()), np.zeros(len(widths)))
            score = saved * step / np.maximum(rise, 1e-30)
        group = int(able[score[able].argmax()])
        widths[group] -= step[group]
        states.append(widths.copy())
        losses.append(sum(float(c[u - w]) for c, u, w in zip(curves, costs.units, widths, strict=True)))


def convex(curve: Vector) -> Vector:
    """The largest convex function below a curve: what a mixture of its points costs."""
    hull: list[int] = []
    for i in range(len(curve)):
        while len(hull) > 1:
            a, b = hull[-2:]
            if (curve[b] - curve[a]) * (i - b) < (curve[i] - curve[b]) * (b - a):
                break
            hull.pop()
        hull.append(i)
    return np.interp(np.arange(len(curve)), hull, curve[hull])
