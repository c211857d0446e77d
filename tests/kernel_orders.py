"""The kernels of kernels/ as what they read and write, element by element: written after the C, loop by loop.

This is what the promises of dnnc.backends.c.walk are held against. Nothing here is clever: an event is what one load or
store of the C does to the arena; scratch, weights and tables do not appear.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np

from dnnc.backends.c.program import Call
from dnnc.backends.c.ternary import chunks

Fields = Mapping[str, Any]
#: (operand, element): operand 0, 1, ... is read; WRITE is written.
Event = tuple[int, int]
WRITE = -1


def _window(f: Fields, i: int, j: int) -> Iterator[tuple[int, int]]:
    """The pixels (row, column) inside the image that output pixel (i, j) sees."""
    for kh, kw in product(range(f["kernel_h"]), range(f["kernel_w"])):
        h = i * f["stride_h"] - f["pad_top"] + kh * f["dilation_h"]
        w = j * f["stride_w"] - f["pad_left"] + kw * f["dilation_w"]
        if 0 <= h < f["in_h"] and 0 <= w < f["in_w"]:
            yield h, w


def _channels(f: Fields, first: int, count: int) -> list[int]:
    """Where output channels of a call lie in a pixel."""
    every = range(f["groups"] * f["out_c"]) if f["channels"] is None else f["channels"].values.tolist()
    return list(every[first : first + count])


def _pixels(f: Fields) -> list[tuple[int, int]]:
    return list(product(range(f["out_h"]), range(f["out_w"])))


def _gather(f: Fields, i: int, j: int, group: int) -> Iterator[Event]:
    for h, w in _window(f, i, j):
        for c in range(f["in_c"]):
            yield 0, (h * f["in_w"] + w) * f["in_stride"] + group * f["in_c"] + c


def conv_generic(f: Fields) -> Iterator[Event]:
    for p, (i, j) in enumerate(_pixels(f)):
        for g in range(f["groups"]):
            yield from _gather(f, i, j, g)
            for c in _channels(f, g * f["out_c"], f["out_c"]):
                yield WRITE, p * f["out_stride"] + c


def _neighbours(f: Fields) -> Iterator[list[int]]:
    """Two neighbours of a row at a time; an odd row ends with one."""
    for i in range(f["out_h"]):
        row = range(i * f["out_w"], (i + 1) * f["out_w"])
        yield from (list(row[j : j + 2]) for j in range(0, len(row), 2))


def conv_two_pixels(f: Fields) -> Iterator[Event]:
    pixels = _pixels(f)
    for pair in _neighbours(f):
        for g in range(f["groups"]):
            for p in pair:
                yield from _gather(f, *pixels[p], g)
            for c, p in product(_channels(f, g * f["out_c"], f["out_c"]), pair):
                yield WRITE, p * f["out_stride"] + c


def conv_armv7em(f: Fields) -> Iterator[Event]:
    pixels = _pixels(f)
    for g in range(f["groups"]):
        for p in range(0, len(pixels), 2):
            for i, j in pixels[p : p + 2]:
                yield from _gather(f, i, j, g)
            for q in range(p, min(p + 2, len(pixels))):
                for c in _channels(f, g * f["out_c"], f["out_c"]):
                    yield WRITE, q * f["out_stride"] + c


def _row(f: Fields, i: int, j: int) -> Iterator[Event]:
    for c in range(f["in_c"]):
        yield 0, (i * f["stride_h"] * f["in_w"] + j * f["stride_w"]) * f["in_stride"] + c


def dense_generic(f: Fields) -> Iterator[Event]:
    for p, (i, j) in enumerate(_pixels(f)):
        for o in range(0, f["out_c"], 4):
            yield from _row(f, i, j)
            for c in _channels(f, o, 4):
                yield WRITE, p * f["out_stride"] + c


def dense_two_pixels(f: Fields) -> Iterator[Event]:
    pixels = _pixels(f)
    strided = (f["stride_h"], f["stride_w"]) != (1, 1)
    for pair in _neighbours(f) if strided else _neighbours({"out_h": 1, "out_w": len(pixels)}):
        for o in range(0, f["out_c"], 4):
            for p in pair:
                yield from _row(f, *pixels[p])
            for c, p in product(_channels(f, o, 4), pair):
                yield WRITE, p * f["out_stride"] + c


def dense_armv7em(f: Fields) -> Iterator[Event]:
    pixels = _pixels(f)
    for p in range(0, len(pixels), 2):
        for i, j in pixels[p : p + 2]:
            yield from _row(f, i, j)
        for q in range(p, min(p + 2, len(pixels))):
            for c in _channels(f, 0, f["out_c"]):
                yield WRITE, q * f["out_stride"] + c


def depthwise_generic(f: Fields) -> Iterator[Event]:
    for o in range(0, f["out_c"], 4):
        tile = _channels(f, o, 4)
        for p, (i, j) in enumerate(_pixels(f)):
            for (h, w), c in product(_window(f, i, j), tile):
                yield 0, (h * f["in_w"] + w) * f["in_stride"] + c
            for c in tile:
                yield WRITE, p * f["out_stride"] + c


def depthwise_armv7em(f: Fields) -> Iterator[Event]:
    rows = (f["kernel_h"] - 1) * f["dilation_h"] + 1
    for o in range(0, f["out_c"], 4):
        tile = _channels(f, o, 4)
        top = following = -f["pad_top"]
        for i in range(f["out_h"]):
            while following < top + rows:
                if top <= following < f["in_h"] and following >= 0:
                    for w, c in product(range(f["in_w"]), tile):
                        yield 0, (following * f["in_w"] + w) * f["in_stride"] + c
                following += 1
            for j, c in product(range(f["out_w"]), tile):
                yield WRITE, (i * f["out_w"] + j) * f["out_stride"] + c
            top += f["stride_h"]


def by_column(call: Call) -> bool:
    """Whether a depthwise 3x3 layer is made by columns."""
    f = call.fields
    if not call.kernel.kernel.variant.startswith("3x3"):
        return False
    same = (f["in_h"], f["in_w"], 1, 1) == (f["out_h"], f["out_w"], f["stride_h"], f["stride_w"])
    return same and f["in_w"] < f["in_h"]


def depthwise_by_column(f: Fields) -> Iterator[Event]:
    for o in range(0, f["out_c"], 4):
        tile = _channels(f, o, 4)
        following = -f["pad_left"]
        for j in range(f["out_w"]):
            while following < j - f["pad_left"] + 3:
                if 0 <= following < f["in_w"]:
                    for h, c in product(range(f["in_h"]), tile):
                        yield 0, (h * f["in_w"] + following) * f["in_stride"] + c
                following += 1
            for i, c in product(range(f["out_h"]), tile):
                yield WRITE, (i * f["out_w"] + j) * f["out_stride"] + c


def sparse(f: Fields) -> Iterator[Event]:
    """As if no weight were zero."""
    outputs = f["groups"] * f["out_c"]
    f = {**f, "in_stride": f["groups"] * f["in_c"]}
    pixels = _pixels(f)
    for row in range(0, f["out_h"], f["rows"]):
        band = range(row * f["out_w"], min(row + f["rows"], f["out_h"]) * f["out_w"])
        for o in range(outputs):
            for p in band:
                yield from _gather(f, *pixels[p], o // f["out_c"])
            yield from ((WRITE, p * outputs + o) for p in band)


def maxpool(f: Fields) -> Iterator[Event]:
    window = f["window"]
    channels = range(window["channels"])
    for p, (i, j) in enumerate(_pixels(window)):
        for c in channels:
            yield WRITE, p * len(channels) + c
        for (h, w), c in product(_window(window, i, j), channels):
            yield 0, (h * window["in_w"] + w) * len(channels) + c
            yield WRITE, p * len(channels) + c


def avgpool(f: Fields) -> Iterator[Event]:
    window = {**f["window"], "dilation_h": 1, "dilation_w": 1}
    channels = range(window["channels"])
    for (p, (i, j)), c in product(enumerate(_pixels(window)), channels):
        for h, w in _window(window, i, j):
            yield 0, (h * window["in_w"] + w) * len(channels) + c
        yield WRITE, p * len(channels) + c


def _fours(channels: int) -> Iterator[range]:
    """The channels made together; of the last four some are made twice."""
    for c in range(0, channels, 4):
        first = min(c, channels - 4)
        yield range(first, first + 4)


def pool_armv7em(f: Fields) -> Iterator[Event]:
    window = f["window"]
    channels = window["channels"]
    for (p, (i, j)), four in product(enumerate(_pixels(window)), list(_fours(channels))):
        for (h, w), c in product(_window(window, i, j), four):
            yield 0, (h * window["in_w"] + w) * channels + c
        yield from ((WRITE, p * channels + c) for c in four)


def _at(index: Sequence[int], steps: Sequence[int]) -> int:
    return sum(i * s for i, s in zip(index, steps, strict=True))


def binary(f: Fields) -> Iterator[Event]:
    for n, index in enumerate(np.ndindex(*f["size"])):
        yield 0, _at(index, f["stride_a"])
        yield 1, _at(index, f["stride_b"])
        yield WRITE, n


def add_armv7em(f: Fields) -> Iterator[Event]:
    n = 0
    eights = f["size"][3] // 8 if f["stride_a"][3] == f["stride_b"][3] == 1 else 0
    for outer in np.ndindex(*f["size"][:3]):
        a, b = _at(outer, f["stride_a"][:3]), _at(outer, f["stride_b"][:3])
        for k in range(eights):
            yield from ((0, a + 8 * k + c) for c in range(8))
            yield from ((1, b + 8 * k + c) for c in range(8))
            yield from ((WRITE, n + 8 * k + c) for c in range(8))
        yield from ((WRITE, n + c) for c in range(8 * eights))  # the clamp
        for k in range(8 * eights, f["size"][3]):
            yield 0, a + k * f["stride_a"][3]
            yield 1, b + k * f["stride_b"][3]
            yield WRITE, n + k
        n += f["size"][3]


def element_wise(f: Fields) -> Iterator[Event]:
    for n in range(f["size"]):
        yield 0, n
        yield WRITE, n


def prelu(f: Fields) -> Iterator[Event]:
    return element_wise({"size": f["rows"] * f["channels"]})


def mean(f: Fields) -> Iterator[Event]:
    for n, outer in enumerate(np.ndindex(*f["kept"])):
        for inner in np.ndindex(*f["reduced"]):
            yield 0, _at(outer, f["kept_stride"]) + _at(inner, f["reduced_stride"])
        yield WRITE, n


def mean_armv7em(f: Fields) -> Iterator[Event]:
    *outer, together = f["kept"]
    for n, index in enumerate(np.ndindex(*outer)):
        first = _at(index, f["kept_stride"][:-1])
        for four in _fours(together):
            for inner, c in product(np.ndindex(*f["reduced"]), four):
                yield 0, first + c + _at(inner, f["reduced_stride"])
            yield from ((WRITE, n * together + c) for c in four)


def softmax(f: Fields) -> Iterator[Event]:
    for row in range(0, f["rows"] * f["classes"], f["classes"]):
        for _ in range(2):
            yield from ((0, row + c) for c in range(f["classes"]))
        for c in range(f["classes"]):
            yield 0, row + c
            yield WRITE, row + c


def resize(f: Fields) -> Iterator[Event]:
    places = product(f["rows"].values.tolist(), f["columns"].values.tolist(), range(f["channels"]))
    for n, (i, j, c) in enumerate(places):
        yield 0, (i * f["in_w"] + j) * f["channels"] + c
        yield WRITE, n


def copy(f: Fields) -> Iterator[Event]:
    for index in np.ndindex(*f["size"]):
        yield 0, _at(index, f["stride_x"])
        yield WRITE, _at(index, f["stride_y"])


def fill(f: Fields) -> Iterator[Event]:
    yield from ((WRITE, n) for n in range(f["size"]))


def _band(first: int, count: int) -> range:
    """Elements of whole packed words from `first` on."""
    return range(first, first + -(-count // 8) * 8)


def banded(call: Call) -> Iterator[Event]:
    """generic/banded_image.c: what is packed by words, what is not as the kernel for bytes does."""
    f = call.fields.get("window", call.fields)
    pixel, made = (f["channels"],) * 2 if "window" in call.fields else (f["in_stride"], f["out_stride"])
    in_row, out_row = f["in_w"] * pixel, f["out_w"] * made
    packed_x, packed_y = (element == "s4" for element in call.kernel.elements)
    rows = min(-(-32 // f["out_w"]), f["out_h"])
    span = (f["kernel_h"] - 1) * f["dilation_h"] + 1
    for row in range(0, f["out_h"], rows):
        rows = min(rows, f["out_h"] - row)
        begin = row * f["stride_h"] - f["pad_top"]
        first, end = max(begin, 0), min(begin + (rows - 1) * f["stride_h"] + span, f["in_h"])
        read = range(first * in_row, end * in_row)
        yield from ((0, e) for e in (_band(read.start, len(read)) if packed_x else read))
        written = range(row * out_row, (row + rows) * out_row)
        yield from ((WRITE, e) for e in (_band(written.start, len(written)) if packed_y else written))


def banded_add(call: Call) -> Iterator[Event]:
    size = call.fields["size"][3]
    packed = [element == "s4" for element in call.kernel.elements]
    for first in range(0, size, 64):
        chunk = range(first, min(first + 64, size))
        for operand in (0, 1):
            if packed[operand]:
                yield from ((operand, e) for e in _band(first, len(chunk)))
        for e in chunk:
            yield from ((operand, e) for operand in (0, 1) if not packed[operand])
            if not packed[2]:
                yield WRITE, e
        if packed[2]:
            yield from ((WRITE, e) for e in _band(first, len(chunk)))


#: (source of the kernel) -> its order.
ORDERS: Mapping[str, Callable[[Fields], Iterator[Event]]] = {
    "generic/conv.c": conv_generic,
    "generic/dense.c": dense_generic,
    "generic/depthwise.c": depthwise_generic,
    "generic/sparse.c": sparse,
    "armv7em/conv.c": conv_armv7em,
    "armv7em/dense.c": dense_armv7em,
    "armv7em/depthwise.c": depthwise_armv7em,
    "armv7em/add.c": add_armv7em,
    "armv7em/maxpool.c": pool_armv7em,
    "armv7em/avgpool.c": pool_armv7em,
    "armv7em/mean.c": mean_armv7em,
    "generic/add.c": binary,
    "generic/mul.c": binary,
    "generic/pointwise.c": element_wise,
    "generic/interpolate.c": element_wise,
    "generic/prelu.c": prelu,
    "generic/maxpool.c": maxpool,
    "generic/avgpool.c": avgpool,
    "generic/mean.c": mean,
    "generic/softmax.c": softmax,
    "generic/resize.c": resize,
    "generic/copy.c": copy,
    "generic/fill.c": fill,
}


BANDED: Mapping[str, Callable[[Call], Iterator[Event]]] = {
    "generic/banded_image.c": banded,
    "generic/banded_add.c": banded_add,
}


#: The same sources, where they take two pixels at a time.
TWO_PIXELS: Mapping[str, Callable[[Fields], Iterator[Event]]] = {
    "generic/conv.c": conv_two_pixels,
    "generic/dense.c": dense_two_pixels,
}


def ternary(call: Call) -> Iterator[Event]:
    """generic/ternary.c: some channels after another, as the kernel for 2 bits makes them."""
    assert call.kernel.inner is not None
    for first, count in chunks(call.fields):
        part = replace(call, kernel=call.kernel.inner, fields={**call.fields, "out_c": count})
        yield from ((operand, e + first if operand == WRITE else e) for operand, e in _events(part))


def straight(call: Call) -> Iterator[Event]:
    """templates/straight.c.j2: all that a pixel's statements read, then its channels; or the whole input before all."""
    f = SimpleNamespace(**dict(call.kernel.values))
    places = [int(place) for line in f.lines for place in re.findall(r"at\[(\d+)\]", line)]
    if f.image:
        yield from ((0, e) for e in range(f.image.rows * f.image.count))
    for row, column in product(range(f.rows), range(f.columns)):
        if not f.image:
            yield from ((0, row * f.row_step + column * f.column_step + place) for place in places)
        yield from ((WRITE, (row * f.columns + column) * f.outputs + o) for o in range(f.outputs))


