"""The table of kernels: which C function serves which layer. Choosing one is reading the table from the top.

A row is a Kernel: a C source that is instantiated by macros for the widths and element types that a network uses.
Names read `dnnc_<elements>_<op>[_w<bits>][_<variant>]__<family>`, e.g. dnnc_s8_conv_w4_1x4__generic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dnnc.backends.c.pack import Order, padded_k, stored_width
from dnnc.fixed import WEIGHT_BITS

ELEMENTS = {"s8": "int8_t", "s16": "int16_t"}
STORED_WIDTHS = tuple(sorted({stored_width(bits) for bits in WEIGHT_BITS}))


@dataclass(frozen=True)
class Layer:
    """What a row is asked about: one call to be made. The fields after `bits` are those of dnnc_linear_t.

    op: "conv", "depthwise", "dense" (a conv of 1x1 without padding, one group, any stride), or the name of another
    operation. elements: "s8" or "s16" of every input and of the output. bits: stored width of the weights, 0 without
    weights. in_c, out_c: channels of one group (of this call). scattered: output channels are mapped through
    dnnc_linear_t.channels. shift_only: the target requantises by shifts, and every multiplier allows it.
    x and y start at a multiple of 4 bytes, except when groups of mixed widths are split into calls (`offset`).
    """

    op: str
    elements: tuple[str, ...]
    bits: int = 0
    in_h: int = 1
    in_w: int = 1
    in_c: int = 1
    in_stride: int = 1
    out_h: int = 1
    out_w: int = 1
    out_c: int = 1
    out_stride: int = 1
    groups: int = 1
    kernel_h: int = 1
    kernel_w: int = 1
    stride_h: int = 1
    stride_w: int = 1
    dilation_h: int = 1
    dilation_w: int = 1
    pad_top: int = 0
    pad_left: int = 0
    pad_bottom: int = 0
    pad_right: int = 0
    left_shift: int = 0
    in_zero: int = 0
    offset: int = 0  # elements between the start of the input and the call's first channel
    scattered: bool = False
    shift_only: bool = False
    weight_lowest: int = 0  # the smallest weight
    weight_sum: int = 0  # the largest sum of an output channel's absolute weights

    @property
    def k(self) -> int:
        """Weights of one output channel."""
        taps = self.kernel_h * self.kernel_w
        return taps if self.op == "depthwise" else taps * self.in_c


def _always(layer: Layer) -> bool:
    return True


def _nothing(layer: Layer) -> int:
    return 0


@dataclass(frozen=True)
class Kernel:
    """A row. `source` and `headers` are paths under kernels/; `struct` is the C type of its layer description.

    elements: the element types it is for, None for any. widths: stored weight widths, () for an op without weights.
    order: how its weights are packed. matches: whether it serves a layer (op, elements and widths are checked before).
    scratch: bytes it needs. in_place: y may be x (any of the inputs), when all have the same shape and element type.
    defines: further macros of the source. support: paths of plain C sources that it calls; each is emitted once, as it
    is, for all kernels that name it.
    """

    op: str
    family: str
    source: str
    struct: str
    variant: str = ""
    elements: tuple[str, ...] | None = None
    widths: tuple[int, ...] = ()
    order: Order = "natural"
    matches: Callable[[Layer], bool] = _always
    scratch: Callable[[Layer], int] = _nothing
    headers: tuple[str, ...] = ()
    support: tuple[str, ...] = ()
    in_place: bool = False
    shifts: bool = False
    defines: tuple[tuple[str, str], ...] = ()

    def serves(self, layer: Layer) -> bool:
        return (
            self.op == layer.op
            and (self.elements is None or self.elements == layer.elements)
            and (layer.bits in self.widths if self.widths else layer.bits == 0)
            and self.matches(layer)
        )


@dataclass(frozen=True)
class Instance:
    """A kernel made for one width and one set of element types: one C function, one file."""

    kernel: Kernel
    elements: tuple[str, ...]
    bits: int

    @property
    def name(self) -> str:
        kernel = self.kernel
        elements = self.elements[0] if len(set(self.elements)) == 1 else "".join(self.elements)
        parts = ["dnnc", elements, kernel.op, f"w{self.bits}" if self.bits else "", kernel.variant]
        return "_".join(part for part in parts if part) + f"__{kernel.family}"

    @property
    def defines(self) -> tuple[tuple[str, str], ...]:
        """The macros at the head of its source."""
        inputs = zip(("DNNC_X", "DNNC_X2"), self.elements[:-1], strict=False)
        types = [(macro, ELEMENTS[element]) for macro, element in (*inputs, ("DNNC_Y", self.elements[-1]))]
        width = [("DNNC_BITS", str(self.bits)), ("DNNC_SHIFT", str(int(self.kernel.shifts)))] if self.bits else []
        return (("DNNC_KERNEL", self.name), *types, *width, *self.kernel.defines)

    @property
    def prototype(self) -> str:
        """Its declaration in C, without the semicolon."""
        inputs = "".join(f", const {ELEMENTS[e]} *" for e in self.elements[:-1])
        return f"void {self.name}(const {self.kernel.struct} *{inputs}, {ELEMENTS[self.elements[-1]]} *, void *)"


def choose(layer: Layer, families: Sequence[str], table: Sequence[Kernel]) -> Kernel | None:
    """The first row of the first family that serves the layer; families are tried in order, then the table's rows."""
    for family in families:
        for kernel in table:
            if kernel.family == family and kernel.serves(layer):
                return kernel
    return None


