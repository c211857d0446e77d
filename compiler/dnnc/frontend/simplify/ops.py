"""Operations that exist only between the translation of a model and the end of its simplification."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dnnc.errors import ModelError
from dnnc.ir.op import Array, Op
from dnnc.ir.types import Shape, TensorType
from dnnc.ops.common import broadcast, shape_of

if TYPE_CHECKING:
    import torch


class _Passing(Op):
    """An operation without an integer meaning: asking for one is a programming error."""

    def quantise(
        self, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> dict[str, Array | int]:
        raise TypeError(f"{self.kind} should have been simplified away")

    def integer(
        self, xs: Sequence[Array], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Array:
        raise TypeError(f"{self.kind} should have been simplified away")


@dataclass(frozen=True)
class Affine(_Passing):
    """x * scale + shift, params of shape [] or [C] (the last axis).

    `bn_mean`, `bn_std` [C], where present, are the statistics of the output that a BatchNormalization promises.
    """

    kind: ClassVar[str] = "Affine"

    def infer(self, ins: Sequence[TensorType | Shape], params: Mapping[str, Array]) -> Shape:
        shape = shape_of(ins[0])
        for name in ("scale", "shift"):
            if params[name].shape not in ((), shape[-1:]):
                raise ModelError(f"{params[name].shape} factors do not fit the channels of {shape}")
        return shape

    def real(self, xs: Sequence[torch.Tensor], params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return xs[0] * params["scale"].to(xs[0].dtype) + params["shift"].to(xs[0].dtype)


@dataclass(frozen=True)
class Scalar(_Passing):
    """A function of one number that no table has yet: it is either part of a known function or unsupported."""

    kind: ClassVar[str] = "Scalar"
    function: str = "erf"
    exponent: float = 1.0

    def infer(self, ins: Sequence[TensorType | Shape], params: Mapping[str, Array]) -> Shape:
        return shape_of(ins[0])

    def real(self, xs: Sequence[torch.Tensor], params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return scalar_functions()[self.function](xs[0], self.exponent)


def scalar_functions() -> dict[str, Callable[[torch.Tensor, float], torch.Tensor]]:
    """name -> f(x, exponent)."""
    import torch

    return {
        "erf": lambda x, p: torch.erf(x),
        "pow": lambda x, p: x**p,
        "reciprocal": lambda x, p: 1 / x,
        "sqrt": lambda x, p: torch.sqrt(x),
        "log": lambda x, p: torch.log(x),
    }


@dataclass(frozen=True)
class Divide(_Passing):
    """a / b, both computed."""

    kind: ClassVar[str] = "Divide"

    def infer(self, ins: Sequence[TensorType | Shape], params: Mapping[str, Array]) -> Shape:
        return broadcast(shape_of(ins[0]), shape_of(ins[1]))

    def real(self, xs: Sequence[torch.Tensor], params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return xs[0] / xs[1]
