"""Layers whose values are packed, two 4-bit codes a byte: bands of rows through the kernels for bytes.

A band's input rows are unpacked into scratch, the fastest kernel for bytes computes its output rows, and these are
packed. So every kernel serves packed values as it is, and only what is larger than a band is saved on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import TypeVar

import numpy as np

from dnnc.backends.c.table import Instance, Kernel, Layer
from dnnc.backends.c.walk import NEVER, Fields, Steps, Walk, Walker
from dnnc.ir.graph import Graph, Node
from dnnc.ir.types import PACKED_ELEMENTS
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.elementwise import Add
from dnnc.ops.movement import Reshape
from dnnc.ops.pool import AvgPool2D, MaxPool2D

Count = TypeVar("Count", int, Steps)

#: As DNNC_BAND_PIXELS in kernels/generic/dnnc_nibbles.h, and CHUNK in banded_add.c.
BAND_PIXELS = 32
CHUNK = 64


def takes_packed(graph: Graph, node: Node) -> bool:
    """Whether the node can read and write packed values."""
    op = node.op
    if isinstance(op, Conv2D):
        _, kernel_h, _, _ = node.params["weight"].shape
        top, _, bottom, _ = op.padding
        span = (kernel_h - 1) * op.dilation[0] + 1
        return (op.groups == 1 or op.depthwise(node.params)) and max(top, bottom) < span
    if isinstance(op, MaxPool2D | AvgPool2D):
        top, _, bottom, _ = op.full_padding if isinstance(op, AvgPool2D) else op.padding
        dilation = op.dilation[0] if isinstance(op, MaxPool2D) else 1
        return max(top, bottom) < (op.kernel[0] - 1) * dilation + 1
    if isinstance(op, Add):
        return len({t.shape for t in graph.input_types(node)}) == 1
    return isinstance(op, Dense | Reshape)


def rows_are_words(shape: tuple[int, ...]) -> bool:
    """Whether each row of an image [H, W, C] fills whole words when it is packed; other shapes are read as one row."""
    return len(shape) != 3 or shape[0] == 1 or prod(shape[1:]) % PACKED_ELEMENTS == 0


def band(layer: Layer) -> Layer:
    """What the kernel for bytes is asked to do: the largest band."""
    rows = min(_rows(layer.out_w), layer.out_h)
    span = (layer.kernel_h - 1) * layer.dilation_h + 1
    in_h = min((rows - 1) * layer.stride_h + span, layer.in_h)
    return replace(layer, elements=("s8",) * len(layer.elements), in_h=in_h, out_h=rows)


def banded(layer: Layer, inner: Instance) -> Instance:
    """The kernel for a layer with packed values around `inner`, which serves `band(layer)`."""
    kernel = inner.kernel
    packed = [
        (f"DNNC_PACKED_{name}", str(int(element == "s4")))
        for name, element in zip(("X", "X2") if layer.op == "add" else ("X",), layer.elements[:-1], strict=True)
    ]
    defines = [*packed, ("DNNC_PACKED_Y", str(int(layer.elements[-1] == "s4")))]
    if layer.op != "add":
        pool, counts = layer.op in ("maxpool", "avgpool"), layer.op == "avgpool"
        defines += [("DNNC_LAYER", kernel.struct), ("DNNC_POOL", str(int(pool))), ("DNNC_COUNTS", str(int(counts)))]
    outer = replace(
        kernel,
        source="generic/banded_add.c" if layer.op == "add" else "generic/banded_image.c",
        variant="_".join(part for part in ("banded", kernel.variant) if part),
        elements=layer.elements,
        scratch=_scratch(kernel),
        headers=("generic/dnnc_nibbles.h",),
        support=("generic/dnnc_nibbles.c",),
        walk=_chunks(layer) if layer.op == "add" else _bands(layer),
        defines=tuple(defines),
    )
    return Instance(outer, layer.elements, layer.bits, inner)


def _scratch(kernel: Kernel) -> Callable[[Layer], int]:
    def bytes_of(layer: Layer) -> int:
        if layer.op == "add":
            return 3 * CHUNK
        part = band(layer)
        held = 0
        if layer.elements[0] == "s4":
            held += PACKED_ELEMENTS * _words(part.in_h * layer.in_w * layer.in_stride)
        if layer.elements[-1] == "s4":
            held += PACKED_ELEMENTS * _words(part.out_h * layer.out_w * layer.out_stride)
        return held + kernel.scratch(part)

    return bytes_of


def _bands(layer: Layer) -> Walker:
    """A band's input is in scratch, or its output is, until all of the band is read."""
    packed_x, packed_y = (element == "s4" for element in layer.elements)

    def of(fields: Fields, widths: Sequence[int]) -> Walk:
        f = fields.get("window", fields)
        in_row = f["in_w"] * (f["channels"] if "window" in fields else f["in_stride"])
        out_row = f["out_w"] * (f["channels"] if "window" in fields else f["out_stride"])
        first = np.arange(0, f["out_h"], _rows(f["out_w"]), dtype=np.int64)
        reads = np.maximum(first * f["stride_h"] - f["pad_top"], 0) * in_row
        writes = np.append(first[1:], f["out_h"]) * out_row
        return Walk((reads // 2 if packed_x else reads,), 4 * _words(writes) if packed_y else writes)

    return of


def _chunks(layer: Layer) -> Walker:
    """Chunk after chunk; what is packed goes through scratch, the others are read and written element by element."""
    packed_a, packed_b, packed_y = (element == "s4" for element in layer.elements)

    def of(fields: Fields, widths: Sequence[int]) -> Walk:
        size = fields["size"][3]
        if packed_y:
            first = np.arange(0, size, CHUNK, dtype=np.int64)
            reads = tuple(first // 2 if packed else first for packed in (packed_a, packed_b))
            return Walk(reads, 4 * _words(np.minimum(first + CHUNK, size)))
        # An unpacked input is read as its chunk is written.
        element = np.arange(size, dtype=np.int64)
        chunk = element // CHUNK * CHUNK
        reads = tuple(
            np.where(element == chunk, chunk // 2, NEVER) if packed else element for packed in (packed_a, packed_b)
        )
        return Walk(reads, element + 1)

    return of


def _rows(out_w: int) -> int:
    """Output rows of a band of a tall image."""
    return -(-BAND_PIXELS // out_w)


def _words(elements: Count) -> Count:
    """Words of packed elements."""
    return -(-elements // PACKED_ELEMENTS)
