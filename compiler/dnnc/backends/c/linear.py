"""Lowering of convolutions and fully connected layers with all their weights: one kernel call a weight width."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc.backends.c.context import Context
from dnnc.backends.c.pack import BLOCKS, COLUMNS, pack_linear, padded_k, per_tile, per_tile_pairs
from dnnc.backends.c.program import Array, Call, Operand, Step, Value
from dnnc.backends.c.structs import STRUCTS
from dnnc.backends.c.table import Kernel, Layer, Selection
from dnnc.ir.graph import Node
from dnnc.ops.common import quant_of
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.tables import exact_halves


@dataclass(frozen=True, eq=False)
class _Segment:
    """Output channels that one call makes. channels None: all of them, in order."""

    layer: Layer
    channels: NDArray[np.int64] | None
    label: str


def layer_of(context: Context, node: Node) -> Layer:
    """What Conv2D or Dense asks the table, but for the width of its weights."""
    return _dense(context, node) if isinstance(node.op, Dense) else _conv(context, node)


def lower_dense(context: Context, node: Node, layer: Layer) -> Step:
    """All weights. A layer of mixed widths becomes one call a width, each with a map of its channels."""
    calls = []
    scratch = 0
    for segment in _segments(layer, node, context.selection):
        calls.append(_call(context, node, segment))
        scratch = max(scratch, calls[-1].kernel.kernel.scratch(segment.layer))
    return Step(node.name, tuple(calls), scratch)


def shift_of(multiplier: NDArray[Any]) -> NDArray[np.uint8] | None:
    """The shifts of dnnc_rescale_shift for multipliers [O], or None where one is not 0 or a positive power of two."""
    values = np.asarray(multiplier, np.int64)
    if np.any(values < 0) or np.any(values & (values - 1)):
        return None
    exponents = np.log2(np.maximum(values, 1)).astype(np.int64)
    return (31 - exponents).astype(np.uint8)


def _common(context: Context, node: Node, op: str) -> Layer:
    params = node.params
    shift_only = context.target.requantise == "shift" and shift_of(params["multiplier"]) is not None
    return Layer(
        op,
        context.elements(node),
        left_shift=int(params["left_shift"]),
        in_zero=quant_of(context.graph.types[node.inputs[0]]).zero_point,
        shift_only=shift_only,
    )


def _dense(context: Context, node: Node) -> Layer:
    """Rows of features as the pixels of an image of height 1."""
    outputs, features = node.params["weight"].shape
    rows = node.type.size // outputs
    return replace(
        _common(context, node, "dense"),
        in_w=rows, in_c=features, in_stride=features, out_w=rows, out_c=outputs, out_stride=outputs,
    )  # fmt: skip


def _conv(context: Context, node: Node) -> Layer:
    op = node.op
    assert isinstance(op, Conv2D)
    height, width, channels = context.graph.types[node.inputs[0]].shape
    out_h, out_w, outputs = node.type.shape
    _, kernel_h, kernel_w, depth = node.params["weight"].shape
    plain = op.groups == 1 and not any(op.padding)
    if plain and (out_h, out_w) == (1, 1) and (height, width) == (kernel_h, kernel_w):
        # The window is the whole image: its pixels are the features of a fully connected layer.
        features = height * width * channels
        return replace(
            _common(context, node, "dense"), in_c=features, in_stride=features, out_c=outputs, out_stride=outputs
        )
    pointwise = plain and (kernel_h, kernel_w) == (1, 1)
    depthwise = op.depthwise(node.params)
    kind = "dense" if pointwise else "depthwise" if depthwise else "conv"
    groups = 1 if depthwise else op.groups
    return replace(
        _common(context, node, kind),
        in_h=height, in_w=width, in_c=channels if depthwise else depth, in_stride=channels,
        out_h=out_h, out_w=out_w, out_c=outputs // groups, out_stride=outputs, groups=groups,
        kernel_h=kernel_h, kernel_w=kernel_w, stride_h=op.stride[0], stride_w=op.stride[1],
        dilation_h=op.dilation[0], dilation_w=op.dilation[1],
        pad_top=op.padding[0], pad_left=op.padding[1], pad_bottom=op.padding[2], pad_right=op.padding[3],
    )  # fmt: skip


def _segments(layer: Layer, node: Node, selection: Selection) -> Iterator[_Segment]:
    """One call where all widths agree; else one a width, ascending, and in a grouped layer one a group and width."""
    widths = np.array([selection.width(int(b)) for b in node.params["weight_bits"]])
    distinct = [int(w) for w in np.unique(widths)]
    if len(distinct) == 1:
        yield _Segment(_weighed(replace(layer, bits=distinct[0]), node.params["weight"]), None, "")
        return
    for group in range(layer.groups):
        in_group = np.arange(len(widths)) // layer.out_c == group
        for width in distinct:
            channels = np.flatnonzero(in_group & (widths == width))
            if len(channels):
                part = replace(
                    layer, bits=width, out_c=len(channels), groups=1, offset=group * layer.in_c, scattered=True
                )
                part = _weighed(part, node.params["weight"][channels])
                yield _Segment(part, channels, f"_g{group}_w{width}" if layer.groups > 1 else f"_w{width}")


def _weighed(layer: Layer, weight: NDArray[Any]) -> Layer:
    """With what the weights [O, ...] bound."""
    rows = weight.reshape(len(weight), -1).astype(np.int64)
    return replace(layer, weight_lowest=int(rows.min()), weight_sum=int(np.abs(rows).sum(axis=1).max()))


def _call(context: Context, node: Node, segment: _Segment) -> Call:
    layer, params, label = segment.layer, node.params, segment.label
    kernel = context.instance(layer)
    if layer.op == "depthwise":
        layer = replace(layer, in_c=layer.out_c)
    picked = slice(None) if segment.channels is None else segment.channels
    weight = params["weight"][picked]
    if layer.op == "conv" and kernel.kernel.order in COLUMNS:
        weight = weight.transpose(0, 2, 1, 3)
    words = pack_linear(weight.reshape(len(weight), -1), layer.bits, layer.groups, kernel.kernel.order)
    bias, multiplier = params["bias"][picked], params["multiplier"][picked]
    arrays: dict[str, Value] = {
        "weights": Array(f"weights{label}", "uint32_t", "weights", words),
        **_tables(kernel.kernel, layer, bias, multiplier, label),
    }
    if segment.channels is not None:
        arrays["channels"] = Array(f"channels{label}", "uint16_t", "tables", segment.channels)
    lo, hi = (int(v) for v in params["clamp"])
    numbers = {f.name: getattr(layer, f.name) for f in fields(layer)}
    blocks = padded_k(layer.k, layer.bits, kernel.kernel.order) // BLOCKS[layer.bits].k
    numbers |= {"blocks": blocks, "out_zero": quant_of(node.type).zero_point, "lo": lo, "hi": hi}
    members = {f.name: arrays[f.name] if f.name in arrays else numbers[f.name] for f in STRUCTS["dnnc_linear_t"]}
    return Call(kernel, members, (Operand(node.inputs[0], layer.offset), Operand(node.name)))


def _tables(kernel: Kernel, layer: Layer, bias: NDArray[Any], multiplier: NDArray[Any], label: str) -> dict[str, Value]:
    """The members of dnnc_linear_t that describe biases and multipliers [O], in the kernel's own form."""
    bias, multiplier = np.asarray(bias, np.int32), np.asarray(multiplier, np.int32)
    found: dict[str, Value] = {"bias": None, "multiplier": None, "channels": None, "scales": 0}
    if kernel.records:
        found |= _records(layer, bias, multiplier, label)
        return found
    found["bias"] = Array(f"bias{label}", "int32_t", "tables", per_tile(bias, layer.groups))
    if kernel.shifts:
        shift = shift_of(multiplier)
        assert shift is not None
        found["multiplier"] = Array(f"shift{label}", "uint8_t", "tables", per_tile(shift, layer.groups))
    else:
        values = per_tile(multiplier, layer.groups)
        found["multiplier"] = Array(f"multiplier{label}", "int32_t", "tables", values)
    return found


def _records(layer: Layer, bias: NDArray[Any], multiplier: NDArray[Any], label: str) -> dict[str, Value]:
    """One record a tile: of 16 bits where that is exact."""
    small_bias, small_multiplier = exact_halves(bias), exact_halves(multiplier)
    if layer.left_shift or small_bias is None or small_multiplier is None:
        wide = per_tile_pairs(bias, multiplier, layer.groups)
        return {"bias": Array(f"tables{label}", "int32_t", "tables", wide), "scales": 0}
    halves = per_tile_pairs(small_multiplier.codes, small_bias.codes, layer.groups)
    words = halves.astype("<i2").view("<u4").astype(np.uint32)
    scales = 1 << small_bias.shift | 1 << 16 + small_multiplier.shift
    return {"bias": Array(f"tables{label}", "uint32_t", "tables", words), "scales": scales}
