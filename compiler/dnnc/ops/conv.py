"""2-D convolution over channels-last images; a 1-D convolution is one of height 1.

weight [O, KH, KW, I / groups], bias [O]. Padding is (top, left, bottom, right) and exact: padded positions hold zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dnnc import fixed
from dnnc.errors import ModelError
from dnnc.ir.channels import Channels, Interval, Known
from dnnc.ir.op import Array, Bounds, Op, Work
from dnnc.ir.types import Shape, TensorType
from dnnc.ops.activation import NO_CLAMP, Clamp
from dnnc.ops.common import exact_dtype, exact_matmul, linear_bounds, quant_of, quantise_linear, shape_of
from dnnc.ops.linear import group_channels, linear_channels, linear_cut, linear_interval, rows_of

if TYPE_CHECKING:
    import torch


def output_extent(extent: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> int:
    """Positions of a window of `kernel` along a padded axis."""
    return (extent + before + after - dilation * (kernel - 1) - 1) // stride + 1


def windows(x: Array, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]) -> Array:
    """A view [N, OH, OW, KH, KW, C] of an already padded image [N, H, W, C]."""
    span = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(x, span, axis=(1, 2))
    view = view[:, :: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]]
    return view.transpose(0, 1, 2, 4, 5, 3)


def pad_image(x: Array, padding: tuple[int, int, int, int], value: int) -> Array:
    top, left, bottom, right = padding
    if not any(padding):
        return x
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)


@dataclass(frozen=True)
class Conv2D(Op):
    """Cross-correlation, its bias and an optional clamp."""

    kind: ClassVar[str] = "Conv2D"
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    clamp: Clamp = NO_CLAMP

    def depthwise(self, params: Mapping[str, Array]) -> bool:
        """One input channel to one output channel."""
        weight = params["weight"]
        return self.groups > 1 and weight.shape[3] == 1 and weight.shape[0] == self.groups

    def infer(self, ins: Sequence[TensorType | Shape], params: Mapping[str, Array]) -> Shape:
        shape = shape_of(ins[0])
        weight = params["weight"].shape
        if len(shape) != 3 or len(weight) != 4:
            raise ModelError(
                f"Conv2D expects an image [H, W, C] and weights [O, KH, KW, I], found {shape} and {weight}"
            )
        height, width, channels = shape
        if weight[3] * self.groups != channels or weight[0] % self.groups:
            raise ModelError(f"Conv2D weights {weight} in {self.groups} group(s) do not fit {channels} input channels")
        top, left, bottom, right = self.padding
        out_h = output_extent(height, weight[1], self.stride[0], self.dilation[0], top, bottom)
        out_w = output_extent(width, weight[2], self.stride[1], self.dilation[1], left, right)
        if out_h < 1 or out_w < 1:
            raise ModelError(f"a {weight[1]}x{weight[2]} kernel does not fit a padded image of {shape}")
        return out_h, out_w, weight[0]

    def real(self, xs: Sequence[torch.Tensor], params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch.nn.functional as F

        top, left, bottom, right = self.padding
        x = xs[0].permute(0, 3, 1, 2)
        symmetric = (top, left) == (bottom, right)
        if not symmetric:
            x = F.pad(x, (left, right, top, bottom))
        weight = params["weight"].permute(0, 3, 1, 2)
        pads = (top, left) if symmetric else (0, 0)
        y = F.conv2d(x, weight, params["bias"], self.stride, pads, self.dilation, self.groups)
        return self.clamp.real(y.permute(0, 2, 3, 1))

    def quantise(
        self, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> dict[str, Array | int]:
        return quantise_linear(params, ins[0], out, self.clamp)

    def integer(
        self, xs: Sequence[Array], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Array:
        weight = params["weight"]
        outputs, kernel_h, kernel_w, depth = weight.shape
        x = pad_image(xs[0], self.padding, quant_of(ins[0]).zero_point)
        magnitude = 2 ** (quant_of(ins[0]).bits - 1)
        if not self.depthwise(params):
            x = x.astype(exact_dtype(weight, magnitude))
        view = windows(x, (kernel_h, kernel_w), self.stride, self.dilation)
        if self.depthwise(params):
            kernel = weight[..., 0].transpose(1, 2, 0).astype(np.int64)
            acc = np.zeros((*view.shape[:3], outputs), np.int64)
            for i in range(kernel_h):
                for j in range(kernel_w):
                    acc += view[:, :, :, i, j] * kernel[i, j]
        else:
            per_group = outputs // self.groups
            parts = []
            for g in range(self.groups):
                columns = view[..., g * depth : (g + 1) * depth].reshape(-1, kernel_h * kernel_w * depth)
                rows = weight[g * per_group : (g + 1) * per_group].reshape(per_group, -1)
                parts.append(exact_matmul(columns, rows, magnitude))
            acc = np.concatenate(parts, axis=1).reshape(*view.shape[:3], outputs)
        acc = acc + params["bias"].astype(np.int64)
        lo, hi = (int(v) for v in params["clamp"])
        y = fixed.requantise(acc, params["multiplier"], int(params["left_shift"]), quant_of(out).zero_point, lo, hi)
        return y.astype(np.int32)

    def work(self, ins: Sequence[TensorType], params: Mapping[str, Array], out: TensorType) -> Work:
        weight = params["weight"]
        return Work(out.shape[0] * out.shape[1] * weight.size, weight.size)

    def accumulator(self, params: Mapping[str, Array], ins: Sequence[TensorType]) -> Bounds:
        return linear_bounds(params, ins[0])

    def interval(
        self, xs: Sequence[Interval], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Interval:
        return linear_interval(xs[0], params, ins, out, self.groups, any(self.padding))

    def channels(
        self, kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType]
    ) -> Channels:
        if self.groups > 1:
            return group_channels(kept, self.groups)
        return linear_channels(kept, known, params, ins, any(self.padding))

    def cut(
        self, kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType]
    ) -> tuple[Op, Mapping[str, Array]]:
        if self.groups > 1:
            groups = int(kept.out.reshape(self.groups, -1).any(axis=1).sum())
            return replace(self, groups=groups), rows_of(params, kept.out)
        return self, linear_cut(kept, known, params, ins, any(self.padding))
