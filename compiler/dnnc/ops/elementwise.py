"""Two-operand arithmetic with numpy broadcasting: Add (and Sub) with one rounding, Mul."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dnnc import fixed
from dnnc.ir.channels import Channels, Interval, Known
from dnnc.ir.op import Array, Bounds, Op
from dnnc.ir.types import Quant, Shape, TensorType
from dnnc.ops.activation import NO_CLAMP, Clamp
from dnnc.ops.common import align, broadcast, quant_of, requantised, shape_of

if TYPE_CHECKING:
    import torch


def _aligned(xs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    rank = max(x.dim() for x in xs)
    return [x.reshape(x.shape[0], *(1,) * (rank - x.dim()), *x.shape[1:]) for x in xs]


def _codes(xs: Sequence[Array]) -> list[Array]:
    rank = max(x.ndim for x in xs) - 1
    return [align(x, rank).astype(np.int64) for x in xs]


def add_multipliers(ratios: Sequence[float], ins: Sequence[Quant], zero_point: int) -> tuple[list[int], int]:
    """Integer multipliers and the one shift s of Add: ratio ~ multiplier / 2**s, as precise as int32 allows.

    Multipliers stay under 2**15 (an SMLAD operand) and all terms of the sum within int32 for any input codes.
    """
    for shift in range(30, 0, -1):
        m = [int(np.floor(r * 2.0**shift + 0.5)) for r in ratios]
        reach = sum(abs(v) * 2**q.bits for v, q in zip(m, ins, strict=True))
        if max(map(abs, m)) < 2**15 and reach + (abs(zero_point) + 1) * 2**shift < 2**31:
            return m, shift
    raise ValueError(f"scale ratios {tuple(ratios)} of an Add are too large for 16-bit multipliers")


@dataclass(frozen=True)
class _Channelwise(Op):
    """Output channel c is made of channel c of the inputs, or of their only one."""

    broadcasts: ClassVar[bool] = True

    def channels(
        self, kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType]
    ) -> Channels:
        return kept.tied()


@dataclass(frozen=True)
class Add(_Channelwise):
    """clamp(a + b), or a - b. Integer: clamp((a * ma + b * mb + offset) >> shift), one rounding."""

    kind: ClassVar[str] = "Add"
    subtract: bool = False
    clamp: Clamp = NO_CLAMP

    def infer(self, ins: Sequence[TensorType | Shape], params: Mapping[str, Array]) -> Shape:
        return broadcast(shape_of(ins[0]), shape_of(ins[1]))

    def real(self, xs: Sequence[torch.Tensor], params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        a, b = _aligned(xs)
        return self.clamp.real(a - b if self.subtract else a + b)

    def quantise(
        self, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> dict[str, Array | int]:
        a, b, y = quant_of(ins[0]), quant_of(ins[1]), quant_of(out)
        ratios = [a.scale / y.scale, (-b.scale if self.subtract else b.scale) / y.scale]
        m, shift = add_multipliers(ratios, (a, b), y.zero_point)
        offset = (y.zero_point << shift) + (1 << (shift - 1)) - a.zero_point * m[0] - b.zero_point * m[1]
        return {
            "multipliers": np.array(m, np.int32),
            "offset": offset,
            "shift": shift,
            "clamp": self.clamp.codes(y),
        }

    def integer(
        self, xs: Sequence[Array], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Array:
        a, b = _codes(xs)
        m = params["multipliers"].astype(np.int64)
        total = a * m[0] + b * m[1] + int(params["offset"])
        lo, hi = (int(v) for v in params["clamp"])
        return fixed.saturate(total >> int(params["shift"]), lo, hi).astype(np.int32)

    def interval(
        self, xs: Sequence[Interval], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Interval:
        lowest = highest = np.full(1, params["offset"], np.int64)
        for x, m in zip(xs, params["multipliers"].astype(np.int64), strict=True):
            lowest = lowest + np.minimum(x.lo * m, x.hi * m)
            highest = highest + np.maximum(x.lo * m, x.hi * m)
        lo, hi = (int(v) for v in params["clamp"])
        shift = int(params["shift"])
        return Interval(fixed.saturate(lowest >> shift, lo, hi), fixed.saturate(highest >> shift, lo, hi))

    def accumulator(self, params: Mapping[str, Array], ins: Sequence[TensorType]) -> Bounds:
        m = params["multipliers"].astype(np.int64)
        offset = int(params["offset"])
        ends = [sorted((int(v) * quant_of(t).lo, int(v) * quant_of(t).hi)) for v, t in zip(m, ins, strict=True)]
        lo = min(offset, 0) + sum(min(e[0], 0) for e in ends)
        hi = max(offset, 0) + sum(max(e[1], 0) for e in ends)
        return np.array([lo], np.int64), np.array([hi], np.int64)


@dataclass(frozen=True)
class Mul(_Channelwise):
    """clamp(a * b). Integer: requantise((a - za) * (b - zb))."""

    kind: ClassVar[str] = "Mul"
    clamp: Clamp = NO_CLAMP

    def infer(self, ins: Sequence[TensorType | Shape], params: Mapping[str, Array]) -> Shape:
        return broadcast(shape_of(ins[0]), shape_of(ins[1]))

    def real(self, xs: Sequence[torch.Tensor], params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        a, b = _aligned(xs)
        return self.clamp.real(a * b)

    def quantise(
        self, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> dict[str, Array | int]:
        ratio = quant_of(ins[0]).scale * quant_of(ins[1]).scale / quant_of(out).scale
        multiplier, left_shift = fixed.multipliers(ratio)
        return {"multiplier": multiplier, "left_shift": left_shift, "clamp": self.clamp.codes(quant_of(out))}

    def integer(
        self, xs: Sequence[Array], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Array:
        a, b = _codes(xs)
        acc = (a - quant_of(ins[0]).zero_point) * (b - quant_of(ins[1]).zero_point)
        lo, hi = (int(v) for v in params["clamp"])
        multiplier, shift = int(params["multiplier"]), int(params["left_shift"])
        return fixed.requantise(acc, multiplier, shift, quant_of(out).zero_point, lo, hi).astype(np.int32)

    def interval(
        self, xs: Sequence[Interval], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Interval:
        a, b = ((x.lo - quant_of(t).zero_point, x.hi - quant_of(t).zero_point) for x, t in zip(xs, ins, strict=True))
        ends = np.stack(np.broadcast_arrays(*(u * v for u in a for v in b)))
        lo, hi = (int(v) for v in params["clamp"])
        multiplier, shift = int(params["multiplier"]), int(params["left_shift"])
        return requantised(ends.min(axis=0), ends.max(axis=0), multiplier, shift, quant_of(out).zero_point, lo, hi)

    def accumulator(self, params: Mapping[str, Array], ins: Sequence[TensorType]) -> Bounds:
        sides = [(quant_of(t).lo - quant_of(t).zero_point, quant_of(t).hi - quant_of(t).zero_point) for t in ins]
        ends = [a * b for a in sides[0] for b in sides[1]]
        shift = int(params["left_shift"])
        return np.array([min(ends) << shift], np.int64), np.array([max(ends) << shift], np.int64)
