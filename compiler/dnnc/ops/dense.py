"""Fully connected layer over the last axis: weight [O, I], bias [O], any leading axes are rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dnnc import fixed
from dnnc.errors import ModelError
from dnnc.ir.channels import Channels, Interval, Known
from dnnc.ir.op import Array, Bounds, Op, Work
from dnnc.ir.types import Shape, TensorType
from dnnc.ops.activation import NO_CLAMP, Clamp
from dnnc.ops.common import exact_matmul, linear_bounds, quant_of, quantise_linear, shape_of
from dnnc.ops.linear import linear_channels, linear_cut, linear_interval

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Dense(Op):
    """y = clamp(weight . x + bias)."""

    kind: ClassVar[str] = "Dense"
    clamp: Clamp = NO_CLAMP

    def infer(self, ins: Sequence[TensorType | Shape], params: Mapping[str, Array]) -> Shape:
        shape, weight = shape_of(ins[0]), params["weight"].shape
        if not shape or len(weight) != 2 or shape[-1] != weight[1]:
            raise ModelError(f"Dense weights {weight} do not fit an input of {shape}: the last axes must agree")
        return (*shape[:-1], weight[0])

    def real(self, xs: Sequence[torch.Tensor], params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch.nn.functional as F

        return self.clamp.real(F.linear(xs[0], params["weight"], params["bias"]))

    def quantise(
        self, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> dict[str, Array | int]:
        return quantise_linear(params, ins[0], out, self.clamp)

    def integer(
        self, xs: Sequence[Array], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Array:
        x = xs[0]
        columns = x.reshape(-1, x.shape[-1])
        acc = exact_matmul(columns, params["weight"], 2 ** (quant_of(ins[0]).bits - 1)) + params["bias"]
        lo, hi = (int(v) for v in params["clamp"])
        y = fixed.requantise(acc, params["multiplier"], int(params["left_shift"]), quant_of(out).zero_point, lo, hi)
        return y.astype("int32").reshape(*x.shape[:-1], -1)

    def work(self, ins: Sequence[TensorType], params: Mapping[str, Array], out: TensorType) -> Work:
        weight = params["weight"]
        return Work(out.size * weight.shape[1], weight.size)

    def accumulator(self, params: Mapping[str, Array], ins: Sequence[TensorType]) -> Bounds:
        return linear_bounds(params, ins[0])

    def interval(
        self, xs: Sequence[Interval], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Interval:
        return linear_interval(xs[0], params, ins, out, groups=1, padded=False)

    def channels(
        self, kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType]
    ) -> Channels:
        return linear_channels(kept, known, params, ins, padded=False)

    def cut(
        self, kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType]
    ) -> tuple[Op, Mapping[str, Array]]:
        return self, linear_cut(kept, known, params, ins, padded=False)
