"""Depthwise convolutions: every output channel reads one input channel.

With a product of its own, the machine gets four taps of a row side by side: they are woven from the padded image, 16
channels at a time, and then a channel's sum takes four of them at once. Otherwise the sums are plain loops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import te, tirx

from dnnc.backends.tvm import schedule
from dnnc.backends.tvm.call import Call, axes, requantise
from dnnc.backends.tvm.dot import Dot
from dnnc.backends.tvm.linear import Layer, finish, padded_image, plane_tensor, starts, takes, unpacked, windows
from dnnc.backends.tvm.simple import limits
from dnnc.ops.conv import Conv2D

Expr = Any


def lower_linear(call: Call, dot: Dot) -> te.Tensor:
    """A convolution or a dense layer."""
    op, layer = call.op, Layer.of(call)
    if not (isinstance(op, Conv2D) and op.depthwise(call.params)):
        return windows(layer, dot)
    return woven(layer, dot) if dot.taps is not None and takes(layer, dot) else depthwise(call, dot)


def woven(layer: Layer, dot: Dot) -> te.Tensor:
    """Where there are fewer channels than lanes, neighbouring pixels share a vector if they lie side by side."""
    call, op, channels = layer.call, layer.op, layer.image[2]
    height, width = layer.weight.shape[1:3]
    rows, columns = layer.pixels
    together = dot.lanes // channels if dot.lanes % channels == 0 and op.stride[1] == 1 else 1
    together = together if columns % together == 0 else 1
    blocks, quads, places = -(-channels // dot.lanes), -(-width // dot.group), columns // together
    step, reach = op.dilation[1] * channels, op.stride[1] * together * channels
    end = (places - 1) * reach + (quads * dot.group - 1) * step + blocks * dot.lanes
    image = padded_image(layer, dot, slack=max(0, -(-end // channels) - layer.padded[1]))

    def tap(n: Expr, row: Expr, block: Expr, place: Expr, quad: Expr, at: Expr) -> Expr:
        start = place * reach + quad * (dot.group * step) + block * dot.lanes
        return image(n, row, start + at % dot.group * step + at // dot.group)

    unit = dot.lanes * dot.group
    taps = te.compute((call.batch, layer.padded[0], blocks, places, quads, unit), tap, name="woven")
    weight, bits = _by_lane(layer, dot, together, blocks, quads)
    weights = unpacked(call, dot, weight, bits, ragged=bool(width % dot.group))
    i, j, g = axes((height, quads, dot.group))

    def product(n: Expr, y: Expr, block: Expr, place: Expr, lane: Expr) -> Expr:
        value = taps(n, y * op.stride[0] + i * op.dilation[0], block, place, j, lane * dot.group + g).astype("int32")
        return te.sum(value * weights((block * height + i) * quads + j, lane, g).astype("int32"), axis=[i, j, g])

    total = te.compute((call.batch, rows, blocks, places, dot.lanes), product, name="dot")
    bias, multiplier = (
        call.constant(name, _lanes(values, dot, together, blocks).astype(np.int32))
        for name, values in (("bias", starts(layer, dot)), ("multiplier", call.params["multiplier"]))
    )
    codes = finish(
        call,
        dot,
        total,
        lambda n, y, block, place, lane: bias(block, lane),
        lambda n, y, block, place, lane: multiplier(block, lane),
        (0, 1, 3, 2, 4),
    )
    halves = int(call.params["left_shift"]) == 0
    call.choices = schedule.depthwise(dot, channels, step, halves, places)
    if together > 1:
        return call.make(lambda n, y, x, c: codes(n, y, x // together, 0, x % together * channels + c))
    return call.make(lambda n, y, x, c: codes(n, y, x, c // dot.lanes, c % dot.lanes))


def _lanes(values: np.ndarray, dot: Dot, together: int, blocks: int) -> np.ndarray:
    """[blocks, lanes] of one value a channel."""
    filled = np.zeros(blocks * dot.lanes, values.dtype)
    filled[: len(values) * together] = np.tile(values, together)
    return filled.reshape(blocks, dot.lanes)


def _by_lane(layer: Layer, dot: Dot, together: int, blocks: int, quads: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights [lanes of all blocks, rows * quads, group] and the bits of every lane."""
    channels, height, width, _ = layer.weight.shape
    found = np.zeros((blocks * dot.lanes, height, quads * dot.group), np.int8)
    found[: channels * together, :, :width] = np.tile(layer.weight[..., 0], (together, 1, 1))
    bits = _lanes(layer.call.params["weight_bits"].astype(np.int64), dot, together, blocks)
    return found.reshape(len(found), height * quads, dot.group), bits.ravel()


