"""Tiny sparse layers as straight-line code: every weight that is not zero is a constant of a function of their own.

Weights of one magnitude share a multiplication: w * (x[a] + x[b] - x[c]). What C compilers make of it is cheap in
instructions, for nothing is decoded, and dear in bytes: about four times a record (records.py). It pays where there are
so few weights that the code of a kernel outweighs them, and where time counts for more than flash.
"""

from __future__ import annotations

import textwrap
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dnnc.backends.c.context import Context
from dnnc.backends.c.program import Call, Operand, Refusal, Step
from dnnc.backends.c.sparse import sparse_layer, tables_of
from dnnc.backends.c.table import ELEMENT_BYTES, Instance, Kernel, Layer
from dnnc.backends.c.text import WIDTH
from dnnc.backends.c.walk import NEVER, Fields, Walk, Walker
from dnnc.fixed import INT32_MAX
from dnnc.ir.graph import Node
from dnnc.ops.common import quant_of

#: Of an output channel: a magnitude, and from which element of a window on it counts, added (True) or taken away.
Terms: TypeAlias = "dict[int, list[tuple[int, bool]]]"

#: More weights than this are never written as code, and larger images are not copied for the sake of a border.
LARGEST_COUNT, LARGEST_IMAGE_BYTES = 2048, 4096
#: Bytes of code for a weight, for a magnitude of a channel that is a power of two, or any other (1 is neither), for the
#: rest of a layer and for a copy of its input: measured on the Cortex-M7, and for a weight on others
#: (tools/bench/straight.py, arm-none-eabi-gcc 12.2 and zig, -O2).
_WEIGHT = {"armv7em": 6.4}
_OTHER_WEIGHT = 9.1
_POWER, _MAGNITUDE = 3.0, 5.4
_LAYER, _COPY = 150, 80
#: Where lines do not break.
_TIMES = "\u00b7*\u00b7"
_KERNEL = Kernel("straight", "generic", "templates/straight.c.j2", "dnnc_straight_t")
#: Measured on the Cortex-M7 (arm-none-eabi-gcc -O2, tools/bench/straight.py): bytes of a weight, of a magnitude that is
#: neither 0 nor 1 and so has a multiplication, of a channel, and of the rest; and instructions.
_BYTES = {"weight": 6.0, "product": 6.0, "channel": 8.0, "layer": 110.0}
_INSTRUCTIONS = {"weight": 2.0, "product": 2.0, "channel": 14.0}


def lower_straight(context: Context, node: Node, layer: Layer) -> Step:
    """One call of a function made for the layer. Raises Refusal where it is not tiny, or its sums could overflow."""
    layer = sparse_layer(layer)
    weight = node.params["weight"].reshape(node.type.shape[-1], -1).astype(np.int64)
    if np.count_nonzero(weight) > LARGEST_COUNT:
        raise Refusal(f"it has more than {LARGEST_COUNT} weights that are not zero")
    if "s4" in layer.elements:
        raise Refusal("its values are packed")
    source = quant_of(context.graph.types[node.inputs[0]])
    if int(np.abs(weight).sum(axis=1).max()) * max(-source.lo, source.hi) > INT32_MAX:
        raise Refusal("a sum of its products, without zero points, could pass 32 bits")
    tables = tables_of(layer, node.params["bias"], node.params["multiplier"])
    lo, hi = (int(v) for v in node.params["clamp"])
    image = _image(layer) if weight.any() else None
    if image and image.nbytes > LARGEST_IMAGE_BYTES:
        raise Refusal(f"its input with a border has more than {LARGEST_IMAGE_BYTES} bytes")
    row = image.row if image else layer.in_w * layer.in_stride
    terms = _terms(layer, weight, row)
    made: dict[str, Any] = {
        "table_type": "int32_t" if tables["wide"] else "int16_t",
        "bias_shift": tables["bias_shift"], "multiplier_shift": tables["multiplier_shift"],
        "left_shift": layer.left_shift, "out_zero": f"({quant_of(node.type).zero_point})", "lo": lo, "hi": hi,
        "rows": layer.out_h, "columns": layer.out_w, "outputs": layer.out_stride,
        "row_step": layer.stride_h * row, "column_step": layer.stride_w * layer.in_stride,
        "sums_bytes": 4 * layer.out_stride, "image": image,
        "reads": bool(weight.any()), "lines": tuple(line for o, t in enumerate(terms) for line in _lines(o, t)),
    }  # fmt: skip
    kernel = replace(
        _KERNEL,
        variant=f"{zlib.crc32(repr((layer.elements, made)).encode()):08x}",
        walk=_walk(layer, row, terms, image is not None),
    )
    instance = Instance(kernel, layer.elements, 0, values=tuple(made.items()))
    call = Call(instance, {"tables": tables["tables"]}, (Operand(node.inputs[0]), Operand(node.name)))
    return Step(
        node.name,
        (call,),
        4 * layer.out_stride + (image.nbytes if image else 0),
        code_bytes=code_bytes(context.target.kernels[0], terms, image is not None),
    )


