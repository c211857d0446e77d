"""The layers that costs are measured on: every kernel of a target, at sizes that make each of its loops tell.

Sizes are small, for what is counted is proportional: channels that are no multiple of four, images of one row, odd
windows, borders, short and long products. A set is a network of many layers side by side, which is one program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cases import RELU, Maker
from dnnc.backends.c.table import IN_ORDER, STORED_WIDTHS, Selection
from dnnc.cost.target import Target
from dnnc.ir.graph import Graph
from dnnc.ir.op import Op
from dnnc.ir.types import Quant, Shape
from dnnc.ops.activation import NO_CLAMP, Clamp
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.elementwise import Add, Mul
from dnnc.ops.movement import Concat, Pad, Resize, Slice, Transpose
from dnnc.ops.pointwise import Pointwise, PRelu
from dnnc.ops.pool import AvgPool2D, MaxPool2D, ReduceMean
from dnnc.ops.softmax import Softmax

SAME = (1, 1, 1, 1)
SHORT = Clamp(0.0, 6.0)
Build = Callable[["Side"], str]


class Side(Maker):
    """Layers side by side: inputs of one shape and width are one input. 8-bit weights are above -128, as those of
    trained networks nearly always are, so that their products can be made in sums."""

    def source(self, shape: Shape, bits: int = 8) -> str:
        for made in self.inputs:
            quant = made.type.quant
            if made.type.shape == shape and quant is not None and quant.bits == bits:
                return made.name
        return self.input(*shape, bits=bits)

    spread = False

    def scale(self, about: float) -> float:
        """`spread`: far apart, as the multipliers of a layer whose tables are of 32 bits."""
        apart = float(2 ** self.rng.uniform(-6, 6)) if self.spread else 1.0
        return super().scale(about * apart)

    def _biases(self, source: Quant, scales: Any) -> Any:
        """`spread`: one that no 16 bits and shift hold."""
        found = super()._biases(source, scales)
        if self.spread:
            found[0] = 2.0**30 * source.scale * scales[0]
        return found

    def _weights(self, bits: int, shape: Shape) -> Any:
        found = super()._weights(bits, shape)
        return np.maximum(found, -127) if bits >= 7 else found


@dataclass(frozen=True)
class Set:
    """A network of layers side by side. selection: how its kernels are chosen. packed: it is of packed values."""

    name: str
    layers: tuple[Build, ...]
    selection: Selection = IN_ORDER

    def graph(self, power_of_two: bool) -> Graph:
        make = Side(self.name, power_of_two)
        return make.graph(*[build(make) for build in self.layers])


@dataclass(frozen=True)
class Conv:
    """A convolution to be: image (height, width, channels), outputs, window."""

    image: tuple[int, int, int]
    outputs: int
    kernel: tuple[int, int] = (3, 3)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    clamp: Clamp = NO_CLAMP

    def build(
        self, widths: int | Sequence[int], bits: int = 8, out_bits: int = 8, density: float = 1.0, ternary: bool = False
    ) -> Build:
        op = Conv2D(self.stride, self.padding, self.dilation, self.groups, clamp=self.clamp)
        shape = (self.outputs, *self.kernel, self.image[2] // self.groups)
        return lambda m: m.linear(op, m.source(self.image, bits), shape, widths, out_bits, 1.0, density, ternary)


def _depthwise(image: tuple[int, int, int], kernel: tuple[int, int] = (3, 3), **more: Any) -> Conv:
    return Conv(image, image[2], kernel, groups=image[2], **more)


def _dense(shape: Shape, outputs: int, clamp: Clamp = NO_CLAMP) -> Callable[..., Build]:
    def build(
        widths: int | Sequence[int], bits: int = 8, out_bits: int = 8, density: float = 1.0, ternary: bool = False
    ) -> Build:
        def make(m: Side) -> str:
            weight = (outputs, shape[-1])
            return m.linear(Dense(clamp), m.source(shape, bits), weight, widths, out_bits, 1.0, density, ternary)

        return make

    return build


#: All that is around the products of a convolution: borders, odd numbers of pixels, windows in and outside the image.
CONVS = (
    Conv((7, 8, 4), 8, padding=SAME), Conv((9, 9, 8), 12, padding=SAME), Conv((6, 11, 16), 6, padding=SAME),
    Conv((12, 10, 3), 8, padding=SAME), Conv((9, 13, 3), 5, (5, 5), (2, 2, 2, 2)), Conv((8, 8, 5), 7),
    Conv((10, 10, 8), 16, stride=(2, 2), padding=(0, 0, 1, 1)), Conv((11, 7, 6), 9, stride=(2, 2), padding=SAME),
    Conv((14, 10, 1), 8, (10, 4), (4, 1, 5, 1), (2, 2)), Conv((1, 40, 4), 8, (1, 5), (0, 2, 0, 2)),
    Conv((1, 31, 2), 12, (1, 7)), Conv((9, 8, 4), 8, dilation=(2, 2), padding=(2, 2, 2, 2)),
    Conv((6, 6, 12), 4, (2, 2)), Conv((5, 7, 8), 8, (1, 1), SAME), Conv((8, 8, 1), 20, (5, 5)),
    Conv((5, 5, 32), 32, padding=SAME), Conv((3, 3, 20), 8, padding=SAME, clamp=SHORT),
    Conv((6, 5, 16), 16, padding=SAME, groups=4), Conv((6, 5, 15), 9, padding=SAME, groups=3),
    Conv((17, 3, 4), 4, (3, 1)), Conv((4, 4, 64), 8, padding=SAME), Conv((16, 16, 3), 16, padding=SAME, clamp=SHORT),
    Conv((7, 7, 10), 11, (3, 2), (1, 0, 1, 1), clamp=SHORT), Conv((2, 2, 40), 16, (2, 2)), Conv((20, 20, 1), 6, (5, 5)),
    Conv((9, 9, 3), 8, dilation=(2, 1)),
)  # fmt: skip
#: Depths and tiles of every remainder, for the products of each width.
PRODUCTS = (
    Conv((5, 6, 4), 4), Conv((5, 6, 8), 9), Conv((4, 5, 12), 8), Conv((4, 5, 16), 14), Conv((4, 4, 20), 8),
    Conv((4, 5, 24), 20), Conv((5, 5, 7), 8), Conv((5, 6, 5), 24), Conv((4, 5, 28), 10, (2, 2)),
    Conv((4, 5, 36), 5, (2, 1)), Conv((5, 6, 2), 32),
)  # fmt: skip
DENSES = (
    _dense((16,), 12), _dense((37,), 10), _dense((120,), 24), _dense((203,), 9), _dense((64,), 64), _dense((6, 40), 8),
    _dense((9, 21), 11), _dense((300,), 6), _dense((84,), 10, SHORT), _dense((5, 24), 16, SHORT), _dense((8,), 33),
    _dense((4, 70), 12), _dense((7, 32), 8), _dense((450,), 16),
)  # fmt: skip
POINTWISES = (
    Conv((6, 5, 8), 16, (1, 1)), Conv((7, 9, 16), 8, (1, 1), stride=(2, 2)), Conv((5, 5, 32), 32, (1, 1)),
    Conv((8, 6, 10), 12, (1, 1)), Conv((4, 5, 60), 20, (1, 1)), Conv((7, 7, 3), 8, (1, 1), clamp=SHORT),
    Conv((9, 9, 4), 5, (1, 1)), Conv((6, 6, 96), 8, (1, 1)),
)  # fmt: skip
#: Outputs of one column, of which tiles of two pixels are not made.
COLUMNS = (
    Conv((7, 3, 8), 12), Conv((9, 1, 4), 8, (3, 1), (1, 0, 1, 0)), Conv((7, 3, 5), 9),
    Conv((8, 2, 16), 6, (2, 2), stride=(2, 1)), Conv((12, 4, 6), 16, (3, 4)), Conv((6, 1, 24), 20, (1, 1)),
)  # fmt: skip
FEW = (DENSES[1], DENSES[2], DENSES[5], DENSES[6], DENSES[13])
DEPTHWISES = (
    _depthwise((8, 8, 8), padding=SAME), _depthwise((9, 7, 4), padding=SAME), _depthwise((7, 12, 12), padding=SAME),
    _depthwise((12, 5, 16), padding=SAME, clamp=SHORT), _depthwise((6, 6, 6), padding=SAME),
    _depthwise((3, 3, 16), padding=SAME), _depthwise((5, 9, 9)), _depthwise((2, 15, 8), padding=SAME),
    _depthwise((8, 8, 8), stride=(2, 2), padding=(0, 0, 1, 1)), _depthwise((9, 11, 12), stride=(2, 2), padding=SAME),
    _depthwise((7, 6, 7), stride=(2, 2), padding=SAME, clamp=SHORT), _depthwise((5, 8, 4), stride=(1, 2)),
    _depthwise((16, 16, 4), stride=(2, 2), padding=SAME), _depthwise((3, 4, 8), stride=(2, 2), padding=(0, 0, 1, 1)),
    _depthwise((4, 4, 24), padding=SAME), _depthwise((10, 4, 4), padding=SAME), _depthwise((6, 10, 4), stride=(2, 1)),
    _depthwise((11, 3, 8), padding=SAME), _depthwise((1, 20, 8), padding=SAME),
)  # fmt: skip
WINDOWS = (
    _depthwise((9, 8, 8), (5, 5), padding=(2, 2, 2, 2)), _depthwise((8, 7, 4), (5, 5)),
    _depthwise((10, 9, 8), (5, 5), padding=(2, 2, 2, 2), stride=(2, 2)), _depthwise((1, 30, 8), (1, 9)),
    _depthwise((13, 6, 4), (10, 4), padding=(4, 1, 5, 2), stride=(2, 2)), _depthwise((6, 6, 5), (2, 2), clamp=SHORT),
    _depthwise((9, 9, 8), dilation=(2, 2), padding=(2, 2, 2, 2)), _depthwise((7, 7, 12), (3, 5), padding=(1, 2, 1, 2)),
    _depthwise((20, 1, 8), (7, 1)), _depthwise((1, 24, 6), (1, 5), padding=(0, 2, 0, 2)),
    _depthwise((5, 5, 16), (5, 5)), _depthwise((8, 9, 8), (4, 4), padding=SAME, stride=(2, 1)),
    _depthwise((6, 5, 12), (1, 1)), _depthwise((12, 12, 4), (7, 7), padding=(3, 3, 3, 3)),
    _depthwise((8, 11, 4), stride=(1, 3)), _depthwise((7, 8, 8), (2, 3), padding=(1, 1, 0, 1)),
    _depthwise((4, 30, 4), (3, 7), padding=(1, 3, 1, 3), clamp=SHORT),
)  # fmt: skip
MIXED = (4, 8, 2, 8)
#: Layers of few weights that are not zero, and the share of these.
TINY = ((Conv((12, 12, 1), 5, (5, 5)), 0.15), (CONVS[1], 0.06), (CONVS[8], 0.1), (POINTWISES[2], 0.05), (CONVS[6], 0.1),
        (DEPTHWISES[0], 0.3), (CONVS[9], 0.3), (Conv((4, 5, 6), 20), 0.02))  # fmt: skip


def sets(target: Target) -> Iterator[Set]:
    """Of all kernels of a target."""
    fast = "armv7em" in target.kernels
    plain = _without_sums() if fast else IN_ORDER
    yield Set("convs", tuple(c.build(8) for c in CONVS))
    yield Set("denses", tuple(d(8) for d in DENSES) + tuple(c.build(8) for c in POINTWISES))
    yield Set("depthwises", tuple(c.build(8) for c in (*DEPTHWISES, *WINDOWS)))
    yield Set("mixed", _mixed())
    for bits in STORED_WIDTHS:
        layers = [c.build(bits) for c in (*PRODUCTS, CONVS[3], CONVS[10], *POINTWISES[::2], DEPTHWISES[0], WINDOWS[0])]
        layers += [c.build(bits) for c in (WINDOWS[3], DEPTHWISES[9], DEPTHWISES[4], CONVS[17])]
        layers += [d(bits) for d in (*FEW, DENSES[0], DENSES[3])]
        yield Set(f"products_{bits}", tuple(layers))
        if fast and bits in (2, 4, 5, 8):
            yield Set(f"plain_{bits}", tuple(layers[: len(PRODUCTS) + 5] + layers[-7:]), plain)
    if "rv32im" in target.kernels:
        yield Set("columns", tuple(c.build(bits) for bits in STORED_WIDTHS for c in COLUMNS))
    yield from _formats()
    yield Set("simple", tuple(_simple(8)))
    yield Set("more", tuple(_more()))
    if fast:
        wide = [_spread(c.build(bits)) for bits in STORED_WIDTHS for c in (PRODUCTS[1], PRODUCTS[5])]
        wide += [_spread(d(bits)) for bits in STORED_WIDTHS for d in (DENSES[1], DENSES[2], DENSES[3], DENSES[13])]
        yield Set("tables", tuple(wide))
        yield Set("plain_tables", tuple(wide), plain)
    if 4 in target.activation_bits:
        yield Set("packed", tuple(_packed()))
    if 16 in target.activation_bits:
        yield Set("simple_16", tuple(_simple(16)))
        yield Set("types", tuple(_types()))
        for kind in ("delta", "bitmap"):
            some = [(*pair, density) for pair in ((16, 16), (8, 16), (16, 8)) for density in (0.1, 0.35)]
            layers = [c.build(8, a, b, d) for c in (CONVS[1], CONVS[3], CONVS[9], WINDOWS[0]) for a, b, d in some]
            layers += [dense(8, a, b, d) for dense in (DENSES[2], DENSES[3], DENSES[5]) for a, b, d in some]
            yield _written(f"format_{kind}_16", layers, kind)
        types = ((16, 16), (8, 16), (16, 8))
        layers = [c.build(8, a, b, d) for c, d in TINY[1:6:2] for a, b in types]
        layers += [d(8, a, b, 0.05) for d in (DENSES[1], DENSES[2]) for a, b in types]
        yield _written("format_straight_16", layers, "straight")
        for bits_in, bits_out in ((16, 16), (8, 16), (16, 8)):
            convs = (*CONVS[:14:2], *PRODUCTS[::3], CONVS[18], *POINTWISES[::3])
            layers = [c.build(8, bits_in, bits_out) for c in (*convs, *DEPTHWISES[:12:2], *WINDOWS[:8:3])]
            layers += [d(8, bits_in, bits_out) for d in FEW]
            for bits in STORED_WIDTHS[:-1]:
                some = (*PRODUCTS[:10:3], CONVS[8], POINTWISES[0], POINTWISES[4], DEPTHWISES[0], WINDOWS[3])
                layers += [c.build(bits, bits_in, bits_out) for c in some]
                layers += [d(bits, bits_in, bits_out) for d in FEW[1:4]]
            yield Set(f"wide_{bits_in}_{bits_out}", tuple(layers))


def held_out(target: Target) -> Set:
    """Layers of other sizes, which costs are not fitted to: the error on them is what to expect."""
    widths = STORED_WIDTHS
    layers: list[Build] = []
    for n, bits in enumerate(widths):
        layers += [
            Conv((7 + n, 10, 8 + 4 * n), 12 + 3 * n, padding=SAME).build(bits),
            Conv((11, 6 + n, 3 + n), 8 + n, (5, 3), (2, 1, 2, 1), (2, 1)).build(bits),
            Conv((6, 7, 20 + 12 * n), 24, (1, 1)).build(bits),
            _depthwise((10 + n, 9, 20), padding=SAME, stride=(1 + n % 2,) * 2).build(bits),
            _dense((150 + 37 * n,), 18 + n)(bits),
        ]
    layers += [_depthwise((1, 50, 12), (1, 11), padding=(0, 5, 0, 5)).build(8), CONVS[3].build((8, 4, 3)),
               Conv((12, 12, 6), 10, padding=SAME, clamp=SHORT).build(4)]  # fmt: skip
    layers += [_binary(Add(), (9, 9, 20), (9, 9, 20), 8), _binary(Mul(), (9, 9, 20), (20,), 8)]
    layers += [
        _unary(MaxPool2D((3, 3), (2, 2), SAME), (13, 13, 12), 8),
        _unary(AvgPool2D((4, 4), (4, 4)), (12, 12, 9), 8),
    ]
    layers += [_unary(ReduceMean((0, 1)), (7, 7, 36), 8), _function("tanh", (700,), 8, 8), _softmax((35,), 8, 8)]
    layers += [_unary(Transpose((2, 0, 1)), (7, 9, 11), 8), _concat(2, (9, 9, 20), (9, 9, 7), 8)]
    if 16 in target.activation_bits:
        layers += [Conv((9, 7, 12), 10, padding=SAME).build(8, 16, 16), _dense((90,), 14)(4, 16, 16)]
        layers += [_binary(Add(), (9, 9, 20), (9, 9, 20), 16)]
    return Set("held_out", tuple(layers))


def _spread(build: Build) -> Build:
    def made(m: Side) -> str:
        m.spread = True
        name = build(m)
        m.spread = False
        return name

    return made


def _more() -> Iterator[Build]:
    """What little the other sets have of: clamped channels of several widths, windows beyond images of few channels."""
    for convolution in (DEPTHWISES[0], DEPTHWISES[8], DEPTHWISES[5], WINDOWS[0], CONVS[0], POINTWISES[0]):
        yield convolution.build(MIXED, 8, 4)
        yield convolution.build(8, 8, 4)
    for image, stride in (((12, 7, 4), (4, 2)), ((9, 9, 8), (5, 1)), ((17, 8, 4), (4, 1))):
        yield _depthwise(image, padding=SAME, stride=stride).build(8)
    for pool in (MaxPool2D, AvgPool2D):
        yield _unary(pool((3, 3), (2, 2), SAME), (9, 9, 3), 8)
        yield _unary(pool((3, 3), (1, 1), SAME), (6, 8, 2), 8)
        yield _unary(pool((3, 2), (1, 1), (2, 1, 2, 1)), (5, 9, 3), 8)
        yield _unary(pool((3, 2), (1, 1), (2, 1, 2, 1)), (5, 9, 7), 8)
        yield _unary(pool((5, 5), (1, 1), (2, 2, 2, 2)), (12, 3, 1), 8)


def _types() -> Iterator[Build]:
    """Inputs and outputs of different widths."""
    widths = [(a, b, y) for a in (8, 16) for b in (8, 16) for y in (8, 16) if len({a, b, y}) > 1]
    for a, b, y in widths:
        for first, second in (((6, 6, 8), (6, 6, 8)), ((5, 7, 3), (5, 7, 1)), ((6, 6, 8), (8,)), ((40,), (40,))):
            for op in (Add(), Mul()):
                yield _two_types(op, first, second, (a, b, y))
    for bits, out_bits in ((8, 16), (16, 8)):
        for shape in ((8, 8, 8), (9, 7, 5), (5, 12, 3)):
            yield _unary(AvgPool2D((3, 3), (2, 2), SAME), shape, bits, out_bits)
            yield _unary(AvgPool2D((2, 2), (2, 2)), shape, bits, out_bits)
            yield _unary(ReduceMean((0, 1)), shape, bits, out_bits)
            yield _unary(ReduceMean((2,)), shape, bits, out_bits)
            yield _prelu(shape, shape[-1], bits, out_bits)


def _two_types(op: Op, a: Shape, b: Shape, bits: tuple[int, int, int]) -> Build:
    return lambda m: m.add(op, [m.source(a, bits[0]), m.input(*b, bits=bits[1])], bits=bits[2])


def _without_sums() -> Selection:
    from dnnc.backends.c.table_armv7em import ARMV7EM

    selection = IN_ORDER
    for kernel in ARMV7EM:
        if kernel.order == "sums":
            for bits in kernel.widths:
                selection = selection.avoid(kernel, bits)
    return selection


def _mixed() -> tuple[Build, ...]:
    """Channels of several widths: a call a width, outputs scattered."""
    convs = (CONVS[0], CONVS[3], CONVS[16], CONVS[17], POINTWISES[0], POINTWISES[3], DEPTHWISES[0], DEPTHWISES[3],
             DEPTHWISES[9], WINDOWS[0], WINDOWS[5], PRODUCTS[2], Conv((8, 8, 8), 24), DEPTHWISES[14])  # fmt: skip
    return (*(c.build(MIXED) for c in convs), *(d(MIXED) for d in (DENSES[2], DENSES[5], DENSES[8], DENSES[9])))


def _formats() -> Iterator[Set]:
    """Weights that are mostly zero, as records and as bitmaps, and ternary ones."""
    convs = (CONVS[1], CONVS[3], CONVS[4], CONVS[6], CONVS[9], CONVS[14], CONVS[17], CONVS[20], POINTWISES[2],
             Conv((40, 20, 4), 6, padding=SAME), DEPTHWISES[0], WINDOWS[0])  # fmt: skip
    denses = (DENSES[2], DENSES[3], DENSES[5], DENSES[13], _dense((800,), 20))
    for kind in ("delta", "bitmap"):
        layers = [c.build(8, density=d) for c in convs for d in (0.1, 0.4)]
        layers += [d(8, density=share) for d in denses for share in (0.05, 0.3)]
        yield _written(f"format_{kind}", layers, kind)
    layers = [c.build(bits, density=d) for c, d in TINY for bits in (2, 8)]
    layers += [dense(8, density=d) for dense in (DENSES[1], DENSES[2], DENSES[5], DENSES[9]) for d in (0.03, 0.2)]
    yield _written("format_straight", layers, "straight")
    ternary = (Conv((9, 8, 8), 12, padding=SAME), Conv((6, 6, 32), 24, padding=SAME), Conv((8, 8, 16), 24, (1, 1)),
               Conv((4, 4, 64), 20, padding=SAME), Conv((5, 5, 200), 30, (1, 1)), Conv((6, 6, 4), 9))  # fmt: skip
    layers = [c.build(2, ternary=True) for c in ternary]
    layers += [d(2, ternary=True) for d in (_dense((64,), 40), _dense((400,), 30), _dense((128,), 10))]
    yield _written("format_ternary", layers, "ternary")


def _written(name: str, layers: list[Build], kind: str) -> Set:
    """All layers in one format."""
    selection = IN_ORDER
    for node in Set(name, tuple(layers)).graph(False).nodes:
        selection = selection.write(node.name, kind)
    return Set(name, tuple(layers), selection)


def _unary(op: Op, shape: Shape, bits: int, out_bits: int = 0) -> Build:
    return lambda m: m.add(op, [m.source(shape, bits)], bits=out_bits or bits)


def _binary(op: Op, a: Shape, b: Shape, bits: int) -> Build:
    return lambda m: m.add(op, [m.source(a, bits), m.input(*b, bits=bits)], bits=bits)


def _concat(axis: int, a: Shape, b: Shape, bits: int) -> Build:
    def build(m: Side) -> str:
        first = m.source(a, bits)
        return m.add(Concat(axis), [first, m.input(*b, quant=m.types[first].quant)])

    return build


def _function(name: str, shape: Shape, bits: int, out_bits: int) -> Build:
    return lambda m: m.add(Pointwise(name), [m.source(shape, bits)], bits=out_bits)


def _softmax(shape: Shape, bits: int, out_bits: int) -> Build:
    return lambda m: m.add(Softmax(), [m.input(*shape, quant=m.quant(bits, 0.1))], quant=Softmax.output_quant(out_bits))


def _prelu(shape: Shape, slopes: int, bits: int, out_bits: int = 0) -> Build:
    return lambda m: m.add(
        PRelu(), [m.source(shape, bits)], {"slope": m.rng.normal(size=slopes)}, bits=out_bits or bits
    )


def _simple(bits: int) -> Iterator[Build]:
    """All that has no weights."""
    for op in (Add(), Mul(), Add(clamp=SHORT), Mul(clamp=RELU)):
        yield _binary(op, (6, 6, 8), (6, 6, 8), bits)
        yield _binary(op, (5, 7, 3), (5, 7, 3), bits)
    for add in (Add(), Mul()):
        yield _binary(add, (6, 6, 8), (8,), bits)
        yield _binary(add, (5, 7, 3), (5, 7, 1), bits)
        yield _binary(add, (4, 9, 12), (1, 1, 12), bits)
        yield _binary(add, (40,), (40,), bits)
    for pool in (MaxPool2D, AvgPool2D):
        yield _unary(pool((2, 2), (2, 2)), (8, 8, 8), bits)
        yield _unary(pool((2, 2), (2, 2)), (10, 8, 5), bits)
        yield _unary(pool((3, 3), (2, 2), SAME), (9, 9, 6), bits)
        yield _unary(pool((3, 3), (1, 1), SAME), (6, 7, 16), bits)
        yield _unary(pool((1, 4), (1, 4)), (1, 40, 4), bits)
        yield _unary(pool((2, 2), (2, 2)), (6, 6, 3), bits)
        yield _unary(pool((5, 5), (1, 1)), (5, 5, 12), bits)
        yield _unary(pool((8, 8), (1, 1)), (8, 8, 8), bits)
        yield _unary(pool((2, 2), (2, 2)), (16, 16, 4), bits)
    for axes, shape in (((0, 1), (6, 6, 8)), ((0, 1), (5, 9, 5)), ((2,), (4, 5, 6)), ((1,), (4, 6, 8)),
                        ((0, 1), (9, 8, 20)), ((0, 1), (3, 3, 3)), ((0,), (30, 7))):  # fmt: skip
        yield _unary(ReduceMean(axes), shape, bits)
    for shape in ((40,), (6, 6, 8), (300,)):
        yield _function("tanh", shape, bits, bits)
        yield _function("sigmoid", shape, bits, 24 - bits if bits == 16 else 8)
        yield _prelu(shape, shape[-1], bits)
        yield _prelu(shape, 1, bits)
    if bits == 16:
        for shape in ((40,), (300,)):
            yield _function("silu", shape, 8, 16)
    for shape in ((10,), (2,), (6, 12), (100,)):
        yield _softmax(shape, 8, bits)
    for shape, perm in (((6, 8), (1, 0)), ((4, 5, 6), (2, 0, 1)), ((3, 4, 5), (1, 0, 2)), ((2, 3, 4, 5), (3, 1, 0, 2))):
        yield _unary(Transpose(perm), shape, bits)
    yield _unary(Slice((1, 0, 2), (4, 6, 5), (1, 1, 1)), (5, 6, 7), bits)
    yield _unary(Slice((0, 1, 0), (9, 8, 3), (2, 3, 1)), (9, 8, 3), bits)
    yield _unary(Slice((20,), (290,), (1,)), (300,), bits)
    yield _concat(2, (6, 6, 8), (6, 6, 4), bits)
    yield _concat(0, (5, 7, 3), (2, 7, 3), bits)
    yield _concat(0, (40,), (300,), bits)
    for shape in ((6, 6, 8), (5, 7, 3)):
        yield _unary(Pad((1, 1, 0), (1, 1, 0), 0.0), shape, bits)
        yield _unary(Pad((2, 0, 1), (0, 3, 0), 0.0), shape, bits)
        yield _unary(Resize(tuple(range(5)), (0, 0, 1, 1, 2, 2, 3, 3)), shape, bits)
    yield _unary(Resize((0, 1, 1, 2), (0, 1, 3)), (6, 6, 20), bits)


def _packed() -> Iterator[Build]:
    """Values of 4 bits, which packing makes words of: from bytes to packed values, on in these, and back."""
    images = (((9, 8, 4), 8), ((12, 8, 8), 8), ((5, 40, 4), 8), ((16, 16, 4), 4))
    for image, outputs in images:
        yield lambda m, i=image, o=outputs: _chain(m, i, o, Conv2D(padding=SAME), (3, 3), 1)  # type: ignore[misc]
        yield lambda m, i=image, o=outputs: _chain(m, i, o, Conv2D(), (1, 1), 1)  # type: ignore[misc]
        yield lambda m, i=image: _chain(m, i, i[2], Conv2D(padding=SAME, groups=i[2]), (3, 3), i[2])  # type: ignore[misc]
        yield lambda m, i=image: _pooled(m, i, MaxPool2D((2, 2), (2, 2)))  # type: ignore[misc]
        yield lambda m, i=image: _pooled(m, i, AvgPool2D((3, 3), (1, 1), SAME))  # type: ignore[misc]
        yield lambda m, i=image: _residual(m, i)  # type: ignore[misc]


def _chain(m: Side, image: tuple[int, int, int], outputs: int, op: Conv2D, kernel: tuple[int, int], groups: int) -> str:
    x = m.linear(Conv2D(clamp=RELU), m.source((*image[:2], 3)), (image[2], 1, 1, 3), 8, 4)
    y = m.linear(op, x, (outputs, *kernel, image[2] // groups), 8, 4)
    return m.linear(Conv2D(), y, (4, 1, 1, outputs), 8)


def _pooled(m: Side, image: tuple[int, int, int], op: Op) -> str:
    x = m.linear(Conv2D(clamp=RELU), m.source((*image[:2], 3)), (image[2], 1, 1, 3), 8, 4)
    return m.linear(Conv2D(), m.add(op, [x], bits=4), (4, 1, 1, image[2]), 4)


def _residual(m: Side, image: tuple[int, int, int]) -> str:
    x = m.linear(Conv2D(clamp=RELU), m.source((*image[:2], 3)), (image[2], 1, 1, 3), 8, 4)
    y = m.linear(Conv2D(padding=SAME), x, (image[2], 3, 3, image[2]), 8, 4)
    return m.linear(Conv2D(), m.add(Add(), [x, y], bits=4), (4, 1, 1, image[2]), 8)
