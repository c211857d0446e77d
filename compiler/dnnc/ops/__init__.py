"""Every operation of dnnc, by kind. Adding one: its file (or class), its row here, its cases in tests/cases.py."""

from __future__ import annotations

from dnnc.ir.op import Op
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.elementwise import Add, Mul
from dnnc.ops.movement import Concat, Constant, Pad, Reshape, Resize, Slice, Transpose
from dnnc.ops.pointwise import Pointwise, PRelu
from dnnc.ops.pool import AvgPool2D, MaxPool2D, ReduceMean
from dnnc.ops.softmax import Softmax

ALL: tuple[type[Op], ...] = (
    Conv2D, Dense, Add, Mul, Pointwise, PRelu, MaxPool2D, AvgPool2D, ReduceMean, Softmax,
    Reshape, Transpose, Concat, Slice, Pad, Resize, Constant,
)  # fmt: skip
BY_KIND: dict[str, type[Op]] = {op.kind: op for op in ALL}