def _row_bytes(layer: Layer) -> int:
    """The im2col row of one pixel, in the input's own element type."""
    return padded_k(layer.k, layer.bits) * (1 if layer.elements[0] == "s8" else 2)


def _tap_bytes(layer: Layer) -> int:
    """The weights of four channels, unpacked to int8."""
    return 4 * padded_k(layer.k, layer.bits)


def _narrow(layer: Layer) -> bool:
    return layer.elements[0] == "s8"


def _shifts(layer: Layer) -> bool:
    return layer.shift_only


def _linear(op: str, scratch: Callable[[Layer], int]) -> tuple[Kernel, Kernel]:
    shift = Kernel(
        op, "generic", f"generic/{op}.c", "dnnc_linear_t", "1x4_shift", widths=STORED_WIDTHS, matches=_shifts,
        scratch=scratch, headers=("generic/dnnc_tile.h", "generic/dnnc_decode.h"), shifts=True,
    )  # fmt: skip
    multiply = Kernel(
        op, "generic", f"generic/{op}.c", "dnnc_linear_t", "1x4", widths=STORED_WIDTHS,
        scratch=scratch, headers=("generic/dnnc_tile.h", "generic/dnnc_decode.h"),
    )  # fmt: skip
    return shift, multiply


def _softmax(elements: tuple[str, str], share: str) -> Kernel:
    """share: the C type that holds 2**16 << bits."""
    return Kernel(
        "softmax", "generic", "generic/softmax.c", "dnnc_softmax_t", elements=elements, in_place=True,
        defines=(("DNNC_SHARE", share),),
    )  # fmt: skip


#: The portable kernels. Layer.shift_only is set only for targets that requantise by shifts.
GENERIC: tuple[Kernel, ...] = (
    *_linear("conv", _row_bytes),
    *_linear("depthwise", _tap_bytes),
    *_linear("dense", _nothing),
    Kernel("add", "generic", "generic/add.c", "dnnc_add_t", in_place=True),
    Kernel("mul", "generic", "generic/mul.c", "dnnc_mul_t", in_place=True),
    Kernel("pointwise", "generic", "generic/pointwise.c", "dnnc_pointwise_t", in_place=True, matches=_narrow),
    Kernel("pointwise", "generic", "generic/interpolate.c", "dnnc_pointwise_t", "interpolated", in_place=True),
    Kernel("prelu", "generic", "generic/prelu.c", "dnnc_prelu_t", in_place=True),
    Kernel("maxpool", "generic", "generic/maxpool.c", "dnnc_maxpool_t", headers=("generic/dnnc_window.h",)),
    Kernel("avgpool", "generic", "generic/avgpool.c", "dnnc_avgpool_t", headers=("generic/dnnc_window.h",)),
    Kernel("mean", "generic", "generic/mean.c", "dnnc_mean_t"),
    _softmax(("s8", "s8"), "uint32_t"),
    _softmax(("s8", "s16"), "uint64_t"),
    Kernel("copy", "generic", "generic/copy.c", "dnnc_copy_t"),
    Kernel("fill", "generic", "generic/fill.c", "dnnc_fill_t"),
    Kernel("resize", "generic", "generic/resize.c", "dnnc_resize_t"),
)
