"""How a network is trained, and where methods take a hand in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from dnnc.errors import OptionError
from dnnc.ir.graph import Graph

Params = dict[str, dict[str, torch.Tensor]]

Optimiser = Literal["sgd", "adamw"]
Schedule = Literal["cosine", "one-cycle", "constant"]

#: Learning rates that suit weights of the size that `dnnc.compress.trainable` brings all layers to.
DEFAULT_RATES: Mapping[str, float] = {"sgd": 0.02, "adamw": 0.001}


@dataclass(frozen=True)
class Recipe:
    """rate: None takes DEFAULT_RATES. decay: of weights alone; with "adamw" it is decoupled. distil: weight of the
    teacher's answers in the loss, the labels have the rest; temperature: at which both are compared.
    normalise: batch statistics in training, as if BatchNorm stood behind the layers again (see
    `dnnc.compress.trainable`). average: of the weights over time, the share that stays at every step (0: none).
    clip: largest norm of the gradient. autocast: bfloat16 where the machine is fast at it. max_steps: in all.
    """

    epochs: int = 10
    batch: int = 128
    rate: float | None = None
    optimiser: Optimiser = "sgd"
    schedule: Schedule = "one-cycle"
    decay: float = 5e-4
    distil: float = 0.0
    temperature: float = 3.0
    label_smoothing: float = 0.0
    normalise: bool = True
    average: float = 0.0
    clip: float = 5.0
    autocast: bool = True
    max_steps: int | None = None

    def __post_init__(self) -> None:
        for key, ok, allowed in (
            ("epochs", self.epochs >= 1, "a whole number >= 1"),
            ("batch", self.batch >= 1, "a whole number >= 1"),
            ("rate", self.rate is None or self.rate > 0, "a number > 0"),
            ("optimiser", self.optimiser in get_args(Optimiser), "one of " + ", ".join(get_args(Optimiser))),
            ("schedule", self.schedule in get_args(Schedule), "one of " + ", ".join(get_args(Schedule))),
            ("decay", self.decay >= 0, "a number >= 0"),
            ("distil", 0 <= self.distil <= 1, "a number from 0 to 1"),
            ("temperature", self.temperature > 0, "a number > 0"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "a number from 0 to below 1"),
            ("average", 0 <= self.average < 1, "a number from 0 to below 1"),
            ("clip", self.clip > 0, "a number > 0"),
            ("max_steps", self.max_steps is None or self.max_steps >= 1, "a whole number >= 1"),
        ):
            if not ok:
                raise OptionError(f"training: '{key}' expects {allowed}, found {getattr(self, key)!r}")

    @property
    def peak_rate(self) -> float:
        return DEFAULT_RATES[self.optimiser] if self.rate is None else self.rate


class Hooks:
    """What a method adds to training; everything here does nothing.

    `params` are the parameters by node name: "weight", "bias", "slope". Where the recipe normalises a layer, its
    "weight" is in front of the normalisation, "bias" is 0, and "gamma" and "beta" [O] are the deviation and the mean
    of the layer's output in front of its clamp. progress: 0 at the start of training, towards 1 at its end.
    """

    def __str__(self) -> str:
        """What, besides graph and recipe, makes a training another one: a checkpoint of it is not continued."""
        return type(self).__name__

    def begin(self, snapshot: Callable[[], Graph]) -> None:
        """Called once before the first step. snapshot(): the network as it stands, normalisation folded in."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """Further tensors to learn, by name; leaves that require gradients. They get no decay."""
        return {}

    def rate(self) -> float:
        """Learning rate of `tensors`, in units of the recipe's."""
        return 1.0

    def params(self, params: Params, progress: float) -> Params:
        """What the network computes with: rounded with straight-through gradients, gated, ... The network that
        training returns has these, at progress 1.
        """
        return params

    def value(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """What takes the place of a value of the network."""
        return tensor

    def penalty(self, params: Params, progress: float) -> torch.Tensor | None:
        """Added to the loss; `params` are those in front of `Hooks.params`."""
        return None

    def after_step(self, params: Params, progress: float) -> None:
        """Changes `params` in place, without gradients: clipping, masks."""

    def after_epoch(self, params: Params, epoch: int) -> bool:
        """epoch: from 0. True ends the training."""
        return False

    def state(self) -> dict[str, Any]:
        """What `load_state` needs to go on: tensors, numbers, texts, lists and dicts of them (not `tensors`)."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
