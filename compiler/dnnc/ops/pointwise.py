"""Functions of one number: a table of all codes in 8 bits or fewer, 256 interpolated segments in 16.

`functions` is the one list of them; `affine` (alpha * x + beta) also serves scalar constants, `identity` a change of
scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dnnc import fixed
from dnnc.errors import ModelError
from dnnc.ir.channels import Channels, Interval, Known
from dnnc.ir.op import Array, Bounds, Op
from dnnc.ir.types import Shape, TensorType
from dnnc.ops.common import quant_of, shape_of

if TYPE_CHECKING:
    import torch

Function = Callable[["torch.Tensor", float, float], "torch.Tensor"]


def functions() -> dict[str, Function]:
    """name -> f(x, alpha, beta), as ONNX defines them."""
    import torch
    import torch.nn.functional as F

    return {
        "identity": lambda x, a, b: x,
        "affine": lambda x, a, b: a * x + b,
        "relu": lambda x, a, b: F.relu(x),
        "clip": lambda x, a, b: x.clamp(a, b),
        "leaky_relu": lambda x, a, b: F.leaky_relu(x, a),
        "sigmoid": lambda x, a, b: torch.sigmoid(x),
        "hard_sigmoid": lambda x, a, b: (a * x + b).clamp(0.0, 1.0),
        "hard_swish": lambda x, a, b: x * (x / 6 + 0.5).clamp(0.0, 1.0),
        "tanh": lambda x, a, b: torch.tanh(x),
        "silu": lambda x, a, b: F.silu(x),
        "elu": lambda x, a, b: F.elu(x, a),
        "selu": lambda x, a, b: b * torch.where(x > 0, x, a * (torch.exp(x) - 1)),
        "softplus": lambda x, a, b: F.softplus(x),
        "softsign": lambda x, a, b: F.softsign(x),
        "gelu": lambda x, a, b: F.gelu(x),
        "gelu_tanh": lambda x, a, b: F.gelu(x, approximate="tanh"),
        "exp": lambda x, a, b: torch.exp(x),
        "abs": lambda x, a, b: x.abs(),
        "square": lambda x, a, b: x * x,
    }


FUNCTION_NAMES = (
    "identity", "affine", "relu", "clip", "leaky_relu", "sigmoid", "hard_sigmoid", "hard_swish", "tanh", "silu", "elu",
    "selu", "softplus", "softsign", "gelu", "gelu_tanh", "exp", "abs", "square",
)  # fmt: skip


@dataclass(frozen=True)
class Pointwise(Op):
    """y = function(x; alpha, beta), element by element."""

    kind: ClassVar[str] = "Pointwise"
    function: str = "identity"
    alpha: float = 0.0
    beta: float = 0.0

    def __post_init__(self) -> None:
        if self.function not in FUNCTION_NAMES:
            raise ModelError(f"unknown pointwise function '{self.function}'; known: {', '.join(FUNCTION_NAMES)}")

    def infer(self, ins: Sequence[TensorType | Shape], params: Mapping[str, Array]) -> Shape:
        return shape_of(ins[0])

    def real(self, xs: Sequence[torch.Tensor], params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return functions()[self.function](xs[0], self.alpha, self.beta)

    def quantise(
        self, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> dict[str, Array | int]:
        """table: the output code of every input code from the lowest (8 bits), or of every 256th and the end (16)."""
        import torch

        x, y = quant_of(ins[0]), quant_of(out)
        step = 1 if x.bits <= 8 else 2 ** (x.bits - 8)
        codes = np.arange(x.lo, x.hi + 1 + (step > 1), step)
        reals = torch.tensor(x.scale * (codes - x.zero_point), dtype=torch.float64)
        values = functions()[self.function](reals, self.alpha, self.beta).numpy()
        table = np.clip(fixed.round_half_up(np.clip(values / y.scale, -1e9, 1e9)) + y.zero_point, y.lo, y.hi)
        return {"table": table.astype(y.dtype)}

    def integer(
        self, xs: Sequence[Array], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Array:
        x, table = quant_of(ins[0]), params["table"].astype(np.int32)
        index = xs[0] - x.lo
        if x.bits <= 8:
            small: Array = table[index]
            return small
        shift = x.bits - 8
        segment, fraction = index >> shift, index & ((1 << shift) - 1)
        rise = (table[segment + 1] - table[segment]) * fraction
        interpolated: Array = table[segment] + ((rise + (1 << (shift - 1))) >> shift)
        return interpolated

    def interval(
        self, xs: Sequence[Interval], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Interval:
        # Between two entries of the table the output runs from one to the other, so ends and entries are extremes.
        (x,), q, table = xs, quant_of(ins[0]), params["table"].astype(np.int64)
        knots = q.lo + np.arange(len(table)) * (1 if q.bits <= 8 else 2 ** (q.bits - 8))
        within = (knots >= x.lo[:, None]) & (knots <= x.hi[:, None])
        ends = self.integer([np.stack([x.lo, x.hi])], params, ins, out).astype(np.int64)
        lowest = np.where(within, table, np.iinfo(np.int64).max).min(axis=1)
        highest = np.where(within, table, np.iinfo(np.int64).min).max(axis=1)
        return Interval(np.minimum(lowest, ends.min(axis=0)), np.maximum(highest, ends.max(axis=0)))

    def channels(
        self, kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType]
    ) -> Channels:
        return kept.tied()

    def identity(self, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType) -> bool:
        if ins[0] != out:
            return False
        codes = np.arange(known.ins[0].lo.min(), known.ins[0].hi.max() + 1)
        return bool(np.array_equal(self.integer([codes], params, ins, out), codes))


@dataclass(frozen=True)
class PRelu(Op):
    """x where x >= 0, else slope * x; `slope` has one element a channel (last axis), or one in all."""

    kind: ClassVar[str] = "PRelu"

    def infer(self, ins: Sequence[TensorType | Shape], params: Mapping[str, Array]) -> Shape:
        shape = shape_of(ins[0])
        slopes = (params["slope"] if "slope" in params else params["multiplier_negative"]).shape
        if slopes not in ((1,), shape[-1:]):
            raise ModelError(f"PRelu expects 1 or {shape[-1:]} slopes, found {slopes}")
        return shape

    def real(self, xs: Sequence[torch.Tensor], params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch

        return torch.where(xs[0] >= 0, xs[0], xs[0] * params["slope"])

    def quantise(
        self, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> dict[str, Array | int]:
        ratio = quant_of(ins[0]).scale / quant_of(out).scale
        both, left_shift = fixed.multipliers(np.concatenate([[ratio], ratio * np.asarray(params["slope"], np.float64)]))
        return {"multiplier_positive": both[0], "multiplier_negative": both[1:], "left_shift": left_shift}

    def integer(
        self, xs: Sequence[Array], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Array:
        acc = xs[0].astype(np.int64) - quant_of(ins[0]).zero_point
        multiplier = np.where(acc >= 0, int(params["multiplier_positive"]), params["multiplier_negative"])
        y = quant_of(out)
        codes = fixed.requantise(acc, multiplier, int(params["left_shift"]), y.zero_point, y.lo, y.hi)
        return codes.astype(np.int32)

    def interval(
        self, xs: Sequence[Interval], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Interval:
        # Straight on either side of zero: the extremes are at the ends and beside the bend.
        (x,), zero = xs, quant_of(ins[0]).zero_point
        ends = np.stack([x.lo, x.hi, np.clip(zero, x.lo, x.hi), np.clip(zero - 1, x.lo, x.hi)])
        codes = self.integer([ends], params, ins, out).astype(np.int64)
        return Interval(codes.min(axis=0), codes.max(axis=0))

    def channels(
        self, kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType]
    ) -> Channels:
        return kept.tied()

    def cut(
        self, kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType]
    ) -> tuple[Op, Mapping[str, Array]]:
        slopes = params["multiplier_negative"]
        return self, {**params, "multiplier_negative": slopes if len(slopes) == 1 else slopes[kept.out]}

    def accumulator(self, params: Mapping[str, Array], ins: Sequence[TensorType]) -> Bounds:
        q, shift = quant_of(ins[0]), int(params["left_shift"])
        return (
            np.array([(q.lo - q.zero_point) << shift], np.int64),
            np.array([(q.hi - q.zero_point) << shift], np.int64),
        )
