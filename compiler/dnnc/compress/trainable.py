"""A graph as something to train: parameters of a common size, and BatchNorm put back behind the layers.

Graphs have BatchNorm folded into their weights, which leaves weights of any size behind. Gradient steps suit weights of
the size that networks start with (He et al., 2015), so every output channel's weights are learned in units of the power
of two that brings them there, biases in units of the deviation of the layer's output; rounding changes nothing then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from dnnc.compress.recipe import Params
from dnnc.evaluate import evaluate, parameters
from dnnc.ir.graph import Graph, Node
from dnnc.ops.activation import NO_CLAMP, Clamp
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.elementwise import Add, Mul
from dnnc.quantise.bytes import is_linear

#: Parameters that are learned.
LEARNED = ("weight", "bias", "slope")
#: What quantisation takes from a model and training makes untrue.
_STALE = ("bn_mean", "bn_std", "weight_scale", "weight_bits")
#: Values a channel must have in a batch for statistics of that batch to mean anything.
_MIN_ROWS = 16
#: Share of a layer's mean variance that is added to the variance of each channel.
_EPSILON = 1e-5

Change = Callable[[str, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Statistics:
    """Of a layer's output in front of its clamp: mean and variance by channel [O], values of a channel in a batch."""

    mean: torch.Tensor
    variance: torch.Tensor
    rows: int


