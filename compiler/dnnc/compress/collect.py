"""What is measured of a network for least squares: the inputs that a compressed layer sees against the outputs that the
original one makes, and how much errors of these outputs count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc.evaluate import evaluate, parameters
from dnnc.ir.graph import Graph, Input, Node, Output
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.progress import Progress, silent
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.heads import cotangents, heads
from dnnc.quantise.moments import sample_rows
from dnnc.quantise.threads import one_thread

Positions = NDArray[np.int64]

#: Output positions that a layer is sampled at, per weight of an output channel, and the limits of their number.
_ROWS_PER_WEIGHT = 8
_ROWS = (8192, 24000)
#: Samples that statistics are taken of: at most, and at the least even where values are large.
_SAMPLES, _FEWEST = 4096, 64
#: Bytes that values of one network may take.
_KEPT_BYTES = 600_000_000
#: Samples that networks are run on at a time, and elements that are looked at at a time.
_BATCH, _BATCH_ELEMENTS = 64, 4_000_000
#: Numbers that sampled rows of a layer may take, and rows that are summed up at a time.
_ELEMENTS, _CHUNK = 64_000_000, 4096
#: Moments of more weights than these are summed up in float32.
_EXACT = 1200
#: Samples that gradients are taken of.
_GRADIENT_SAMPLES = 128


@dataclass(frozen=True, eq=False)
class Moments:
    """Of a layer's inputs x, as its weights see them ([K] for each of G groups), in the compressed network, and of its
    outputs y before the clamp ([R] a group) in the original one. Centred: xx [G, K, K], xy [G, K, R], yy [G, R]; means
    x [G, K] and y [G, R]. float64.
    """

    x: torch.Tensor
    y: torch.Tensor
    xx: torch.Tensor
    xy: torch.Tensor
    yy: torch.Tensor


@dataclass(frozen=True, eq=False)
class Pair:
    """The original network and what became of it, over the same samples."""

    original: Graph
    before: Values
    after: Values

    @classmethod
    def over(cls, original: Graph, samples: Dataset) -> Pair:
        """Of as many of the samples as need not take more than a moderate amount of memory."""
        largest = 4 * max(t.size for t in original.types.values())
        part = samples.spread(min(_SAMPLES, max(_FEWEST, _KEPT_BYTES // (4 * largest))))
        return cls(original, Values(part), Values(part))

    def values(self, current: Graph, value: str) -> tuple[torch.Tensor, torch.Tensor]:
        """In `current`, and in the original network."""
        return self.after.get(current, value), self.before.get(self.original, value)


@dataclass(frozen=True, eq=False)
class Rows:
    """Of `node` at sampled output positions: x [G, N, K], y [G, N, R], float32 (see Moments)."""

    node: Node
    x: torch.Tensor
    y: torch.Tensor

    def moments(self, squares: bool = True) -> Moments:
        """squares: whether xx is wanted."""
        total = _Sums(len(self.x), self.x.shape[2], self.y.shape[2])
        for start in range(0, self.x.shape[1], _CHUNK):
            piece = slice(start, start + _CHUNK)
            total.add(self.x[:, piece], self.y[:, piece], squares)
        return total.finish()

    def towards(self, weight: torch.Tensor, bias: torch.Tensor) -> Rows:
        """For weights [G, R, K] and biases [G, R]: where the clamp limits y, any value beyond the limit will do, and
        takes the one nearest to what these make.

        Least squares on that never does worse, behind the clamp, than these weights did (alternating minimisation;
        Zhang et al., "Accelerating very deep convolutional networks", TPAMI 2016, 3.2).
        """
        made = torch.baddbmm(bias.float()[:, None], self.x, weight.float().transpose(1, 2))
        return Rows(self.node, self.x, _beyond(self.node, self.y, made))


@one_thread()
def paired_rows(pair: Pair, current: Graph, name: str, seed: int = 0) -> Rows:
    """Of layer `name` (Conv2D or Dense), whose input has the same shape in both networks."""
    node = pair.original.by_name[name]
    weight = torch.tensor(np.asarray(node.params["weight"], np.float32))
    groups = node.op.groups if isinstance(node.op, Conv2D) else 1
    k = weight[0].numel()
    weight = weight.reshape(groups, -1, k)
    bias = torch.tensor(np.asarray(node.params["bias"], np.float32)).reshape(groups, 1, -1)
    after, before = pair.values(current, node.inputs[0])
    batch = max(1, _BATCH_ELEMENTS // max(before[0].numel(), 1))
    wanted = min(_rows(k), max(_ELEMENTS // (groups * k), 2 * k))
    rows = -(-wanted * batch // len(before))
    xs, ys = [], []
    for start in range(0, len(before), batch):
        new, old = (
            sample_rows(node, x[start : start + batch], rows, torch.Generator().manual_seed(seed + start))
            for x in (after, before)
        )
        xs.append(new.permute(1, 0, 2))
        ys.append(torch.baddbmm(bias, old.permute(1, 0, 2), weight.transpose(1, 2)))
    return Rows(node, torch.cat(xs, dim=1), torch.cat(ys, dim=1))


def _beyond(node: Node, y: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    """y, where the clamp lets it pass; else the limit, or `made` where that is beyond."""
    assert isinstance(node.op, Conv2D | Dense)
    lo, hi = node.op.clamp.lo, node.op.clamp.hi
    if lo is not None:
        y = torch.where(y < lo, made.clamp(max=lo), y)
    if hi is not None:
        y = torch.where(y > hi, made.clamp(min=hi), y)
    return y


def _rows(weights: int) -> int:
    return min(max(_ROWS_PER_WEIGHT * weights, _ROWS[0]), _ROWS[1])


@dataclass(frozen=True, eq=False)
class UnitMoments:
    """Of units in the original network, a [U], and in the compressed one, x [U]: second moments xx and ax [U, U], and
    their means, which are 0 where nothing is centred. float64.
    """

    a: torch.Tensor
    x: torch.Tensor
    xx: torch.Tensor
    ax: torch.Tensor


@one_thread()
def unit_moments(
    pair: Pair, current: Graph, places: Mapping[str, Positions], centred: bool, seed: int = 0
) -> UnitMoments:
    """places: value name -> [R, U], where on its last axis each of U units stands (R times in a flattened image). All
    values' rows count alike. centred: whether a constant may be fitted along with the units.
    """
    units = next(iter(places.values())).shape[1]
    total = _Sums(1, units, units)
    for value, index in places.items():
        found = [x.reshape(-1, x.shape[-1]) for x in pair.values(current, value)]
        count, wanted = len(found[0]), -(-_rows(units) // len(index))
        generator = torch.Generator().manual_seed(seed)
        pick = torch.arange(count) if count <= wanted else torch.randperm(count, generator=generator)[:wanted]
        new, old = (x[pick][:, torch.tensor(index)].reshape(1, -1, units) for x in found)
        total.add(new, old)
    sums = total.finish()
    x, a, xx, ax = sums.x[0], sums.y[0], sums.xx[0], sums.xy[0].T
    if centred:
        return UnitMoments(a, x, xx, ax)
    return UnitMoments(0 * a, 0 * x, xx + torch.outer(x, x), ax + torch.outer(a, x))


class Values:
    """Values of networks for all of `samples`, each kept until something that makes it changes, or memory is short.

    Networks that are changed layer after layer, from front to back, are thus run through once.
    """

    def __init__(self, samples: Dataset, limit_bytes: int = _KEPT_BYTES) -> None:
        self.samples, self.limit_bytes = samples, limit_bytes
        self._kept: dict[str, tuple[tuple[Node, ...], torch.Tensor]] = {}

    def get(self, graph: Graph, name: str) -> torch.Tensor:
        """[N, *shape] float32"""
        made_by: dict[str, tuple[Node, ...]] = {}
        for node in graph.nodes:
            before = (n for v in node.inputs for n in made_by.get(v, ()))
            made_by[node.name] = (*dict.fromkeys(before), node)
        if name not in made_by:
            return as_tensors(self.samples)[name]
        kept = {v: x for v, (nodes, x) in self._kept.items() if made_by.get(v) == nodes}
        if name not in kept:
            kept[name] = self._run(_between(graph, name, kept), kept)
            self._kept.pop(name, None)
            self._kept[name] = made_by[name], kept[name]
            while sum(x.nbytes for _, x in self._kept.values()) > self.limit_bytes and len(self._kept) > 1:
                self._kept.pop(next(iter(self._kept)))
        return kept[name]

    def _run(self, graph: Graph, kept: Mapping[str, torch.Tensor]) -> torch.Tensor:
        params, parts = parameters(graph), []
        with torch.inference_mode():
            for start in range(0, len(self.samples), _BATCH):
                piece = slice(start, start + _BATCH)
                given = as_tensors(self.samples.take(piece)) | {v: x[piece] for v, x in kept.items()}
                inputs = {i.name: given[i.name] for i in graph.inputs}
                (found,) = evaluate(graph, inputs, params).values()
                parts.append(found.contiguous())
            return torch.cat(parts)


def _between(graph: Graph, name: str, known: Mapping[str, torch.Tensor]) -> Graph:
    """What makes value `name` of values that are known."""
    layout = graph.outputs[0].layout
    nodes, wanted, sources = [], {name}, {}
    for node in reversed(graph.nodes):
        if node.name in wanted and node.name not in known:
            nodes.append(node)
            wanted.update(node.inputs)
        elif node.name in wanted:
            sources[node.name] = Input(node.name, node.type, node.name, layout)
    inputs = (*(i for i in graph.inputs if i.name in wanted), *sources.values())
    return replace(graph, inputs=inputs, nodes=tuple(reversed(nodes)), outputs=(Output(name, name, layout),))


class _Sums:
    """Sums around the first batch's mean: those around zero would cancel where a mean exceeds its deviation."""

    def __init__(self, groups: int, k: int, r: int) -> None:
        self.count = 0
        self.origin: tuple[torch.Tensor, torch.Tensor] | None = None
        self.x, self.y, self.yy = (torch.zeros(groups, n, dtype=torch.float64) for n in (k, r, r))
        self.xx, self.xy = (torch.zeros(groups, k, n, dtype=torch.float64) for n in (k, r))

    def add(self, x: torch.Tensor, y: torch.Tensor, squares: bool = True) -> None:
        """x [G, rows, K], y [G, rows, R]; squares: whether xx is wanted."""
        if self.origin is None:
            self.origin = x.mean(dim=1, keepdim=True), y.mean(dim=1, keepdim=True)
        x, y = x - self.origin[0], y - self.origin[1]
        if x.shape[2] <= _EXACT:
            x, y = x.double(), y.double()
        self.count += x.shape[1]
        self.x += x.sum(dim=1, dtype=torch.float64)
        self.y += y.sum(dim=1, dtype=torch.float64)
        if squares:
            self.xx += x.transpose(1, 2) @ x
        self.xy += x.transpose(1, 2) @ y
        self.yy += (y * y).sum(dim=1, dtype=torch.float64)

    def finish(self) -> Moments:
        assert self.origin is not None
        n = max(self.count, 1)
        x, y = self.x / n, self.y / n
        return Moments(
            x + self.origin[0][:, 0],
            y + self.origin[1][:, 0],
            self.xx / n - x[:, :, None] * x[:, None, :],
            self.xy / n - x[:, :, None] * y[:, None, :],
            self.yy / n - y * y,
        )


