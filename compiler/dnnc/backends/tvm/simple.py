"""Lowerings of operations without weights: each mirrors the method `integer` of its op, expression for expression."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from tvm import te, tirx

from dnnc.backends.tvm.call import Call, axes, clamp, int32, int64, requantise
from dnnc.backends.tvm.schedule import FLAT
from dnnc.ops.common import quant_of
from dnnc.ops.elementwise import Add, Mul
from dnnc.ops.movement import Concat, Pad, Resize, Slice, Transpose
from dnnc.ops.pool import AvgPool2D, MaxPool2D, ReduceMean

Expr = Any


def limits(call: Call) -> tuple[int, int]:
    lo, hi = (int(v) for v in call.params["clamp"])
    return lo, hi


def elementwise(call: Call) -> None:
    """One loop serves inputs of the output's shape."""
    if all(t.shape == call.out.shape for t in call.types) and call.out.shape and not any(call.fixed):
        call.choices = FLAT


def add(call: Call) -> te.Tensor:
    assert isinstance(call.op, Add)
    a, b = call.aligned(0), call.aligned(1)
    first, second = (int(m) for m in call.params["multipliers"])
    offset, shift = int(call.params["offset"]), int(call.params["shift"])
    lo, hi = limits(call)

    def code(*at: Expr) -> Expr:
        total = a(*at) * first + b(*at) * second + offset  # within int32: dnnc.ops.elementwise.add_multipliers
        return clamp(total >> shift, lo, hi)

    elementwise(call)
    return call.make(code)


def mul(call: Call) -> te.Tensor:
    assert isinstance(call.op, Mul)
    a, b = call.aligned(0), call.aligned(1)
    zeros = [quant_of(t).zero_point for t in call.types]
    multiplier, shift = int(call.params["multiplier"]), int(call.params["left_shift"])
    lo, hi = limits(call)

    def code(*at: Expr) -> Expr:
        product = (a(*at) - zeros[0]) * (b(*at) - zeros[1])
        return requantise(product, int32(multiplier), shift, call.quant.zero_point, lo, hi)

    elementwise(call)
    return call.make(code)


def pointwise(call: Call) -> te.Tensor:
    x, q = call.read(0), quant_of(call.types[0])
    table = call.constant("table", call.params["table"])
    elementwise(call)
    if q.bits <= 8:
        return call.make(lambda *at: int32(table(x(*at) - q.lo)))
    shift = q.bits - 8

    def interpolated(*at: Expr) -> Expr:
        index = x(*at) - q.lo
        segment, fraction = index >> shift, index & ((1 << shift) - 1)
        start = int32(table(segment))
        rise = (int32(table(segment + 1)) - start) * fraction
        return start + ((rise + (1 << (shift - 1))) >> shift)

    return call.make(interpolated)


def prelu(call: Call) -> te.Tensor:
    x, zero, y = call.read(0), quant_of(call.types[0]).zero_point, call.quant
    positive, shift = int(call.params["multiplier_positive"]), int(call.params["left_shift"])
    slopes = np.asarray(call.params["multiplier_negative"], np.int32)
    negative = call.constant("slopes", slopes)

    def code(*at: Expr) -> Expr:
        steps = x(*at) - zero
        slope = negative(0 if len(slopes) == 1 else at[-1])
        multiplier = tirx.Select(steps >= 0, int32(positive), slope)
        return requantise(steps, multiplier, shift, y.zero_point, y.lo, y.hi)

    return call.make(code)


def softmax(call: Call) -> te.Tensor:
    x, y, shape = call.read(0), call.quant, call.types[0].shape
    table = call.constant("table", call.params["table"])
    (k,) = axes(shape[-1:])
    largest = call.reduce(lambda *at: te.max(x(*at, k), axis=k), shape[:-1], "largest")
    exponentials = call.reduce(lambda *at: int32(table(largest(*at[:-1]) - x(*at))), shape, "exponentials")
    (j,) = axes(shape[-1:])
    total = call.reduce(lambda *at: te.sum(exponentials(*at, j), axis=j), shape[:-1], "total")

    def code(*at: Expr) -> Expr:
        divisor = int64(total(*at[:-1]))
        share = tirx.truncdiv((int64(exponentials(*at)) << y.bits) + (divisor >> 1), divisor)
        return int32(tirx.min(share, int64(2**y.bits - 1))) + y.lo

    return call.make(code)


def max_pool(call: Call) -> te.Tensor:
    op, (height, width, _) = call.op, call.types[0].shape
    assert isinstance(op, MaxPool2D)
    x, lowest = call.read(0), call.quant.lo
    i, j = axes(op.kernel)

    def within(n: Expr, row: Expr, column: Expr, channel: Expr) -> Expr:
        y, z = (
            at * op.stride[d] + tap * op.dilation[d] - op.padding[d]
            for d, (at, tap) in enumerate(((row, i), (column, j)))
        )
        if not any(op.padding):
            return x(n, y, z, channel)
        inside = tirx.all(y >= 0, y < height, z >= 0, z < width)
        return tirx.if_then_else(inside, x(n, y, z, channel), int32(lowest))

    found = call.reduce(lambda *at: te.max(within(*at), axis=[i, j]), call.out.shape, "largest")
    return call.make(lambda *at: found(*at))


