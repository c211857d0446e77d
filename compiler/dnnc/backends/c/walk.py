"""In which order kernels read their inputs and write their output, and so how far the output must stay behind.

A kernel walks its input and its output in the same direction. If w(t) is how far it has written after its step t, and
r(t) the first byte that it reads later, then the output may begin at any address up to

    input - max over t of (w(t) - r(t))

although both are live: no byte is written over before it is read for the last time. A 3x3 convolution stays a row and a
few pixels behind, an element-wise function 0 bytes; where the distance is the output's size, they do not overlap.

The functions here are the kernels of kernels/, one each: who changes the order in a kernel's C changes its function.
tests/test_walk.py replays every one of them byte by byte and runs every case at exactly its distance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import lcm
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dnnc.passes.lifetime import ALIGNMENT, Distance

Steps: TypeAlias = NDArray[np.int64]
Fields: TypeAlias = Mapping[str, Any]

#: The first byte that a step reads which reads nothing.
NEVER = 2**40


@dataclass(frozen=True, eq=False)
class Walk:
    """One call, step after step; a step reads all that it reads before it writes.

    reads: for each input, [steps] the first byte that the step reads, from where the call's input starts, or NEVER.
    writes: [steps] the end of the bytes that the step writes, from where the call's output starts; 0 for none.
    pixel: 1, or the bytes of a pixel of input and output: the walk is repeated for groups of channels, each reads and
    writes its own channels only, and so both must lie whole pixels apart wherever they overlap. (Or the bytes of a row,
    where the walk is that of every row and goes on to no other one.)
    """

    reads: tuple[Steps, ...]
    writes: Steps
    pixel: int = 1


#: The members of a call's struct and the bytes of an element of each operand (inputs, then the output) to its walk;
#: None where nothing is promised.
Walker: TypeAlias = "Callable[[Fields, Sequence[int]], Walk | None]"


@dataclass(frozen=True, eq=False)
class Visit:
    """A call's walk and its operands: what each input is, at which byte of it and of the output the call begins."""

    walk: Walk
    inputs: tuple[str, ...]
    starts: tuple[int, ...]
    output_start: int


