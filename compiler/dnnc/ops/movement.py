"""Operations that only move elements: the integer meaning is the float one, on codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dnnc.errors import ModelError
from dnnc.ir.channels import Channels, Interval, Known, channel_count, union
from dnnc.ir.op import Array, Op
from dnnc.ir.types import Shape, TensorType
from dnnc.ops.common import quant_of, shape_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class _Move(Op):
    keeps_quant: ClassVar[bool] = True

    def quantise(
        self, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> dict[str, Array | int]:
        return {}


@dataclass(frozen=True)
class Reshape(_Move):
    """The same elements in the same order under another shape: costs nothing."""

    kind: ClassVar[str] = "Reshape"
    shape: Shape = ()

    def infer(self, ins: Sequence[TensorType | Shape], params: Mapping[str, Array]) -> Shape:
        if prod(shape_of(ins[0])) != prod(self.shape):
            raise ModelError(f"{shape_of(ins[0])} cannot be reshaped to {self.shape}")
        return self.shape

    def real(self, xs: Sequence[torch.Tensor], params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return xs[0].reshape(xs[0].shape[0], *self.shape)

    def integer(
        self, xs: Sequence[Array], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Array:
        return xs[0].reshape(len(xs[0]), *self.shape)

    # Element n is in channel n % C before and n % D after: channels map where one of C and D divides the other.

    def interval(
        self, xs: Sequence[Interval], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Interval:
        before, after = channel_count(ins[0].shape), channel_count(self.shape)
        (x,) = xs
        if after % before == 0:
            return Interval(np.tile(x.lo, after // before), np.tile(x.hi, after // before))
        if before % after == 0:
            return Interval(x.lo.reshape(-1, after).min(axis=0), x.hi.reshape(-1, after).max(axis=0))
        return x.merged(after)

    def channels(
        self, kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType]
    ) -> Channels:
        before, after = kept.ins[0], kept.out
        fewer = min(len(before), len(after))
        if len(before) % fewer or len(after) % fewer:
            return kept.all()
        alive = before.reshape(-1, fewer).any(axis=0) | after.reshape(-1, fewer).any(axis=0)
        return Channels((np.tile(alive, len(before) // fewer),), np.tile(alive, len(after) // fewer))

    def cut(
        self, kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType]
    ) -> tuple[Op, Mapping[str, Array]]:
        return (replace(self, shape=(*self.shape[:-1], int(kept.out.sum()))) if self.shape else self), params

    def identity(self, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType) -> bool:
        return ins[0] == out


@dataclass(frozen=True)
class Transpose(_Move):
    """Axis i of the output is axis perm[i] of the input (batch excluded)."""

    kind: ClassVar[str] = "Transpose"
    perm: tuple[int, ...] = ()

    def infer(self, ins: Sequence[TensorType | Shape], params: Mapping[str, Array]) -> Shape:
        shape = shape_of(ins[0])
        if sorted(self.perm) != list(range(len(shape))):
            raise ModelError(f"{self.perm} is no permutation of the axes of {shape}")
        return tuple(shape[p] for p in self.perm)

    def real(self, xs: Sequence[torch.Tensor], params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return xs[0].permute(0, *(p + 1 for p in self.perm))

    def integer(
        self, xs: Sequence[Array], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Array:
        return xs[0].transpose(0, *(p + 1 for p in self.perm))

    @property
    def _keeps_channels(self) -> bool:
        return not self.perm or self.perm[-1] == len(self.perm) - 1

    def interval(
        self, xs: Sequence[Interval], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Interval:
        return xs[0] if self._keeps_channels else xs[0].merged(channel_count(out.shape))

    def channels(
        self, kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType]
    ) -> Channels:
        return kept.tied() if self._keeps_channels else kept.all()

    def identity(self, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType) -> bool:
        return self.perm == tuple(range(len(self.perm)))


@dataclass(frozen=True)
class Concat(_Move):
    """Inputs one after another along `axis`."""

    kind: ClassVar[str] = "Concat"
    axis: int = 0

    def infer(self, ins: Sequence[TensorType | Shape], params: Mapping[str, Array]) -> Shape:
        shapes = [list(shape_of(i)) for i in ins]
        if not all(0 <= self.axis < len(s) for s in shapes):
            raise ModelError(f"Concat along axis {self.axis} does not fit {[shape_of(i) for i in ins]}")
        total = sum(s[self.axis] for s in shapes)
        for s in shapes:
            s[self.axis] = total
        if any(s != shapes[0] for s in shapes):
            raise ModelError(
                f"Concat along axis {self.axis} expects equal other axes, found {[shape_of(i) for i in ins]}"
            )
        return tuple(shapes[0])

    def real(self, xs: Sequence[torch.Tensor], params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch

        return torch.cat(list(xs), dim=self.axis + 1)

    def integer(
        self, xs: Sequence[Array], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Array:
        return np.concatenate(xs, axis=self.axis + 1)

    def _joins_channels(self, ins: Sequence[TensorType]) -> bool:
        return self.axis == len(ins[0].shape) - 1

    def interval(
        self, xs: Sequence[Interval], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Interval:
        if not self._joins_channels(ins):
            return union(xs)
        return Interval(np.concatenate([x.lo for x in xs]), np.concatenate([x.hi for x in xs]))

    def channels(
        self, kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType]
    ) -> Channels:
        if not self._joins_channels(ins):
            return kept.tied()
        together = kept.out | np.concatenate(kept.ins)
        ends = np.cumsum([len(mask) for mask in kept.ins])[:-1]
        return Channels(tuple(np.split(together, ends)), together)

    def identity(self, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType) -> bool:
        return len(ins) == 1


@dataclass(frozen=True)
class Slice(_Move):
    """Elements start, start + step, ... below stop, along every axis. Steps are positive."""

    kind: ClassVar[str] = "Slice"
    start: tuple[int, ...] = ()
    stop: tuple[int, ...] = ()
    step: tuple[int, ...] = ()

    def infer(self, ins: Sequence[TensorType | Shape], params: Mapping[str, Array]) -> Shape:
        shape = shape_of(ins[0])
        spans = list(zip(self.start, self.stop, self.step, strict=True))
        if len(spans) != len(shape) or any(
            not (0 <= a < b <= n and s > 0) for (a, b, s), n in zip(spans, shape, strict=True)
        ):
            raise ModelError(f"Slice {spans} does not fit {shape}")
        return tuple(-(-(b - a) // s) for a, b, s in spans)

    @property
    def index(self) -> tuple[slice, ...]:
        spans = zip(self.start, self.stop, self.step, strict=True)
        return (slice(None), *(slice(a, b, s) for a, b, s in spans))

    def real(self, xs: Sequence[torch.Tensor], params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return xs[0][self.index]

    def integer(
        self, xs: Sequence[Array], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Array:
        result: Array = xs[0][self.index]
        return result

    def interval(
        self, xs: Sequence[Interval], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Interval:
        taken = self.index[-1] if self.start else slice(None)
        return Interval(xs[0].lo[taken], xs[0].hi[taken])

    def channels(
        self, kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType]
    ) -> Channels:
        if self.start and self.step[-1] != 1:
            return kept.all()
        taken = self.index[-1] if self.start else slice(None)
        before = kept.ins[0].copy()
        before[taken] |= kept.out
        return Channels((before,), before[taken])

    def cut(
        self, kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType]
    ) -> tuple[Op, Mapping[str, Array]]:
        if not self.start:
            return self, params
        first = int(kept.ins[0][: self.start[-1]].sum())
        last = first + int(kept.out.sum()) if self.step[-1] == 1 else self.stop[-1]
        return replace(self, start=(*self.start[:-1], first), stop=(*self.stop[:-1], last)), params

    def identity(self, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType) -> bool:
        return ins[0] == out


@dataclass(frozen=True)
class Pad(_Move):
    """`before[i]` and `after[i]` constants of `value` around axis i."""

    kind: ClassVar[str] = "Pad"
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    value: float = 0.0

    def infer(self, ins: Sequence[TensorType | Shape], params: Mapping[str, Array]) -> Shape:
        shape = shape_of(ins[0])
        if len(self.before) != len(shape) or len(self.after) != len(shape) or min((*self.before, *self.after)) < 0:
            raise ModelError(f"Pad {self.before} .. {self.after} does not fit {shape}")
        return tuple(b + n + a for b, n, a in zip(self.before, shape, self.after, strict=True))

    def real(self, xs: Sequence[torch.Tensor], params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch.nn.functional as F

        flat = [v for pair in zip(reversed(self.before), reversed(self.after), strict=True) for v in pair]
        return F.pad(xs[0], flat, value=self.value)

    def quantise(
        self, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> dict[str, Array | int]:
        return {"value": quant_of(out).code(self.value)}

    def integer(
        self, xs: Sequence[Array], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Array:
        widths = ((0, 0), *zip(self.before, self.after, strict=True))
        return np.pad(xs[0], widths, constant_values=int(params["value"]))

    @property
    def _pads_channels(self) -> bool:
        return bool(self.before) and bool(self.before[-1] or self.after[-1])

    def interval(
        self, xs: Sequence[Interval], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Interval:
        value = int(params["value"])
        x = xs[0].including(value) if any((*self.before[:-1], *self.after[:-1])) else xs[0]
        if not self._pads_channels:
            return x
        widths = (self.before[-1], self.after[-1])
        return Interval(*(np.pad(v, widths, constant_values=value) for v in (x.lo, x.hi)))

    def channels(
        self, kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType]
    ) -> Channels:
        return kept.all() if self._pads_channels else kept.tied()

    def identity(self, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType) -> bool:
        return ins[0] == out


def _within(indices: Sequence[int], extent: int) -> bool:
    return bool(indices) and min(indices) >= 0 and max(indices) < extent


@dataclass(frozen=True)
class Resize(_Move):
    """Nearest neighbour: output row i is input row rows[i], column j is columns[j]."""

    kind: ClassVar[str] = "Resize"
    rows: tuple[int, ...] = ()
    columns: tuple[int, ...] = ()

    def infer(self, ins: Sequence[TensorType | Shape], params: Mapping[str, Array]) -> Shape:
        shape = shape_of(ins[0])
        if len(shape) != 3 or not (_within(self.rows, shape[0]) and _within(self.columns, shape[1])):
            raise ModelError(f"Resize expects an image [H, W, C] that holds its rows and columns, found {shape}")
        return len(self.rows), len(self.columns), shape[2]

    def real(self, xs: Sequence[torch.Tensor], params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return xs[0][:, list(self.rows)][:, :, list(self.columns)]

    def integer(
        self, xs: Sequence[Array], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Array:
        result: Array = xs[0][:, list(self.rows)][:, :, list(self.columns)]
        return result

    def interval(
        self, xs: Sequence[Interval], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Interval:
        return xs[0]

    def channels(
        self, kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType]
    ) -> Channels:
        return kept.tied()

    def identity(self, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType) -> bool:
        every = tuple(tuple(range(extent)) for extent in ins[0].shape[:2])
        return (self.rows, self.columns) == every


@dataclass(frozen=True)
class Constant(Op):
    """A tensor known at compile time, param `value`; it reads no input, so it is broadcast over the batch of 1."""

    kind: ClassVar[str] = "Constant"

    def infer(self, ins: Sequence[TensorType | Shape], params: Mapping[str, Array]) -> Shape:
        return tuple(params["value"].shape)

    def real(self, xs: Sequence[torch.Tensor], params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return params["value"][None]

    def quantise(
        self, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> dict[str, Array | int]:
        q = quant_of(out)
        codes = np.floor(np.asarray(params["value"], np.float64) / q.scale + 0.5) + q.zero_point
        return {"value": np.clip(codes, q.lo, q.hi).astype(q.dtype)}

    def integer(
        self, xs: Sequence[Array], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Array:
        return params["value"].astype(np.int32)[None]

    def interval(
        self, xs: Sequence[Interval], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Interval:
        codes = params["value"].astype(np.int64).reshape(-1, channel_count(out.shape))
        return Interval(codes.min(axis=0), codes.max(axis=0))

    def channels(
        self, kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType]
    ) -> Channels:
        return kept

    def cut(
        self, kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType]
    ) -> tuple[Op, Mapping[str, Array]]:
        value = params["value"]
        return self, {"value": value[..., kept.out] if value.ndim else value}