def head_layers(graph: Graph) -> frozenset[str]:
    """The last layers with weights in front of the outputs: they are what the network answers."""
    found: set[str] = set()
    seen: set[str] = set()
    open_values = [o.value for o in graph.outputs]
    while open_values:
        node = graph.by_name.get(open_values.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if is_linear(node):
            found.add(node.name)
        else:
            open_values.extend(node.inputs)
    return frozenset(found)


def unclamped(graph: Graph, names: Iterable[str]) -> tuple[Graph, dict[str, Clamp]]:
    """The graph with these nodes' clamps taken off, and the clamps, those that limit nothing included."""
    chosen = frozenset(names)
    clamps: dict[str, Clamp] = {}
    nodes = []
    for node in graph.nodes:
        if node.name in chosen and isinstance(node.op, (Conv2D, Dense, Add, Mul)):
            clamps[node.name] = node.op.clamp
            node = replace(node, op=replace(node.op, clamp=NO_CLAMP))
        nodes.append(node)
    return graph.with_nodes(nodes), clamps


def parameters_on(graph: Graph, device: str | torch.device) -> Params:
    """The graph's parameters in float32, by node."""
    return {node: {k: v.to(device) for k, v in params.items()} for node, params in parameters(graph).items()}


class Trainable:
    """`leaves`: what is learned, by node and parameter, in units of `units`."""

    def __init__(
        self, graph: Graph, batches: Sequence[Mapping[str, torch.Tensor]], normalise: bool, keep_zeros: bool
    ) -> None:
        """batches: inputs that the first statistics are of, on the device to train on."""
        self.graph = graph
        self.device = next(iter(batches[0].values())).device
        self._plain, self._clamps = unclamped(graph, (n.name for n in graph.nodes))
        self._linear = frozenset(n.name for n in graph.nodes if is_linear(n))
        self._keep_zeros = keep_zeros
        self._constant = parameters_on(graph, self.device)
        self.normalised: frozenset[str] = frozenset()
        start = self.measure(batches, self._constant)
        if normalise:
            inner = self._linear - head_layers(graph)
            self.normalised = frozenset(n for n in inner if start[n].rows >= _MIN_ROWS)
        self.epsilon = {n: _EPSILON * float(start[n].variance.mean()) + 1e-20 for n in self.normalised}
        self.leaves: dict[tuple[str, str], torch.Tensor] = {}
        self.units: dict[tuple[str, str], torch.Tensor] = {}
        self.masks: dict[tuple[str, str], torch.Tensor] = {}
        for node in graph.nodes:
            self._add(node, start.get(node.name), keep_zeros)

    def _add(self, node: Node, start: Statistics | None, keep_zeros: bool) -> None:
        mine = {k: v for k, v in self._constant.get(node.name, {}).items() if k in LEARNED}
        if start is None or "weight" not in mine:
            for key, value in mine.items():
                self._leaf(node.name, key, value, torch.ones((), device=self.device))
            return
        weight = mine["weight"]
        zero = weight == 0
        dead = zero.flatten(1).all(1) & (mine["bias"] == 0)
        self._leaf(node.name, "weight", weight, _weight_unit(weight))
        unit = _power_of_two(start.variance.mean().sqrt())
        if node.name in self.normalised:
            self._leaf(node.name, "gamma", (start.variance + self.epsilon[node.name]).sqrt(), unit)
            self._leaf(node.name, "beta", torch.where(dead, 0.0, start.mean), unit)
            self._constant[node.name]["bias"] = torch.zeros_like(mine["bias"])
            kept = {"weight": ~zero, "beta": ~dead}
        else:
            self._leaf(node.name, "bias", mine["bias"], unit)
            kept = {"weight": ~zero, "bias": (mine["bias"] != 0) | ~zero.any()}
        if keep_zeros:
            self.masks |= {(node.name, k): m for k, m in kept.items() if not bool(m.all())}

    def _leaf(self, node: str, key: str, value: torch.Tensor, unit: torch.Tensor) -> None:
        self.units[node, key] = unit
        self.leaves[node, key] = (value / unit).clone().requires_grad_(True)

    def params(self, leaves: Mapping[tuple[str, str], torch.Tensor] | None = None) -> Params:
        """The parameters that `leaves` (None: the learned ones) stand for, differentiable, by node."""
        found: Params = {name: dict(params) for name, params in self._constant.items()}
        for (node, key), leaf in (self.leaves if leaves is None else leaves).items():
            found[node][key] = leaf * self.units[node, key]
        return found

    @torch.no_grad()
    def assign(self, params: Params) -> None:
        """Makes the leaves stand for changed parameters."""
        for (node, key), leaf in self.leaves.items():
            leaf.copy_(params[node][key] / self.units[node, key])

    @torch.no_grad()
    def mask(self, gradients: bool) -> None:
        """Zeros stay zeros: in the leaves, or in their gradients."""
        for name, kept in self.masks.items():
            of = self.leaves[name].grad if gradients else self.leaves[name]
            if of is not None:
                of.mul_(kept)

    def values(
        self, inputs: Mapping[str, torch.Tensor], params: Params, wanted: Iterable[str], change: Change | None = None
    ) -> dict[str, torch.Tensor]:
        """The wanted values with statistics of this batch. change: see Hooks.value."""
        kept = frozenset(wanted)
        found: dict[str, torch.Tensor] = {}

        def hook(name: str, y: torch.Tensor) -> torch.Tensor:
            if name in self.normalised:
                y = _normalise(y, params[name]["gamma"], params[name]["beta"], self.epsilon[name])
            if name in self._clamps:
                y = self._clamped(name, y)
            if change is not None:
                y = change(name, y)
            if name in kept:
                found[name] = y
            return y

        evaluate(self._plain, inputs, params, hook)
        return found

    def _clamped(self, name: str, y: torch.Tensor) -> torch.Tensor:
        """A ReLU's gradient is several times faster than a clamp's. It is 0 at the limit itself, where all of a channel
        without weights lies, so where zeros may become weights again it is the clamp's.
        """
        clamp = self._clamps[name]
        if not self._keep_zeros or clamp.lo is None:
            return clamp.real(y)
        if clamp.hi is None:
            return F.relu(y) if clamp.lo == 0 else clamp.real(y)
        return F.hardtanh(y, clamp.lo, clamp.hi)

    @torch.no_grad()
    def measure(
        self, batches: Iterable[Mapping[str, torch.Tensor]], params: Params, change: Change | None = None
    ) -> dict[str, Statistics]:
        """Of every linear node's output in front of normalisation and clamp, over all batches."""
        sums: dict[str, list[torch.Tensor]] = {}
        rows: dict[str, int] = {}
        count = 0

        def hook(name: str, y: torch.Tensor) -> torch.Tensor:
            if name in self._linear:
                flat = y.reshape(-1, y.shape[-1])
                variance, mean = torch.var_mean(flat, dim=0, unbiased=False)
                parts = [mean.double(), variance.double() + mean.double().square()]
                sums[name] = [a + b for a, b in zip(sums[name], parts, strict=True)] if name in sums else parts
                rows[name] = min(rows.get(name, len(flat)), len(flat))
                if name in self.normalised:
                    y = _normalise(y, params[name]["gamma"], params[name]["beta"], self.epsilon[name])
            if name in self._clamps:
                y = self._clamped(name, y)
            return y if change is None else change(name, y)

        for inputs in batches:
            count += 1
            evaluate(self._plain, inputs, params, hook)
        found = {}
        for name, (first, second) in sums.items():
            mean = first / count
            variance = (second / count - mean.square()).clamp_min(0)
            found[name] = Statistics(mean.float(), variance.float(), rows[name])
        return found

    @torch.no_grad()
    def fold(self, params: Params, statistics: Mapping[str, Statistics]) -> Graph:
        """The graph with these parameters, normalised by `statistics` instead of by batches."""
        nodes = []
        for node in self.graph.nodes:
            mine = params.get(node.name, {})
            new = {k: v for k, v in node.params.items() if k not in _STALE or not is_linear(node)}
            new |= {k: mine[k].detach().cpu().numpy() for k in LEARNED if k in node.params}
            if node.name in self.normalised:
                of, gamma, beta = statistics[node.name], mine["gamma"].double(), mine["beta"].double()
                factor = gamma / (of.variance.double() + self.epsilon[node.name]).sqrt()
                weight = mine["weight"].double()
                folded = weight * factor.reshape(-1, *(1,) * (weight.dim() - 1))
                # A channel without weights is its beta; statistics of it are of nothing.
                live = (weight != 0).flatten(1).any(1)
                bias = torch.where(live, beta + (mine["bias"].double() - of.mean.double()) * factor, beta)
                new |= {"weight": folded.float().cpu().numpy(), "bias": bias.float().cpu().numpy()}
                if "bn_mean" in node.params:
                    new |= {"bn_mean": beta.float().cpu().numpy(), "bn_std": gamma.abs().float().cpu().numpy()}
            nodes.append(replace(node, params=new))
        return self.graph.with_nodes(nodes).verify()


def _normalise(y: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, epsilon: float) -> torch.Tensor:
    """BatchNorm with the statistics of this batch, over the last axis (Ioffe and Szegedy, 2015, algorithm 1)."""
    if y.dim() == 4:
        x = y.permute(0, 3, 1, 2)
        return F.batch_norm(x, None, None, gamma, beta, True, 0.0, epsilon).permute(0, 2, 3, 1)
    flat = y.reshape(-1, y.shape[-1])
    return F.batch_norm(flat, None, None, gamma, beta, True, 0.0, epsilon).reshape(y.shape)


def _power_of_two(x: torch.Tensor) -> torch.Tensor:
    """Nearest to positive numbers; 1 for zeros."""
    return torch.where(x > 0, torch.exp2(x.clamp_min(1e-30).log2().round()), torch.ones_like(x))


def _weight_unit(weight: torch.Tensor) -> torch.Tensor:
    """[O, 1, ...]: what brings each channel's weights to a deviation of about sqrt(2 / fan-in), zeros not counted."""
    flat = weight.flatten(1)
    live = (flat != 0).sum(1)
    fan_in = live.sum() / max(int((live > 0).sum()), 1)
    layer = (flat.square().sum() / live.sum().clamp_min(1)).sqrt()
    size = (flat.square().sum(1) / live.clamp_min(1)).sqrt()
    size = torch.where(live > 0, size, layer).clamp_min(layer / 16)
    unit = _power_of_two(size * (fan_in / 2).sqrt())
    return unit.reshape(-1, *(1,) * (weight.dim() - 1))
