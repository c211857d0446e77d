"""Lowering of everything without weights: one function an operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from dnnc.backends.c.context import Context
from dnnc.backends.c.program import Array, Call, CType, Operand, Step, Value
from dnnc.backends.c.strides import broadcast_strides, merge, strides
from dnnc.backends.c.table import Layer
from dnnc.ir.graph import Node
from dnnc.ops.common import quant_of
from dnnc.ops.elementwise import Add, Mul
from dnnc.ops.movement import Concat, Constant, Pad, Reshape, Resize, Slice, Transpose
from dnnc.ops.pointwise import Pointwise, PRelu
from dnnc.ops.pool import AvgPool2D, MaxPool2D, ReduceMean
from dnnc.ops.softmax import Softmax


def _c_type(context: Context, node: Node) -> CType:
    """Of the node's elements."""
    return "int8_t" if context.elements(node)[-1] == "s8" else "int16_t"


def _call(context: Context, node: Node, kind: str, fields: Mapping[str, Value]) -> Call:
    """A call over all inputs of the node and its output."""
    kernel = context.instance(_layer(context, node, kind))
    return Call(kernel, fields, (*(Operand(name) for name in node.inputs), Operand(node.name)))


def _layer(context: Context, node: Node, kind: str) -> Layer:
    """What the table is asked about: the elements; of a pooling layer the window, of a mean how many lie together."""
    layer, op = Layer(kind, context.elements(node)), node.op
    if isinstance(op, ReduceMean):
        shape = context.graph.types[node.inputs[0]].shape
        return replace(layer, in_c=prod(shape[max(op.axes, default=-1) + 1 :]))
    if not isinstance(op, MaxPool2D | AvgPool2D):
        return layer
    height, width, channels = context.graph.types[node.inputs[0]].shape
    return replace(
        layer,
        in_h=height, in_w=width, in_c=channels, in_stride=channels,
        out_h=node.type.shape[0], out_w=node.type.shape[1], out_c=channels, out_stride=channels,
        kernel_h=op.kernel[0], kernel_w=op.kernel[1], stride_h=op.stride[0], stride_w=op.stride[1],
        dilation_h=op.dilation[0] if isinstance(op, MaxPool2D) else 1,
        dilation_w=op.dilation[1] if isinstance(op, MaxPool2D) else 1,
        pad_top=op.padding[0], pad_left=op.padding[1], pad_bottom=op.padding[2], pad_right=op.padding[3],
    )  # fmt: skip


def _step(context: Context, node: Node, call: Call) -> Step:
    """One call."""
    return Step(node.name, (call,), call.kernel.kernel.scratch(_layer(context, node, call.kernel.kernel.op)))


def _limits(node: Node) -> dict[str, Value]:
    q = quant_of(node.type)
    return {"lo": q.lo, "hi": q.hi}


def _clamp(node: Node) -> dict[str, Value]:
    lo, hi = (int(v) for v in node.params["clamp"])
    return {"lo": lo, "hi": hi}


def _binary(context: Context, node: Node) -> dict[str, Value]:
    shape = node.type.shape
    operands = [broadcast_strides(t.shape, shape) for t in context.graph.input_types(node)]
    loops = merge(shape, operands, 4)
    return {"size": loops.sizes, "stride_a": loops.strides[0], "stride_b": loops.strides[1]}


def lower_add(context: Context, node: Node) -> Step:
    multipliers = [int(m) for m in node.params["multipliers"]]
    fields = {
        **_binary(context, node),
        "multiplier_a": multipliers[0],
        "multiplier_b": multipliers[1],
        "offset": int(node.params["offset"]),
        **_clamp(node),
        "shift": int(node.params["shift"]),
    }
    return _step(context, node, _call(context, node, "add", fields))


def lower_mul(context: Context, node: Node) -> Step:
    zero_a, zero_b = (quant_of(t).zero_point for t in context.graph.input_types(node))
    fields = {
        **_binary(context, node),
        "multiplier": int(node.params["multiplier"]),
        "zero_a": zero_a,
        "zero_b": zero_b,
        "zero_y": quant_of(node.type).zero_point,
        **_clamp(node),
        "left_shift": int(node.params["left_shift"]),
    }
    return _step(context, node, _call(context, node, "mul", fields))


