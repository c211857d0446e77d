"""Loops of the depthwise kernels of Armv7E-M (kernels/armv7em), counted: lines of four channels at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dnnc.cost.kernels.call import Symbol, block_k
from dnnc.cost.kernels.counts import Counter
from dnnc.cost.kernels.smlad import clamp

Numbers = Mapping[str, Any]


def depthwise(c: Counter, s: Symbol, f: Numbers) -> None:
    """Whichever of the two the variant names."""
    if s.variant.startswith("3x3"):
        _three_by_three(c, s, f, int(s.variant[5]))
    else:
        _any_window(c, s, f)


def _tiles(f: Numbers) -> list[tuple[int, bool]]:
    """(channels, whether words can be read and written) of every tile."""
    counts = [min(4, f["out_c"] - o) for o in range(0, f["out_c"], 4)]
    return [(count, count == 4 and not f["scattered"]) for count in counts]


def _unpack(c: Counter, s: Symbol, taps: int, tiles: int) -> None:
    c.part = f"smlad_unpack_w{s.bits}"
    c.add("tile", tiles)
    c.add("block", tiles * -(-taps // block_k(s.bits)))


def _finish(c: Counter, f: Numbers) -> None:
    if not f["scattered"]:
        clamp(c, f["out_h"] * f["out_w"] * f["out_stride"] if f["clamped"] else 0, 1)


def _three_by_three(c: Counter, s: Symbol, f: Numbers, stride: int) -> None:
    """dnnc_smlad_depthwise_3x3.c with dnnc_smlad_line_1.c or _2.c."""
    in_h, in_w, out_h, out_w = f["in_h"], f["in_w"], f["out_h"], f["out_w"]
    along = (in_w, out_w, f["stride_w"], f["pad_left"])
    across = (in_h, out_h, f["stride_h"], f["pad_top"])
    if in_w < in_h and (in_h, in_w) == (out_h, out_w) and f["stride_h"] * f["stride_w"] == 1:
        along, across = across, along
    inputs, outputs, step, pad = along
    pairs = (outputs - 1) * step // 2 + 2
    tiles = _tiles(f)
    apart = [count for count, together in tiles if not together]
    read, filled, skipped = _lines(across, 3)
    part = "smlad_depthwise_3x3"
    c.part = part
    c.add("call", 1)
    c.add("fill", 1)
    c.add("filled", 3 * pairs)
    c.add("tile", len(tiles))
    c.add("channel", f["out_c"])
    c.add("line", len(tiles) * across[1])
    c.add("read", len(tiles) * read)
    c.add("skip", len(tiles) * skipped)
    c.add("fill", len(tiles) * filled)
    c.add("filled", len(tiles) * filled * pairs)
    begin = pad // 2
    if begin < pairs:
        room, left, halves = pairs - begin, inputs, 0
        if pad % 2:
            room, left, halves = room - 1, left - 1, 1
        whole = min(left // 2, room)
        halves += left % 2 and whole < room
        c.add("split", len(tiles) * read * (whole > 0))
        c.add("pair", len(tiles) * read * whole)
        c.add("half", len(tiles) * read * halves)
    c.add("gather", len(apart) * read)
    c.add("gather_pixel", len(apart) * read * inputs)
    c.add("gathered", sum(apart) * read * inputs)
    if f["scattered"] and f["clamped"]:
        c.add("clamp_line", f["out_c"] * across[1])
        c.add("clamped", f["out_c"] * across[1] * outputs)
    _unpack(c, s, 9, len(tiles))
    bodies = (outputs - 1) // 2 if stride == 1 else outputs - 1
    c.part = f"smlad_line_{stride}"
    lines = f["out_c"] * across[1]
    c.add("line", len(tiles) * across[1])
    c.add("channel", lines)
    c.add("odd_entry", lines * (bodies % 2))
    c.add("even_entry", lines * (bodies % 2 == 0 and bodies > 0))
    c.add("single", lines * (outputs % 2) * (stride == 1))
    c.add("body", lines * bodies)
    c.add("loop", lines * (-(-bodies // 2)))
    _finish(c, f)


def _lines(across: tuple[int, int, int, int], span: int) -> tuple[int, int, int]:
    """Input lines that are read, filled with zero points, and passed over, of one tile."""
    inputs, outputs, step, pad = across
    top, following = -pad, -pad
    read = filled = skipped = 0
    for _ in range(outputs):
        for line in range(following, top + span):
            if line < 0 or line >= inputs:
                filled += 1
            elif line >= top:
                read += 1
            else:
                skipped += 1
        following = max(following, top + span)
        top += step
    return read, filled, skipped


def _any_window(c: Counter, s: Symbol, f: Numbers) -> None:
    """dnnc_smlad_depthwise.c."""
    kernel_h, kernel_w, stride_w = f["kernel_h"], f["kernel_w"], f["stride_w"]
    out_h, out_w = f["out_h"], f["out_w"]
    span = (kernel_w - 1) * f["dilation_w"] + 1
    odd, phases = f["pad_left"] % 2, 1 + stride_w % 2
    pairs = span // 2 + 1 if odd or phases == 2 else (span + 1) // 2
    rows = (kernel_h - 1) * f["dilation_h"] + 1
    window = pairs * rows
    padded = -(-window // 3) * 3
    columns = ((out_w - 1) * stride_w + odd) // 2 + pairs
    jobs = 2 if phases == 2 and out_w > 1 else 1
    turns = min(out_h, rows)
    tiles = _tiles(f)
    apart = [count for count, together in tiles if not together]
    read, filled, skipped = _lines((f["in_h"], out_h, f["stride_h"], f["pad_top"]), rows)
    begin = (f["pad_left"] + odd) // 2
    room = max(columns - begin, 0)
    in_pairs = min(f["in_w"] // 2, room)
    half = f["in_w"] % 2 and in_pairs < room
    n = len(tiles)
    c.part = "smlad_depthwise"
    c.add("call", 1)
    c.add("filled", columns * rows + 2)
    c.add("tile", n)
    c.add("channel", f["out_c"])
    c.add("cleared", n * padded * phases)
    c.add("tap_row", n * kernel_h)
    c.add("tap", n * kernel_h * kernel_w)
    c.add("tap_twice", n * kernel_h * kernel_w * (phases == 2))
    c.add("job", n * jobs)
    c.add("row", n * out_h)
    c.add("row_job", n * out_h * jobs)
    c.add("slot_turn", n * out_h * f["stride_h"] / rows)
    c.add("read", n * read)
    c.add("skip", n * skipped)
    c.add("fill", n * filled)
    c.add("filled", n * filled * columns)
    c.add("split", n * read * (in_pairs > 0))
    c.add("pair", n * read * in_pairs)
    c.add("half", n * read * half)
    c.add("turn", n * (turns - 1) * phases)
    c.add("turn_column", n * (turns - 1) * phases * pairs)
    c.add("turned", n * (turns - 1) * phases * padded)
    c.add("pixel", n * out_h * out_w)
    c.add("pixel_shift", n * out_h * out_w * (f["left_shift"] > 0))
    c.add("pixel_three", n * out_h * out_w * padded // 3)
    c.add("gather", len(apart) * read)
    c.add("gather_pixel", len(apart) * read * f["in_w"])
    c.add("gathered", sum(apart) * read * f["in_w"])
    c.add("scatter", len(apart) * out_h)
    c.add("scatter_pixel", len(apart) * out_h * out_w)
    c.add("scattered", sum(apart) * out_h * out_w)
    _unpack(c, s, kernel_h * kernel_w, n)
    if apart:
        clamp(c, 4 * out_w if f["clamped"] else 0, len(apart) * out_h)
    _finish(c, f)
