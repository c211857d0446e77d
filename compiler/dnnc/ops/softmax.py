"""Softmax over the last axis: a table of exponentials and one rounded division, in 32-bit unsigned arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dnnc import fixed
from dnnc.errors import ModelError
from dnnc.ir.op import Array, Op
from dnnc.ir.types import Quant, Shape, TensorType
from dnnc.ops.common import quant_of, shape_of

if TYPE_CHECKING:
    import torch

#: A sum of this many entries of at most 2**16 - 1 stays below 2**31, and so does the rounded dividend.
MAX_CLASSES = 2**15


@dataclass(frozen=True)
class Softmax(Op):
    """exp(x - max x), normalised. The output's quantisation is fixed: `output_quant`."""

    kind: ClassVar[str] = "Softmax"

    @staticmethod
    def output_quant(bits: int) -> Quant:
        """0..1 in steps of 2**-bits, so that the division is by the sum alone."""
        return Quant(bits, 2.0**-bits, -(2 ** (bits - 1)))

    def infer(self, ins: Sequence[TensorType | Shape], params: Mapping[str, Array]) -> Shape:
        shape = shape_of(ins[0])
        if not shape or shape[-1] > MAX_CLASSES:
            raise ModelError(f"Softmax expects 1..{MAX_CLASSES} classes in the last axis, found shape {shape}")
        return shape

    def real(self, xs: Sequence[torch.Tensor], params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return xs[0].softmax(dim=-1)

    def quantise(
        self, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> dict[str, Array | int]:
        """table uint16 [2**bits]: round(65535 * exp(-scale * d)) for d codes below the largest."""
        x = quant_of(ins[0])
        if x.bits > 8:
            raise ModelError("Softmax takes activations of at most 8 bits")
        return {"table": fixed.round_half_up(65535 * np.exp(-x.scale * np.arange(2**x.bits))).astype(np.uint16)}

    def integer(
        self, xs: Sequence[Array], params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType
    ) -> Array:
        """q = min((e << bits) + sum / 2) / sum, 2**bits - 1) - 2**(bits-1), floor division."""
        y = quant_of(out)
        distance = xs[0].max(axis=-1, keepdims=True) - xs[0]
        exponentials = params["table"].astype(np.int64)[distance]
        total = exponentials.sum(axis=-1, keepdims=True)
        share = ((exponentials << y.bits) + (total >> 1)) // total
        codes: Array = (np.minimum(share, 2**y.bits - 1) + y.lo).astype(np.int32)
        return codes