def depthwise(call: Call, dot: Dot) -> te.Tensor:
    op, weight = call.op, call.params["weight"]
    assert isinstance(op, Conv2D)
    layer = Layer.of(call)
    plain = Dot(dot.lanes)
    channels, height, width = weight.shape[:3]
    image = padded_image(layer, plain, slack=0)
    taps = tap_weights(call, weight, plain)
    i, j = axes((height, width))

    def product(n: Expr, y: Expr, x: Expr, channel: Expr) -> Expr:
        row, column = y * op.stride[0] + i * op.dilation[0], x * op.stride[1] + j * op.dilation[1]
        value = image(n, row, column * channels + channel).astype("int32")
        return te.sum(value * taps(i * width + j, channel).astype("int32"), axis=[i, j])

    total = te.compute((call.batch, *call.out.shape), product, name="dot")
    bias = call.constant("bias", call.params["bias"].astype(np.int32))
    multiplier = call.constant("multiplier", call.params["multiplier"].astype(np.int32))
    lo, hi = limits(call)
    shift, zero = int(call.params["left_shift"]), call.quant.zero_point
    return call.make(lambda n, y, x, c: requantise(total(n, y, x, c) + bias(c), multiplier(c), shift, zero, lo, hi))


def tap_weights(call: Call, weight: np.ndarray, dot: Dot) -> Callable[[Expr, Expr], Expr]:
    """int8 [taps, channels] from planes; units are `lanes` channels of one tap. Each width has its own planes."""
    channels = len(weight)
    rows = weight.reshape(channels, -1).T  # [taps, channels]
    bits = call.params["weight_bits"].astype(np.int64)
    widths = sorted({int(b) for b in bits})
    place, segment = np.zeros(channels, np.int32), np.zeros(channels, np.int32)
    parts = []
    for number, width in enumerate(widths):
        chosen = np.flatnonzero(bits == width)
        place[chosen], segment[chosen] = np.arange(len(chosen)), number
        filled = np.zeros((len(rows), -(-len(chosen) // dot.lanes) * dot.lanes), np.int8)
        filled[:, : len(chosen)] = rows[:, chosen]
        parts.append(_channels(call, filled, width, dot, f"weight{width}"))
    if len(parts) == 1:
        return parts[0]
    places, segments = call.constant("places", place), call.constant("segments", segment)

    def gathered(tap: Expr, channel: Expr) -> Expr:
        found = parts[-1](tap, places(channel))
        for number in reversed(range(len(parts) - 1)):
            found = tirx.if_then_else(segments(channel) == number, parts[number](tap, places(channel)), found)
        return found

    table = te.compute((len(rows), channels), gathered, name="gathered")
    return lambda tap, channel: table(tap, channel)


def _channels(call: Call, filled: np.ndarray, bits: int, dot: Dot, name: str) -> Callable[[Expr, Expr], Expr]:
    """weight(tap, channel) of weights [taps, channels], whole units of `lanes` channels."""
    blocks = filled.shape[1] // dot.lanes
    units = filled.reshape(-1, dot.lanes)
    units = np.where(units == 0, 1, units) if bits == 1 else units
    tensor = plane_tensor(call, units, bits, (dot.lanes,), name)
    return lambda tap, channel: tensor(tap * blocks + channel // dot.lanes, channel % dot.lanes)
