"""Masks that change while a network trains: dynamic network surgery (Guo 2016, arXiv 1608.04493) with a threshold for
every layer (Li 2018).

A layer keeps the parameters whose score exceeds its threshold exp(shift + offset): `offset` is the layer's own, `shift`
is common to all and makes the number of parameters that are left what is asked for. Li's t = max(mu + c sigma, 0) names
the same thresholds; offsets of 0, one threshold for all, are the better start, and a step of an offset means the same
at every density.

Gradients of the masked network reach masked parameters too, so those may come back (splicing). A parameter dies below
0.9 of the threshold and returns above 1.1 of it: the hysteresis keeps it from flickering.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc.compress.stream import Loss, Lot, logits_of
from dnnc.ir.graph import Graph
from dnnc.quantise.threads import one_thread

Scores = Literal["magnitude", "fisher"]
_DIES, _RETURNS = 0.9, 1.1
_LEAP = 2.0  # gradients are no longer than this times the mean of the last fifty


@dataclass(frozen=True)
class _Part:
    """Where a parameter lies in the flat vector of all of them."""

    node: str
    key: str
    shape: tuple[int, ...]
    start: int
    stop: int


class Spliced:
    """A network in training whose weights and biases are masked; what is 0 in `graph` is masked from the start.

    scores: "magnitude" |w|, or "fisher" |w| sqrt(F), the root of optimal brain damage's saliency, with the running mean
    F of squared gradients. biases: whether they are masked too. structure: scores are multiplied by the norms of the
    parameter's row and column to this power, so that whole channels die. autocast: products in bfloat16.
    """

    def __init__(
        self,
        graph: Graph,
        scores: Scores = "magnitude",
        biases: bool = True,
        structure: float = 0.0,
        autocast: bool = False,
        device: str = "cpu",
    ) -> None:
        self.graph, self.kind, self.biases, self.structure = graph, scores, biases, structure
        self.autocast, self.device = autocast, device
        self.names = tuple(n.name for n in graph.nodes if "weight" in n.params)
        pieces, layers, maskable = [], [], []
        self._parts: list[_Part] = []
        start = 0
        for index, name in enumerate(self.names):
            for key in ("weight", "bias"):
                value = graph.by_name[name].params.get(key)
                if value is None:
                    continue
                pieces.append(torch.tensor(np.asarray(value), dtype=torch.float32).reshape(-1))
                layers.append(torch.full((value.size,), index))
                maskable.append(torch.full((value.size,), key == "weight" or biases))
                self._parts.append(_Part(name, key, value.shape, start, start + value.size))
                start += value.size
        #: [N]: all these parameters, one after another; which stay; their gradients; the index of each one's layer.
        self.weights = torch.cat(pieces).to(device)
        self.maskable = torch.cat(maskable).to(device)
        self.mask = (self.weights != 0) | ~self.maskable
        self.grads = torch.zeros_like(self.weights)
        self.layer = torch.cat(layers).to(device)
        #: By layer, in the order of `names`.
        self.offsets: NDArray[np.float64] = np.zeros(len(self.names))
        self._squares = torch.zeros_like(self.weights)
        self._masked = self.weights * self.mask
        self._fixed = {
            n.name: {k: torch.tensor(np.asarray(v)).to(device) for k, v in n.params.items() if n.name not in self.names}
            for n in graph.nodes
            if n.params
        }
        self._network = logits_of(graph, self._view(self._masked, gradients=True))

    def _view(self, vector: torch.Tensor, gradients: bool = False) -> dict[str, dict[str, torch.Tensor]]:
        """Parameters for `evaluate` that are views of a flat vector; their gradients then are views of `grads`."""
        params = {name: dict(values) for name, values in self._fixed.items()}
        for p in self._parts:
            leaf = vector[p.start : p.stop].view(p.shape).detach()
            if gradients:
                leaf.requires_grad_()
                leaf.grad = self.grads[p.start : p.stop].view(p.shape)
            params[p.node][p.key] = leaf
        return params

    def on(self, graph: Graph) -> Spliced:
        """The same settings and offsets over a graph of the same layers, for instance one cut smaller."""
        made = Spliced(graph, self.kind, self.biases, self.structure, self.autocast, self.device)
        made.offsets = self.offsets.copy()
        return made

    def copy(self) -> Spliced:
        """A copy that trains on by itself; masked parameters keep what they hold."""
        made = self.on(self.graph)
        made.weights.copy_(self.weights)
        made.mask.copy_(self.mask)
        made._squares.copy_(self._squares)
        return made

    @property
    def count(self) -> int:
        """Parameters that are left."""
        return int(self.mask.sum())

    def alive(self) -> Mapping[str, int]:
        """Parameters left in every layer."""
        counts = torch.bincount(self.layer[self.mask], minlength=len(self.names))
        return dict(zip(self.names, counts.tolist(), strict=True))

    def scores(self) -> torch.Tensor:
        """How much each parameter matters, [N]."""
        found = self.weights.abs()
        if self.kind == "fisher":
            found = found * self._squares.sqrt()
        if self.structure:
            for p in self._parts:
                if p.key == "weight":
                    _favour_channels(
                        found[p.start : p.stop].view(p.shape), self.mask[p.start : p.stop].view(p.shape), self.structure
                    )
        return found

    def select(self, scores: torch.Tensor, offsets: NDArray[np.float64], count: int) -> torch.Tensor:
        """The mask that leaves `count` parameters by thresholds with these offsets; nothing changes."""
        lifted = (scores * torch.where(self.mask, 1 / _DIES, 1 / _RETURNS)).clamp_min(1e-30).log()
        place = lifted - torch.from_numpy(offsets).to(lifted)[self.layer]
        place[~self.maskable] = torch.inf
        if count >= len(place):
            return torch.ones_like(self.mask)
        shift = np.partition(place.cpu().numpy(), len(place) - count)[len(place) - count]
        return place >= float(shift)

    def remask(self, count: int) -> None:
        """Prune and splice to `count` parameters."""
        self.mask = self.select(self.scores(), self.offsets, count)

    def backward(self, lot: Lot, loss: Loss) -> None:
        """The gradients of a batch at the masked parameters, for all parameters."""
        torch.mul(self.weights, self.mask, out=self._masked)
        self.grads.zero_()
        with torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.autocast):
            logits = self._network(lot.inputs).float()
        logits.backward(loss.gradient(logits.detach(), lot))  # type: ignore[no-untyped-call]
        if self.kind == "fisher":
            self._squares.lerp_(self.grads.square(), 0.01)

    def loss(self, lot: Lot, loss: Loss) -> float:
        """The loss of a batch at the masked parameters; nothing changes."""
        with torch.inference_mode():
            return float(loss(logits_of(self.graph, self._view(self.weights * self.mask))(lot.inputs), lot))

    def result(self) -> Graph:
        """The graph with exact zeros where parameters are masked."""
        values = self._view((self.weights * self.mask).cpu())
        nodes = (
            replace(n, params={k: values[n.name][k].numpy() if k in values[n.name] else v for k, v in n.params.items()})
            if n.name in self.names
            else n
            for n in self.graph.nodes
        )
        return self.graph.with_nodes(nodes).verify()


def _favour_channels(scores: torch.Tensor, mask: torch.Tensor, power: float) -> None:
    """Multiply scores [O, ..., I] by the root of their row's and column's norms to `power`, in place."""
    live = (scores * mask).square()
    rows = live.sum(dim=tuple(range(1, live.dim())), keepdim=True)
    columns = live.sum(dim=tuple(range(live.dim() - 1)), keepdim=True)
    both = rows / rows.mean().clamp_min(1e-30) * columns / columns.mean().clamp_min(1e-30)
    scores *= both ** (power / 4)


@dataclass(frozen=True)
class Rule:
    """SGD with Nesterov momentum. rate, decay: a step takes rate * (gradient + decay * w). every: steps from one new
    mask to the next. freeze: from this part of the training on masks stay.
    """

    rate: float = 0.02
    momentum: float = 0.9
    decay: float = 5e-4
    every: int = 32
    freeze: float = 1.0


@one_thread()
def train(
    net: Spliced,
    lots: Iterator[Lot] | Sequence[Lot],
    loss: Loss,
    steps: int,
    rule: Rule,
    scale: Callable[[float], float],
    target: Callable[[float], int],
    listen: Callable[[int], None] = lambda step: None,
) -> None:
    """`steps` batches. scale(progress) multiplies the rate, target(progress) is how many parameters are left, with
    progress 0..1. listen(step): before each step.
    """
    batches = iter(lots)
    vector = torch.nn.Parameter(net.weights)
    vector.grad = net.grads
    optimiser = torch.optim.SGD([vector], rule.rate, rule.momentum, weight_decay=rule.decay, nesterov=True, fused=True)
    usual = torch.zeros(())
    for step in range(steps):
        done = step / steps
        listen(step)
        if step % rule.every == 0 and done < rule.freeze:
            net.remask(target(done))
        net.backward(next(batches), loss)
        # A few of the masked parameters return at once now and then, and all at too large a value.
        norm = net.grads.norm()
        usual = norm if step == 0 else torch.minimum(norm, _LEAP * usual).lerp(usual, 0.98)
        net.grads.mul_((_LEAP * usual / norm.clamp_min(1e-30)).clamp_max(1.0))
        optimiser.param_groups[0]["lr"] = rule.rate * scale(done)
        optimiser.step()
