"""What a lowering works with: one node's inputs, constants and output as tensor expressions over integers.

All arithmetic is in int32 and int64. Narrow types only load and store, because in TVM's target "c" narrow arithmetic
follows C's promotions and not TVM's types: a value that would wrap does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import te, tirx

from dnnc import fixed
from dnnc.backends.tvm.schedule import Choice
from dnnc.ir.graph import Node
from dnnc.ir.op import Op
from dnnc.ir.types import Quant, Shape, TensorType
from dnnc.ops.common import quant_of

Array = NDArray[Any]
Expr = Any
#: (sample, *index) -> the code there, int32
Reader = Callable[..., Expr]


def int32(value: Expr) -> Expr:
    return tirx.const(value, "int32") if isinstance(value, int | np.integer) else value.astype("int32")


def int64(value: Expr) -> Expr:
    return tirx.const(value, "int64") if isinstance(value, int | np.integer) else value.astype("int64")


def clamp(value: Expr, lo: int, hi: int) -> Expr:
    """Of an int32 expression."""
    return tirx.max(tirx.min(value, int32(hi)), int32(lo))


def rescale(accumulator: Expr, multiplier: Expr, left_shift: int) -> Expr:
    """dnnc.fixed.rescale over expressions: int32 of an int32 accumulator."""
    shift = tirx.const(left_shift, "int64")
    return int32(fixed.rescale(int64(accumulator), int64(multiplier), shift))


def requantise(accumulator: Expr, multiplier: Expr, left_shift: int, zero_point: int, lo: int, hi: int) -> Expr:
    """dnnc.fixed.requantise over expressions: an int32 accumulator to an int32 code."""
    return clamp(rescale(accumulator, multiplier, left_shift) + zero_point, lo, hi)


@dataclass
class Call:
    """One node. Inputs that are constants of the graph have one sample, which serves all.

    A lowering may leave in `choices` how its kernel can be arranged, the best first.
    """

    node: Node
    types: tuple[TensorType, ...]
    batch: Expr
    inputs: list[te.Tensor]
    fixed: tuple[bool, ...]
    constants: list[tuple[te.Tensor, Array]] = field(default_factory=list)
    choices: Sequence[Choice] = ()

    @property
    def op(self) -> Op:
        return self.node.op

    @property
    def params(self) -> Any:
        return self.node.params

    @property
    def out(self) -> TensorType:
        return self.node.type

    @property
    def quant(self) -> Quant:
        """Of the output."""
        return quant_of(self.out)

    def read(self, index: int) -> Reader:
        """Codes of an input."""
        tensor, always_first = self.inputs[index], self.fixed[index]
        return lambda n, *at: tensor(0 if always_first else n, *at).astype("int32")

    def aligned(self, index: int) -> Reader:
        """Codes of an input by an index of the output: broadcast as numpy does."""
        read, shape = self.read(index), self.types[index].shape

        def at(n: Expr, *where: Expr) -> Expr:
            last = where[len(where) - len(shape) :]
            return read(n, *(0 if size == 1 else i for size, i in zip(shape, last, strict=True)))

        return at

    def constant(self, name: str, value: Array) -> te.Tensor:
        """A table that the kernel reads; it becomes one more argument of it."""
        tensor = te.placeholder(value.shape, dtype=str(value.dtype), name=name)
        self.constants.append((tensor, np.ascontiguousarray(value)))
        return tensor

    def make(self, code: Callable[..., Expr], shape: Shape | None = None) -> te.Tensor:
        """The output: code(n, *index) is an int32 expression."""
        dtype = storage(self.out)
        return te.compute(
            (self.batch, *(self.out.shape if shape is None else shape)),
            lambda n, *at: code(n, *at).astype(dtype),
            name="result",
        )

    def reduce(self, code: Callable[..., Expr], shape: Shape, name: str = "sum") -> te.Tensor:
        """An int32 tensor [batch, *shape] of reductions."""
        return te.compute((self.batch, *shape), code, name=name)


def storage(kind: TensorType) -> str:
    """int8 or int16. `packed` is a matter of the C back end's memory: here a code always has its own bytes."""
    return str(np.dtype(quant_of(kind).dtype))


def axes(extents: Sequence[int], name: str = "k") -> list[Any]:
    return [te.reduce_axis((0, extent), f"{name}{i}") for i, extent in enumerate(extents)]