def distances(visits: Sequence[Visit]) -> dict[str, Distance]:
    """How far a node's output must lie behind each input that it may overlap; visits: its calls in their order."""
    size = max((int(v.output_start + v.walk.writes.max(initial=0)) for v in visits), default=0)
    pixels = {v.walk.pixel for v in visits}
    found = {}
    for value in dict.fromkeys(name for v in visits for name in v.inputs):
        parts = [_of(visit, value) for visit in visits]
        if pixels == {1}:
            behind = _behind(np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]))
        elif len(pixels) == 1:  # every call has channels of its own
            behind = max(_behind(*part) for part in parts)
        else:
            continue
        step = lcm(*pixels, ALIGNMENT)
        distance = Distance(-(-max(behind, 0) // step) * step, exact=pixels != {1})
        if distance.bytes < size:
            found[value] = distance
    return found


def _of(visit: Visit, value: str) -> tuple[Steps, Steps]:
    """The reads of one input and the writes, from where the input and the output start."""
    reads = np.full(len(visit.walk.writes), NEVER, np.int64)
    for name, start, steps in zip(visit.inputs, visit.starts, visit.walk.reads, strict=True):
        if name == value:
            reads = np.minimum(reads, steps + start)
    return reads, np.where(visit.walk.writes > 0, visit.walk.writes + visit.output_start, 0)


def _behind(reads: Steps, writes: Steps) -> int:
    """max over t of (w(t) - r(t)); negative where the output may even begin later than the input."""
    later = np.append(np.minimum.accumulate(reads[::-1])[::-1][1:], NEVER)
    return int((writes - later).max(initial=-NEVER))


# --- windows ---------------------------------------------------------------------------------------------------------


def _first_tap(outputs: int, stride: int, pad: int, kernel: int, dilation: int, extent: int) -> Steps:
    """The first position inside the image of each window along one axis, or NEVER."""
    at = np.arange(outputs, dtype=np.int64)[:, None] * stride - pad + np.arange(kernel) * dilation
    first: Steps = np.where((at >= 0) & (at < extent), at, NEVER).min(axis=1)
    return first


def _first_pixel(f: Fields) -> Steps:
    """The first pixel that the window of each output pixel reads, [out_h * out_w]."""
    rows = _first_tap(f["out_h"], f["stride_h"], f["pad_top"], f["kernel_h"], f["dilation_h"], f["in_h"])
    columns = _first_tap(f["out_w"], f["stride_w"], f["pad_left"], f["kernel_w"], f["dilation_w"], f["in_w"])
    pixels = np.where(rows < NEVER, rows * f["in_w"], NEVER)[:, None] + columns
    return np.minimum(pixels, NEVER).ravel()


def _bytes(elements: Steps, width: int) -> Steps:
    """Elements to bytes; NEVER stays NEVER."""
    return np.minimum(elements * width, NEVER)


def _in_pairs(reads: Steps, writes: Steps) -> tuple[Steps, Steps]:
    """Two steps as one; an odd last one stays alone. [..., steps] -> [..., steps / 2 rounded up]"""
    if reads.shape[-1] % 2:
        reads, writes = (np.concatenate([a, a[..., -1:]], axis=-1) for a in (reads, writes))
    return np.minimum(reads[..., ::2], reads[..., 1::2]), np.maximum(writes[..., ::2], writes[..., 1::2])


def _ends(f: Fields, step: int) -> Steps:
    """Where in a pixel every `step` output channels of a call of one group end; their places are ascending."""
    places = np.arange(f["out_c"]) if f["channels"] is None else np.asarray(f["channels"].values, np.int64)
    ends: Steps = places[np.minimum(np.arange(step, len(places) + step, step), len(places)) - 1] + 1
    return ends


def _conv_steps(f: Fields, widths: Sequence[int]) -> tuple[Steps, Steps]:
    """[groups, pixels]: what the window of a pixel reads first, and the end of the pixel's channels."""
    group = np.arange(f["groups"], dtype=np.int64)[:, None]
    reads = _first_pixel(f) * f["in_stride"] + group * f["in_c"]
    pixel = np.arange(f["out_h"] * f["out_w"], dtype=np.int64)
    ends = _ends(f, f["out_c"]) if f["channels"] is not None else (group + 1) * f["out_c"]
    return _bytes(reads, widths[0]), (pixel * f["out_stride"] + ends) * widths[1]


def conv_by_pixel(f: Fields, widths: Sequence[int]) -> Walk:
    """generic/conv.c: pixel by pixel, in it group by group; a window is gathered before its outputs are written."""
    reads, writes = _conv_steps(f, widths)
    return Walk((reads.T.ravel(),), writes.T.ravel())


def conv_by_neighbours(f: Fields, widths: Sequence[int]) -> Walk:
    """generic/conv.c of two pixels: two of a row at a time, in them group by group; both windows are gathered first."""
    reads, writes = (a.reshape(-1, f["out_h"], f["out_w"]) for a in _conv_steps(f, widths))
    reads, writes = _in_pairs(reads, writes)
    return Walk((reads.transpose(1, 2, 0).ravel(),), writes.transpose(1, 2, 0).ravel())


def conv_by_two(f: Fields, widths: Sequence[int]) -> Walk:
    """armv7em/dnnc_smlad_conv.c: group by group, in it two pixels at a time; both windows are gathered first."""
    reads, writes = _in_pairs(*_conv_steps(f, widths))
    return Walk((reads.ravel(),), writes.ravel())


def _dense_steps(f: Fields, widths: Sequence[int]) -> tuple[Steps, Steps]:
    """[pixels]: where the row of each begins, and its outputs."""
    rows = np.arange(f["out_h"], dtype=np.int64)[:, None] * f["stride_h"] * f["in_w"]
    pixels = (rows + np.arange(f["out_w"], dtype=np.int64) * f["stride_w"]).ravel()
    writes = np.arange(len(pixels), dtype=np.int64) * f["out_stride"]
    return pixels * f["in_stride"] * widths[0], writes * widths[1]


def dense_by_four(f: Fields, widths: Sequence[int]) -> Walk:
    """generic/dense.c: the row is read anew for every four outputs, which are written before the next four."""
    reads, writes = _dense_steps(f, widths)
    ends = _ends(f, 4)
    return Walk((np.repeat(reads, len(ends)),), (writes[:, None] + ends * widths[1]).ravel())


def dense_two_by_four(f: Fields, widths: Sequence[int]) -> Walk:
    """generic/dense.c of two pixels: likewise, two neighbours at a time: of a row, or of all rows without a stride."""
    reads, writes = _dense_steps(f, widths)
    if (f["stride_h"], f["stride_w"]) != (1, 1):
        reads, writes = reads.reshape(f["out_h"], -1), writes.reshape(f["out_h"], -1)
    reads, writes = (a.ravel() for a in _in_pairs(reads, writes))
    ends = _ends(f, 4)
    return Walk((np.repeat(reads, len(ends)),), (writes[:, None] + ends * widths[1]).ravel())


def dense_by_two(f: Fields, widths: Sequence[int]) -> Walk:
    """armv7em/dnnc_smlad_dense.c: two rows are widened, then all outputs of both are written."""
    reads, writes = _dense_steps(f, widths)
    reads, writes = _in_pairs(reads, writes + _ends(f, f["out_c"]) * widths[1])
    return Walk((reads,), writes)


def _depthwise(f: Fields, widths: Sequence[int], reads: Steps, writes: Steps) -> Walk | None:
    """reads, writes: pixels. Tiles of four channels each walk the whole image; a single tile need not keep lanes."""
    pixel, made = f["in_stride"] * widths[0], f["out_stride"] * widths[1]
    if f["channels"] is None and f["out_c"] <= 4:
        return Walk((_bytes(reads, pixel),), writes * made)
    return Walk((_bytes(reads, pixel),), writes * made, pixel) if pixel == made else None


def depthwise_by_pixel(f: Fields, widths: Sequence[int]) -> Walk | None:
    """generic/depthwise.c: a tile of four channels after another; in it pixel by pixel, each after its window."""
    return _depthwise(f, widths, _first_pixel(f), np.arange(1, f["out_h"] * f["out_w"] + 1, dtype=np.int64))


def _fresh(lines: int, stride: int, pad: int, span: int, extent: int) -> Steps:
    """The first input line that each output line adds to a ring of those under it, or NEVER."""
    top = np.arange(lines, dtype=np.int64) * stride - pad
    fresh = np.maximum(np.maximum(top, np.append(top[:1], top[:-1] + span)), 0)
    found: Steps = np.where(fresh < np.minimum(top + span, extent), fresh, NEVER)
    return found


def depthwise_by_row(f: Fields, widths: Sequence[int]) -> Walk | None:
    """armv7em/dnnc_smlad_depthwise.c: likewise, but a row of pixels after the rows under it are in the ring."""
    span = (f["kernel_h"] - 1) * f["dilation_h"] + 1
    fresh = _fresh(f["out_h"], f["stride_h"], f["pad_top"], span, f["in_h"])
    return _depthwise(f, widths, _bytes(fresh, f["in_w"]), np.arange(1, f["out_h"] + 1, dtype=np.int64) * f["out_w"])


def depthwise_by_line(f: Fields, widths: Sequence[int]) -> Walk | None:
    """armv7em/dnnc_smlad_depthwise_3x3.c: likewise; but column by column where a tall image keeps its size."""
    same = (f["in_h"], f["in_w"], 1, 1) == (f["out_h"], f["out_w"], f["stride_h"], f["stride_w"])
    if not same or f["in_w"] >= f["in_h"]:
        return depthwise_by_row(f, widths)
    # Every row has the same order of columns, so rows are lanes as channels are.
    fresh = _fresh(f["out_w"], 1, f["pad_left"], 3, f["in_w"])
    walk = _depthwise(f, widths, fresh, np.arange(1, f["out_w"] + 1, dtype=np.int64))
    return walk and replace(walk, pixel=f["in_w"] * f["in_stride"] * widths[0])


def sparse_by_band(f: Fields, widths: Sequence[int]) -> Walk:
    """generic/sparse.c: a band of rows after another; in it channel by channel, each after all that its group reads."""
    shape = f["out_h"], f["out_w"]
    channels, groups = f["groups"] * f["out_c"], np.arange(f["groups"], dtype=np.int64)
    first = _first_pixel(f).reshape(shape).min(axis=1)
    starts = np.arange(0, shape[0], f["rows"])
    reads = np.minimum.reduceat(first, starts)[:, None] * f["groups"] * f["in_c"]
    reads = reads + np.repeat(groups * f["in_c"], f["out_c"])
    last = np.append(starts[1:], shape[0]) * shape[1] - 1
    writes = last[:, None] * channels + np.arange(1, channels + 1, dtype=np.int64)
    return Walk((_bytes(reads.ravel(), widths[0]),), writes.ravel() * widths[1])


def maxpool(f: Fields, widths: Sequence[int]) -> Walk:
    """generic/maxpool.c: a pixel is set to the lowest code, then its window is read."""
    window = f["window"]
    reads = _first_pixel(window) * window["channels"]
    writes = np.arange(1, len(reads) + 1, dtype=np.int64) * window["channels"]
    return Walk((_bytes(np.append(NEVER, reads), widths[0]),), np.append(writes, 0) * widths[1])


def avgpool(f: Fields, widths: Sequence[int]) -> Walk:
    """generic/avgpool.c: pixel by pixel, channel by channel; each after its window."""
    window = f["window"]
    channels = window["channels"]
    reads = _first_pixel(window)[:, None] * channels + np.arange(channels)
    return _in_order((reads.ravel(),), widths)


def _fours(channels: int) -> Steps:
    """Where each four of at least four channels begin; the last ones overlap where the channels are not whole fours."""
    return np.minimum(np.arange(0, channels, 4, dtype=np.int64), channels - 4)


def pool_by_four(f: Fields, widths: Sequence[int]) -> Walk:
    """armv7em/maxpool.c, avgpool.c: pixel by pixel, in it four channels after their window."""
    channels, first = f["window"]["channels"], _first_pixel(f["window"])
    pixels = np.arange(len(first), dtype=np.int64)
    reads, writes = (at[:, None] * channels + _fours(channels) for at in (first, pixels))
    return Walk((_bytes(reads.ravel(), widths[0]),), (writes.ravel() + 4) * widths[1])


# --- element by element ---------------------------------------------------------------------------------------------


def _in_order(reads: tuple[Steps, ...], widths: Sequence[int]) -> Walk:
    """The output's elements one after another; reads: the first element of each input that each of them takes."""
    writes = np.arange(1, len(reads[0]) + 1, dtype=np.int64) * widths[-1]
    return Walk(tuple(_bytes(r, w) for r, w in zip(reads, widths, strict=False)), writes)


def _visited(sizes: Sequence[int], steps: Sequence[int]) -> Steps:
    """The elements that nested loops visit, in their order."""
    at = np.zeros(1, np.int64)
    for size, step in zip(sizes, steps, strict=True):
        at = (at[:, None] + np.arange(size, dtype=np.int64) * step).ravel()
    return at


def element_wise(f: Fields, widths: Sequence[int]) -> Walk:
    """generic/pointwise.c, interpolate.c: one input, one output."""
    return _in_order((np.arange(f["size"], dtype=np.int64),), widths)


def prelu(f: Fields, widths: Sequence[int]) -> Walk:
    """generic/prelu.c."""
    return _in_order((np.arange(f["rows"] * f["channels"], dtype=np.int64),), widths)


def binary(f: Fields, widths: Sequence[int]) -> Walk:
    """generic/add.c, mul.c and armv7em/add.c (eight elements are read before they are written, which needs no less)."""
    return _in_order((_visited(f["size"], f["stride_a"]), _visited(f["size"], f["stride_b"])), widths)


def softmax(f: Fields, widths: Sequence[int]) -> Walk:
    """generic/softmax.c: a row is read twice, then once more while it is written."""
    return _in_order((np.arange(f["rows"] * f["classes"], dtype=np.int64),), widths)


def mean(f: Fields, widths: Sequence[int]) -> Walk:
    """generic/mean.c: an element after all that it sums, of which the first is the lowest."""
    return _in_order((_visited(f["kept"], f["kept_stride"]),), widths)


def mean_by_four(f: Fields, widths: Sequence[int]) -> Walk:
    """armv7em/mean.c: four elements that lie together, after all that they sum."""
    *outer, together = f["kept"]
    first = _visited(outer, f["kept_stride"][:-1])
    made = np.arange(len(first), dtype=np.int64) * together
    reads, writes = (at[:, None] + _fours(together) for at in (first, made))
    return Walk((reads.ravel() * widths[0],), (writes.ravel() + 4) * widths[1])


def resize(f: Fields, widths: Sequence[int]) -> Walk:
    """generic/resize.c: channel by channel."""
    rows, columns = (np.asarray(f[axis].values, np.int64) for axis in ("rows", "columns"))
    pixels = (rows[:, None] * f["in_w"] + columns).ravel()
    return _in_order(((pixels[:, None] * f["channels"] + np.arange(f["channels"])).ravel(),), widths)


def copy(f: Fields, widths: Sequence[int]) -> Walk:
    """generic/copy.c: element by element, to strided places."""
    reads, writes = _visited(f["size"], f["stride_x"]), _visited(f["size"], f["stride_y"])
    return Walk((reads * widths[0],), (writes + 1) * widths[1])


def fill(f: Fields, widths: Sequence[int]) -> Walk:
    """generic/fill.c: writes only."""
    return Walk((), np.full(1, f["size"] * widths[0], np.int64))
