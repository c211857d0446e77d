"""Rows of the kernels for Armv7E-M and Armv8-M with the DSP extension."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from dnnc.backends.c import walk
from dnnc.backends.c.pack import padded_k
from dnnc.backends.c.table import STORED_WIDTHS, Kernel, Layer

#: Sums of scaled sub-byte fields stay within 32 bits up to this many products: 2**31 / (128 * 8 * 16), the worst width.
LARGEST_K = 2**16
#: A depthwise kernel whose weights take more scratch than this, in all positions of its ring, is left to others.
LARGEST_WINDOWS_BYTES = 8192

_HEADERS = ("armv7em/dnnc_smlad.h", "armv7em/dnnc_smlad_asm.h", "generic/dnnc_decode.h")


def _whole(count: int, step: int) -> int:
    """count rounded up to a multiple of step."""
    return -(-count // step) * step


def _short(layer: Layer) -> bool:
    return layer.k <= LARGEST_K


def _sums_fit(layer: Layer) -> bool:
    """Whether the sums of the channel with the largest factor survive it in 32 bits."""
    return _short(layer) and layer.weight_sum * 128 * _SUMS[layer.bits] < 2**31 and layer.weight_lowest > -128


def _dense_bytes(layer: Layer) -> int:
    """The 16-bit pairs of two pixels (or of one), and two pixels of output where they are scattered."""
    pixels = min(layer.out_h * layer.out_w, 2)
    words = padded_k(layer.k, layer.bits, "sxtb16") // 2 * pixels
    return 4 * _whole(words, 4) + (2 * _whole(layer.out_c, 2) if layer.scattered else 0)


def _conv_bytes(layer: Layer) -> int:
    """The pairs of two windows, a tap of zero points, the windows in bytes, two pixels of scattered output."""
    pairs = 4 * _whole(padded_k(layer.k, layer.bits, "sxtb16"), 4)
    windows = 2 * _whole(layer.k, 4) if layer.in_c % 4 else 0
    held = 2 * _whole(layer.out_c, 2) if layer.scattered else 0
    return pairs + _whole(layer.in_c, 4) + windows + held


def _window(layer: Layer) -> tuple[int, int, int]:
    """Rows and column pairs that a window spans, and phases of windows: as shape_of() in dnnc_smlad_depthwise.c."""
    span = (layer.kernel_w - 1) * layer.dilation_w + 1
    phases = 1 + layer.stride_w % 2
    pairs = span // 2 + 1 if layer.pad_left % 2 or phases == 2 else (span + 1) // 2
    return (layer.kernel_h - 1) * layer.dilation_h + 1, pairs, phases


def _windows_bytes(layer: Layer) -> int:
    """The weights of a tile in 16-bit pairs: for every turn of the ring of rows, for every phase."""
    rows, pairs, phases = _window(layer)
    return min(layer.out_h, rows) * phases * _whole(rows * pairs, 3) * 16


def _depthwise_bytes(layer: Layer) -> int:
    """Taps, weights, ring of rows, and a row of input and of output where channels do not lie together."""
    rows, pairs, _ = _window(layer)
    columns = ((layer.out_w - 1) * layer.stride_w + layer.pad_left % 2) // 2 + pairs
    apart = layer.scattered or layer.out_c % 4 != 0
    row = 4 * (layer.in_w + layer.out_w) if apart else 0
    return 4 * padded_k(layer.k, layer.bits) + _windows_bytes(layer) + (columns * rows + 2) * 16 + row


def _small(layer: Layer) -> bool:
    return _windows_bytes(layer) <= LARGEST_WINDOWS_BYTES


def _lines(layer: Layer, stride: int) -> bool:
    """3x3 without dilation whose windows are `stride` columns apart. A left shift goes into weights of 16 bits."""
    kernel = layer.kernel_h, layer.kernel_w, layer.dilation_h, layer.dilation_w
    return kernel == (3, 3, 1, 1) and layer.stride_w == stride and layer.left_shift <= 8


def _lines_bytes(layer: Layer) -> int:
    """Taps, channels of a tile, a ring of three lines, a line of scattered channels: as dnnc_smlad_depthwise_3x3()."""
    same = (layer.in_h, layer.in_w) == (layer.out_h, layer.out_w) and (layer.stride_h, layer.stride_w) == (1, 1)
    columns = same and layer.in_w < layer.in_h
    length, outputs = (layer.in_h, layer.out_h) if columns else (layer.in_w, layer.out_w)
    pairs = (outputs - 1) * layer.stride_w // 2 + 2
    apart = layer.scattered or layer.out_c % 4 != 0
    return 4 * padded_k(layer.k, layer.bits) + 4 * 52 + pairs * 48 + (4 * length if apart else 0)


def _products(op: str, bits: int, scratch: Callable[[Layer], int], sums: bool = False) -> Kernel:
    packed = f"dnnc_smlad_w{bits}_sums" if sums else f"dnnc_smlad_w{bits}"
    return Kernel(
        op, "armv7em", f"armv7em/{op}.c", "dnnc_linear_t", "smlad_sums" if sums else "smlad", elements=("s8", "s8"),
        widths=(bits,), order="sums" if sums else "sxtb16", matches=_sums_fit if sums else _short, scratch=scratch,
        walk=walk.conv_by_two if op == "conv" else walk.dense_by_two,
        headers=_HEADERS, records=True, defines=(("DNNC_PACKED", packed),),
        support=(f"armv7em/dnnc_smlad_{op}.c", f"armv7em/{packed}.c", "armv7em/dnnc_smlad_widen.c"),
    )  # fmt: skip


_DEPTHWISE = Kernel(
    "depthwise", "armv7em", "armv7em/depthwise.c", "dnnc_linear_t", "smlad", elements=("s8", "s8"),
    widths=STORED_WIDTHS, matches=_small, scratch=_depthwise_bytes, walk=walk.depthwise_by_row,
    headers=_HEADERS, records=True,
    support=("armv7em/dnnc_smlad_depthwise.c", "armv7em/dnnc_smlad_widen.c"),
)  # fmt: skip


def _depthwise_3x3(stride: int) -> Kernel:
    return replace(
        _DEPTHWISE, variant=f"3x3_s{stride}", matches=partial(_lines, stride=stride), scratch=_lines_bytes,
        walk=walk.depthwise_by_line,
        headers=(*_HEADERS, "armv7em/dnnc_smlad_line.h"), defines=(("DNNC_LINE", f"dnnc_smlad_line_{stride}"),),
        support=(
            "armv7em/dnnc_smlad_depthwise_3x3.c", f"armv7em/dnnc_smlad_line_{stride}.c",
            "armv7em/dnnc_smlad_widen.c",
        ),
    )  # fmt: skip


def _four_together(layer: Layer) -> bool:
    """Layer.in_c of a mean: elements that lie together."""
    return layer.in_c >= 4


def _bytes(op: str, order: walk.Walker, *headers: str) -> Kernel:
    """An operation that takes four int8 values at a time, out of a word."""
    return Kernel(
        op, "armv7em", f"armv7em/{op}.c", f"dnnc_{op}_t", "bytes", elements=("s8", "s8"),
        matches=_four_together, walk=order,
        headers=(_HEADERS[0], "armv7em/dnnc_smlad_bytes.h", *headers),
    )  # fmt: skip


#: The largest factor of a channel by width, where products can be made without taking every field out; the plain rows
#: serve what does not fit.
_SUMS = {2: 2**14, 4: 2**12, 5: 2**10, 8: 2**8}

#: Every row packs its weights for SMLAD; see kernels/armv7em/dnnc_smlad.h.
ARMV7EM: tuple[Kernel, ...] = (
    *(_products("conv", bits, _conv_bytes, sums=True) for bits in _SUMS),
    *(_products("conv", bits, _conv_bytes) for bits in STORED_WIDTHS),
    *(_products("dense", bits, _dense_bytes, sums=True) for bits in _SUMS),
    *(_products("dense", bits, _dense_bytes) for bits in STORED_WIDTHS),
    _depthwise_3x3(1),
    _depthwise_3x3(2),
    _DEPTHWISE,
    _bytes("maxpool", walk.pool_by_four, "generic/dnnc_window.h"),
    _bytes("avgpool", walk.pool_by_four, "generic/dnnc_window.h"),
    _bytes("mean", walk.mean_by_four),
    Kernel(
        "add", "armv7em", "armv7em/add.c", "dnnc_add_t", "smlad", elements=("s8", "s8", "s8"),
        headers=_HEADERS[:1], support=("armv7em/dnnc_smlad_widen.c",), walk=walk.binary,
    ),
)  # fmt: skip
