"""Data augmentation by name: "shift,flip", "mixup{alpha=0.4}". Batches are changed, by chance from a generator."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch

from dnnc import options
from dnnc.compress.feed import Augment, Batch
from dnnc.errors import OptionError
from dnnc.ir.graph import Graph
from dnnc.ops.conv import Conv2D
from dnnc.ops.pool import AvgPool2D, MaxPool2D
from dnnc.quantise.heads import heads

#: Axes of rows and of columns, by input; in a batch, so that axis 0 is the sample's number.
Spatial = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Augmentation(ABC):
    """One named change; its fields are its options."""

    name: ClassVar[str]
    #: Whether it needs to know which axes are rows and columns.
    spatial: ClassVar[bool] = True

    @abstractmethod
    def apply(self, batch: Batch, generator: torch.Generator, axes: Spatial, classes: int) -> Batch:
        """The changed batch. axes: of the inputs that are images."""


@dataclass(frozen=True)
class Shift(Augmentation):
    """Every image is moved by up to `margin` positions (None: an eighth of the image); zeros come in, or with `border`
    = "edge" what is at the edge.
    """

    name: ClassVar[str] = "shift"
    margin: int | None = None
    border: Literal["zero", "edge"] = "zero"

    def __post_init__(self) -> None:
        if self.margin is not None and self.margin < 1:
            raise OptionError(f"augmentation 'shift': 'margin' expects a whole number >= 1, found {self.margin}")

    def apply(self, batch: Batch, generator: torch.Generator, axes: Spatial, classes: int) -> Batch:
        inputs = dict(batch.inputs)
        for name, pair in axes.items():
            for axis in pair:
                inputs[name] = self._along(inputs[name], axis, generator)
        return replace(batch, inputs=inputs)

    def _along(self, x: torch.Tensor, axis: int, generator: torch.Generator) -> torch.Tensor:
        count, size = x.shape[0], x.shape[axis]
        margin = min(max(1, size // 8) if self.margin is None else self.margin, size - 1)
        if margin == 0:
            return x
        by = torch.randint(-margin, margin + 1, (count, 1), generator=generator)
        source = torch.arange(size) + by
        inside = (source >= 0) & (source < size)
        shape = [count if a == 0 else size if a == axis else 1 for a in range(x.dim())]
        index = source.clamp(0, size - 1).reshape(shape).expand(x.shape)
        moved = x.gather(axis, index.to(x.device))
        return moved if self.border == "edge" else moved * inside.reshape(shape).to(x)


@dataclass(frozen=True)
class Flip(Augmentation):
    """Half of the images are mirrored left to right."""

    name: ClassVar[str] = "flip"

    def apply(self, batch: Batch, generator: torch.Generator, axes: Spatial, classes: int) -> Batch:
        inputs = dict(batch.inputs)
        mirrored = torch.rand(len(batch), generator=generator) < 0.5
        for name, (_, columns) in axes.items():
            x = inputs[name]
            chosen = mirrored.to(x.device).reshape(-1, *(1,) * (x.dim() - 1))
            inputs[name] = torch.where(chosen, x.flip(columns), x)
        return replace(batch, inputs=inputs)


@dataclass(frozen=True)
class Mixup(Augmentation):
    """Every sample becomes the mean of itself and another one, and so does its label (Zhang et al., ICLR 2018); the
    weights are drawn from Beta(alpha, alpha), one for the batch.
    """

    name: ClassVar[str] = "mixup"
    spatial: ClassVar[bool] = False
    alpha: float = 0.2

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise OptionError(f"augmentation 'mixup': 'alpha' expects a number > 0, found {self.alpha:g}")

    def apply(self, batch: Batch, generator: torch.Generator, axes: Spatial, classes: int) -> Batch:
        share = _beta(self.alpha, generator)
        partner = torch.randperm(len(batch), generator=generator)
        inputs = {k: share * x + (1 - share) * x[partner.to(x.device)] for k, x in batch.inputs.items()}
        labels = batch.labels
        if labels is not None:
            if labels.dim() == 1:
                labels = torch.nn.functional.one_hot(labels, classes).float()
            labels = share * labels + (1 - share) * labels[partner.to(labels.device)]
        return Batch(inputs, labels)


@dataclass(frozen=True)
class Noise(Augmentation):
    """Gaussian noise is added; `deviation` is in units of the batch's own."""

    name: ClassVar[str] = "noise"
    spatial: ClassVar[bool] = False
    deviation: float = 0.05

    def __post_init__(self) -> None:
        if not self.deviation > 0:
            raise OptionError(f"augmentation 'noise': 'deviation' expects a number > 0, found {self.deviation:g}")

    def apply(self, batch: Batch, generator: torch.Generator, axes: Spatial, classes: int) -> Batch:
        inputs = {}
        for name, x in batch.inputs.items():
            noise = torch.randn(x.shape, generator=generator).to(x.device)
            inputs[name] = x + noise * (self.deviation * x.std(unbiased=False))
        return replace(batch, inputs=inputs)


#: By name.
AUGMENTATIONS: dict[str, type[Augmentation]] = {c.name: c for c in (Shift, Flip, Mixup, Noise)}


def augmentation(text: str, graph: Graph) -> Augment | None:
    """What "none", one name or names with commas between mean for batches of `graph`; None for "none".

    Raises OptionError naming what is allowed, and where an image is needed and the graph's inputs are none.
    """
    if text.strip() == "none":
        return None
    parts = [_parse(part) for part in re.split(r",(?![^{]*\})", text)]
    axes = _spatial(graph)
    for part in parts:
        if part.spatial and not axes:
            shapes = ", ".join(f"'{i.model_name}' of {list(i.layout.sample_shape)}" for i in graph.inputs)
            raise OptionError(f"augmentation '{part.name}' needs images, and the network takes {shapes}")
        if isinstance(part, Flip) and all(_extent(graph, n, r) == 1 for n, (r, _) in axes.items()):
            raise OptionError("augmentation 'flip' needs images of more than one row")
    return _chain(parts, axes, _classes(graph))


def _parse(part: str) -> Augmentation:
    if part.strip() == "none":
        raise OptionError("augmentation 'none' stands alone")
    return options.parse(part, AUGMENTATIONS, "augmentation", "--augment")


def _chain(parts: Sequence[Augmentation], axes: Spatial, classes: int) -> Callable[[Batch, torch.Generator], Batch]:
    def change(batch: Batch, generator: torch.Generator) -> Batch:
        for part in parts:
            batch = part.apply(batch, generator, axes, classes)
        return batch

    return change


def _spatial(graph: Graph) -> Spatial:
    """Rows and columns of every input of three axes: all but the channels. Channels are last where a convolution or a
    pool reads the input; else they are the shorter one of the first and the last axis.
    """
    found = {}
    for source in graph.inputs:
        shape = source.type.shape
        if len(shape) == 3:
            windowed = any(isinstance(n.op, (Conv2D, MaxPool2D, AvgPool2D)) for n in graph.consumers[source.name])
            found[source.name] = (1, 2) if windowed or shape[2] <= shape[0] else (2, 3)
    return found


def _extent(graph: Graph, name: str, axis: int) -> int:
    """Positions of an input along an axis of its batches."""
    return graph.types[name].shape[axis - 1]


def _classes(graph: Graph) -> int:
    """Classes of the first output; two where it is one logit."""
    return max(2, graph.types[heads(graph, True)[0].value].size)


def _beta(alpha: float, generator: torch.Generator) -> float:
    seed = int(torch.randint(2**62, (1,), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))
