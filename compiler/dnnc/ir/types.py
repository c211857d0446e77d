"""Types of values: static shapes without the batch axis, and how integers stand for reals."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import DTypeLike

Shape = tuple[int, ...]

#: Elements in a word of a packed tensor.
PACKED_ELEMENTS = 8


@dataclass(frozen=True)
class Quant:
    """real = scale * (q - zero_point), q a signed integer of `bits` bits."""

    bits: int
    scale: float
    zero_point: int

    @property
    def lo(self) -> int:
        return -(1 << (self.bits - 1))

    @property
    def hi(self) -> int:
        return (1 << (self.bits - 1)) - 1

    @property
    def dtype(self) -> DTypeLike:
        """The type that stores one element: int8 up to 8 bits, else int16."""
        return np.int8 if self.bits <= 8 else np.int16

    @property
    def real_lo(self) -> float:
        return self.scale * (self.lo - self.zero_point)

    @property
    def real_hi(self) -> float:
        return self.scale * (self.hi - self.zero_point)

    def code(self, real: float) -> int:
        """The code nearest to a real number, saturated."""
        return int(min(max(np.floor(real / self.scale + 0.5) + self.zero_point, self.lo), self.hi))

    def __str__(self) -> str:
        return f"s{self.bits} scale={self.scale:.6g} zero_point={self.zero_point}"


@dataclass(frozen=True)
class TensorType:
    """Shape (channels last, no batch axis) and, for an integer tensor, its quantisation.

    In a float graph `quant` is None, or a quantisation that the model itself prescribes (a QDQ model). packed: codes of
    at most 4 bits lie eight in a 32-bit word (of a word's eight elements, number e is nibble e // 4 of byte e % 4).
    """

    shape: Shape
    quant: Quant | None = None
    packed: bool = False

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in the arena; float tensors count as four bytes an element."""
        if self.quant is None:
            return 4 * self.size
        if self.packed:
            return -(-self.size // PACKED_ELEMENTS) * 4
        return self.size * np.dtype(self.quant.dtype).itemsize

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape)) or "scalar"
        if self.quant is None:
            return f"f32[{shape}]"
        return f"[{shape}] {self.quant}{' packed' if self.packed else ''}"


@dataclass(frozen=True)
class Layout:
    """How a graph input or output lies in the model's own file.

    model_shape: the model's shape, with 1 for the batch axis; batch_axis: 0, or None when the model has none;
    perm: axis i of the graph's tensor is axis perm[i] of the model's shape without its batch axis.
    """

    model_shape: Shape
    batch_axis: int | None
    perm: tuple[int, ...]

    @property
    def sample_shape(self) -> Shape:
        """The model's shape of one sample."""
        return self.model_shape if self.batch_axis is None else self.model_shape[1:]
