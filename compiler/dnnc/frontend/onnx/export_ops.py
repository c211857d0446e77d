"""Every operation of dnnc in ONNX: one function each, which writes its nodes and puts its value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import pi, prod, sqrt

import numpy as np

from dnnc.frontend.onnx.export_builder import IMAGE, Builder, Order, plain
from dnnc.ir.graph import Node
from dnnc.ir.op import Op
from dnnc.ops.activation import Clamp
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.elementwise import Add, Mul
from dnnc.ops.movement import Concat, Constant, Pad, Reshape, Resize, Slice, Transpose
from dnnc.ops.pointwise import Pointwise, PRelu
from dnnc.ops.pool import AvgPool2D, MaxPool2D, ReduceMean
from dnnc.ops.softmax import Softmax

#: The lowest float32: less than anything that a maximum may see.
LOWEST = float(np.finfo(np.float32).min)


def _clamped(b: Builder, clamp: Clamp, y: str) -> str:
    if clamp.lo is None and clamp.hi is None:
        return y
    if clamp.lo == 0 and clamp.hi is None:
        return b.emit("Relu", [y])
    return _clip(b, y, clamp.lo, clamp.hi)


def _clip(b: Builder, y: str, lo: float | None, hi: float | None, main: bool = False) -> str:
    limits = ["" if v is None else b.initialiser(v, what) for v, what in ((lo, "min"), (hi, "max"))]
    return b.emit("Clip", [y, *limits], main=main)


def _conv(b: Builder, node: Node) -> None:
    op, weight = node.op, node.params["weight"]
    assert isinstance(op, Conv2D)
    inputs = [
        b.get(node.inputs[0], IMAGE),
        b.initialiser(weight.transpose(0, 3, 1, 2), "weight"),
        b.initialiser(node.params["bias"], "bias"),
    ]
    y = b.emit(
        "Conv", inputs, main=True, kernel_shape=weight.shape[1:3], strides=op.stride, dilations=op.dilation,
        pads=op.padding, group=op.groups,
    )  # fmt: skip
    b.put(node.name, IMAGE, _clamped(b, op.clamp, y))


def _dense(b: Builder, node: Node) -> None:
    op, weight = node.op, node.params["weight"]
    assert isinstance(op, Dense)
    rank = len(node.type.shape)
    x, bias = b.get(node.inputs[0], plain(rank)), b.initialiser(node.params["bias"], "bias")
    if rank == 1:
        y = b.emit("Gemm", [x, b.initialiser(weight, "weight"), bias], main=True, transB=1)
    else:
        y = b.emit("Add", [b.emit("MatMul", [x, b.initialiser(weight.T, "weight")], main=True), bias])
    b.put(node.name, plain(rank), _clamped(b, op.clamp, y))


def _arithmetic(b: Builder, node: Node) -> None:
    op = node.op
    assert isinstance(op, Add | Mul)
    rank = len(node.type.shape)
    order = b.order(*(v for v in node.inputs if len(b.types[v].shape) == rank))
    kind = "Mul" if isinstance(op, Mul) else "Sub" if op.subtract else "Add"
    y = b.emit(kind, [b.spread(value, order) for value in node.inputs], main=True)
    b.put(node.name, order, _clamped(b, op.clamp, y))


# --- functions of one number -----------------------------------------------------------------------------------------


def _affine(b: Builder, op: Pointwise, x: str) -> str:
    y = b.emit("Mul", [x, b.initialiser(op.alpha, "scale")], main=True)
    return b.emit("Add", [y, b.initialiser(op.beta, "shift")])


def _silu(b: Builder, op: Pointwise, x: str) -> str:
    return b.emit("Mul", [x, b.emit("Sigmoid", [x])], main=True)


def _gelu(b: Builder, op: Pointwise, x: str) -> str:
    """x * (1 + erf(x / sqrt 2)) / 2: ONNX has it as one operator only from opset 20 on."""
    y = b.emit("Erf", [b.emit("Div", [x, b.initialiser(sqrt(2), "root")])])
    y = b.emit("Mul", [x, b.emit("Add", [y, b.initialiser(1, "one")])])
    return b.emit("Mul", [y, b.initialiser(0.5, "half")], main=True)


def _gelu_tanh(b: Builder, op: Pointwise, x: str) -> str:
    cube = b.emit("Mul", [b.emit("Mul", [b.emit("Mul", [x, x]), x]), b.initialiser(0.044715, "factor")])
    inner = b.emit("Mul", [b.emit("Add", [x, cube]), b.initialiser(sqrt(2 / pi), "root")])
    y = b.emit("Mul", [x, b.emit("Add", [b.emit("Tanh", [inner]), b.initialiser(1, "one")])])
    return b.emit("Mul", [y, b.initialiser(0.5, "half")], main=True)


def _named(kind: str, *attributes: str) -> Callable[[Builder, Pointwise, str], str]:
    """A function that ONNX has; `attributes`: what it calls alpha and beta."""

    def emit(b: Builder, op: Pointwise, x: str) -> str:
        values = dict(zip(attributes, (op.alpha, op.beta), strict=False))
        return b.emit(kind, [x], main=True, **values)

    return emit


FUNCTIONS: dict[str, Callable[[Builder, Pointwise, str], str]] = {
    "identity": _named("Identity"),
    "affine": _affine,
    "relu": _named("Relu"),
    "clip": lambda b, op, x: _clip(b, x, op.alpha, op.beta, main=True),
    "leaky_relu": _named("LeakyRelu", "alpha"),
    "sigmoid": _named("Sigmoid"),
    "hard_sigmoid": _named("HardSigmoid", "alpha", "beta"),
    "hard_swish": _named("HardSwish"),
    "tanh": _named("Tanh"),
    "silu": _silu,
    "elu": _named("Elu", "alpha"),
    "selu": _named("Selu", "alpha", "gamma"),
    "softplus": _named("Softplus"),
    "softsign": _named("Softsign"),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "exp": _named("Exp"),
    "abs": _named("Abs"),
    "square": lambda b, op, x: b.emit("Mul", [x, x], main=True),
}


def _pointwise(b: Builder, node: Node) -> None:
    assert isinstance(node.op, Pointwise)
    order = b.order(node.inputs[0])
    b.put(node.name, order, FUNCTIONS[node.op.function](b, node.op, b.get(node.inputs[0], order)))


def _prelu(b: Builder, node: Node) -> None:
    """With the channels where readers look for them, right behind the batch."""
    slope, rank = node.params["slope"], len(node.type.shape)
    single = len(slope) == 1
    order = b.order(node.inputs[0]) if single or rank > 3 else (rank - 1, *range(rank - 1))
    shape = [1 if single or axis < rank - 1 else len(slope) for axis in order]
    x, slopes = b.get(node.inputs[0], order), b.initialiser(slope.reshape(shape), "slope")
    if single or rank in (2, 3) or (rank == 1 and not b.flattened(node.inputs[0])):
        y = b.emit("PRelu", [x, slopes], main=True)
    else:
        below = b.emit("Mul", [b.emit("Relu", [b.emit("Neg", [x])]), slopes])
        y = b.emit("Sub", [b.emit("Relu", [x]), below], main=True)
    b.put(node.name, order, y)


def _softmax(b: Builder, node: Node) -> None:
    order = b.order(node.inputs[0])
    axis = order.index(len(order) - 1) + 1
    b.put(node.name, order, b.emit("Softmax", [b.get(node.inputs[0], order)], main=True, axis=axis))


# --- windows and means -----------------------------------------------------------------------------------------------


def _max_pool(b: Builder, node: Node) -> None:
    op = node.op
    assert isinstance(op, MaxPool2D)
    x, pads = b.get(node.inputs[0], IMAGE), op.padding
    if any(p >= k for p, k in zip(pads, op.kernel * 2, strict=True)):
        x, pads = _padded(b, x, pads, LOWEST), (0, 0, 0, 0)
    attributes = {"kernel_shape": op.kernel, "strides": op.stride, "dilations": op.dilation, "pads": pads}
    b.put(node.name, IMAGE, b.emit("MaxPool", [x], main=True, **attributes))


def _average_pool(b: Builder, node: Node) -> None:
    op, shape = node.op, b.types[node.inputs[0]].shape
    assert isinstance(op, AvgPool2D)
    x, full = b.get(node.inputs[0], IMAGE), op.full_padding
    window = {"kernel_shape": op.kernel, "strides": op.stride}
    inside = replace(op, count_padding=False).counts(shape)
    counts = op.counts(shape)
    if all(p < k for p, k in zip(full, op.kernel * 2, strict=True)) and inside.min() > 0:
        if not op.count_padding:
            y = b.emit("AveragePool", [x], main=True, pads=full, **window)
            return b.put(node.name, IMAGE, y)
        if not any(op.overhang):
            y = b.emit("AveragePool", [x], main=True, pads=full, count_include_pad=1, **window)
            return b.put(node.name, IMAGE, y)
    # A mean over all of the window, with zeros around the image, and a factor where fewer count.
    y = b.emit("AveragePool", [_padded(b, x, full, 0.0)], main=True, **window)
    factor = b.initialiser(prod(op.kernel) / np.maximum(counts, 1), "factor")
    return b.put(node.name, IMAGE, b.emit("Mul", [y, factor]))


def _padded(b: Builder, x: str, padding: tuple[int, int, int, int], value: float) -> str:
    """An image with (top, left, bottom, right) around it."""
    top, left, bottom, right = padding
    pads = b.integers([0, 0, top, left, 0, 0, bottom, right], "pads")
    return b.emit("Pad", [x, pads, b.initialiser(value, "border")])


def _mean(b: Builder, node: Node) -> None:
    op = node.op
    assert isinstance(op, ReduceMean)
    if not op.axes:
        return b.same(node.name, node.inputs[0])
    order = b.order(node.inputs[0])
    axes = sorted(order.index(axis) + 1 for axis in op.axes)
    y = b.emit("ReduceMean", [b.get(node.inputs[0], order)], main=True, axes=axes, keepdims=int(op.keepdims))
    kept = [axis for axis in range(len(order)) if axis not in op.axes]
    return b.put(node.name, order if op.keepdims else tuple(kept.index(a) for a in order if a in kept), y)


# --- what only moves -------------------------------------------------------------------------------------------------


def _reshape(b: Builder, node: Node) -> None:
    assert isinstance(node.op, Reshape)
    y = b.emit("Reshape", [b.in_memory_order(node.inputs[0]), b.integers([0, *node.op.shape], "shape")], main=True)
    b.put(node.name, plain(len(node.op.shape)), y)


def _transpose(b: Builder, node: Node) -> None:
    """Another name for the axes of the tensors that are there."""
    assert isinstance(node.op, Transpose)
    for order, tensor in b.forms[node.inputs[0]].items():
        b.put(node.name, tuple(node.op.perm.index(axis) for axis in order), tensor)


def _concat(b: Builder, node: Node) -> None:
    assert isinstance(node.op, Concat)
    order = b.order(*node.inputs)
    inputs = [b.whole(value, order) for value in node.inputs]
    b.put(node.name, order, b.emit("Concat", inputs, main=True, axis=order.index(node.op.axis) + 1))


def _slice(b: Builder, node: Node) -> None:
    op, shape = node.op, b.types[node.inputs[0]].shape
    assert isinstance(op, Slice)
    spans = zip(op.start, op.stop, op.step, strict=True)
    cuts = {axis: span for axis, span in enumerate(spans) if span != (0, shape[axis], 1)}
    if not cuts:
        return b.same(node.name, node.inputs[0])
    order = b.order(node.inputs[0])
    return b.put(node.name, order, _cut(b, b.get(node.inputs[0], order), order, cuts, main=True))


def _cut(b: Builder, x: str, order: Order, cuts: Mapping[int, tuple[int, int, int]], main: bool = False) -> str:
    starts, stops, steps = (b.integers(v, w) for v, w in zip(zip(*cuts.values(), strict=True), _LIMITS, strict=True))
    axes = b.integers([order.index(axis) + 1 for axis in cuts], "axes")
    return b.emit("Slice", [x, starts, stops, axes, steps], main=main)


_LIMITS = ("starts", "stops", "steps")


def _pad(b: Builder, node: Node) -> None:
    op = node.op
    assert isinstance(op, Pad)
    if not any((*op.before, *op.after)):
        return b.same(node.name, node.inputs[0])
    order = b.order(node.inputs[0])
    pads = [0, *(op.before[axis] for axis in order), 0, *(op.after[axis] for axis in order)]
    inputs = [b.get(node.inputs[0], order), b.integers(pads, "pads"), b.initialiser(op.value, "border")]
    return b.put(node.name, order, b.emit("Pad", inputs, main=True))


def _resize(b: Builder, node: Node) -> None:
    """A Resize where a whole factor tells which rows are taken; else these rows, cut out and joined."""
    op = node.op
    assert isinstance(op, Resize)
    x, shape = b.get(node.inputs[0], IMAGE), b.types[node.inputs[0]].shape
    factors = [_factor(taken, size) for taken, size in zip((op.rows, op.columns), shape[:2], strict=True)]
    if None not in factors:
        inputs = [x, "", b.initialiser([1, 1, *factors], "scales")]
        how = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
        return b.put(node.name, IMAGE, b.emit("Resize", inputs, main=True, **how))
    for axis, taken in enumerate((op.rows, op.columns)):
        if taken != tuple(range(shape[axis])):
            parts = [_cut(b, x, IMAGE, {axis: (first, last + 1, step)}) for first, last, step in _runs(taken)]
            x = parts[0] if len(parts) == 1 else b.emit("Concat", parts, axis=IMAGE.index(axis) + 1)
    return b.put(node.name, IMAGE, x)


def _factor(taken: Sequence[int], size: int) -> int | None:
    """How often every row is repeated; None where not all are, equally often."""
    factor = len(taken) // size
    return factor if factor and tuple(taken) == tuple(i // factor for i in range(factor * size)) else None


def _runs(taken: Sequence[int]) -> list[tuple[int, int, int]]:
    """First, last, step of evenly spaced rows that follow one another in `taken`."""
    runs = [(taken[0], taken[0], 1)]
    for before, now in pairwise(taken):
        first, last, step = runs[-1]
        if now > before and (first == last or now - before == step):
            runs[-1] = (first, now, now - before)
        else:
            runs.append((now, now, 1))
    return runs


def _constant(b: Builder, node: Node) -> None:
    b.constants[node.name] = np.asarray(node.params["value"], np.float32)


EMITTERS: dict[type[Op], Callable[[Builder, Node], None]] = {
    Conv2D: _conv,
    Dense: _dense,
    Add: _arithmetic,
    Mul: _arithmetic,
    Pointwise: _pointwise,
    PRelu: _prelu,
    MaxPool2D: _max_pool,
    AvgPool2D: _average_pool,
    ReduceMean: _mean,
    Softmax: _softmax,
    Reshape: _reshape,
    Transpose: _transpose,
    Concat: _concat,
    Slice: _slice,
    Pad: _pad,
    Resize: _resize,
    Constant: _constant,
}
