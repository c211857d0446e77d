"""Operations that only move elements: the integer meaning is the float one, on codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dnnc.errors import ModelError
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
    in_place: ClassVar[bool] = True
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
