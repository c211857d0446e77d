"""The table of kernels: which C function serves which layer. Choosing one is reading the table from the top.

A row is a Kernel: a C source that is instantiated by macros for the widths and element types that a network uses.
Names read `dnnc_<elements>_<op>[_w<bits>][_<variant>]__<family>`, e.g. dnnc_s8_conv_w4_1x4__generic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dnnc.backends.c import walk
from dnnc.backends.c.pack import Order, padded_k, stored_width
from dnnc.backends.c.walk import Walker
from dnnc.fixed import WEIGHT_BITS

#: How one element of a value is stored, and the C type that holds it; s4: eight packed 4-bit codes in a word.
ELEMENTS = {"s4": "uint32_t", "s8": "int8_t", "s16": "int16_t"}
#: Bytes of one; 0 for packed ones, of which only whole values are operands.
ELEMENT_BYTES = {"s4": 0, "s8": 1, "s16": 2}
STORED_WIDTHS = tuple(sorted({stored_width(bits) for bits in WEIGHT_BITS}))


@dataclass(frozen=True)
class Layer:
    """What a row is asked about: one call to be made. The fields after `bits` are those of dnnc_linear_t.

    op: "conv", "depthwise", "dense" (a conv of 1x1 without padding, one group, any stride), "sparse" or "bitmap" (any
    of them, with the weights that are not zero), or the name of another operation. elements: "s4", "s8" or "s16" of
    every input and of the output. bits: stored width of the weights, 0 without weights, and for these two. in_c, out_c:
    channels of one group (of this call). scattered: output channels are mapped through dnnc_linear_t.channels.
    shift_only: the target requantises by shifts, and every multiplier allows it.
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
    records: biases and multipliers lie in one array, a record a tile (see dnnc_linear_t). scratch: bytes it needs.
    walk: the order in which its C reads its inputs and writes its output (walk.py), which decides how far the planner
    lets them overlap; None: they never do. Whoever changes that order changes it here too. Scratch overlaps nothing.
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
    walk: Walker | None = None
    shifts: bool = False
    records: bool = False
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
    """A kernel made for one width and one set of element types: one C function, one file. inner: one that it calls.

    values: what its source is rendered with, where that is a template.
    """

    kernel: Kernel
    elements: tuple[str, ...]
    bits: int
    inner: Instance | None = None
    values: tuple[tuple[str, object], ...] = ()

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
        inner = (("DNNC_INNER", self.inner.name),) if self.inner else ()
        return (("DNNC_KERNEL", self.name), *inner, *types, *width, *self.kernel.defines)

    @property
    def prototype(self) -> str:
        """Its declaration in C, without the semicolon."""
        inputs = "".join(f", const {ELEMENTS[e]} *" for e in self.elements[:-1])
        return f"void {self.name}(const {self.kernel.struct} *{inputs}, {ELEMENTS[self.elements[-1]]} *, void *)"


@dataclass(frozen=True)
class Selection:
    """What is not left to the order of the table.

    avoided: rows that, at a stored width, are chosen only where no other serves. stored: (width, wider one), weights
    that are stored as wider ones, and so served by the kernels of these. formats: (layer, format of its weights), of
    layers whose format (backends/c/formats.py) is not left to the rule.
    """

    avoided: frozenset[tuple[Kernel, int]] = frozenset()
    stored: tuple[tuple[int, int], ...] = ()
    formats: tuple[tuple[str, str], ...] = ()

    def avoid(self, kernel: Kernel, bits: int) -> Selection:
        return replace(self, avoided=self.avoided | {(kernel, bits)})

    def store(self, bits: int, wider: int) -> Selection:
        others = dict(self.stored) | {bits: wider}
        return replace(self, stored=tuple(sorted(others.items())))

    def write(self, node: str, kind: str) -> Selection:
        """With the weights of a layer in a format."""
        others = dict(self.formats) | {node: kind}
        return replace(self, formats=tuple(sorted(others.items())))

    def width(self, bits: int) -> int:
        """The stored width of weights of `bits` bits."""
        width, stored = stored_width(bits), dict(self.stored)
        while width in stored:
            width = stored[width]
        return width


