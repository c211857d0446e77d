"""Pooling windows and means. Max keeps its quantisation; a mean is a sum and one requantisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from dnnc import fixed
from dnnc.errors import ModelError
from dnnc.ir.channels import Channels, Interval, Known, channel_count
from dnnc.ir.op import Array, Bounds, Op
from dnnc.ir.types import Shape, TensorType
from dnnc.ops.common import quant_of, requantised, shape_of
from dnnc.ops.conv import output_extent, pad_image, windows

if TYPE_CHECKING:
    import torch

Pair = tuple[int, int]
Padding = tuple[int, int, int, int]


def _infer(shape: Shape, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair = (1, 1)) -> Shape:
    if len(shape) != 3:
        raise ModelError(f"pooling expects an image [H, W, C], found {shape}")
    out_h = output_extent(shape[0], kernel[0], stride[0], dilation[0], padding[0], padding[2])
    out_w = output_extent(shape[1], kernel[1], stride[1], dilation[1], padding[1], padding[3])
    if out_h < 1 or out_w < 1:
        raise ModelError(f"a {kernel[0]}x{kernel[1]} pooling window does not fit a padded image of {shape}")
    return out_h, out_w, shape[2]


@dataclass(frozen=True)
class MaxPool2D(Op):
    """Largest element of each window; padding never wins. Padding is (top, left, bottom, right)."""

    kind: ClassVar[str] = "MaxPool2D"
    keeps_quant: ClassVar[bool] = True
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: Pair = (1, 1)

    def infer(self, ins: Sequence[TensorType | Shape], params: Mapping[str, Array]) -> Shape:
        return _infer(shape_of(ins[0]), self.kernel, self.stride, self.padding, self.dilation)

    def real(self, xs: Sequence[torch.Tensor], params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch.nn.functional as F

        top, left, bottom, right = self.padding
        x = xs[0].permute(0, 3, 1, 2)
        if any(self.padding):  # F.pad by nothing is a copy
            x = F.pad(x, (left, right, top, bottom), value=-float("inf"))
        return F.max_pool2d(x, self.kernel, self.stride, 0, self.dilation).permute(0, 2, 3, 1)

    def quantise(
        self, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> dict[str, Array | int]:
        return {}

    def integer(
        self, xs: Sequence[Array], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Array:
        x = pad_image(xs[0], self.padding, quant_of(ins[0]).lo)
        result: Array = windows(x, self.kernel, self.stride, self.dilation).max(axis=(3, 4))
        return result

    def interval(
        self, xs: Sequence[Interval], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Interval:
        inside = pad_image(np.ones((1, *ins[0].shape[:2], 1), np.int8), self.padding, 0)
        filled = windows(inside, self.kernel, self.stride, self.dilation).any(axis=(3, 4)).all()
        return xs[0] if filled else xs[0].including(quant_of(ins[0]).lo)

    def channels(
        self, kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType]
    ) -> Channels:
        return kept.tied()

    def identity(self, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType) -> bool:
        return ins[0] == out and self.kernel == (1, 1) and not any(self.padding)


@dataclass(frozen=True)
class AvgPool2D(Op):
    """Mean of each window. With `count_padding`, the first `padding` positions count as zeros; what lies beyond them
    (a ceil_mode window that hangs over, given by `overhang` = (bottom, right)) never counts.
    """

    kind: ClassVar[str] = "AvgPool2D"
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    overhang: Pair = (0, 0)
    count_padding: bool = False

    @property
    def full_padding(self) -> Padding:
        top, left, bottom, right = self.padding
        return top, left, bottom + self.overhang[0], right + self.overhang[1]

    def infer(self, ins: Sequence[TensorType | Shape], params: Mapping[str, Array]) -> Shape:
        return _infer(shape_of(ins[0]), self.kernel, self.stride, self.full_padding)

    def counts(self, shape: Shape) -> NDArray[np.int64]:
        """How many positions each window averages over, [OH, OW]."""
        counted = np.full((1, *shape[:2], 1), 1, np.int64)
        counted = pad_image(counted, self.padding, 1 if self.count_padding else 0)
        counted = pad_image(counted, (0, 0, *self.overhang), 0)
        totals: NDArray[np.int64] = windows(counted, self.kernel, self.stride, (1, 1)).sum(axis=(3, 4))[0, ..., 0]
        return totals

    def real(self, xs: Sequence[torch.Tensor], params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch
        import torch.nn.functional as F

        top, left, bottom, right = self.full_padding
        shape = tuple(xs[0].shape[1:])
        x = F.pad(xs[0].permute(0, 3, 1, 2), (left, right, top, bottom))
        total = F.avg_pool2d(x, self.kernel, self.stride, divisor_override=1).permute(0, 2, 3, 1)
        counts = torch.as_tensor(np.maximum(self.counts(shape), 1), dtype=total.dtype, device=total.device)
        return total / counts[None, :, :, None]

    def quantise(
        self, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> dict[str, Array | int]:
        """count int32 [k]: the distinct window sizes, ascending; multiplier int32 [k] for each; left_shift."""
        count = np.unique(np.maximum(self.counts(ins[0].shape), 1))
        multiplier, left_shift = fixed.multipliers(quant_of(ins[0]).scale / (count * quant_of(out).scale))
        return {"count": count.astype(np.int32), "multiplier": multiplier, "left_shift": left_shift}

    def integer(
        self, xs: Sequence[Array], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Array:
        zero = quant_of(ins[0]).zero_point
        x = pad_image(xs[0].astype(np.int64), self.full_padding, zero)
        total = windows(x, self.kernel, self.stride, (1, 1)).sum(axis=(3, 4))
        total -= self.kernel[0] * self.kernel[1] * zero
        counts = np.maximum(self.counts(ins[0].shape), 1)
        multiplier = params["multiplier"][np.searchsorted(params["count"], counts)][None, :, :, None]
        y = quant_of(out)
        codes = fixed.requantise(total, multiplier, int(params["left_shift"]), y.zero_point, y.lo, y.hi)
        return codes.astype(np.int32)

    def interval(
        self, xs: Sequence[Interval], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Interval:
        shape, zero, y = ins[0].shape, quant_of(ins[0]).zero_point, quant_of(out)
        inside = replace(self, count_padding=False).counts(shape)
        counts = np.maximum(self.counts(shape), 1)
        summed, divisor = np.unique(np.stack([inside.ravel(), counts.ravel()]), axis=1)[:, :, None]
        multiplier = params["multiplier"][np.searchsorted(params["count"], divisor)]
        left_shift = int(params["left_shift"])
        lowest, highest = summed * (xs[0].lo - zero), summed * (xs[0].hi - zero)
        each = requantised(lowest, highest, multiplier, left_shift, y.zero_point, y.lo, y.hi)
        return Interval(each.lo.min(axis=0), each.hi.max(axis=0))

    def channels(
        self, kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType]
    ) -> Channels:
        return kept.tied()

    def accumulator(self, params: Mapping[str, Array], ins: Sequence[TensorType]) -> Bounds:
        q, n = quant_of(ins[0]), self.kernel[0] * self.kernel[1]
        shift = int(params["left_shift"])
        return (
            np.array([n * (q.lo - q.zero_point) << shift], np.int64),
            np.array([n * (q.hi - q.zero_point) << shift], np.int64),
        )


@dataclass(frozen=True)
class ReduceMean(Op):
    """Mean over `axes` (of the shape without batch, ascending); `keepdims` keeps them as 1."""

    kind: ClassVar[str] = "ReduceMean"
    axes: tuple[int, ...] = ()
    keepdims: bool = False

    def infer(self, ins: Sequence[TensorType | Shape], params: Mapping[str, Array]) -> Shape:
        shape = shape_of(ins[0])
        if any(not 0 <= a < len(shape) for a in self.axes):
            raise ModelError(f"ReduceMean over axes {self.axes} does not fit {shape}")
        if self.keepdims:
            return tuple(1 if i in self.axes else v for i, v in enumerate(shape))
        return tuple(v for i, v in enumerate(shape) if i not in self.axes)

    def real(self, xs: Sequence[torch.Tensor], params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return xs[0].mean(dim=tuple(a + 1 for a in self.axes), keepdim=self.keepdims) if self.axes else xs[0]

    def _count(self, shape: Shape) -> int:
        return int(np.prod([shape[a] for a in self.axes], dtype=np.int64))

    def quantise(
        self, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> dict[str, Array | int]:
        ratio = quant_of(ins[0]).scale / (self._count(ins[0].shape) * quant_of(out).scale)
        multiplier, left_shift = fixed.multipliers(ratio)
        return {"multiplier": multiplier, "left_shift": left_shift}

    def integer(
        self, xs: Sequence[Array], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Array:
        zero = quant_of(ins[0]).zero_point
        axes = tuple(a + 1 for a in self.axes)
        total = (xs[0].astype(np.int64) - zero).sum(axis=axes, keepdims=self.keepdims)
        y = quant_of(out)
        multiplier, shift = int(params["multiplier"]), int(params["left_shift"])
        return fixed.requantise(total, multiplier, shift, y.zero_point, y.lo, y.hi).astype(np.int32)

    def _mixes(self, shape: Shape) -> bool:
        """Whether the mean is over the channels too."""
        return len(shape) - 1 in self.axes

    def interval(
        self, xs: Sequence[Interval], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Interval:
        shape, zero, y = ins[0].shape, quant_of(ins[0]).zero_point, quant_of(out)
        lowest, highest = self._count(shape) * (xs[0].lo - zero), self._count(shape) * (xs[0].hi - zero)
        if self._mixes(shape):
            count = channel_count(out.shape)
            lowest, highest = (np.full(count, v.sum() // shape[-1]) for v in (lowest, highest))
        multiplier, shift = int(params["multiplier"]), int(params["left_shift"])
        return requantised(lowest, highest, multiplier, shift, y.zero_point, y.lo, y.hi)

    def channels(
        self, kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType]
    ) -> Channels:
        return kept.all() if self._mixes(ins[0].shape) else kept.tied()

    def accumulator(self, params: Mapping[str, Array], ins: Sequence[TensorType]) -> Bounds:
        q, n, shift = quant_of(ins[0]), self._count(ins[0].shape), int(params["left_shift"])
        return (
            np.array([n * (q.lo - q.zero_point) << shift], np.int64),
            np.array([n * (q.hi - q.zero_point) << shift], np.int64),
        )
