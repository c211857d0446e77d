"""Convolutions and fully connected layers.

Their kernels have four stages, whatever the machine: the input is copied with its padding, the packed weights are
unpacked, dot products of `group` inputs with `lanes` channels at a time are summed, and the sums requantised.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from tvm import te, tirx

from dnnc.backends.tvm import schedule
from dnnc.backends.tvm.call import Call, Reader, axes, clamp, int32, rescale, storage
from dnnc.backends.tvm.dot import PLAIN, Dot
from dnnc.backends.tvm.planes import UNITS, offset_of, pack_units, planes_of, sharing
from dnnc.backends.tvm.schedule import Stored
from dnnc.backends.tvm.simple import limits
from dnnc.fixed import INT32_MAX
from dnnc.ops.common import linear_bounds, quant_of
from dnnc.ops.conv import Conv2D

Expr = Any


@dataclass(frozen=True)
class Layer:
    """A convolution, or a dense layer as one of an image of one row, whose pixels are the rows of the input.

    A window is `taps` runs of `run` inputs that lie side by side; the first begins `offset(tap)` after the window.
    """

    call: Call
    op: Conv2D
    image: tuple[int, int, int]
    weight: np.ndarray

    @classmethod
    def of(cls, call: Call) -> Layer:
        weight = call.params["weight"]
        if isinstance(call.op, Conv2D):
            height, width, channels = call.types[0].shape
            return cls(call, call.op, (height, width, channels), weight)
        shape = call.types[0].shape
        return cls(call, Conv2D(), (1, prod(shape[:-1]), shape[-1]), weight[:, None, None, :])

    @property
    def pixels(self) -> tuple[int, int]:
        """Rows and columns of the output."""
        rows, columns, _ = self.op.infer([self.image], {"weight": self.weight})
        return rows, columns

    @property
    def whole_rows(self) -> bool:
        """Whether the inputs of a kernel's row lie side by side."""
        return self.op.groups == 1 and self.op.dilation[1] == 1

    @property
    def taps(self) -> int:
        return int(self.weight.shape[1] * (1 if self.whole_rows else self.weight.shape[2]))

    @property
    def run(self) -> int:
        return int(self.weight.shape[3] * (self.weight.shape[2] if self.whole_rows else 1))

    @property
    def padded(self) -> tuple[int, int]:
        """Rows and columns of the padded image."""
        top, left, bottom, right = self.op.padding
        return self.image[0] + top + bottom, self.image[1] + left + right

    @cached_property
    def per_group(self) -> int:
        return len(self.weight) // self.op.groups

    def units(self, dot: Dot) -> np.ndarray:
        """Weights [channels in whole blocks, taps, runs in whole groups] by group of the convolution; zeros fill up."""
        found = self.weight.reshape(self.op.groups, self.per_group, self.taps, self.run)
        blocks, groups = -(-self.per_group // dot.lanes), -(-self.run // dot.group)
        filled = np.zeros((self.op.groups, blocks * dot.lanes, self.taps, groups * dot.group), np.int8)
        filled[:, : self.per_group, :, : self.run] = found
        return filled


def windows(layer: Layer, dot: Dot) -> te.Tensor:
    call, op = layer.call, layer.op
    dot = dot if takes(layer, dot) else PLAIN
    image = padded_image(layer, dot, slack=-(-(-layer.run % dot.group) // layer.image[2]))  # read by a last group
    filled = layer.units(dot)
    bits = np.zeros(filled.shape[:2], np.int64)
    bits[:, : layer.per_group] = call.params["weight_bits"].reshape(op.groups, -1)
    steps = filled.reshape(-1, filled.shape[2] * filled.shape[3] // dot.group, dot.group)
    weight = unpacked(call, dot, steps, bits.ravel(), ragged=bool(layer.run % dot.group))
    rows, columns = layer.pixels
    taps, blocks, groups = layer.taps, -(-layer.per_group // dot.lanes), -(-layer.run // dot.group)
    spread, stored = None, Stored(taps * groups)
    if dot.intrinsic is not None and weight.op.name == "weight":
        together = sharing(int(bits.max()))
        whole = together if groups % together == 0 else 0
        stored = Stored(taps * groups, packed=True, together=whole, size=dot.lanes * dot.group)
        if stored.together:
            shape = (op.groups * blocks, taps * groups, dot.lanes, dot.group)
            spread = te.compute(shape, lambda b, s, *at: weight(b * (taps * groups) + s, *at), name="spread")
    depth = layer.image[2]
    t, r, g = axes((taps, groups, dot.group))
    biases, multipliers = (_by_channel(layer, dot, v) for v in (starts(layer, dot), call.params["multiplier"]))
    biases, multipliers = call.constant("bias", biases), call.constant("multiplier", multipliers)
    width = layer.weight.shape[2]

    def product(n: Expr, y: Expr, x: Expr, group: Expr, block: Expr, lane: Expr) -> Expr:
        if layer.whole_rows:
            row, column = y * op.stride[0] + t * op.dilation[0], x * op.stride[1]
        else:
            row = y * op.stride[0] + (t // width) * op.dilation[0]
            column = x * op.stride[1] + (t % width) * op.dilation[1]
        at = column * depth + group * layer.weight.shape[3] + r * dot.group + g
        owner, step = group * blocks + block, t * groups + r
        own = spread(owner, step, lane, g) if spread is not None else weight(owner * (taps * groups) + step, lane, g)
        return te.sum(image(n, row, at).astype("int32") * own.astype("int32"), axis=[t, r, g])

    total = te.compute((call.batch, rows, columns, op.groups, blocks, dot.lanes), product, name="dot")
    if dot.intrinsic is not None:
        halves = int(call.params["left_shift"]) == 0
        call.choices = schedule.linear(dot, layer.image[2], halves, (rows, columns, blocks), stored)
    codes = finish(call, dot, total, lambda n, y, x, *at: biases(*at), lambda n, y, x, *at: multipliers(*at))

    def code(n: Expr, y: Expr, x: Expr, channel: Expr) -> Expr:
        group, inner = channel // layer.per_group, channel % layer.per_group
        return codes(n, y, x, group, inner // dot.lanes, inner % dot.lanes)

    if len(call.out.shape) == 3 and isinstance(call.op, Conv2D):
        return call.make(code)
    pixels = call.out.shape[:-1]

    def flat(n: Expr, *at: Expr) -> Expr:
        pixel: Expr = 0
        for i, size in zip(at[:-1], pixels, strict=True):
            pixel = pixel * size + i
        return code(n, 0, pixel, at[-1])

    return call.make(flat)


def finish(
    call: Call, dot: Dot, total: te.Tensor, start: Reader, multiplier: Reader, order: tuple[int, ...] | None = None
) -> te.Tensor:
    """Codes of sums, with the sums' axes in another order. start, multiplier: by the sums' indices.

    In stages of their own, by whose names they are arranged, where the dot product is an instruction.
    """
    lo, hi = limits(call)
    shift, zero, dtype = int(call.params["left_shift"]), call.quant.zero_point, storage(call.out)
    order = order or tuple(range(len(total.shape)))
    if dot.intrinsic is None:

        def scaled(*at: Expr) -> Expr:
            return rescale(total(*at) + start(*at), multiplier(*at), shift)
    else:
        biased = te.compute(total.shape, lambda *at: total(*at) + start(*at), name="biased")
        scaled = te.compute(total.shape, lambda *at: rescale(biased(*at), multiplier(*at), shift), name="scaled")

    def code(*at: Expr) -> Expr:
        where = [at[order.index(axis)] for axis in range(len(order))]
        return clamp(scaled(*where) + zero, lo, hi).astype(dtype)

    return te.compute([total.shape[axis] for axis in order], code, name="codes")


def takes(layer: Layer, dot: Dot) -> bool:
    """Whether the product takes such inputs and no sum leaves int32, although every unsigned input is 128 larger: then
    every intermediate is exact."""
    if quant_of(layer.call.types[0]).bits > 8 * np.dtype(dot.inputs).itemsize:
        return False
    lows, highs = linear_bounds(layer.call.params, layer.call.types[0])
    extra = 256 * np.abs(layer.weight.reshape(len(layer.weight), -1).astype(np.int64)).sum(axis=1)
    return not dot.unsigned or bool(np.all(highs + extra <= INT32_MAX) and np.all(lows - extra >= -INT32_MAX))


def starts(layer: Layer, dot: Dot) -> np.ndarray:
    """int64 [channels]: what the sums begin with."""
    bias: np.ndarray = layer.call.params["bias"].astype(np.int64)
    if dot.unsigned:
        bias -= 128 * layer.weight.reshape(len(bias), -1).sum(axis=1, dtype=np.int64)
    return bias


def _by_channel(layer: Layer, dot: Dot, values: np.ndarray) -> np.ndarray:
    """[groups, blocks, lanes] int32 of one value a channel."""
    blocks = -(-layer.per_group // dot.lanes)
    filled = np.zeros((layer.op.groups, blocks * dot.lanes), np.int32)
    filled[:, : layer.per_group] = values.reshape(layer.op.groups, -1)
    return filled.reshape(layer.op.groups, blocks, dot.lanes)


def padded_image(layer: Layer, dot: Dot, slack: int) -> te.Tensor:
    """[batch, rows, (columns + slack) * channels], of the type that the product takes. slack: pixels beyond the row."""
    call, (height, width, depth) = layer.call, layer.image
    x, zero = call.read(0), quant_of(call.types[0]).zero_point
    top, left = layer.op.padding[:2]
    rows, columns = layer.padded
    shape = call.types[0].shape
    edges = bool(any(layer.op.padding))

    def pixel(n: Expr, y: Expr, z: Expr, channel: Expr) -> Expr:
        if isinstance(call.op, Conv2D):
            return x(n, y, z, channel)
        inner = []
        for axis, size in enumerate(shape[:-1]):
            inner.append((z // prod(shape[axis + 1 : -1])) % size if size > 1 else 0)
        return x(n, *inner, channel)

    def code(n: Expr, row: Expr, at: Expr) -> Expr:
        y, z = row - top, at // depth - left
        conditions = []
        if edges:
            conditions = [y >= 0, y < height, z >= 0, z < width]
        elif slack:
            conditions = [z < width]
        value = pixel(n, y, z, at % depth)
        if conditions:
            value = tirx.if_then_else(tirx.all(*conditions), value, int32(zero))
        if dot.unsigned:
            return (value + 128).astype("uint8")
        return value.astype(storage(call.types[0]) if dot.intrinsic is None else dot.inputs)

    return te.compute((call.batch, rows, (columns + slack) * depth), code, name="image")


def unpacked(call: Call, dot: Dot, filled: np.ndarray, bits: np.ndarray, ragged: bool) -> te.Tensor:
    """int8 [units, lanes, group] of weights [channels in whole blocks, steps, group]; each width is packed by itself.

    A unit is (block, step). bits: of every channel, 0 of those that fill up a block; ragged: whether zeros fill groups.
    """
    channels, steps, _ = filled.shape
    widths = sorted({int(b) for b in bits if b})
    if len(widths) == 1:
        return _planes(call, dot, filled, widths[0], ragged, "weight")
    place, segment, parts = np.zeros(channels, np.int32), np.zeros(channels, np.int32), []
    for number, width in enumerate(widths):
        chosen = np.flatnonzero(bits == width)
        place[chosen], segment[chosen] = np.arange(len(chosen)), number
        rows = np.zeros((-(-len(chosen) // dot.lanes) * dot.lanes, *filled.shape[1:]), np.int8)
        rows[: len(chosen)] = filled[chosen]
        parts.append(_planes(call, dot, rows, width, ragged, f"weight{width}"))
    places, segments = call.constant("places", place), call.constant("segments", segment)

    def gathered(unit: Expr, lane: Expr, g: Expr) -> Expr:
        channel = unit // steps * dot.lanes + lane
        at = places(channel)
        source = at // dot.lanes * steps + unit % steps
        found = parts[-1](source, at % dot.lanes, g)
        for number in reversed(range(len(parts) - 1)):
            part = parts[number](source, at % dot.lanes, g)
            found = tirx.if_then_else(segments(channel) == number, part, found)
        return found

    return te.compute((channels // dot.lanes * steps, dot.lanes, dot.group), gathered, name="gathered")


def _planes(call: Call, dot: Dot, rows: np.ndarray, bits: int, ragged: bool, name: str) -> te.Tensor:
    """[units, lanes, group] of weights [channels, steps, group] of one width, whole blocks of channels."""
    steps = rows.shape[1]
    units = rows.reshape(-1, dot.lanes, steps, dot.group).transpose(0, 2, 1, 3).reshape(-1, dot.lanes * dot.group)
    if bits == 1 and ragged:
        bits = 2  # what fills up a group must be 0, which one bit cannot say
    elif bits == 1:
        units = np.where(units == 0, 1, units)  # channels that fill up a block
    return plane_tensor(call, units, bits, (dot.lanes, dot.group), name)


def plane_tensor(call: Call, units: np.ndarray, bits: int, unit: tuple[int, ...], name: str) -> te.Tensor:
    """Weights [units, *unit], whose planes are arguments of the kernel."""
    count = -(-len(units) // UNITS) * UNITS if bits < 8 else len(units)
    filled = np.ones((count, units.shape[1]), np.int8)
    filled[: len(units)] = units
    packed = pack_units(filled, bits)
    tensors = [call.constant(f"{name}_plane{i}", plane.reshape(-1, *unit)) for i, plane in enumerate(packed.planes)]
    if bits == 8:
        return tensors[0]
    return te.compute((count, *unit), lambda at, *lane: field(tensors, bits, at, *lane), name=name)


def field(planes: list[te.Tensor], bits: int, unit: Expr, *lane: Expr) -> Expr:
    """One weight from the planes of its width, in eight bits throughout, none of which wraps."""
    code: Expr = None
    for plane, tensor in zip(planes_of(bits), planes, strict=True):
        shift = ((unit % plane.units) * plane.bits).astype("uint8")
        part = (tensor(unit // plane.units, *lane) >> shift) & tirx.const((1 << plane.bits) - 1, "uint8")
        part = part << tirx.const(plane.base, "uint8") if plane.base else part
        code = part if code is None else code | part
    signed = code.astype("int8")
    if bits == 1:
        return signed + signed - tirx.const(1, "int8")
    return signed - tirx.const(offset_of(bits), "int8")
