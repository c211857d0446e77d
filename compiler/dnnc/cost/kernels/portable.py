"""Loops of the portable kernels with weights (kernels/generic), counted; each instance is measured by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dnnc.cost.kernels.axis import starts, taps_inside, windows_of_taps
from dnnc.cost.kernels.call import Symbol, block_k
from dnnc.cost.kernels.counts import Counter

Numbers = Mapping[str, Any]


def conv(c: Counter, s: Symbol, f: Numbers) -> None:
    """conv.c: the windows of one pixel, or of two neighbours, gathered column by column."""
    groups, depth = f["groups"], f["in_c"]
    out_h, out_w, kernel_w = f["out_h"], f["out_w"], f["kernel_w"]
    steps = out_h * -(-out_w // s.pixels)
    size = depth * s.bytes_in
    words = 0 if (size | f["in_stride"] * s.bytes_in | f.get("offset", 0) * s.bytes_in) & 3 else size // 4
    high = taps_inside(starts(out_h, f["stride_h"], f["pad_top"]), f["kernel_h"], f["dilation_h"], f["in_h"])
    columns, columns_inside = _columns(s, f)
    inside = int(high.sum()) * columns_inside * groups
    taps = out_h * f["kernel_h"] * columns * groups
    c.part = s.frame
    c.add("call", 1)
    c.add("row", out_h)
    c.add("step", steps)
    c.add("group", steps * groups)
    c.add("column", out_h * columns * groups)
    c.add("tap_inside", inside)
    c.add("tap_outside", taps - inside)
    c.add("copied", inside * (words or depth))
    c.add("bytewise", inside * (words == 0))
    c.add("zeros", (taps - inside) * depth)
    _products(c, s, f, steps * groups, depth * f["kernel_h"] * kernel_w)


def _columns(s: Symbol, f: Numbers) -> tuple[int, int]:
    """Of a row of outputs: columns of windows that are gathered, and how many of these lie in the image."""
    first = starts(f["out_w"], f["stride_w"], f["pad_left"])
    kernel_w, dilation, in_w = f["kernel_w"], f["dilation_w"], f["in_w"]
    if s.pixels == 1:
        return f["out_w"] * kernel_w, int(taps_inside(first, kernel_w, dilation, in_w).sum())
    shared = dilation == 1 and f["stride_w"] < kernel_w
    more = f["stride_w"] if shared else kernel_w
    paired = first[: len(first) // 2 * 2 : 2]
    single = first[len(paired) * 2 :]
    gathered = len(paired) * (kernel_w + more) + len(single) * kernel_w
    found = int(taps_inside(single, kernel_w, dilation, in_w).sum())
    if shared:
        found += int(taps_inside(paired, kernel_w + more, 1, in_w).sum())
    else:
        both = np.concatenate([paired, paired + f["stride_w"]])
        found += int(taps_inside(both, kernel_w, dilation, in_w).sum())
    return gathered, found


def dense(c: Counter, s: Symbol, f: Numbers) -> None:
    """dense.c: rows are read where they lie."""
    k, outputs = f["in_c"], f["out_c"]
    plain = (f["stride_h"], f["stride_w"]) == (1, 1)
    height, width = (1, f["out_h"] * f["out_w"]) if plain else (f["out_h"], f["out_w"])
    steps = height * -(-width // s.pixels)
    step_k = max(block_k(s.bits), 4)
    covered = f["blocks"] * block_k(s.bits)
    rest = k - (covered - step_k) if covered > k else 0
    c.part = s.frame
    c.add("call", 1)
    c.add("row", height)
    c.add("step", steps)
    c.add("rest", steps * s.pixels * rest)
    c.add("rest_tile", steps * -(-outputs // 4) * (rest > 0))
    _products(c, s, f, steps, k)


def _products(c: Counter, s: Symbol, f: Numbers, steps: int, k: int) -> None:
    """dnnc_tile.h: the sum of the activations where fields are offset, four output channels at a time."""
    outputs = f["out_c"]
    tiles = steps * -(-outputs // 4)
    c.part = s.name
    c.add("step", steps)
    c.add("sum_four", steps * s.pixels * (k // 4))
    c.add("sum_one", steps * s.pixels * (k % 4))
    c.add("tile", tiles)
    c.add("tile_step", tiles * f["blocks"] * block_k(s.bits) // max(block_k(s.bits), 4))
    c.add("part", steps * (outputs % 4 > 0))
    c.add("output", steps * outputs)
    c.part = s.frame
    c.add("scattered", steps * outputs * f["scattered"])


def depthwise(c: Counter, s: Symbol, f: Numbers) -> None:
    """depthwise.c: four channels over the whole image, tile after tile."""
    kernel_h, kernel_w, out_h, out_w = f["kernel_h"], f["kernel_w"], f["out_h"], f["out_w"]
    counts = [min(4, f["out_c"] - o) for o in range(0, f["out_c"], 4)]
    whole = sum(1 for count in counts if count == 4 and not f["scattered"])
    partial = [count for count in counts if count < 4 or f["scattered"]]
    left = starts(out_w, f["stride_w"], f["pad_left"])
    high = taps_inside(starts(out_h, f["stride_h"], f["pad_top"]), kernel_h, f["dilation_h"], f["in_h"])
    wide = taps_inside(left, kernel_w, f["dilation_w"], f["in_w"])
    last = f["in_w"] - (kernel_w - 1) * f["dilation_w"] - 1
    edges = int(np.count_nonzero((left < 0) | (left > last)))
    n, pixels = len(counts), out_h * out_w
    taken = int((high[:, None] * wide).sum())
    rows = int((high[:, None] * (wide > 0)).sum())
    full = int(((high[:, None] * wide) == kernel_h * kernel_w).sum())
    any_taken = int(((high[:, None] * wide) > 0).sum())
    c.part = s.name
    c.add("tile", n)
    c.add("block", n * f["blocks"])
    c.part = s.frame
    c.add("call", 1)
    c.add("channel", f["out_c"])
    c.add("tap_channel", f["out_c"] * kernel_h * kernel_w)
    c.add("row", n * out_h)
    c.add("row_outside", n * int((kernel_h - high).sum()))
    c.add("pixel", n * pixels)
    c.add("edge", n * out_h * edges)
    c.add("edge_outside", n * out_h * int((kernel_w - wide).sum()))
    c.add("border", n * (pixels - full))
    c.add("whole_pixel", whole * any_taken)
    c.add("whole_row", whole * rows)
    c.add("whole_tap", whole * taken)
    c.add("some_pixel", len(partial) * pixels)
    c.add("some_row", len(partial) * rows)
    c.add("some_tap", len(partial) * taken)
    c.add("some_product", sum(partial) * taken)
    c.add("output", f["out_c"] * pixels)


def sparse(c: Counter, s: Symbol, f: Numbers) -> None:
    """sparse.c: weights one by one, each for a band of pixels. tap_records, tap_outputs: of each tap the records, and
    the output channels that have any, over all output channels; tap_places: places of a bitmap that are passed over."""
    outputs, out_h, out_w = f["groups"] * f["out_c"], f["out_h"], f["out_w"]
    records, active = (np.asarray(f[name], float) for name in ("tap_records", "tap_outputs"))
    kernel_h, kernel_w = f["kernel_h"], f["kernel_w"]
    wide = windows_of_taps(out_w, f["stride_w"], f["pad_left"], kernel_w, f["dilation_w"], f["in_w"])
    c.part = s.name
    c.add("call", 1)
    for row in range(0, out_h, f["rows"]):
        height = min(f["rows"], out_h - row)
        pad = f["pad_top"] - row * f["stride_h"]
        high = windows_of_taps(height, f["stride_h"], pad, kernel_h, f["dilation_h"], f["in_h"])
        patch = (high[:, None] * wide).ravel()
        lines = (high[:, None] * (wide > 0)).ravel()
        odd = (high[:, None] * (wide % 2)).ravel()
        pairs = (high[:, None] * (wide // 2)).ravel()
        single = height * out_w == 1
        c.add("band", 1)
        c.add("output", outputs)
        c.add("pixel", outputs * height * out_w)
        c.add("tap_row", outputs * kernel_h)
        c.add("tap", outputs * kernel_h * kernel_w)
        c.add("active", float(active.sum()))
        c.add("outside", float((active * ((height - high)[:, None] + (out_w - wide)).ravel()).sum()))
        c.add("record", float(records.sum()))
        c.add("passed", float(f["passed"]))
        if single:
            c.add("record_single", float((records * (patch > 0)).sum()))
        else:
            c.add("accumulate", float((records * (patch > 0)).sum()))
            c.add("line", float((records * lines).sum()))
            c.add("line_odd", float((records * odd).sum()))
            c.add("pair", float((records * pairs).sum()))


def straight(c: Counter, s: Symbol, f: Numbers) -> None:
    """straight.c.j2: weights are code, which is made for the layer; so costs are of what it consists of."""
    pixels = f["rows"] * f["columns"]
    c.part = f"straight_{'_'.join(s.elements)}"
    c.add("call", 1)
    c.add("border", f["border"])
    c.add("copied_row", f["copied_rows"])
    c.add("copied", f["copied"])
    c.add("row", f["rows"])
    c.add("pixel", pixels)
    c.add("output", pixels * f["outputs"])
    c.add("weight", pixels * f["weights"])
    c.add("product", pixels * f["products"])
