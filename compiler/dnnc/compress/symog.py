"""Fixed-point weights of few bits by a growing pull towards the grid's points, without straight-through gradients.

Enderich, Timm, Burgard, "SYMOG: learning symmetric mixture of Gaussian modes for improved fixed-point quantization",
Neurocomputing 2020 (arXiv 2002.08204); after SGM (arXiv 1907.07220).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from dnnc.compress.budget import accuracy
from dnnc.compress.grid import TrainedPolicy, fitted_scales, largest_code, nearest, on_grid, power_of_two_steps
from dnnc.compress.method import Compressed, Setting
from dnnc.compress.train import Hooks, Params, Recipe, train
from dnnc.errors import OptionError
from dnnc.ir.graph import Graph
from dnnc.quantise.bits.policy import require_width
from dnnc.quantise.bytes import linear_nodes

#: lambda at the start and at the end, per training rather than per step: its integral, times the distance to the mode,
#: is what a weight without gradient moves. From a few short runs on LeNet-5 and vgg_small, not from a search.
_FIRST, _LAST = 0.05, 300.0
#: From here on lambda is infinite: weights stay at their modes, biases and normalisation settle on them.
_HELD = 0.95
#: Of forward=rounded: where rounding begins.
_ROUNDED = 0.25
#: Mean distance of the weights to the grid, in steps, that final rounding may meet.
_LARGEST_DISTANCE = 0.01


@dataclass(frozen=True)
class Symog(TrainedPolicy):
    """All layers, first and last included, get weights of `weights` bits: codes -c..c with c = 2**(weights-1) - 1 (two
    bits: -1, 0, 1), times a step that is a power of two.

    Training computes with the float weights and adds lambda * sum (w - Q(w))**2 / 2 to the loss, Q being the nearest
    point of the grid; lambda grows exponentially, so that weights change modes early and are frozen late; the last
    twentieth of training holds them where they are, so that rounding in the end moves nothing. Weights are clipped to
    the grid's ends. (The paper divides each layer's term by its number of weights; then large layers feel no force, and
    small ones all of it. Here every weight feels the same. The term is applied as a proximal step after the gradient's,
    which is stable however large lambda gets.)

    strict=no: layers are normalised in training, as BatchNorm would, and that factor becomes part of the scales: codes
    stay, a channel's scale is 2**-f times its factor. strict=yes, and all targets that only shift: no normalisation,
    scales are powers of two, one a layer or, with step=channel, one a channel. (Under normalisation a channel's power
    of two changes nothing, so it always has its own.)

    forward=rounded: after the first quarter of training the loss is that of the rounded weights, gradients passing
    straight through (Courbariaux et al., "BinaryConnect", NeurIPS 2015). The paper trains without, forward=float, for
    hundreds of epochs; within tens of them only rounded weights find modes that work together (vgg_small, 2 bits: -1.1
    points after 10 epochs, -3.6 without after 20).

    epochs, rate: of training (rate: see `Recipe`); distil: share of the float network's answers in the loss.
    activations: bits of activations, rounded after training only.
    """

    name: ClassVar[str] = "symog"
    weights: int = 2
    epochs: int = 20
    activations: int = 8
    strict: bool = False
    step: Literal["layer", "channel"] = "layer"
    forward: Literal["float", "rounded"] = "rounded"
    rate: float = 0.02
    distil: float = 0.5

    def __post_init__(self) -> None:
        if not 2 <= self.weights <= 8:
            raise OptionError(f"bit policy 'symog': option 'weights' expects 2 to 8 bits, found {self.weights}")
        self.recipe()

    def activation_width(self) -> int:
        return self.activations

    def recipe(self, normalise: bool = True) -> Recipe:
        return Recipe(
            epochs=self.epochs,
            rate=self.rate,
            schedule="cosine",
            decay=0.0,
            distil=self.distil,
            normalise=normalise,
        )

    def prepare(self, graph: Graph, setting: Setting) -> Compressed:
        pull, result = self.learn(graph, setting)
        distances = pull.distances()
        worst = max(distances, key=lambda name: distances[name])
        notes = [
            f"symog: {self.weights}-bit weights in {len(distances)} layers; final rounding moved weights by "
            f"{100 * float(np.mean(list(distances.values()))):.2g} % of a step on average, at most by "
            f"{100 * distances[worst]:.2g} % (layer '{worst}')"
        ]
        if (judges := setting.judges) is not None:
            before, after = (accuracy(g, judges) for g in (pull.unrounded(), result))
            notes.append(f"symog: accuracy {before:.2f} % before rounding, {after:.2f} % after, on held-out samples")
        if distances[worst] > _LARGEST_DISTANCE:
            notes.append(
                f"symog: the weights of layer '{worst}' were {100 * distances[worst]:.1f} % of a step away from the "
                f"grid before rounding, {100 * _LARGEST_DISTANCE:g} % is the aim: more epochs would help"
            )
        return Compressed(result, tuple(notes))

    def learn(self, graph: Graph, setting: Setting) -> tuple[Pull, Graph]:
        """The regulariser after training, which can tell what the network was before rounding, and the result."""
        require_width("weight", self.weights, setting.target)
        normalise = not self.strict and setting.target.requantise != "shift"
        pull = Pull(self.weights, self.step == "channel", _ROUNDED if self.forward == "rounded" else 1.0)
        trained = train(
            graph,
            setting.train,
            self.recipe(normalise),
            teacher=setting.teacher(graph),
            hooks=[pull],
            seed=setting.seed,
            device=setting.device,
            progress=setting.progress,
            checkpoint=setting.checkpoint,
        )
        return pull, pull.on_grid(trained)


class Pull(Hooks):
    """The regulariser, its schedule and the clipping. Steps are chosen from the weights that it sees first.

    rounded: the share of training after which the loss sees rounded weights.
    """

    def __init__(self, bits: int, by_channel: bool, rounded: float = 1.0) -> None:
        self.bits, self.top, self.by_channel, self.rounded = bits, largest_code(bits), by_channel, rounded
        self.steps: dict[str, torch.Tensor] = {}
        self.last = 0.0
        self._rounds = True
        self._final: dict[str, torch.Tensor] = {}
        self._snapshot: Callable[[], Graph] | None = None

    def __str__(self) -> str:
        return f"Pull({self.bits}, {self.by_channel}, {self.rounded:g})"

    def begin(self, snapshot: Callable[[], Graph]) -> None:
        self._snapshot = snapshot

    def params(self, params: Params, progress: float) -> Params:
        """The float weights in training, the rounded ones in what training returns."""
        if not self.steps:
            # Behind a normalisation any channel may be scaled by a power of two.
            self.steps = {
                name: power_of_two_steps(p["weight"], self.bits, self.by_channel or "gamma" in p)
                for name, p in params.items()
                if "weight" in p
            }
        if self.rounded <= progress < 1:
            return self._with(params, lambda name, weight: weight + (self._mode(name, weight) - weight).detach())
        if progress < 1 or not self._rounds:
            return params
        self._final = {name: params[name]["weight"].detach().clone() for name in self.steps}
        return self._with(params, self._mode)

    def _with(self, params: Params, change: Callable[[str, torch.Tensor], torch.Tensor]) -> Params:
        """The parameters with other weights."""
        return {
            name: {**p, "weight": change(name, p["weight"])} if name in self.steps else p for name, p in params.items()
        }

    def _mode(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        return nearest(weight, self.steps[name], -self.top, self.top) * self.steps[name]

    def after_step(self, params: Params, progress: float) -> None:
        strength = _FIRST * (_LAST / _FIRST) ** progress * max(progress - self.last, 0.0)
        if progress >= _HELD:
            strength = math.inf
        self.last = progress
        for name, step in self.steps.items():
            weight, end = params[name]["weight"], self.top * step
            weight.lerp_(self._mode(name, weight), 1 - math.exp(-strength))
            weight.copy_(torch.minimum(torch.maximum(weight, -end), end))

    def distances(self) -> dict[str, float]:
        """By layer: mean |w - Q(w)| in steps, before the rounding at the end."""
        return {
            name: float(((w - self._mode(name, w)) / self.steps[name]).abs().mean()) for name, w in self._final.items()
        }

    def unrounded(self) -> Graph:
        """What training would return without the rounding at the end."""
        if self._snapshot is None:
            raise ValueError("there is no network before training")
        self._rounds = False
        try:
            return self._snapshot()
        finally:
            self._rounds = True

    def on_grid(self, trained: Graph) -> Graph:
        """What training returned, its codes prescribed to the quantiser."""
        codes, scales, bits = {}, {}, {}
        for node in linear_nodes(trained.nodes):
            weight = self._final[node.name]
            code = nearest(weight, self.steps[node.name], -self.top, self.top).cpu().numpy()
            codes[node.name] = code
            scales[node.name] = fitted_scales(node.params["weight"], code)
            bits[node.name] = np.full(len(code), self.bits, np.uint8)
        return on_grid(trained, codes, scales, bits)

    def state(self) -> dict[str, Any]:
        return {"steps": dict(self.steps), "last": self.last}

    def load_state(self, state: dict[str, Any]) -> None:
        self.steps, self.last = dict(state["steps"]), state["last"]
