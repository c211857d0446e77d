"""What a channel holds where it holds the same number everywhere: of masked channels, and of constants in general."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc.ir.channels import channel_count
from dnnc.ir.graph import Graph, Node
from dnnc.ir.op import Op
from dnnc.ir.types import Shape
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.elementwise import Add, Mul
from dnnc.ops.movement import Concat, Constant, Pad, Reshape, Resize, Slice, Transpose
from dnnc.ops.pointwise import Pointwise, PRelu
from dnnc.ops.pool import AvgPool2D, MaxPool2D, ReduceMean
from dnnc.ops.softmax import Softmax

Reals = NDArray[np.float64]
Rule = Callable[[Node, Sequence[Reals], Sequence[Shape]], Reals]


def carried(
    graph: Graph, made: Callable[[Node], Reals], movable: Mapping[str, NDArray[np.bool_]] | None = None
) -> dict[str, Reals]:
    """Of every value, what each channel holds wherever it stands; NaN where it varies.

    made: of a Conv2D, Dense or Constant node, what its channels hold. movable: by value, False where nothing is known.
    """
    found: dict[str, Reals] = {i.name: np.full(channel_count(i.type.shape), np.nan) for i in graph.inputs}
    for node in graph.nodes:
        shapes = [t.shape for t in graph.input_types(node)]
        rule = HELD[type(node.op)]
        value = made(node) if rule is None else rule(node, [found[name] for name in node.inputs], shapes)
        value = np.broadcast_to(value, channel_count(node.type.shape))
        found[node.name] = value if movable is None else np.where(movable[node.name], value, np.nan)
    return found


def zeroed(node: Node) -> Reals:
    """What the channels of a Conv2D, Dense or Constant node hold whose weights and biases are 0."""
    value = np.zeros(channel_count(node.type.shape))
    return clamped(node.op, value) if isinstance(node.op, Conv2D | Dense) else value


def clamped(op: Conv2D | Dense | Add | Mul, value: Reals) -> Reals:
    """NaN stays NaN."""
    return np.asarray(op.clamp.real(torch.from_numpy(value)), np.float64)


def mixes_channels(node: Node, shape: Shape) -> bool:
    """Whether the channels of a mean or a Transpose are not those of its input."""
    if isinstance(node.op, ReduceMean):
        return len(shape) - 1 in node.op.axes
    assert isinstance(node.op, Transpose)
    return bool(node.op.perm) and node.op.perm[-1] != len(node.op.perm) - 1


def _nothing(node: Node, xs: Sequence[Reals], shapes: Sequence[Shape]) -> Reals:
    return np.full(channel_count(node.type.shape), np.nan)


def _first(node: Node, xs: Sequence[Reals], shapes: Sequence[Shape]) -> Reals:
    return xs[0]


def _first_unless_mixed(node: Node, xs: Sequence[Reals], shapes: Sequence[Shape]) -> Reals:
    return (_nothing if mixes_channels(node, shapes[0]) else _first)(node, xs, shapes)


def _sum(node: Node, xs: Sequence[Reals], shapes: Sequence[Shape]) -> Reals:
    assert isinstance(node.op, Add)
    return clamped(node.op, xs[0] - xs[1] if node.op.subtract else xs[0] + xs[1])


def _product(node: Node, xs: Sequence[Reals], shapes: Sequence[Shape]) -> Reals:
    assert isinstance(node.op, Mul)
    return clamped(node.op, np.where((xs[0] == 0) | (xs[1] == 0), 0.0, xs[0] * xs[1]))


def _function(node: Node, xs: Sequence[Reals], shapes: Sequence[Shape]) -> Reals:
    params = {k: torch.as_tensor(np.array(v, np.float64)) for k, v in node.params.items()}
    result = node.op.real([torch.from_numpy(np.array(xs[0]))[None]], params)
    return np.asarray(result[0], np.float64)


def _average(node: Node, xs: Sequence[Reals], shapes: Sequence[Shape]) -> Reals:
    """Windows that hang over the border hold less of a channel that is not 0."""
    assert isinstance(node.op, AvgPool2D)
    inside = replace(node.op, count_padding=False).counts(shapes[0])
    whole = inside.min() > 0 and np.array_equal(inside, node.op.counts(shapes[0]))
    return xs[0] if whole else np.where(xs[0] == 0, 0.0, np.nan)


def _tiled(node: Node, xs: Sequence[Reals], shapes: Sequence[Shape]) -> Reals:
    before, after = len(xs[0]), channel_count(node.type.shape)
    if after % before == 0:
        return np.tile(xs[0], after // before)
    return _agreed(list(xs[0].reshape(-1, after))) if before % after == 0 else np.full(after, np.nan)


def _agreed(parts: Sequence[Reals]) -> Reals:
    """What all parts hold, NaN where they differ."""
    same = np.all([part == parts[0] for part in parts], axis=0)
    return np.where(same, parts[0], np.nan)


def _joined(node: Node, xs: Sequence[Reals], shapes: Sequence[Shape]) -> Reals:
    assert isinstance(node.op, Concat)
    return np.concatenate(xs) if node.op.axis == len(node.type.shape) - 1 else _agreed(xs)


def _sliced(node: Node, xs: Sequence[Reals], shapes: Sequence[Shape]) -> Reals:
    assert isinstance(node.op, Slice)
    return xs[0][node.op.index[-1]] if node.op.start else xs[0]


def _padded(node: Node, xs: Sequence[Reals], shapes: Sequence[Shape]) -> Reals:
    op = node.op
    assert isinstance(op, Pad)
    if not op.before:
        return xs[0]
    around = any((*op.before[:-1], *op.after[:-1]))
    inner = np.where(xs[0] == op.value, xs[0], np.nan) if around else xs[0]
    return np.pad(inner, (op.before[-1], op.after[-1]), constant_values=op.value)


#: (node, what its inputs hold, their shapes) -> what its output holds; None where `carried` is told.
HELD: dict[type[Op], Rule | None] = {
    Conv2D: None,
    Dense: None,
    Constant: None,
    Add: _sum,
    Mul: _product,
    Pointwise: _function,
    PRelu: _function,
    MaxPool2D: _first,
    AvgPool2D: _average,
    ReduceMean: _first_unless_mixed,
    Softmax: _nothing,
    Reshape: _tiled,
    Transpose: _first_unless_mixed,
    Concat: _joined,
    Slice: _sliced,
    Pad: _padded,
    Resize: _first,
}