#: All is left to the table's order.
IN_ORDER = Selection()


def choose(
    layer: Layer, families: Sequence[str], table: Sequence[Kernel], selection: Selection = IN_ORDER
) -> Kernel | None:
    """The first row of the first family that serves the layer; families are tried in order, then the table's rows.

    What the selection avoids comes last.
    """
    serving = [k for family in families for k in table if k.family == family and k.serves(layer)]
    wanted = [kernel for kernel in serving if (kernel, layer.bits) not in selection.avoided]
    return next(iter((*wanted, *serving)), None)


def _window_bytes(layer: Layer) -> int:
    """The window of one pixel, in the input's own element type."""
    return padded_k(layer.k, layer.bits, "columns") * (1 if layer.elements[0] == "s8" else 2)


def _two_windows_bytes(layer: Layer) -> int:
    """The windows of two neighbouring pixels, which share columns where they overlap."""
    shared = layer.dilation_w == 1 and layer.stride_w < layer.kernel_w
    between = (layer.stride_w if shared else layer.kernel_w) * layer.kernel_h * layer.in_c
    return (between + padded_k(layer.k, layer.bits, "columns")) * (1 if layer.elements[0] == "s8" else 2)


def _tap_bytes(layer: Layer) -> int:
    """The weights of four channels, unpacked to int8."""
    return 4 * padded_k(layer.k, layer.bits)


#: Pixels whose sums a kernel of records keeps: it decodes weights once for so many, if there are rows enough.
BAND_PIXELS = 256