def code_bytes(family: str, terms: Sequence[Terms], copied: bool) -> int:
    """About how much flash the code of a layer takes on cores of a family."""
    weights = sum(len(places) for term in terms for places in term.values())
    magnitudes = [m for term in terms for m in term if m > 1]
    powers = sum(not m & (m - 1) for m in magnitudes)
    total = _WEIGHT.get(family, _OTHER_WEIGHT) * weights + _POWER * powers + _MAGNITUDE * (len(magnitudes) - powers)
    return round(total) + _LAYER + (_COPY if copied else 0)


@dataclass(frozen=True)
class _Image:
    """The input with its border, in elements: where the input begins, rows of it and how many they have; of a row."""

    first: int
    rows: int
    count: int
    row: int
    size: int
    zero: int
    nbytes: int


def _image(layer: Layer) -> _Image | None:
    """None without a border: then the input is read where it is."""
    if not (layer.pad_top or layer.pad_left or layer.pad_bottom or layer.pad_right):
        return None
    span_h = (layer.out_h - 1) * layer.stride_h + (layer.kernel_h - 1) * layer.dilation_h + 1
    span_w = (layer.out_w - 1) * layer.stride_w + (layer.kernel_w - 1) * layer.dilation_w + 1
    row = max(span_w, layer.pad_left + layer.in_w) * layer.in_stride
    rows = max(span_h, layer.pad_top + layer.in_h)
    first = layer.pad_top * row + layer.pad_left * layer.in_stride
    nbytes = rows * row * ELEMENT_BYTES[layer.elements[0]]
    return _Image(first, layer.in_h, layer.in_w * layer.in_stride, row, rows * row, layer.in_zero, nbytes)


def _terms(layer: Layer, weight: NDArray[np.int64], row: int) -> list[Terms]:
    """Of every output channel; weight [O, K], row: elements of a row of the image."""
    shape = layer.kernel_h, layer.kernel_w, layer.in_c
    rows, columns, channels = np.indices(shape).reshape(3, -1)
    places = rows * layer.dilation_h * row + columns * layer.dilation_w * layer.in_stride + channels
    found: list[Terms] = []
    for o, values in enumerate(weight):
        first = o // layer.out_c * layer.in_c
        terms: Terms = {}
        for k in np.flatnonzero(values):
            terms.setdefault(abs(int(values[k])), []).append((first + int(places[k]), bool(values[k] > 0)))
        found.append(dict(sorted(terms.items())))
    return found


def _lines(channel: int, terms: Terms) -> list[str]:
    """The statement that makes a channel's sum."""
    text = ""
    for magnitude, places in terms.items():
        ordered = sorted(places, key=lambda place: (not place[1], place[0]))
        negative = not ordered[0][1]
        factor = f"{magnitude}{_TIMES}" if magnitude > 1 else ""
        if magnitude > 1 and len(ordered) > 1:
            inner = _signed([(place, sign != negative) for place, sign in ordered])
            part = f"{factor}({inner})"
            text = _joined(text, part, negative)
        else:
            for place, sign in ordered:
                text = _joined(text, f"{factor}at[{place}]", not sign)
    line = f"sums[{channel}] = (uint32_t)({text});" if text else f"sums[{channel}] = 0;"
    return [part.replace(_TIMES, " * ") for part in textwrap.wrap(line, WIDTH - 10, subsequent_indent="    ")]


def _signed(places: Sequence[tuple[int, bool]]) -> str:
    text = ""
    for place, sign in places:
        text = _joined(text, f"at[{place}]", not sign)
    return text


def _joined(text: str, part: str, negative: bool) -> str:
    if not text:
        return f"-{part}" if negative else part
    return f"{text} {'-' if negative else '+'} {part}"


def _walk(layer: Layer, row: int, terms: Sequence[Terms], copied: bool) -> Walker:
    """Pixel by pixel, each after what its channels read; or all after all, where the input is copied."""

    def of(fields: Fields, widths: Sequence[int]) -> Walk:
        pixels = np.arange(layer.out_h * layer.out_w, dtype=np.int64)
        writes = (pixels + 1) * layer.out_stride * widths[1]
        starts = pixels // layer.out_w * layer.stride_h * row + pixels % layer.out_w * layer.stride_w * layer.in_stride
        least = min((place for term in terms for places in term.values() for place, _ in places), default=NEVER)
        if not copied:
            return Walk((np.minimum((starts + least) * widths[0], NEVER),), writes)
        return Walk((np.append(0, np.full_like(pixels, NEVER)),), np.append(0, writes))

    return of
