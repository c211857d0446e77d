"""Loops of the kernels of Armv7E-M for convolutions and dense layers (kernels/armv7em), counted.

Counts are by the piece of code that they run: what all widths share is measured once for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dnnc.cost.kernels.axis import starts, taps_inside
from dnnc.cost.kernels.call import Symbol, block_k
from dnnc.cost.kernels.counts import Counter

Numbers = Mapping[str, Any]


def conv(c: Counter, s: Symbol, f: Numbers) -> None:
    """dnnc_smlad_conv.c: two windows gathered, then met by all tiles of output channels."""
    groups, depth, outputs = f["groups"], f["in_c"], f["out_c"]
    pixels = f["out_h"] * f["out_w"]
    steps = groups * (-(-pixels // 2))
    c.part = "smlad_conv"
    c.add("call", 1)
    c.add("zero", depth)
    c.add("group", groups)
    c.add("step", steps)
    c.add("single", groups * (pixels % 2))
    c.add("row", groups * f["out_h"])
    if depth % 4:
        _gather_bytes(c, f)
        _widen_two(c, -(-_k(f) // 4), steps)
    else:
        _gather_pairs(c, f)
    padded = _padded(s, f)
    if _corrected(s):
        _sums(c, -(-padded // 4) * 4, steps)
    _two(c, s, f, padded, steps)
    if f["clamped"]:
        clamp(c, outputs, 2 * steps)
    if f["scattered"]:
        c.part = "smlad_conv"
        c.add("scatter", 2 * steps)
        c.add("scattered", 2 * steps * outputs)


def dense(c: Counter, s: Symbol, f: Numbers) -> None:
    """dnnc_smlad_dense.c: pixels are widened where they lie."""
    k, outputs = f["in_c"], f["out_c"]
    pixels = f["out_h"] * f["out_w"]
    steps, single = pixels // 2, pixels % 2
    padded = _padded(s, f)
    c.part = "smlad_dense"
    c.add("call", 1)
    c.add("step", steps)
    c.add("single", single)
    c.add("row", f["out_h"])
    c.add("pad", (padded - k // 4 * 4) * (int(steps > 0) + 0.5 * single))
    if k % 4:
        c.add("rest", steps)
        c.add("rests", steps * (k % 4))
        c.add("single_rest", single)
        c.add("single_rests", single * (k % 4))
        _widen_two(c, 1, steps)
        _widen_one(c, 1, single)
    _widen_two(c, k // 4, steps)
    _widen_one(c, k // 4, single)
    if _corrected(s):
        _sums(c, -(-padded // 4) * 4, steps)
        _sums(c, -(-padded // 2 // 4) * 4, single)
    _two(c, s, f, padded, steps)
    _one(c, s, f, padded, single)
    if f["clamped"] or f["scattered"]:
        c.part = "smlad_dense"
        c.add("finish", pixels)
        if f["scattered"]:
            c.add("scatter", pixels)
            c.add("scattered", pixels * outputs)
        clamp(c, outputs if f["clamped"] else 0, pixels)


def _k(f: Numbers) -> int:
    return int(f["kernel_h"] * f["kernel_w"] * f["in_c"])


def _padded(s: Symbol, f: Numbers) -> int:
    """k that the loops cover."""
    return int(f["blocks"]) * block_k(s.bits)


def _corrected(s: Symbol) -> bool:
    """Whether fields are offset, which the sum of the activations corrects: all widths but 8."""
    return s.bits != 8


def _gather_pairs(c: Counter, f: Numbers) -> None:
    """Rows of windows that lie in the image and together are widened at once, others tap by tap."""
    depth, kernel_w = f["in_c"], f["kernel_w"]
    together = f["dilation_w"] == 1 and depth == f["in_stride"]
    first, second = _corners(f)
    whole, split, inside = 0, 0, 0
    for kh in range(f["kernel_h"]):
        rows = [corner[0] + kh * f["dilation_h"] for corner in (first, second)]
        fits = [(row >= 0) & (row < f["in_h"]) for row in rows]
        edges = [corner[1] + (kernel_w - 1) * f["dilation_w"] for corner in (first, second)]
        lies = [
            fit & (corner[1] >= 0) & (edge < f["in_w"])
            for fit, corner, edge in zip(fits, (first, second), edges, strict=True)
        ]
        both = (lies[0] & lies[1]) if together else np.zeros(len(first[0]), bool)
        whole += int(np.count_nonzero(both))
        split += int(np.count_nonzero(~both))
        for corner, fit in zip((first, second), fits, strict=True):
            columns = taps_inside(corner[1], kernel_w, f["dilation_w"], f["in_w"])
            inside += int(columns[fit & ~both].sum())
    groups = f["groups"]
    taps = split * kernel_w * groups
    c.part = "smlad_conv"
    c.add("whole_row", whole * groups)
    c.add("split_row", split * groups)
    c.add("tap", taps)
    c.add("tap_inside", inside * groups)
    _widen_two(c, kernel_w * depth // 4, whole * groups)
    _widen_two(c, depth // 4, taps)


def _corners(f: Numbers) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """(row, column) of the first and of the second window of every step."""
    rows = np.repeat(starts(f["out_h"], f["stride_h"], f["pad_top"]), f["out_w"])
    columns = np.tile(starts(f["out_w"], f["stride_w"], f["pad_left"]), f["out_h"])
    if len(rows) % 2:
        rows, columns = np.append(rows, rows[-1]), np.append(columns, columns[-1])
    return (rows[::2], columns[::2]), (rows[1::2], columns[1::2])


def _gather_bytes(c: Counter, f: Numbers) -> None:
    """Windows are copied together byte by byte: all of one that lies in the image, others tap by tap."""
    depth, kernel_h, kernel_w = f["in_c"], f["kernel_h"], f["kernel_w"]
    together = f["dilation_w"] == 1 and depth == f["in_stride"]
    right = f["in_w"] - kernel_w if together else -1
    bottom = f["in_h"] - (kernel_h - 1) * f["dilation_h"] - 1
    whole, windows, inside = 0, 0, 0
    for rows, columns in _corners(f):
        lies = (rows >= 0) & (rows <= bottom) & (columns >= 0) & (columns <= right)
        whole += int(np.count_nonzero(lies))
        windows += len(rows)
        high = taps_inside(rows, kernel_h, f["dilation_h"], f["in_h"])
        wide = taps_inside(columns, kernel_w, f["dilation_w"], f["in_w"])
        inside += int((high * wide)[~lies].sum())
    groups = f["groups"]
    run, taps = kernel_w * depth, (windows - whole) * kernel_h * kernel_w * groups
    c.part = "smlad_conv"
    c.add("whole_window", whole * groups)
    c.add("split_window", (windows - whole) * groups)
    c.add("split_line", (windows - whole) * kernel_h * groups)
    c.add("byte_tap", taps)
    c.add("byte_tap_inside", inside * groups)
    rows_copied = whole * kernel_h * groups + taps
    c.add("copied_row", rows_copied)
    c.add("copied_words", whole * groups * kernel_h * (run // 4) + taps * (depth // 4))


def _widen_two(c: Counter, fours: int, times: int) -> None:
    c.part = "smlad_widen"
    c.add("two", times)
    c.add("two_odd", times * (fours % 2))
    c.add("two_eight", times * (fours // 2))


def _widen_one(c: Counter, fours: int, times: int) -> None:
    c.part = "smlad_widen"
    c.add("one", times)
    c.add("one_four", times * fours)


def _sums(c: Counter, words: int, times: int) -> None:
    c.part = "smlad_widen"
    c.add("sums", times)
    c.add("sums_odd", times * (words // 4 % 2))
    c.add("sums_eight", times * (words // 8))


def clamp(c: Counter, count: int, times: int) -> None:
    """count 0: a call that returns at once."""
    c.part = "smlad_widen"
    c.add("clamp", times)
    c.add("clamp_any", times * (count > 0))
    c.add("clamp_four", times * (count // 4))
    c.add("clamp_one", times * (count % 4))


def _two(c: Counter, s: Symbol, f: Numbers, padded: int, times: int) -> None:
    _products(c, s, f, padded, times, "two")


def _one(c: Counter, s: Symbol, f: Numbers, padded: int, times: int) -> None:
    _products(c, s, f, padded, times, "one")


def _products(c: Counter, s: Symbol, f: Numbers, padded: int, times: int, name: str) -> None:
    """One or two pixels times all tiles: a loop over k a tile, which takes some fours or blocks of it at a time."""
    sums = "sums" in s.variant
    c.part = f"smlad_w{s.bits}_sums" if sums else f"smlad_w{s.bits}"
    outputs = f["out_c"]
    tiles = -(-outputs // 4) * times
    c.add(name, times)
    c.add(f"{name}_tile", tiles)
    c.add(f"{name}_wide", tiles * f["wide"])
    c.add(f"{name}_part", times * (outputs % 4 > 0))
    step = {2: 16, 4: 32, 5: 12, 8: 16}[s.bits] if sums else {2: 8, 4: 8, 8: 8}.get(s.bits, block_k(s.bits))
    c.add(f"{name}_k", tiles * padded)
    c.add(f"{name}_loop", tiles * (-(-padded // step)))
    c.add(f"{name}_entry", tiles * (padded % step > 0))