def band_rows(layer: Layer) -> int:
    """Output rows of a band of a kernel of records: bands of equal size, if they come out even."""
    most = max(BAND_PIXELS // layer.out_w, 1)
    bands = -(-layer.out_h // most)
    return -(-layer.out_h // bands)


def _band_bytes(layer: Layer) -> int:
    """A sum for every pixel of a band."""
    return 4 * band_rows(layer) * layer.out_w


def _in_bytes(layer: Layer) -> bool:
    """Whether the smaller numbers of dnnc_sparse_t hold the layer's."""
    padding = (layer.pad_top, layer.pad_left)
    steps = (layer.stride_h, layer.stride_w, layer.dilation_h, layer.dilation_w)
    return "s4" not in layer.elements and max(layer.kernel_h, layer.kernel_w, *steps, *padding) < 256


def _narrow(layer: Layer) -> bool:
    return layer.elements[0] == "s8"


def _two_pixels(layer: Layer) -> bool:
    return layer.out_h * layer.out_w > 1 if layer.op == "dense" else layer.out_w > 1


def _linear(
    op: str,
    scratch: Callable[[Layer], int],
    walker: Walker,
    family: str = "generic",
    order: Order = "columns",
    variant: str = "1x4",
    matches: Callable[[Layer], bool] = _always,
) -> tuple[Kernel, Kernel]:
    """The rows of a source of generic/ for layers that only shift, and for all, with what suits a family of cores."""
    core = f"dnnc_{family}.h"
    suited = family != "generic"
    both = Kernel(
        op, family, f"generic/{op}.c", "dnnc_linear_t", variant, widths=STORED_WIDTHS, order=order, matches=matches,
        scratch=scratch, walk=walker,
        headers=(*((f"{family}/{core}",) if suited else ()), "generic/dnnc_tile.h", "generic/dnnc_decode.h"),
        defines=(
            ("DNNC_PIXELS", variant[0]),
            *((("DNNC_UNSIGNED", "1"),) if order == "unsigned" else ()),
            *((("DNNC_CORE", f'"{core}"'),) if suited else ()),
        ),
    )  # fmt: skip
    shift = replace(both, variant=f"{variant}_shift", matches=lambda layer: layer.shift_only and matches(layer),
                    shifts=True)  # fmt: skip
    return shift, both


def _sparse(op: str, variant: str) -> Kernel:
    """A kernel for the weights that are not zero."""
    return Kernel(
        op, "generic", "generic/sparse.c", "dnnc_sparse_t", variant, matches=_in_bytes, scratch=_band_bytes,
        walk=walk.sparse_by_band, defines=(("DNNC_BITMAP", str(int(op == "bitmap"))),),
    )  # fmt: skip


def _softmax(elements: tuple[str, str], share: str) -> Kernel:
    """share: the C type that holds 2**16 << bits."""
    return Kernel(
        "softmax", "generic", "generic/softmax.c", "dnnc_softmax_t", elements=elements, walk=walk.softmax,
        defines=(("DNNC_SHARE", share),),
    )  # fmt: skip


#: The portable kernels. Layer.shift_only is set only for targets that requantise by shifts.
GENERIC: tuple[Kernel, ...] = (
    *_linear("conv", _window_bytes, walk.conv_by_pixel),
    *_linear("depthwise", _tap_bytes, walk.depthwise_by_pixel, order="natural"),
    *_linear("dense", _nothing, walk.dense_by_four),
    _sparse("sparse", "delta"),
    _sparse("bitmap", ""),
    Kernel("add", "generic", "generic/add.c", "dnnc_add_t", walk=walk.binary),
    Kernel("mul", "generic", "generic/mul.c", "dnnc_mul_t", walk=walk.binary),
    Kernel("pointwise", "generic", "generic/pointwise.c", "dnnc_pointwise_t", walk=walk.element_wise, matches=_narrow),
    Kernel("pointwise", "generic", "generic/interpolate.c", "dnnc_pointwise_t", "interpolated", walk=walk.element_wise),
    Kernel("prelu", "generic", "generic/prelu.c", "dnnc_prelu_t", walk=walk.prelu),
    Kernel(
        "maxpool",
        "generic",
        "generic/maxpool.c",
        "dnnc_maxpool_t",
        headers=("generic/dnnc_window.h",),
        walk=walk.maxpool,
    ),
    Kernel(
        "avgpool",
        "generic",
        "generic/avgpool.c",
        "dnnc_avgpool_t",
        headers=("generic/dnnc_window.h",),
        walk=walk.avgpool,
    ),
    Kernel("mean", "generic", "generic/mean.c", "dnnc_mean_t", walk=walk.mean),
    _softmax(("s8", "s8"), "uint32_t"),
    _softmax(("s8", "s16"), "uint64_t"),
    Kernel("copy", "generic", "generic/copy.c", "dnnc_copy_t", walk=walk.copy),
    Kernel("fill", "generic", "generic/fill.c", "dnnc_fill_t", walk=walk.fill),
    Kernel("resize", "generic", "generic/resize.c", "dnnc_resize_t", walk=walk.resize),
)

#: The portable kernels with two pixels at a time.
RV32IM: tuple[Kernel, ...] = (
    *_linear("conv", _two_windows_bytes, walk.conv_by_neighbours, "rv32im", variant="2x4", matches=_two_pixels),
    *_linear("dense", _nothing, walk.dense_two_by_four, "rv32im", variant="2x4", matches=_two_pixels),
    *_linear("conv", _window_bytes, walk.conv_by_pixel, "rv32im"),
    *_linear("dense", _nothing, walk.dense_by_four, "rv32im"),
    *_linear("depthwise", _tap_bytes, walk.depthwise_by_pixel, "rv32im", "natural"),
)
#: The portable kernels with unsigned bytes of weights; to take fields out of words, registers are too few for its sums.
ARMV6M: tuple[Kernel, ...] = tuple(
    replace(kernel, widths=(8,))
    for kernel in (
        *_linear("conv", _window_bytes, walk.conv_by_pixel, "armv6m", "unsigned"),
        *_linear("dense", _nothing, walk.dense_by_four, "armv6m", "unsigned"),
    )
)