def avg_pool(call: Call) -> te.Tensor:
    """What lies beyond the image adds nothing; what a window divides by comes from a table of all windows."""
    op, (height, width, _) = call.op, call.types[0].shape
    assert isinstance(op, AvgPool2D)
    x, zero, y = call.read(0), quant_of(call.types[0]).zero_point, call.quant
    i, j = axes(op.kernel)
    counts = np.maximum(op.counts(call.types[0].shape), 1)
    factors = call.params["multiplier"][np.searchsorted(call.params["count"], counts)].astype(np.int32)
    same = bool((factors == factors.flat[0]).all())
    multipliers = None if same else call.constant("multipliers", factors)

    def within(n: Expr, row: Expr, column: Expr, channel: Expr) -> Expr:
        above, left = row * op.stride[0] + i - op.padding[0], column * op.stride[1] + j - op.padding[1]
        if not any(op.full_padding):
            return x(n, above, left, channel) - zero
        inside = tirx.all(above >= 0, above < height, left >= 0, left < width)
        return tirx.if_then_else(inside, x(n, above, left, channel) - zero, int32(0))

    total = call.reduce(lambda *at: te.sum(within(*at), axis=[i, j]), call.out.shape)

    def code(n: Expr, row: Expr, column: Expr, channel: Expr) -> Expr:
        multiplier = int32(int(factors.flat[0])) if multipliers is None else multipliers(row, column)
        shift = int(call.params["left_shift"])
        return requantise(total(n, row, column, channel), multiplier, shift, y.zero_point, y.lo, y.hi)

    return call.make(code)


def mean(call: Call) -> te.Tensor:
    op, shape = call.op, call.types[0].shape
    assert isinstance(op, ReduceMean)
    x, zero, y = call.read(0), quant_of(call.types[0]).zero_point, call.quant
    reduced = axes([shape[a] for a in op.axes])
    kept = [a for a in range(len(shape)) if a not in op.axes]

    def source(n: Expr, *at: Expr) -> Expr:
        where: dict[int, Expr] = dict(zip(op.axes, reduced, strict=True))
        where |= dict(zip(kept, (at[a] for a in kept) if op.keepdims else at, strict=True))
        return x(n, *(where[a] for a in range(len(shape)))) - zero

    def total(*at: Expr) -> Expr:
        return te.sum(source(*at), axis=reduced) if reduced else source(*at)

    sums = call.reduce(total, call.out.shape)
    multiplier, shift = int(call.params["multiplier"]), int(call.params["left_shift"])
    return call.make(lambda *at: requantise(sums(*at), int32(multiplier), shift, y.zero_point, y.lo, y.hi))


def transpose(call: Call) -> te.Tensor:
    op, x = call.op, call.read(0)
    assert isinstance(op, Transpose)
    place = [op.perm.index(a) for a in range(len(op.perm))]
    return call.make(lambda n, *at: x(n, *(at[p] for p in place)))


def concat(call: Call) -> te.Tensor:
    op = call.op
    assert isinstance(op, Concat)
    starts = np.cumsum([0, *(t.shape[op.axis] for t in call.types)])

    def code(n: Expr, *at: Expr) -> Expr:
        def part(index: int) -> Expr:
            moved = list(at)
            moved[op.axis] = at[op.axis] - int(starts[index])
            return call.read(index)(n, *moved)

        found = part(len(call.types) - 1)
        for index in reversed(range(len(call.types) - 1)):
            found = tirx.if_then_else(at[op.axis] < int(starts[index + 1]), part(index), found)
        return found

    return call.make(code)


def cut(call: Call) -> te.Tensor:
    op, x = call.op, call.read(0)
    assert isinstance(op, Slice)
    return call.make(lambda n, *at: x(n, *(i * s + a for i, a, s in zip(at, op.start, op.step, strict=True))))


def pad(call: Call) -> te.Tensor:
    op, x, shape = call.op, call.read(0), call.types[0].shape
    assert isinstance(op, Pad)
    value = int(call.params["value"])

    def code(n: Expr, *at: Expr) -> Expr:
        inner = [i - b for i, b in zip(at, op.before, strict=True)]
        conditions = [i >= 0 for i, b in zip(inner, op.before, strict=True) if b]
        conditions += [i < size for i, a, size in zip(inner, op.after, shape, strict=True) if a]
        return tirx.if_then_else(tirx.all(*conditions), x(n, *inner), int32(value)) if conditions else x(n, *inner)

    return call.make(code)


def resize(call: Call) -> te.Tensor:
    op, x = call.op, call.read(0)
    assert isinstance(op, Resize)
    rows, columns = (call.constant(n, np.array(v, np.int32)) for n, v in (("rows", op.rows), ("columns", op.columns)))
    return call.make(lambda n, i, j, c: x(n, rows(i), columns(j), c))


def reshape(call: Call) -> te.Tensor:
    """As a copy: back ends that can share the bytes do not come here."""
    before, x = call.types[0].shape, call.read(0)
    after = call.out.shape

    def code(n: Expr, *at: Expr) -> Expr:
        flat: Expr = 0
        for i, size in zip(at, after, strict=True):
            flat = flat * size + i
        inner = []
        for axis, size in enumerate(before):
            below = prod(before[axis + 1 :])
            inner.append((flat // below) % size if size > 1 else 0)
        return x(n, *inner)

    return call.make(code)