def lower_pointwise(context: Context, node: Node) -> Step:
    table = Array("table", _c_type(context, node), "tables", node.params["table"])
    lo = quant_of(context.graph.types[node.inputs[0]]).lo
    return _step(context, node, _call(context, node, "pointwise", {"table": table, "size": node.type.size, "lo": lo}))


def lower_prelu(context: Context, node: Node) -> Step:
    negative = node.params["multiplier_negative"]
    channels = node.type.shape[-1] if node.type.shape else 1
    fields = {
        "negative": Array("slopes", "int32_t", "tables", negative),
        "positive": int(node.params["multiplier_positive"]),
        "rows": node.type.size // channels,
        "channels": channels,
        "step": int(negative.size > 1),
        "in_zero": quant_of(context.graph.types[node.inputs[0]]).zero_point,
        "out_zero": quant_of(node.type).zero_point,
        **_limits(node),
        "left_shift": int(node.params["left_shift"]),
    }
    return _step(context, node, _call(context, node, "prelu", fields))


def _window(context: Context, node: Node, op: MaxPool2D | AvgPool2D, dilation: tuple[int, int]) -> dict[str, Value]:
    height, width, channels = context.graph.types[node.inputs[0]].shape
    return {
        "in_h": height, "in_w": width, "channels": channels,
        "out_h": node.type.shape[0], "out_w": node.type.shape[1],
        "kernel_h": op.kernel[0], "kernel_w": op.kernel[1],
        "stride_h": op.stride[0], "stride_w": op.stride[1],
        "dilation_h": dilation[0], "dilation_w": dilation[1],
        "pad_top": op.padding[0], "pad_left": op.padding[1],
    }  # fmt: skip


def lower_maxpool(context: Context, node: Node) -> Step:
    assert isinstance(node.op, MaxPool2D)
    window = _window(context, node, node.op, node.op.dilation)
    fields: dict[str, Value] = {"window": window, "lowest": quant_of(node.type).lo}
    return _step(context, node, _call(context, node, "maxpool", fields))


def lower_avgpool(context: Context, node: Node) -> Step:
    op = node.op
    assert isinstance(op, AvgPool2D)
    height, width, _ = context.graph.types[node.inputs[0]].shape
    top, left, bottom, right = op.padding if op.count_padding else (0, 0, 0, 0)
    fields: dict[str, Value] = {
        "window": _window(context, node, op, (1, 1)),
        "count": Array("counts", "int32_t", "tables", node.params["count"]),
        "multiplier": Array("multipliers", "int32_t", "tables", node.params["multiplier"]),
        "count_top": -top,
        "count_bottom": height + bottom,
        "count_left": -left,
        "count_right": width + right,
        "in_zero": quant_of(context.graph.types[node.inputs[0]]).zero_point,
        "out_zero": quant_of(node.type).zero_point,
        **_limits(node),
        "left_shift": int(node.params["left_shift"]),
    }
    return _step(context, node, _call(context, node, "avgpool", fields))


def lower_mean(context: Context, node: Node) -> Step:
    op = node.op
    assert isinstance(op, ReduceMean)
    source = context.graph.types[node.inputs[0]]
    steps = strides(source.shape)
    axes = range(len(source.shape))
    kept = [a for a in axes if a not in op.axes]
    outer = merge([source.shape[a] for a in kept], [[steps[a] for a in kept]], 3)
    inner = merge([source.shape[a] for a in op.axes], [[steps[a] for a in op.axes]], 3)
    fields: dict[str, Value] = {
        "kept": outer.sizes,
        "kept_stride": outer.strides[0],
        "reduced": inner.sizes,
        "reduced_stride": inner.strides[0],
        "multiplier": int(node.params["multiplier"]),
        "zeros": prod(inner.sizes) * quant_of(source).zero_point,
        "out_zero": quant_of(node.type).zero_point,
        **_limits(node),
        "left_shift": int(node.params["left_shift"]),
    }
    return _step(context, node, _call(context, node, "mean", fields))


def lower_softmax(context: Context, node: Node) -> Step:
    q = quant_of(node.type)
    classes = node.type.shape[-1]
    fields: dict[str, Value] = {
        "table": Array("table", "uint16_t", "tables", node.params["table"]),
        "rows": node.type.size // classes,
        "classes": classes,
        "lo": q.lo,
        "bits": q.bits,
    }
    return _step(context, node, _call(context, node, "softmax", fields))


