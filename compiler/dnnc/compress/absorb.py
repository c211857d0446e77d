"""Units out of a group, and the layers that read the group fitted to what the original network computes.

Two fits. "refit" solves for all weights of a reader and its bias (He et al., "Channel pruning", ICCV 2017). "absorb"
tells every unit from those that stay by one linear map, which is multiplied into the reader's weights (Ozen &
Orailoglu, "Squeezing correlated neurons", ECML PKDD 2020): the same mix at every position of a kernel. Both regress
what the original network computes on what the compressed one has so far, padding included as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc.compress import subset
from dnnc.compress.collect import Moments, Pair, UnitMoments, paired_rows, unit_moments
from dnnc.compress.inverse_hessian import Path, Reader, damped, eliminate
from dnnc.compress.surgery import ChannelMap, Group, channel_map, input_columns, mask
from dnnc.ir.graph import Graph, Node, freeze
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.quantise.dataset import Dataset

Array = NDArray[Any]
Metric = Literal["consumer", "variance"]
Fit = Literal["refit", "absorb"]

#: Readers with more weights an output channel are not refitted: their second moments would take gigabytes.
_MAX_REFIT = 5000
#: Output positions that refitting takes, per weight of an output channel.
_ROWS_PER_WEIGHT = 4
#: How often a layer is fitted again to targets that leave free what its clamp cuts off.
_CLAMP_ROUNDS = 4


@dataclass(frozen=True)
class Choice:
    """How units are chosen and made up for. damping: share of the mean variance added to every direction."""

    algorithm: subset.Algorithm = "elimination"
    metric: Metric = "consumer"
    fit: Fit = "refit"
    damping: float = 0.01


@dataclass(frozen=True, eq=False)
class Squeezer:
    """A network to be squeezed. metrics: of the readers' outputs (see collect.output_metrics)."""

    original: Graph
    samples: Dataset
    metrics: Mapping[str, torch.Tensor]
    choice: Choice
    seed: int = 0
    cmap: ChannelMap = field(init=False)
    pair: Pair = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cmap", channel_map(self.original))
        object.__setattr__(self, "pair", Pair.over(self.original, self.samples))

    def path(self, current: Graph, group: Group, gone: frozenset[int], keep: int | None = None) -> Path:
        """The group's units by the order in which they are best taken out of `current`, as indices into group.ids."""
        if self._whole_rows(group):
            readers = [r for name in group.consumers for r in self._readers(current, name, group, gone)]
            return eliminate(readers, 1 if keep is None else keep)
        found = self._unit_moments(current, group)
        covariance = subset.damped_covariance(found.xx, self.choice.damping)
        metric = self._unit_metric(group) if self.choice.metric == "consumer" else None
        return subset.order(covariance, metric, self.choice.algorithm, keep)

    def squeeze(self, current: Graph, group: Group, gone: frozenset[int], keep: int) -> tuple[Graph, frozenset[int]]:
        """`current` with `keep` of the group's units left, the others masked, its readers fitted; all masked ids."""
        chosen = self.path(current, group, gone, keep).order[: len(group.ids) - keep]
        leaving = frozenset(int(group.ids[i]) for i in chosen)
        now = gone | leaving
        if self._whole_rows(group):
            nodes = {n.name: n for n in mask(current, leaving).nodes}
            for name in group.consumers:
                nodes[name] = self.refitted(current, name, now)
            return current.with_nodes(nodes[n.name] for n in current.nodes), now
        found = self._unit_moments(current, group)
        kept = np.setdiff1d(np.arange(len(group.ids)), chosen)
        inner = damped(found.xx, self.choice.damping)[kept][:, kept]
        mix = torch.cholesky_solve(found.ax[:, kept].T, torch.linalg.cholesky(inner)).T
        constant = found.a - mix @ found.x[kept]
        nodes = {n.name: n for n in mask(current, leaving).nodes}
        for name in group.consumers:
            nodes[name] = self._absorbed(nodes[name], group, kept, mix.numpy(), constant.numpy())
        return current.with_nodes(nodes[n.name] for n in current.nodes), now

    def refitted(self, current: Graph, name: str, gone: frozenset[int]) -> Node:
        """Layer `name` with weights and bias of least error: on the inputs that it has in `current`, but for those in
        `gone`, against the outputs that it has in the original network.
        """
        node = current.by_name[name]
        sampled = paired_rows(self.pair, current, name, self.seed)
        found = sampled.moments()
        weight, bias = _start(self.original.by_name[name], len(found.x))
        columns = self._columns_left(name, gone)
        rows = ~np.isin(self.cmap.of[name], sorted(gone)).reshape(len(weight), -1)
        new_weight, new_bias = np.zeros_like(weight), np.zeros_like(bias)
        for attempt in range(1 + (_CLAMP_ROUNDS if _clamped(node) else 0)):
            if attempt:
                targets = sampled.towards(torch.tensor(new_weight), torch.tensor(new_bias))
                found = replace(targets.moments(squares=False), xx=found.xx)
            for g, (stay, out) in enumerate(zip(columns, rows, strict=True)):
                if not stay.any() or not out.any():
                    continue
                start = new_weight[g][:, stay] if attempt else weight[g][:, stay]
                fitted = _solve(found, start, g, stay, self.choice.damping)
                new_weight[g][np.ix_(out, stay)] = fitted[out]
                new_bias[g][out] = (found.y[g].numpy() - fitted @ found.x[g].numpy()[stay])[out]
        shape = node.params["weight"].shape
        params = {
            "weight": new_weight.reshape(shape).astype(np.float32),
            "bias": new_bias.reshape(-1).astype(np.float32),
        }
        return replace(node, params=freeze({**node.params, **params}))

    def can_refit(self, name: str) -> bool:
        """Whether there are so few weights, and so many samples, that least squares generalises."""
        node = self.original.by_name[name]
        k, outputs = node.params["weight"][0].size, len(node.params["weight"])
        rows = len(self.pair.before.samples) * self.original.types[name].size // outputs
        return self.choice.fit == "refit" and k <= _MAX_REFIT and rows >= _ROWS_PER_WEIGHT * k

    def _whole_rows(self, group: Group) -> bool:
        """Whether units are chosen by what they are to whole rows of weights, and these fitted anew."""
        choice = self.choice
        return (
            choice.fit == "refit"
            and choice.metric == "consumer"
            and choice.algorithm == "elimination"
            and all(self.can_refit(name) for name in group.consumers)
        )

    def _readers(self, current: Graph, name: str, group: Group, gone: frozenset[int]) -> list[Reader]:
        found = paired_rows(self.pair, current, name, self.seed).moments()
        weight, _ = _start(self.original.by_name[name], len(found.x))
        columns = self._columns_left(name, gone)
        units = self._unit_columns(name, group)
        metric = self.metrics[name].reshape(len(weight), weight.shape[1], len(weight), weight.shape[1])
        readers = []
        for g, stay in enumerate(columns):
            best = torch.tensor(_solve(found, weight[g][:, stay], g, stay, self.choice.damping))
            place = np.append(np.cumsum(stay) - 1, -1)
            place[:-1][~stay] = -1
            hessian = damped(found.xx[g][stay][:, stay], self.choice.damping)
            readers.append(Reader(_root(metric[g, :, g]) @ best, hessian, place[units]))
        return readers

    def _unit_columns(self, name: str, group: Group) -> NDArray[np.int64]:
        """[U, B]: where in a row of the layer's weights each unit of the group is read, -1 to fill up."""
        node = self.original.by_name[name]
        depth = node.params["weight"].shape[-1]
        taps = node.params["weight"][0].size // depth
        found = [input_columns(self.original, self.cmap, name, int(i)) for i in group.ids]
        width = max(len(c) for c in found)
        filled = np.array([np.append(c, np.full(width - len(c), -1)) for c in found], np.int64)
        every = np.arange(taps)[None, :, None] * depth + filled[:, None, :]
        return np.where(filled[:, None, :] < 0, -1, every).reshape(len(filled), -1)

    def _columns_left(self, name: str, gone: frozenset[int]) -> NDArray[np.bool_]:
        """[G, K]: the columns of a layer's weights that read what is still there."""
        node = self.original.by_name[name]
        groups = node.op.groups if isinstance(node.op, Conv2D) else 1
        depth = node.params["weight"].shape[-1]
        taps = node.params["weight"][0].size // depth
        left = ~np.isin(self.cmap.of[node.inputs[0]], sorted(gone)).reshape(groups, depth)
        return np.tile(left, (1, taps))

    def _unit_moments(self, current: Graph, group: Group) -> UnitMoments:
        places, centred = {}, True
        for name in group.consumers:
            node = self.original.by_name[name]
            of = self.cmap.of[node.inputs[0]]
            each = [np.flatnonzero(of == i) for i in group.ids]
            times = min(len(e) for e in each)
            places[node.inputs[0]] = np.array([e[:times] for e in each], np.int64).T
            centred &= not (isinstance(node.op, Conv2D) and any(node.op.padding))
        return unit_moments(self.pair, current, places, centred, self.seed)

    def _unit_metric(self, group: Group) -> NDArray[np.float64]:
        """G [U, U]: what an error of the units is to all their readers, taps of kernels taken to be independent."""
        total = np.zeros((len(group.ids),) * 2)
        for name in group.consumers:
            node = self.original.by_name[name]
            groups = node.op.groups if isinstance(node.op, Conv2D) else 1
            weight, _ = _start(node, groups)
            metric = self.metrics[name].reshape(groups, weight.shape[1], groups, weight.shape[1])
            for g in range(groups):
                rows = _root(metric[g, :, g]).numpy() @ weight[g]
                for column in self._unit_columns(name, group).T:
                    part = np.where(column < 0, 0, rows[:, column])
                    total += part.T @ part
        return total

    def _absorbed(self, node: Node, group: Group, kept: NDArray[np.int64], mix: Array, constant: Array) -> Node:
        """mix [U, kept]: every unit from those that stay; constant [U]."""
        weight = np.array(node.params["weight"], np.float64).reshape(len(node.params["weight"]), -1)
        first = np.asarray(self.original.by_name[node.name].params["weight"], np.float64).reshape(weight.shape)
        rows = ~np.all(weight == 0, axis=1)
        bias = np.array(node.params["bias"], np.float64)
        for column in self._unit_columns(node.name, group).T:
            read = np.where(column < 0, 0, first[:, column])
            bias += read @ constant * rows
            weight[:, column[column >= 0]] = 0
            there = column[kept] >= 0
            weight[:, column[kept][there]] = (read @ mix)[:, there] * rows[:, None]
        params = {
            "weight": weight.reshape(node.params["weight"].shape).astype(np.float32),
            "bias": bias.astype(np.float32),
        }
        return replace(node, params=freeze({**node.params, **params}))