@one_thread()
def output_metrics(
    graph: Graph, names: Iterable[str], samples: Dataset, seed: int = 0, progress: Progress = silent
) -> dict[str, torch.Tensor]:
    """M [O, O] of layers: 1/2 tr(M E) is the predicted increase of the loss by errors of covariance E in a layer's
    outputs before the clamp, taken to be independent of each other from position to position.

    M is the Gauss-Newton second moment of the gradients (those that the clamp lets through), summed over positions
    (Martens & Grosse, "K-FAC", ICML 2015): in nats for classifiers, else in units of the outputs' variance.
    """
    wanted = [graph.by_name[name] for name in dict.fromkeys(names)]
    part = samples.spread(_GRADIENT_SAMPLES)
    of = heads(graph, samples.labels is not None)
    generator = torch.Generator().manual_seed(seed)
    found = {n.name: torch.zeros(len(n.params["weight"]), len(n.params["weight"]), dtype=torch.float64) for n in wanted}
    params = parameters(graph)
    variances = _variances(graph, [h.value for h in of if not h.logits], part)
    for start in range(0, len(part), _BATCH):
        progress("gradients", start, len(part))
        values: dict[str, torch.Tensor] = {}

        def record(name: str, value: torch.Tensor, values: dict[str, torch.Tensor] = values) -> torch.Tensor:
            values[name] = value
            return value

        inputs = {k: v.requires_grad_(True) for k, v in as_tensors(part.take(slice(start, start + _BATCH))).items()}
        evaluate(graph, inputs, params, record)
        # What no input moves has no gradient.
        ends = [i for i, h in enumerate(of) if values[h.value].requires_grad]
        moved = [n for n in wanted if values[n.name].requires_grad]
        fixed = {k: v.detach() for k, v in values.items()}
        for vectors in cotangents(of, fixed, variances, generator) if ends and moved else ():
            gradients = torch.autograd.grad(
                [values[of[i].value] for i in ends],
                [values[n.name] for n in moved],
                [vectors[i] for i in ends],
                retain_graph=True,
                allow_unused=True,
            )
            for node, gradient in zip(moved, gradients, strict=True):
                if gradient is not None:
                    passed = (gradient * _passes(node, fixed[node.name])).reshape(-1, gradient.shape[-1])
                    found[node.name] += passed.T @ passed
    return {name: metric / len(part) for name, metric in found.items()}


def as_tensors(batch: Dataset) -> dict[str, torch.Tensor]:
    """Inputs by name, float32."""
    return {k: torch.as_tensor(np.array(v, np.float32)) for k, v in batch.inputs.items()}


def _passes(node: Node, value: torch.Tensor) -> torch.Tensor:
    """1 where the clamp lets a gradient pass."""
    assert isinstance(node.op, Conv2D | Dense)
    inside = torch.ones_like(value)
    if node.op.clamp.lo is not None:
        inside = inside * (value > node.op.clamp.lo)
    if node.op.clamp.hi is not None:
        inside = inside * (value < node.op.clamp.hi)
    return inside


def _variances(graph: Graph, names: Sequence[str], samples: Dataset) -> Mapping[str, float]:
    """The variance of each value over the samples, summed over its elements."""
    if not names:
        return {}
    found = Values(samples)
    variance = {v: float(found.get(graph, v).double().var(dim=0, unbiased=False).sum()) for v in names}
    return {v: max(y, 1e-12) for v, y in variance.items()}
