"""Loops of the kernels without weights (kernels/generic, kernels/armv7em), counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from dnnc.cost.kernels.axis import starts, taps_inside
from dnnc.cost.kernels.call import Symbol
from dnnc.cost.kernels.counts import Counter
from dnnc.cost.kernels.smlad import clamp

Numbers = Mapping[str, Any]


def _nest(c: Counter, sizes: Sequence[int]) -> int:
    """Loops inside each other, outermost first; how often the last of them is entered."""
    entered = 1
    for depth, size in enumerate(sizes[:-1]):
        entered *= size
        c.add(f"loop_{depth}", entered)
    return entered


def binary(c: Counter, s: Symbol, f: Numbers) -> None:
    """add.c, mul.c; on Armv7E-M eight elements at a time where they lie together."""
    c.part = s.name
    c.add("call", 1)
    inner = _nest(c, f["size"])
    count = f["size"][3]
    if s.family == "armv7em":
        eights = count // 8 if f["stride_a"][3] == f["stride_b"][3] == 1 else 0
        c.add("eights", inner * (eights > 0))
        c.add("eight", inner * eights)
        c.add("one", inner * (count - 8 * eights))
        if eights:
            clamp(c, 8 * eights if f["clamped"] else 0, inner)
    else:
        c.add("element", inner * count)
        c.add("clamped", inner * count * f["clamped"])


def pointwise(c: Counter, s: Symbol, f: Numbers) -> None:
    """pointwise.c, interpolate.c."""
    c.part = s.name
    c.add("call", 1)
    c.add("element", f["size"])


def prelu(c: Counter, s: Symbol, f: Numbers) -> None:
    """prelu.c."""
    c.part = s.name
    c.add("call", 1)
    c.add("row", f["rows"])
    c.add("element", f["rows"] * f["channels"])


def softmax(c: Counter, s: Symbol, f: Numbers) -> None:
    """softmax.c; a division takes longer for some values than for others, which is not known."""
    c.part = s.name
    c.add("call", 1)
    c.add("row", f["rows"])
    c.add("element", f["rows"] * f["classes"])


def mean(c: Counter, s: Symbol, f: Numbers) -> None:
    """mean.c: on Armv7E-M four elements that lie together at a time."""
    c.part = s.name
    c.add("call", 1)
    outer = _nest(c, f["kept"])
    last, reduced = f["kept"][2], f["reduced"]
    times = outer * -(-last // 4) if s.family == "armv7em" else outer * last
    c.add("output", times)
    for depth in (0, 1):
        c.add(f"reduced_{depth}", times * prod(reduced[: depth + 1]))
    c.add("run", times * prod(reduced[:2]) * -(-reduced[2] // 256))
    c.add("element", times * prod(reduced))


def pool(c: Counter, s: Symbol, f: Numbers) -> None:
    """maxpool.c, avgpool.c: on Armv7E-M four channels at a time."""
    w = f["window"]
    channels, out_h, out_w = w["channels"], w["out_h"], w["out_w"]
    high = taps_inside(starts(out_h, w["stride_h"], w["pad_top"]), w["kernel_h"], w["dilation_h"], w["in_h"])
    wide = taps_inside(starts(out_w, w["stride_w"], w["pad_left"]), w["kernel_w"], w["dilation_w"], w["in_w"])
    pixels, taken = out_h * out_w, int((high[:, None] * wide).sum())
    lines = int((high[:, None] * (wide > 0)).sum())
    lanes = -(-channels // 4) if s.family == "armv7em" else channels
    c.part = s.name
    c.add("call", 1)
    c.add("row", out_h)
    c.add("row_outside", int((w["kernel_h"] - high).sum()))
    c.add("pixel", pixels)
    c.add("pixel_outside", out_h * int((w["kernel_w"] - wide).sum()))
    c.add("lane", pixels * lanes)
    c.add("lane_part", pixels * (channels % 4 > 0))
    if s.family == "armv7em" and s.op == "avgpool":
        # rows without gaps between them are one
        merged = [(1, int(h) * int(v)) if v == w["in_w"] else (int(h), int(v)) for h in high for v in wide]
        c.add("line", lanes * sum(rows for rows, _ in merged))
        c.add("run", lanes * sum(rows * -(-width // 256) for rows, width in merged))
    elif s.family != "armv7em" and s.op == "maxpool":
        c.add("tap", taken)
        c.add("line", lines)
    else:
        c.add("line", lanes * lines)
    c.add("element", lanes * taken)


def copy(c: Counter, s: Symbol, f: Numbers) -> None:
    """copy.c."""
    c.part = s.name
    c.add("call", 1)
    c.add("element", _nest(c, f["size"]) * f["size"][3])


def fill(c: Counter, s: Symbol, f: Numbers) -> None:
    """fill.c."""
    c.part = s.name
    c.add("call", 1)
    c.add("element", f["size"])
    c.add("words", f["size"] // 4)


def resize(c: Counter, s: Symbol, f: Numbers) -> None:
    """resize.c."""
    c.part = s.name
    c.add("call", 1)
    c.add("row", f["out_h"])
    c.add("pixel", f["out_h"] * f["out_w"])
    c.add("element", f["out_h"] * f["out_w"] * f["channels"])