def _copy(
    context: Context, node: Node, source: Operand, target: Operand, sizes: Sequence[int],
    steps: tuple[Sequence[int], Sequence[int]],
) -> Call:  # fmt: skip
    """Elements of `source` at steps[0] to those of `target` at steps[1]; both as wide as the node's output."""
    kind = context.elements(node)[-1]
    loops = merge(sizes, steps, 4)
    fields: dict[str, Value] = {"size": loops.sizes, "stride_x": loops.strides[0], "stride_y": loops.strides[1]}
    return Call(context.instance(Layer("copy", (kind, kind))), fields, (source, target))


def lower_transpose(context: Context, node: Node) -> Step:
    assert isinstance(node.op, Transpose)
    steps = strides(context.graph.types[node.inputs[0]].shape)
    shape = node.type.shape
    moved = [steps[p] for p in node.op.perm]
    operands = Operand(node.inputs[0]), Operand(node.name)
    return Step(node.name, (_copy(context, node, *operands, shape, (moved, strides(shape))),))


def lower_slice(context: Context, node: Node) -> Step:
    op = node.op
    assert isinstance(op, Slice)
    steps = strides(context.graph.types[node.inputs[0]].shape)
    first = sum(a * s for a, s in zip(op.start, steps, strict=True))
    moved = [s * by for s, by in zip(steps, op.step, strict=True)]
    operands = Operand(node.inputs[0], first), Operand(node.name)
    return Step(node.name, (_copy(context, node, *operands, node.type.shape, (moved, strides(node.type.shape))),))


def lower_concat(context: Context, node: Node) -> Step:
    assert isinstance(node.op, Concat)
    steps = strides(node.type.shape)
    calls = []
    at = 0
    for name in node.inputs:
        shape = context.graph.types[name].shape
        operands = Operand(name), Operand(node.name, at * steps[node.op.axis])
        calls.append(_copy(context, node, *operands, shape, (strides(shape), steps)))
        at += shape[node.op.axis]
    return Step(node.name, tuple(calls))


def lower_pad(context: Context, node: Node) -> Step:
    op = node.op
    assert isinstance(op, Pad)
    kind = context.elements(node)[-1]
    shape = context.graph.types[node.inputs[0]].shape
    steps = strides(node.type.shape)
    fields = {"size": node.type.size, "value": int(node.params["value"])}
    fill = Call(context.instance(Layer("fill", (kind,))), fields, (Operand(node.name),))
    inside = Operand(node.name, sum(b * s for b, s in zip(op.before, steps, strict=True)))
    return Step(
        node.name, (fill, _copy(context, node, Operand(node.inputs[0]), inside, shape, (strides(shape), steps)))
    )


def lower_resize(context: Context, node: Node) -> Step:
    assert isinstance(node.op, Resize)
    _, in_w, channels = context.graph.types[node.inputs[0]].shape
    fields: dict[str, Value] = {
        "rows": Array("rows", "uint16_t", "tables", np.array(node.op.rows)),
        "columns": Array("columns", "uint16_t", "tables", np.array(node.op.columns)),
        "in_w": in_w,
        "out_h": node.type.shape[0],
        "out_w": node.type.shape[1],
        "channels": channels,
    }
    return _step(context, node, _call(context, node, "resize", fields))


def lower_reshape(context: Context, node: Node) -> Step:
    """A view: the planner gives it its input's place."""
    assert isinstance(node.op, Reshape)
    return Step(node.name)


def lower_constant(context: Context, node: Node) -> Step:
    assert isinstance(node.op, Constant)
    return Step(node.name, constant=Array("value", _c_type(context, node), "tables", node.params["value"]))


LOWERINGS = {
    Add: lower_add, Mul: lower_mul, Pointwise: lower_pointwise, PRelu: lower_prelu,
    MaxPool2D: lower_maxpool, AvgPool2D: lower_avgpool, ReduceMean: lower_mean, Softmax: lower_softmax,
    Transpose: lower_transpose, Slice: lower_slice, Concat: lower_concat, Pad: lower_pad, Resize: lower_resize,
    Reshape: lower_reshape, Constant: lower_constant,
}  # fmt: skip