def linear_layers(graph: Graph) -> list[Node]:
    return [n for n in graph.nodes if isinstance(n.op, Conv2D | Dense)]


def _clamped(node: Node) -> bool:
    assert isinstance(node.op, Conv2D | Dense)
    return node.op.clamp.lo is not None or node.op.clamp.hi is not None


def _start(node: Node, groups: int) -> tuple[Array, Array]:
    """weight [G, R, K] and bias [G, R], float64"""
    weight = np.asarray(node.params["weight"], np.float64)
    return weight.reshape(groups, len(weight) // groups, -1), np.asarray(node.params["bias"], np.float64).reshape(
        groups, -1
    )


def _solve(found: Moments, weight: Array, g: int, stay: NDArray[np.bool_], damping: float) -> Array:
    """[R, stay]: the least squares, damped towards `weight` [R, stay]."""
    matrix = found.xx[g][stay][:, stay]
    whole = damped(matrix, damping)
    target = found.xy[g][stay].T + torch.tensor(weight) @ (whole - matrix)
    solved: Array = torch.cholesky_solve(target.T, torch.linalg.cholesky(whole)).T.numpy()
    return solved


def _root(metric: torch.Tensor) -> torch.Tensor:
    """A with A^T A = metric."""
    values, vectors = torch.linalg.eigh(metric)
    root: torch.Tensor = values.clamp_min(0).sqrt()[:, None] * vectors.T
    return root