def _events(call: Call) -> Iterator[Event]:
    source = call.kernel.kernel.source
    if source == "templates/straight.c.j2":
        yield from straight(call)
        return
    if source == "generic/ternary.c":
        yield from ternary(call)
        return
    yield from _kernel_events(call)


def _kernel_events(call: Call) -> Iterator[Event]:
    source = call.kernel.kernel.source
    if by_column(call):
        return depthwise_by_column(call.fields)
    if call.kernel.kernel.variant.startswith("2x4"):
        return TWO_PIXELS[source](call.fields)
    return BANDED[source](call) if source in BANDED else ORDERS[source](call.fields)


def _bytes(element: int, stored: str) -> range:
    """Where an element lies."""
    if stored == "s4":
        return range(element // 8 * 4 + element % 4, element // 8 * 4 + element % 4 + 1)
    width = 1 if stored == "s8" else 2
    return range(element * width, (element + 1) * width)


def clobbering(calls: Sequence[Call], value: str) -> set[int]:
    """Every `start of the value - start of the output`, in bytes, at which a byte is written that is read later."""
    first_write: dict[int, int] = {}
    last_read: dict[int, int] = {}
    time = 0
    for call in calls:
        for operand, element in _events(call):
            time += 1
            if operand == WRITE or call.operands[operand].value == value:
                for byte in _bytes(element + call.operands[operand].offset, call.kernel.elements[operand]):
                    if operand == WRITE:
                        first_write.setdefault(byte, time)
                    else:
                        last_read[byte] = time
    written, read = np.array(list(first_write)), np.array(list(last_read))
    if not len(written) or not len(read):
        return set()
    when_written, when_read = np.array(list(first_write.values())), np.array(list(last_read.values()))
    differences = written[:, None] - read
    return set(np.unique(differences[when_written[:, None] < when_read]).tolist())
