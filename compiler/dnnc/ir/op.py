"""What every operation must say of itself. One class an operation; the classes are in dnnc.ops."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dnnc.ir.channels import Channels, Interval, Known
from dnnc.ir.types import Shape, TensorType

if TYPE_CHECKING:
    import torch

Array = NDArray[Any]
Bounds = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Work:
    """What one inference of one node costs in the abstract: multiply-accumulates and weights read."""

    macs: int = 0
    weights: int = 0


@dataclass(frozen=True)
class Op(ABC):
    """An operation with one output. Subclasses are frozen dataclasses; their fields are its attributes.

    Arrays carry a leading batch axis N; types and shapes do not. `params` are the node's constants: float ones in a
    float graph, the ones `quantise` returns in an integer graph.
    """

    kind: ClassVar[str]
    #: The output has the quantisation of the inputs (all of which agree): pure data movement and max.
    keeps_quant: ClassVar[bool] = False
    #: Axes of one element in an input serve all positions of the others.
    broadcasts: ClassVar[bool] = False

    @abstractmethod
    def infer(self, ins: Sequence[TensorType | Shape], params: Mapping[str, Array]) -> Shape:
        """The output's shape; raises ModelError where the inputs do not fit."""

    @abstractmethod
    def real(self, xs: Sequence[torch.Tensor], params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The float meaning: tensors [N, ...] to one tensor [N, ...], differentiable."""

    @abstractmethod
    def quantise(
        self, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> dict[str, Array | int]:
        """The integer parameters that make `integer` approximate `real` under the given quantisations.

        For an op with weights, `params` holds the float `bias` and, instead of float weights, `weight` (integer codes
        of the same shape), `weight_scale` [O] and `weight_bits` [O].
        """

    @abstractmethod
    def integer(
        self, xs: Sequence[Array], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Array:
        """The exact integer meaning, the same in every back end: int32 codes [N, ...] to int32 codes [N, ...]."""

    def work(self, ins: Sequence[TensorType], params: Mapping[str, Array], out: TensorType) -> Work:
        return Work()

    def accumulator(self, params: Mapping[str, Array], ins: Sequence[TensorType]) -> Bounds | None:
        """Proven bounds of the int32 value that is requantised (after the left shift), or None where there is none."""
        return None

    def interval(
        self, xs: Sequence[Interval], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Interval:
        """Codes that the output's channels can hold where the inputs' hold `xs`: never too few, exact where cheap."""
        return Interval.full(out)

    def channels(
        self, kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType]
    ) -> Channels:
        """The fewest channels, with all of `kept` among them, that `cut` can leave of this integer node.

        Larger `kept` never gives less. Some output channel is kept; an input may be left with none only where the op
        does without that input.
        """
        return kept.all()

    def cut(
        self, kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType]
    ) -> tuple[Op, Mapping[str, Array]]:
        """The op and the parameters that make the kept output channels, bit for bit, of the kept input channels.

        `kept` is what `channels` returned; `known` and `ins` are those of the uncut node.
        """
        return self, params

    def identity(self, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType) -> bool:
        """Whether the output surely is the first input: same type, same codes."""
        return False

    def describe(self) -> str:
        """The attributes that differ from their defaults, for the printer."""
        shown = []
        for name, spec in self.__dataclass_fields__.items():
            value = getattr(self, name)
            if value != spec.default:
                shown.append(f"{name}={value}")
        return " ".join(shown)
