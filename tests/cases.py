"""THE list of cases that every execution of dnnc must agree on: each a small integer graph with random parameters.

A case exercises one operation, or one row of a kernel table, at sizes where mistakes show: odd channels, windows larger
than the image, tiles that are not full. `Maker` draws weights, scales and zero points from the case's own seed; nothing
is trained. Adding a kernel means adding the cases that reach it here, and every test over the list covers it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc.backends.c import emit, lower
from dnnc.backends.c.banded import rows_are_words, takes_packed
from dnnc.backends.c.table import IN_ORDER, Selection
from dnnc.cost.loader import load_target
from dnnc.fixed import INT32_MAX, weight_range
from dnnc.ir.graph import Graph, Input, Node, Output
from dnnc.ir.op import Op
from dnnc.ir.types import Layout, Quant, Shape, TensorType
from dnnc.ops.activation import NO_CLAMP, Clamp
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.elementwise import Add, Mul
from dnnc.ops.movement import Concat, Constant, Pad, Reshape, Resize, Slice, Transpose
from dnnc.ops.pointwise import Pointwise, PRelu
from dnnc.ops.pool import AvgPool2D, MaxPool2D, ReduceMean
from dnnc.ops.softmax import Softmax
from dnnc.passes.pack import pack_activations
from dnnc.passes.plan import plan

Array = NDArray[Any]
Widths = int | Sequence[int]

RELU = Clamp(0.0, None)
SAMPLES = 8


class Maker:
    """Builds one integer graph, node after node. Values are named by their operation and number.

    power_of_two: every scale is one, as targets without a long multiply need.
    """

    def __init__(self, name: str, power_of_two: bool = False) -> None:
        self.name, self.power_of_two = name, power_of_two
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))
        self.inputs: list[Input] = []
        self.nodes: list[Node] = []
        self.types: dict[str, TensorType] = {}
        self.codes: dict[str, Array] = {}  # of SAMPLES random samples

    def scale(self, about: float) -> float:
        """A random scale near `about`."""
        value = about * float(2 ** self.rng.uniform(-0.5, 0.5))
        return float(2.0 ** np.round(np.log2(value))) if self.power_of_two else value

    def quant(self, bits: int = 8, about: float = 0.02, zero_point: int | None = None) -> Quant:
        """A random quantisation; zero points are often at an end of the range, as after a Relu."""
        q = Quant(bits, self.scale(about), 0)
        drawn = int(self.rng.choice([0, q.lo, q.hi, int(self.rng.integers(q.lo, q.hi + 1))]))
        if bits > 8:
            drawn //= 256  # so that accumulators still fit 32 bits
        return replace(q, zero_point=drawn if zero_point is None else zero_point)

    def input(self, *shape: int, bits: int = 8, quant: Quant | None = None) -> str:
        name = f"x{len(self.inputs)}"
        layout = Layout((1, *shape), 0, tuple(range(len(shape))))
        quant = quant or self.quant(bits)
        self.types[name] = TensorType(shape, quant)
        self.codes[name] = self.rng.integers(quant.lo, quant.hi + 1, (SAMPLES, *shape)).astype(np.int32)
        self.inputs.append(Input(name, self.types[name], name, layout))
        return name

    def fitted(self, real: Array, bits: int, gain: float = 1.0) -> Quant:
        """A quantisation under which `real` and zero cover about `gain` times the codes, not quite centred."""
        lo, hi = min(float(real.min()), 0.0), max(float(real.max()), 0.0)
        span = max(hi - lo, 1e-3) / gain
        scale = self.scale(span / 2.0**bits)
        q = Quant(bits, scale, 0)
        centre = -(lo + hi) / 2 / scale + self.rng.uniform(-0.1, 0.1) * 2**bits
        return replace(q, zero_point=int(np.clip(np.round(centre), q.lo, q.hi)))

    def add(
        self,
        op: Op,
        inputs: Sequence[str],
        params: Mapping[str, Any] | None = None,
        *,
        bits: int = 8,
        gain: float = 1.0,
        quant: Quant | None = None,
    ) -> str:
        """A node whose integer parameters come from the operation's own `quantise`.

        Its quantisation is `quant`, or the input's where the operation keeps it, or fits what random inputs give.
        """
        ins = [self.types[name] for name in inputs]
        given = dict(params or {})
        if quant is None and op.keeps_quant:
            quant = ins[0].quant
        elif quant is None:
            quant = self.fitted(self._real(op, inputs, given), bits, gain)
        assert quant is not None
        out = TensorType(op.infer(ins, given), quant)
        made = {k: np.asarray(v) for k, v in op.quantise(given, ins, out).items()}
        node = Node(f"n{len(self.nodes)}_{op.kind.lower()}", op, tuple(inputs), made, out)
        bounds = op.accumulator(node.params, ins)
        if bounds is not None and (bounds[0].min() < -INT32_MAX - 1 or bounds[1].max() > INT32_MAX):
            raise ValueError(f"case {self.name}: an accumulator of {node.name} does not fit 32 bits")
        self.nodes.append(node)
        self.types[node.name] = out
        codes = op.integer([self.codes[name] for name in inputs], node.params, ins, out)
        self.codes[node.name] = np.broadcast_to(codes, (SAMPLES, *out.shape))
        return node.name

    def _real(self, op: Op, inputs: Sequence[str], params: Mapping[str, Any]) -> Array:
        """The operation's float meaning over the samples."""
        values = []
        for name in inputs:
            q = self.types[name].quant
            assert q is not None
            values.append(torch.tensor(q.scale * (self.codes[name] - q.zero_point)))
        floats = {k: np.asarray(v, np.float64) for k, v in params.items()}
        if "weight_scale" in floats:
            scale = floats["weight_scale"].reshape(-1, *(1,) * (floats["weight"].ndim - 1))
            floats["weight"] = floats["weight"] * scale
        real: Array = op.real(values, {k: torch.tensor(v) for k, v in floats.items()}).numpy()
        return real

    def linear(
        self, op: Op, x: str, shape: Shape, widths: Widths, out_bits: int = 8, gain: float = 1.0, density: float = 1.0,
        ternary: bool = False,
    ) -> str:  # fmt: skip
        """A layer with random weights of `shape` [O, ...] and of the given widths, repeated over the channels.

        density: the share of weights that are kept; the others are 0. ternary: no weight is below -1 or above 1.
        """
        bits = np.resize(np.asarray(widths, np.uint8), shape[0])
        source = self.types[x].quant
        assert source is not None
        scales = np.array([self.scale(0.5 / 2.0 ** int(b)) for b in bits])
        params = {
            "weight": np.stack([self._weights(int(b), shape[1:]) for b in bits]),
            "weight_bits": bits,
            "weight_scale": scales,
            "bias": self._biases(source, scales),
        }
        if density < 1:
            weight = np.asarray(params["weight"])
            params["weight"] = np.where(self.rng.random(weight.shape) < density, weight, 0)
        if ternary:
            params["weight"] = np.clip(params["weight"], -1, 1)
        return self.add(op, [x], params, bits=out_bits, gain=gain)

    def _biases(self, source: Quant, scales: Array) -> Array:
        return self.rng.normal(size=len(scales)) * source.scale * 2.0**source.bits / 8

    def _weights(self, bits: int, shape: Shape) -> Array:
        lo, hi = weight_range(bits)
        weight = self.rng.integers(lo, hi + 1, shape)
        return np.where(weight == 0, 1, weight) if bits == 1 else weight

    def graph(self, *outputs: str) -> Graph:
        made = []
        for number, value in enumerate(outputs):
            shape = self.types[value].shape
            made.append(Output(value, f"y{number}", Layout((1, *shape), 0, tuple(range(len(shape))))))
        return Graph(self.name, tuple(self.inputs), tuple(self.nodes), tuple(made)).verify()


@dataclass(frozen=True)
class Case:
    """build(maker) returns the names of the values that are the graph's outputs. packed: pack what can be packed.

    format: that weights are to have; "" leaves it to the rule.
    """

    name: str
    build: Callable[[Maker], Sequence[str]] = field(repr=False)
    packed: bool = False
    format: str = ""

    def graph(self, power_of_two: bool = False) -> Graph:
        """The case's graph; the same every time."""
        maker = Maker(self.name, power_of_two)
        graph = maker.graph(*self.build(maker))
        return pack_activations(graph, takes_packed, rows_are_words, stored_bytes) if self.packed else graph

    def selection(self, graph: Graph) -> Selection:
        """Of kernels and formats, for a graph of the case."""
        found = IN_ORDER
        for node in graph.nodes if self.format else ():
            found = found.write(node.name, self.format)
        return found

    def inputs(self, graph: Graph, count: int = 3) -> dict[str, Array]:
        """Codes int32 [N, *shape]: all at the lowest, all at the highest, then `count` random samples."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()) + 1)
        found = {}
        for source in graph.inputs:
            q = source.type.quant
            assert q is not None
            ends = [np.full(source.type.shape, q.lo), np.full(source.type.shape, q.hi)]
            drawn = rng.integers(q.lo, q.hi + 1, (count, *source.type.shape))
            found[source.name] = np.concatenate([np.stack(ends), drawn]).astype(np.int32)
        return found


def stored_bytes(graph: Graph) -> int:
    """Of all values together."""
    return sum(kind.nbytes for kind in graph.types.values())


# --- linear layers -------------------------------------------------------------------------------------------------


def _conv(name: str, image: Shape, outputs: int, kernel: tuple[int, int], widths: Widths, *, bits: int = 8,
          out_bits: int = 8, gain: float = 1.0, **attributes: Any) -> Case:  # fmt: skip
    def build(make: Maker) -> list[str]:
        op = Conv2D(**attributes)
        x = make.input(*image, bits=bits)
        return [make.linear(op, x, (outputs, *kernel, image[2] // op.groups), widths, out_bits, gain)]

    return Case(name, build)


def _depthwise(name: str, image: Shape, kernel: tuple[int, int], widths: Widths, **attributes: Any) -> Case:
    return _conv(name, image, image[2], kernel, widths, groups=image[2], **attributes)


def _dense(name: str, shape: Shape, outputs: int, widths: Widths, *, bits: int = 8, out_bits: int = 8,
           gain: float = 1.0, clamp: Clamp = NO_CLAMP) -> Case:  # fmt: skip
    def build(make: Maker) -> list[str]:
        x = make.input(*shape, bits=bits)
        return [make.linear(Dense(clamp), x, (outputs, shape[-1]), widths, out_bits, gain)]

    return Case(name, build)


def _every_width() -> list[Case]:
    """Each width through each kind of layer, with tiles and blocks that are not full."""
    found = []
    for w in range(1, 9):
        found += [
            _conv(f"conv_w{w}", (5, 4, 3), 5, (3, 3), w, padding=(1, 1, 1, 1), clamp=RELU),
            _conv(f"pointwise_conv_w{w}", (3, 2, 17), 6, (1, 1), w),
            _depthwise(f"depthwise_w{w}", (5, 6, 5), (3, 3), w, padding=(1, 1, 1, 1)),
            _depthwise(f"depthwise_5x2_w{w}", (6, 5, 6), (5, 2), w, padding=(2, 0, 1, 1), stride=(1, 2)),
            _dense(f"dense_w{w}", (37,), 7, w),
            # Whole tiles and blocks, as the kernels for wide layers have them.
            _conv(f"wide_conv_w{w}", (4, 5, 8), 8, (3, 3), w, padding=(1, 1, 1, 1), stride=(2, 2)),
            _conv(f"wide_pointwise_w{w}", (3, 5, 32), 16, (1, 1), w, clamp=RELU),
            _depthwise(f"wide_depthwise_w{w}", (6, 5, 16), (3, 3), w, padding=(0, 0, 1, 1), stride=(2, 2)),
            _dense(f"wide_dense_w{w}", (120,), 12, w),
        ]
    return found


def _conv_shapes() -> list[Case]:
    return [
        _conv("conv_one_weight", (1, 1, 1), 1, (1, 1), 8),
        _conv("conv_one_channel", (7, 7, 1), 1, (3, 3), 4),
        _conv("conv_17_channels", (4, 3, 17), 3, (3, 3), 6, padding=(1, 1, 1, 1)),
        _conv("conv_stride_2", (7, 6, 4), 4, (3, 3), 8, stride=(2, 2), padding=(1, 1, 1, 1)),
        _conv("conv_stride_1x3", (5, 9, 3), 5, (2, 2), 5, stride=(1, 3)),
        _conv("conv_stride_beyond_kernel", (9, 9, 2), 3, (2, 2), 8, stride=(4, 3)),
        _conv("conv_pointwise_stride", (5, 6, 6), 7, (1, 1), 4, stride=(2, 3)),
        _conv("conv_pointwise_padded", (3, 4, 5), 4, (1, 1), 3, padding=(1, 0, 2, 1)),
        _conv("conv_asymmetric_padding", (5, 5, 3), 4, (3, 3), 8, padding=(0, 2, 1, 0)),
        _conv("conv_same_upper", (6, 6, 4), 4, (3, 3), 4, stride=(2, 2), padding=(0, 0, 1, 1)),
        _conv("conv_dilation", (9, 8, 3), 4, (3, 3), 8, dilation=(2, 3), padding=(2, 3, 2, 3)),
        _conv("conv_dilation_stride", (9, 9, 4), 4, (2, 3), 2, dilation=(3, 2), stride=(2, 1), padding=(1, 2, 3, 0)),
        _conv("conv_kernel_beyond_image", (3, 2, 3), 4, (7, 5), 8, padding=(3, 2, 3, 3)),
        _conv("conv_padding_only_windows", (2, 2, 3), 4, (1, 1), 8, padding=(2, 2, 2, 2)),
        _conv("conv_1d", (1, 20, 3), 6, (1, 5), 8, padding=(0, 2, 0, 2), stride=(1, 2)),
        _conv("conv_1d_tall", (20, 1, 4), 5, (4, 1), 4),
        _conv("conv_1d_long_kernel", (1, 70, 1), 4, (1, 64), 5, stride=(1, 2)),
        _conv("conv_whole_image", (5, 4, 3), 6, (5, 4), 4),
        _conv("conv_whole_image_padded", (3, 3, 3), 6, (5, 5), 8, padding=(1, 1, 1, 1)),
        _conv("conv_big_kernel", (11, 11, 2), 3, (11, 9), 3, padding=(5, 4, 5, 4), stride=(3, 3)),
        _conv("conv_groups_2", (4, 5, 6), 10, (3, 3), 8, groups=2, padding=(1, 1, 1, 1)),
        _conv("conv_groups_3_pointwise", (4, 3, 9), 3, (1, 1), 4, groups=3),
        _conv("conv_groups_4_aligned", (4, 4, 16), 16, (3, 3), 4, groups=4, padding=(1, 1, 1, 1)),
        _conv("conv_channel_multiplier", (5, 4, 3), 6, (3, 3), 5, groups=3, padding=(1, 1, 1, 1)),
        _conv("conv_relu6", (4, 4, 3), 4, (3, 3), 8, clamp=Clamp(0.0, 6.0)),
        _conv("conv_mixed_widths", (5, 5, 5), 11, (3, 3), (8, 2, 4, 4, 3, 8, 1, 7, 6, 5, 2), padding=(1, 1, 1, 1)),
        _conv("conv_mixed_aligned", (4, 4, 8), 16, (3, 3), (4, 2, 8, 4), padding=(1, 1, 1, 1)),
        _conv("conv_mixed_pointwise", (3, 4, 7), 9, (1, 1), (4, 8, 2)),
        _conv("conv_mixed_groups", (4, 4, 6), 10, (3, 3), (8, 4, 4, 2, 8, 3, 4), groups=2, padding=(1, 1, 1, 1)),
        _conv("conv_7_and_8_bits", (4, 4, 3), 6, (3, 3), (7, 8)),
        _conv("conv_saturating", (4, 4, 6), 5, (3, 3), 8, gain=60.0),
        _conv("conv_tiny_range", (4, 4, 6), 5, (3, 3), 8, gain=0.01),
        _conv("conv_4_bit_activations", (5, 5, 3), 5, (3, 3), 4, bits=4, out_bits=4, padding=(1, 1, 1, 1)),
        _conv("conv_deep_2", (3, 3, 170), 5, (3, 3), 2, padding=(1, 1, 1, 1)),
        _conv("conv_deepest_5", (2, 2, 260), 5, (3, 3), 5, padding=(1, 1, 1, 1)),
        _conv("conv_wide_image", (2, 67, 4), 4, (3, 3), 8, padding=(1, 1, 1, 1)),
        # Outputs that lie over their inputs: as large, larger, over an odd number of pixels.
        _conv("conv_pointwise_equal", (3, 5, 16), 16, (1, 1), 8),
        _conv("conv_pointwise_expanding", (5, 5, 8), 16, (1, 1), 8),
        _conv("conv_expanding", (6, 5, 4), 12, (3, 3), 8, padding=(1, 1, 1, 1)),
        _conv("conv_equal", (7, 9, 8), 8, (3, 3), 4, padding=(1, 1, 1, 1)),
        _conv("conv_128_channels", (4, 3, 128), 4, (3, 3), 4),
        _conv("conv_64_channels", (3, 3, 64), 8, (3, 3), 8, padding=(1, 1, 1, 1)),
        _conv("conv_128_channels_4", (3, 3, 128), 5, (3, 3), 4, padding=(1, 1, 1, 1)),
    ]


def _depthwise_shapes() -> list[Case]:
    return [
        _depthwise("depthwise_2_channels", (4, 4, 2), (3, 3), 8, padding=(1, 1, 1, 1)),
        _depthwise("depthwise_3_channels", (5, 4, 3), (2, 3), 4),
        _depthwise("depthwise_17_channels", (5, 5, 17), (3, 3), 8, padding=(1, 1, 1, 1), stride=(2, 2)),
        _depthwise("depthwise_4x4_channels", (6, 7, 16), (3, 3), 8, padding=(1, 1, 1, 1), clamp=RELU),
        *(
            _depthwise(f"depthwise_line_of_{n}", (3, n, 4), (3, 3), 8, padding=(1, 1, 1, 1), stride=(1, 1 + n % 2))
            for n in range(1, 9)
        ),
        _depthwise("depthwise_line_of_9", (2, 9, 4), (3, 3), 4, padding=(1, 0, 1, 0)),
        _depthwise("depthwise_columns", (9, 4, 8), (3, 3), 8, padding=(1, 1, 1, 1)),
        _depthwise("depthwise_columns_before", (8, 3, 6), (3, 3), 4, padding=(2, 2, 0, 0), clamp=RELU),
        _depthwise("depthwise_columns_after", (7, 2, 4), (3, 3), 8, padding=(0, 0, 2, 2)),
        _depthwise("depthwise_column", (6, 1, 4), (3, 3), 8, padding=(1, 1, 1, 1)),
        _depthwise("depthwise_wide_padding", (3, 2, 4), (3, 3), 8, padding=(4, 5, 3, 6)),
        _depthwise("depthwise_wide_odd_padding", (3, 3, 4), (3, 3), 8, padding=(3, 4, 4, 5), stride=(2, 2)),
        _depthwise("depthwise_stride_4x2", (11, 7, 4), (3, 3), 8, padding=(1, 1, 1, 1), stride=(4, 2)),
        _depthwise("depthwise_asymmetric", (5, 6, 6), (3, 3), 5, padding=(0, 2, 1, 0), stride=(2, 1)),
        _depthwise("depthwise_dilation", (9, 9, 5), (3, 3), 8, padding=(2, 2, 2, 2), dilation=(2, 2)),
        _depthwise("depthwise_1x1", (3, 4, 6), (1, 1), 3),
        _depthwise("depthwise_5x5", (6, 6, 4), (5, 5), 8, padding=(2, 2, 2, 2)),
        _depthwise("depthwise_1d", (1, 20, 5), (1, 9), 4, padding=(0, 4, 0, 4)),
        _depthwise("depthwise_10x4", (13, 6, 4), (10, 4), 8, padding=(4, 1, 5, 2), stride=(2, 2)),
        _depthwise("depthwise_beyond_image", (2, 3, 5), (5, 5), 6, padding=(2, 2, 2, 2)),
        _depthwise("depthwise_whole_image", (4, 5, 6), (4, 5), 8),
        _depthwise("depthwise_mixed", (5, 5, 9), (3, 3), (8, 4, 2, 3, 8), padding=(1, 1, 1, 1)),
        _depthwise("depthwise_mixed_aligned", (4, 5, 16), (3, 3), (8, 4), padding=(1, 1, 1, 1)),
        _depthwise("depthwise_16_bit", (5, 4, 5), (3, 3), 5, bits=16, out_bits=16),
    ]  # fmt: skip


def _dense_shapes() -> list[Case]:
    return [
        _dense("dense_1_to_1", (1,), 1, 8),
        _dense("dense_3_to_5", (3,), 5, 4, clamp=RELU),
        _dense("dense_rows", (5, 9), 6, 8),
        _dense("dense_rank_3", (2, 3, 10), 5, 3),
        _dense("dense_long", (700,), 10, 8),
        _dense("dense_long_4", (701,), 9, 4),
        _dense("dense_longer_4", (1201,), 6, 4),
        _dense("dense_very_long_4", (1300,), 5, 4),
        _dense("dense_very_long_2", (1500,), 5, 2),
        _dense("dense_longest_5", (2300,), 5, 5),
        _dense("dense_mixed", (21,), 13, (4, 8, 3, 2, 6)),
        _dense("dense_left_shift", (1,), 9, 2, gain=6.0),
        *(
            _dense(f"dense_w{w}_{source}_to_{target}_bits", (19,), 6, w, bits=source, out_bits=target)
            for w, source, target in ((8, 16, 16), (3, 8, 16), (4, 16, 8), (1, 16, 16))
        ),
        _conv("conv_16_bit", (5, 4, 3), 5, (3, 3), 8, bits=16, out_bits=16, padding=(1, 1, 1, 1)),
        _conv("conv_8_to_16_bit", (4, 4, 3), 5, (3, 3), 2, out_bits=16),
    ]


# --- layers of zeros -----------------------------------------------------------------------------------------------


def _sparse(name: str, image: Shape, outputs: int, kernel: tuple[int, int], density: float, widths: Widths = 8, *,
            bits: int = 8, out_bits: int = 8, gain: float = 1.0, format: str = "delta", **attributes: Any
            ) -> Case:  # fmt: skip
    def build(make: Maker) -> list[str]:
        op = Conv2D(**attributes)
        shape = (outputs, *kernel, image[2] // op.groups)
        return [make.linear(op, make.input(*image, bits=bits), shape, widths, out_bits, gain, density)]

    return Case(f"sparse_{name}", build, format=format)


def _sparse_dense(name: str, shape: Shape, outputs: int, density: float, widths: Widths = 8, *, bits: int = 8,
                  out_bits: int = 8, gain: float = 1.0, format: str = "delta") -> Case:  # fmt: skip
    def build(make: Maker) -> list[str]:
        x = make.input(*shape, bits=bits)
        return [make.linear(Dense(), x, (outputs, shape[-1]), widths, out_bits, gain, density)]

    return Case(f"sparse_{name}", build, format=format)


def _bitmap(*options: Any, **others: Any) -> Case:
    return _sparse(f"bitmap_{options[0]}", *options[1:], format="bitmap", **others)


def _straight(*options: Any, **others: Any) -> Case:
    return _sparse(f"straight_{options[0]}", *options[1:], format="straight", **others)


def _straight_dense(*options: Any, **others: Any) -> Case:
    return _sparse_dense(f"straight_{options[0]}", *options[1:], format="straight", **others)


def _ternary(name: str, image: Shape, outputs: int, kernel: tuple[int, int], bits: int = 8, **attributes: Any) -> Case:
    """Weights of -1, 0 and 1 of 2 bits."""

    def build(make: Maker) -> list[str]:
        op = Conv2D(**attributes)
        shape = (outputs, *kernel, image[2])
        return [make.linear(op, make.input(*image, bits=bits), shape, 2, bits, ternary=True)]

    return Case(f"ternary_{name}", build)


def _ternary_layers() -> list[Case]:
    same = (1, 1, 1, 1)
    return [
        _ternary("conv", (9, 8, 8), 12, (3, 3), padding=same, clamp=RELU),
        _ternary("conv_odd", (9, 14, 4), 9, (3, 3), padding=same, stride=(2, 1)),
        _ternary("conv_chunks", (7, 6, 64), 41, (3, 3), padding=same),
        _ternary("conv_deep_chunks", (7, 6, 232), 10, (3, 3), padding=same),
        _ternary("pointwise", (8, 8, 16), 24, (1, 1)),
        _ternary("pointwise_chunks", (6, 7, 200), 70, (1, 1)),
        _ternary("conv_16_bit", (7, 6, 8), 6, (3, 3), 16, padding=same),
    ]


def _sparse_layers() -> list[Case]:
    same = (1, 1, 1, 1)
    return [
        *(_sparse(f"conv_w{w}", (7, 6, 5), 6, (3, 3), 0.15, w, padding=same) for w in range(2, 9)),
        *(_sparse_dense(f"dense_w{w}", (83,), 9, 0.1, w) for w in range(2, 9)),
        _sparse("conv_no_padding", (9, 8, 3), 5, (3, 3), 0.2),
        _sparse("conv_one_channel", (9, 9, 1), 7, (5, 5), 0.2, 4, clamp=RELU),
        _sparse("conv_17_channels", (5, 6, 17), 3, (3, 3), 0.1, padding=same),
        _sparse("conv_stride_2", (9, 8, 4), 5, (3, 3), 0.2, padding=same, stride=(2, 2)),
        _sparse("conv_stride_1x3", (6, 10, 3), 5, (2, 2), 0.2, stride=(1, 3)),
        _sparse("conv_stride_beyond_kernel", (9, 9, 4), 3, (2, 2), 0.12, stride=(4, 3)),
        _sparse("conv_pointwise", (5, 6, 19), 7, (1, 1), 0.15),
        _sparse("conv_pointwise_stride", (7, 6, 12), 6, (1, 1), 0.15, 4, stride=(2, 3)),
        _sparse("conv_pointwise_padded", (4, 3, 12), 6, (1, 1), 0.1, padding=(1, 0, 2, 1)),
        _sparse("conv_asymmetric_padding", (5, 5, 6), 4, (3, 3), 0.2, padding=(0, 2, 1, 0)),
        _sparse("conv_wide_padding", (3, 4, 6), 4, (2, 3), 0.2, padding=(3, 4, 2, 5)),
        _sparse("conv_dilation", (9, 8, 4), 4, (3, 3), 0.2, dilation=(2, 3), padding=(2, 3, 2, 3)),
        _sparse(
            "conv_dilation_stride", (11, 10, 4), 4, (2, 3), 0.2, dilation=(3, 2), stride=(2, 3), padding=(1, 2, 3, 0)
        ),
        _sparse("conv_kernel_beyond_image", (3, 2, 3), 4, (7, 5), 0.1, padding=(3, 2, 3, 3)),
        _sparse("conv_padding_only_windows", (2, 2, 9), 4, (1, 1), 0.2, padding=(2, 2, 2, 2)),
        _sparse("conv_1d", (1, 33, 3), 6, (1, 5), 0.15, padding=(0, 2, 0, 2), stride=(1, 2)),
        _sparse("conv_whole_image", (5, 4, 5), 6, (5, 4), 0.1, 4),
        _sparse("conv_bands", (40, 20, 2), 3, (3, 3), 0.3, padding=same),
        _sparse("conv_bands_of_a_row", (3, 300, 4), 3, (2, 3), 0.1, padding=(1, 0, 1, 2)),
        _sparse("conv_uneven_bands", (37, 21, 2), 3, (3, 2), 0.3, stride=(2, 1)),
        _sparse("conv_groups", (6, 5, 12), 9, (3, 3), 0.15, groups=3, padding=same),
        _sparse("conv_channel_multiplier", (6, 5, 4), 8, (3, 3), 0.2, groups=4, padding=same),
        _sparse("depthwise", (8, 7, 9), 9, (3, 3), 0.1, groups=9, padding=same),
        _sparse("depthwise_5x5", (9, 8, 6), 6, (5, 5), 0.06, groups=6, padding=(2, 2, 2, 2), stride=(2, 2)),
        _sparse("conv_mixed_widths", (5, 6, 6), 9, (3, 3), 0.15, (8, 4, 2, 3, 6), padding=same),
        _sparse("conv_mixed_groups", (5, 6, 8), 8, (3, 3), 0.15, (8, 4), groups=2),
        _sparse("conv_saturating", (5, 5, 6), 5, (3, 3), 0.15, gain=60.0, padding=same),
        _sparse("conv_16_bit", (6, 5, 6), 5, (3, 3), 0.15, 5, bits=16, out_bits=16, padding=same),
        _sparse("conv_8_to_16_bit", (6, 5, 6), 5, (3, 3), 0.15, 4, out_bits=16),
        _sparse("conv_all_zero", (5, 5, 6), 5, (3, 3), 0.0, padding=same),
        _sparse("conv_one_output", (9, 9, 6), 1, (3, 3), 0.15, padding=same),
        _sparse_dense("dense_all_zero", (70,), 9, 0.0),
        _sparse_dense("dense_one_weight", (1500,), 40, 0.00003),
        _sparse_dense("dense_very_sparse", (1500,), 60, 0.001, 4),
        _sparse_dense("dense_beyond_a_half_word", (30000,), 5, 0.00002),
        _sparse_dense("dense_rows", (7, 40), 11, 0.1),
        _sparse_dense("dense_rank_3", (2, 3, 50), 6, 0.1, 4),
        _sparse_dense("dense_mixed", (90,), 13, 0.1, (4, 8, 3, 2, 6)),
        _sparse_dense("dense_left_shift", (40,), 9, 0.04, 2, gain=6.0),
        *_ternary_layers(),
        _bitmap("conv", (12, 11, 6), 7, (3, 3), 0.5, padding=same),
        _bitmap("odd", (21, 16, 7), 5, (3, 2), 0.55, (8, 5), padding=(1, 2, 0, 1), stride=(1, 2)),
        _bitmap("groups", (9, 12, 8), 6, (3, 3), 0.5, groups=2, dilation=(2, 1), padding=(2, 1, 2, 1)),
        _sparse_dense("dense_16_to_8_bit", (60,), 7, 0.1, 4, bits=16),
        *_straight_layers(),
    ]


def _straight_layers() -> list[Case]:
    same = (1, 1, 1, 1)
    return [
        *(_straight_dense(f"dense_w{w}", (61,), 7, 0.3, w) for w in range(2, 9)),
        _straight_dense("dense_mixed", (40,), 9, 0.3, (4, 8, 3, 2, 6)),
        _straight_dense("dense_rows", (7, 20), 5, 0.2),
        _straight_dense("dense_rank_3", (2, 3, 30), 6, 0.1, 4),
        _straight_dense("dense_far_apart", (9000,), 3, 0.002, 4),
        _straight_dense("dense_all_zero", (40,), 5, 0.0),
        _straight_dense("dense_one_output", (33,), 1, 0.5),
        _straight_dense("dense_left_shift", (40,), 9, 0.04, 2, gain=6.0),
        _straight_dense("dense_saturating", (40,), 6, 0.3, gain=60.0),
        _straight_dense("dense_16_bit", (60,), 7, 0.1, 6, bits=16, out_bits=16),
        _straight_dense("dense_16_to_8_bit", (60,), 7, 0.1, 4, bits=16),
        _straight_dense("dense_8_to_16_bit", (60,), 7, 0.1, out_bits=16),
        _straight("pointwise", (6, 5, 11), 6, (1, 1), 0.2),
        _straight("pointwise_stride", (7, 6, 12), 6, (1, 1), 0.15, 4, stride=(2, 3)),
        _straight("pointwise_grows", (6, 5, 3), 8, (1, 1), 0.4),
        _straight("pointwise_padded", (4, 3, 12), 6, (1, 1), 0.1, padding=(1, 0, 2, 1)),
        _straight("conv", (7, 6, 5), 6, (3, 3), 0.15, padding=same, clamp=RELU),
        _straight("conv_no_padding", (9, 8, 3), 5, (3, 3), 0.2),
        _straight("conv_dilated", (11, 10, 4), 4, (2, 3), 0.2, dilation=(3, 2), stride=(2, 3)),
        _straight("conv_border", (9, 7, 4), 4, (2, 3), 0.2, dilation=(3, 2), stride=(2, 3), padding=(1, 2, 3, 0)),
        _straight("conv_large_kernel", (3, 2, 3), 4, (7, 5), 0.1, padding=(3, 2, 3, 3)),
        _straight("conv_whole_image", (5, 4, 5), 6, (5, 4), 0.1, 4),
        _straight("conv_1d", (1, 33, 3), 6, (1, 5), 0.15, padding=(0, 2, 0, 2), stride=(1, 2)),
        _straight("conv_groups", (6, 5, 12), 9, (3, 3), 0.15, groups=3, padding=same),
        _straight("depthwise", (8, 7, 9), 9, (3, 3), 0.1, groups=9),
        _straight("conv_16_bit", (6, 5, 6), 5, (3, 3), 0.15, 5, bits=16, out_bits=16, padding=same),
        _straight("conv_all_zero", (5, 5, 6), 5, (3, 3), 0.0, padding=same),
    ]


# --- operations without weights ------------------------------------------------------------------------------------


def _two(name: str, op: Add | Mul, a: Shape, b: Shape, bits: tuple[int, int, int] = (8, 8, 8)) -> Case:
    """Two inputs of bits[0] and bits[1], an output of bits[2]."""

    def build(make: Maker) -> list[str]:
        centred = 0 if max(bits) > 8 and isinstance(op, Mul) else None  # or the product does not fit 32 bits
        x, y = (make.input(*s, quant=make.quant(b, zero_point=centred)) for s, b in ((a, bits[0]), (b, bits[1])))
        return [make.add(op, [x, y], bits=bits[2])]

    return Case(name, build)


def _elementwise() -> list[Case]:
    found = []
    for label, op in (("add", Add()), ("sub", Add(subtract=True)), ("mul", Mul())):
        found += [
            _two(f"{label}_equal", op, (3, 4, 5), (3, 4, 5)),
            _two(f"{label}_vector", op, (3, 4, 5), (5,)),
            _two(f"{label}_vector_first", op, (5,), (3, 4, 5)),
            _two(f"{label}_one", op, (3, 4, 5), (1,)),
            _two(f"{label}_channels", op, (3, 4, 5), (1, 1, 5)),
            _two(f"{label}_both_ways", op, (3, 1, 5), (1, 4, 1)),
            _two(f"{label}_four_axes", op, (2, 1, 3, 1), (1, 4, 1, 5)),
            _two(f"{label}_16_bit", op, (3, 7), (3, 7), (16, 16, 16)),
        ]
    return [
        *found,
        _two("add_8_and_16_to_8", Add(), (11,), (11,), (8, 16, 8)),
        _two("add_relu", Add(clamp=RELU), (4, 4, 3), (4, 4, 3)),
        _two("add_4_bit", Add(), (3, 5), (3, 5), (4, 4, 4)),
        _two("mul_relu6", Mul(clamp=Clamp(0.0, 6.0)), (4, 4, 3), (4, 4, 3)),
        _two("mul_8_and_16", Mul(), (9,), (9,), (8, 16, 16)),
        Case("add_to_itself", lambda m: [m.add(Add(), [x := m.input(7, 3), x])]),
        Case("mul_square", lambda m: [m.add(Mul(), [x := m.input(7, 3), x])]),
    ]


def _pointwise(
    name: str, function: str, bits: int = 8, out_bits: int = 8, alpha: float = 0.1, beta: float = 0.2
) -> Case:
    def build(make: Maker) -> list[str]:
        x = make.input(3, 11, quant=make.quant(bits, 8.0 / 2**bits))
        return [make.add(Pointwise(function, alpha, beta), [x], bits=out_bits)]

    return Case(name, build)


def _prelu(name: str, shape: Shape, slopes: int, bits: int = 8) -> Case:
    def build(make: Maker) -> list[str]:
        x = make.input(*shape, bits=bits)
        slope = make.rng.normal(size=slopes)
        return [make.add(PRelu(), [x], {"slope": slope}, bits=bits)]

    return Case(name, build)


def _functions() -> list[Case]:
    return [
        *(_pointwise(f"pointwise_{f}", f) for f in "identity sigmoid hard_swish tanh affine leaky_relu".split()),
        _pointwise("pointwise_4_bit", "tanh", 4, 4),
        _pointwise("pointwise_4_to_8_bit", "sigmoid", 4, 8),
        _pointwise("pointwise_8_to_16_bit", "silu", 8, 16),
        _pointwise("pointwise_16_bit", "silu", 16, 16),
        _pointwise("pointwise_16_to_8_bit", "tanh", 16, 8),
        _prelu("prelu_channels", (3, 4, 5), 5),
        _prelu("prelu_one", (3, 4, 5), 1),
        _prelu("prelu_vector", (9,), 9),
        _prelu("prelu_16_bit", (3, 5), 5, 16),
        *(Case(f"softmax_{'x'.join(map(str, s))}", _softmax(s)) for s in ((10,), (1,), (3, 5), (2, 3, 4), (400,))),
        Case("softmax_to_16_bit", _softmax((12,), 16)),
        Case("softmax_4_bit", _softmax((6,), 4, 4)),
    ]  # fmt: skip


def _softmax(shape: Shape, out_bits: int = 8, bits: int = 8) -> Callable[[Maker], Sequence[str]]:
    def build(make: Maker) -> list[str]:
        x = make.input(*shape, quant=make.quant(bits, 0.1))
        return [make.add(Softmax(), [x], quant=Softmax.output_quant(out_bits))]

    return build


def _unary(name: str, shape: Shape, op: Op, bits: int = 8) -> Case:
    return Case(name, lambda make: [make.add(op, [make.input(*shape, bits=bits)], bits=bits)])


def _pools() -> list[Case]:
    return [
        _unary("maxpool_2x2", (6, 4, 5), MaxPool2D((2, 2), (2, 2))),
        _unary("maxpool_overlapping", (7, 7, 3), MaxPool2D((3, 3), (2, 2), (1, 1, 1, 1))),
        _unary("maxpool_asymmetric", (5, 6, 2), MaxPool2D((3, 2), (1, 3), (2, 0, 0, 1))),
        _unary("maxpool_dilation", (8, 9, 3), MaxPool2D((2, 3), (2, 1), (1, 2, 1, 2), (3, 2))),
        _unary("maxpool_1d", (1, 15, 4), MaxPool2D((1, 4), (1, 4))),
        _unary("maxpool_words", (7, 8, 10), MaxPool2D((3, 2), (2, 2), (1, 1, 1, 0))),
        _unary("maxpool_beyond_image", (2, 3, 6), MaxPool2D((2, 3), (1, 1), (3, 4, 3, 4))),
        _unary("maxpool_16_bit", (6, 6, 3), MaxPool2D((2, 2), (2, 2)), 16),
        _unary("avgpool_2x2", (6, 4, 5), AvgPool2D((2, 2), (2, 2))),
        _unary("avgpool_padded", (7, 6, 3), AvgPool2D((3, 3), (2, 2), (1, 1, 1, 1))),
        _unary("avgpool_padding_counts", (7, 6, 3), AvgPool2D((3, 3), (2, 2), (1, 1, 1, 1), (0, 0), True)),
        _unary("avgpool_overhang", (6, 6, 3), AvgPool2D((3, 3), (2, 2), (0, 0, 0, 0), (1, 1))),
        _unary("avgpool_overhang_counts", (6, 6, 3), AvgPool2D((3, 3), (2, 2), (1, 1, 0, 0), (1, 1), True)),
        _unary("avgpool_global", (5, 5, 7), AvgPool2D((5, 5), (1, 1))),
        _unary("avgpool_beyond_image", (3, 2, 4), AvgPool2D((4, 5), (1, 1), (2, 2, 2, 2))),
        _unary("avgpool_words", (7, 8, 10), AvgPool2D((3, 2), (2, 2), (1, 1, 1, 0))),
        _unary("avgpool_global_many", (24, 25, 5), AvgPool2D((24, 25), (1, 1))),
        _unary("avgpool_many_in_a_row", (3, 300, 4), AvgPool2D((2, 290), (1, 7))),
        _unary("avgpool_padding_only_windows", (2, 3, 6), AvgPool2D((1, 2), (1, 1), (2, 3, 2, 3))),
        _unary("avgpool_16_bit", (4, 4, 3), AvgPool2D((2, 2), (2, 2)), 16),
        _unary("mean_image", (4, 5, 6), ReduceMean((0, 1))),
        _unary("mean_keepdims", (4, 5, 6), ReduceMean((0, 1), True)),
        _unary("mean_channels", (4, 5, 6), ReduceMean((2,))),
        _unary("mean_all", (3, 4, 2), ReduceMean((0, 1, 2))),
        _unary("mean_alternating", (2, 3, 4, 5), ReduceMean((0, 2))),
        _unary("mean_middle", (3, 4, 5), ReduceMean((1,))),
        _unary("mean_many", (20, 30, 9), ReduceMean((0, 1))),
        _unary("mean_rank_5", (2, 3, 2, 5, 4), ReduceMean((0, 2))),
        _unary("mean_16_bit", (4, 5, 3), ReduceMean((0, 1)), 16),
    ]


def _concat(name: str, axis: int, *shapes: Shape, bits: int = 8) -> Case:
    def build(make: Maker) -> list[str]:
        q = make.quant(bits)
        return [make.add(Concat(axis), [make.input(*shape, quant=q) for shape in shapes])]

    return Case(name, build)


def _moves() -> list[Case]:
    return [
        _unary("transpose_matrix", (3, 5), Transpose((1, 0))),
        _unary("transpose_rotated", (2, 3, 5), Transpose((2, 0, 1))),
        _unary("transpose_channels_kept", (3, 4, 5), Transpose((1, 0, 2))),
        _unary("transpose_rank_4", (2, 3, 4, 5), Transpose((3, 1, 0, 2))),
        _unary("transpose_merged_axes", (2, 2, 3, 2, 2), Transpose((3, 4, 2, 0, 1))),
        _unary("transpose_16_bit", (3, 5), Transpose((1, 0)), 16),
        _unary("slice_part", (5, 6, 7), Slice((1, 0, 2), (4, 6, 5), (1, 1, 1))),
        _unary("slice_steps", (5, 6, 7), Slice((0, 1, 0), (5, 6, 7), (2, 3, 2))),
        _unary("slice_channels", (4, 4, 6), Slice((0, 0, 3), (4, 4, 6), (1, 1, 1))),
        _unary("slice_16_bit", (9,), Slice((2,), (8,), (2,)), 16),
        _concat("concat_channels", 2, (3, 4, 2), (3, 4, 5)),
        _concat("concat_rows", 0, (3, 4, 2), (1, 4, 2), (2, 4, 2)),
        _concat("concat_columns", 1, (3, 4, 2), (3, 1, 2)),
        _concat("concat_vectors", 0, (3,), (5,), (1,)),
        _concat("concat_16_bit", 1, (3, 2), (3, 3), bits=16),
        Case("concat_twice_the_same", lambda m: [m.add(Concat(1), [x := m.input(3, 4), x])]),
        _unary("pad_image", (3, 4, 2), Pad((1, 2, 0), (0, 1, 0), 0.0)),
        _unary("pad_value", (3, 4, 2), Pad((0, 1, 1), (1, 0, 2), 0.75)),
        _unary("pad_rank_4", (2, 2, 2, 2), Pad((1, 0, 1, 0), (0, 1, 0, 1), -0.5)),
        _unary("resize_double", (3, 4, 5), Resize((0, 0, 1, 1, 2, 2), (0, 0, 1, 1, 2, 2, 3, 3))),
        _unary("resize_odd", (4, 5, 3), Resize((0, 1, 3), (0, 0, 2, 4))),
        _unary("resize_16_bit", (2, 2, 3), Resize((0, 1, 1), (0, 0, 1)), 16),
        _unary("reshape", (3, 4, 5), Reshape((12, 5))),
    ]


# --- several nodes: constants, views, outputs, values in place -----------------------------------------------------


def _with_constant(op: Op, shape: Shape) -> Callable[[Maker], Sequence[str]]:
    def build(make: Maker) -> list[str]:
        constant = make.add(Constant(), [], {"value": make.rng.normal(size=shape)}, quant=make.quant())
        return [make.add(op, [make.input(3, 4, 5), constant])]

    return build


def _constant_view(make: Maker) -> list[str]:
    constant = make.add(Constant(), [], {"value": make.rng.normal(size=(2, 6))}, quant=make.quant())
    view = make.add(Reshape((3, 4)), [constant])
    return [make.add(Add(), [make.input(3, 4), view]), make.add(Slice((1, 0), (3, 3), (1, 2)), [view])]


def _constant_output(make: Maker) -> list[str]:
    constant = make.add(Constant(), [], {"value": make.rng.normal(size=5)}, quant=make.quant())
    return [make.add(Pointwise("relu"), [make.input(4)]), constant]


def _input_is_output(make: Maker) -> list[str]:
    x = make.input(5, 3)
    return [x, make.add(Pointwise("tanh"), [x])]


def _output_twice(make: Maker) -> list[str]:
    y = make.add(Pointwise("tanh"), [make.input(5)])
    return [y, make.add(Reshape((5, 1)), [y]), y]


def _in_place(make: Maker) -> list[str]:
    x = make.input(4, 4, 6)
    y = make.linear(Conv2D(padding=(1, 1, 1, 1), clamp=RELU), x, (6, 3, 3, 6), 4)
    z = make.add(Add(), [x, y])
    gate = make.add(Reshape((1, 1, 6)), [make.add(ReduceMean((0, 1)), [z])])
    scaled = make.add(Mul(), [z, make.add(Pointwise("sigmoid"), [gate])])
    return [make.add(PRelu(), [scaled], {"slope": np.array([0.25])})]


def _residual(make: Maker) -> list[str]:
    x = make.input(8, 8, 3)
    a = make.linear(Conv2D(padding=(1, 1, 1, 1), clamp=RELU), x, (8, 3, 3, 3), (8, 4, 2, 4))
    b = make.linear(Conv2D(padding=(1, 1, 1, 1), groups=8), a, (8, 3, 3, 1), 4)
    c = make.add(Add(clamp=RELU), [make.linear(Conv2D(), b, (8, 1, 1, 8), 3), a])
    d = make.add(MaxPool2D((2, 2), (2, 2)), [make.add(Pointwise("hard_swish"), [c])])
    e = make.linear(Dense(), make.add(Reshape((128,)), [d]), (10, 128), 5)
    return [make.add(Softmax(), [e], quant=Softmax.output_quant(8))]


def _two_inputs(make: Maker) -> list[str]:
    a, b = make.input(3, 3, 2), make.input(5)
    return [make.linear(Conv2D(), a, (3, 2, 2, 2), 8), make.linear(Dense(), b, (3, 5), 4)]


def _changing_width(make: Maker) -> list[str]:
    x = make.input(4, 4, 4)
    wide = make.add(Pointwise("identity"), [x], bits=16)
    y = make.linear(Conv2D(groups=4), wide, (4, 3, 3, 1), 6, 16)
    return [make.add(Pointwise("affine", 0.5, 0.1), [y])]


def _graphs() -> list[Case]:
    return [
        Case("constant_add", _with_constant(Add(), (5,))),
        Case("constant_mul", _with_constant(Mul(), (3, 4, 5))),
        Case("constant_view", _constant_view),
        Case("constant_output", _constant_output),
        Case("input_is_output", _input_is_output),
        Case("output_twice", _output_twice),
        Case("in_place_chain", _in_place),
        Case("residual_network", _residual),
        Case("two_inputs_two_outputs", _two_inputs),
        Case("changing_width", _changing_width),
    ]


# --- packed values -------------------------------------------------------------------------------------------------


def _packed(name: str, image: Shape, middle: Callable[[Maker, str], str], bits: int = 4) -> Case:
    """A 1x1 convolution from bytes to packed values of `bits` bits, what `middle` makes of these, and one to bytes."""

    def build(make: Maker) -> list[str]:
        x = make.input(*image[:2], 3)
        y = middle(make, make.linear(Conv2D(clamp=RELU), x, (image[2], 1, 1, 3), 8, bits))
        shape = make.types[y].shape
        if len(shape) == 3:
            return [make.linear(Conv2D(), y, (5, 1, 1, shape[2]), 8)]
        return [make.linear(Dense(), y, (5, shape[-1]), 4)]

    return Case(name, build, packed=True)


def _packed_conv(
    name: str, image: Shape, outputs: int, kernel: tuple[int, int], widths: Widths, **attributes: Any
) -> Case:
    op = Conv2D(**attributes)
    depth = image[2] // op.groups
    return _packed(name, image, lambda m, x: m.linear(op, x, (outputs, *kernel, depth), widths, 4))


def _packed_values() -> list[Case]:
    same = (1, 1, 1, 1)

    def flat(make: Maker, x: str) -> str:
        y = make.add(Reshape((make.types[x].size,)), [x])
        return make.linear(Dense(), y, (7, make.types[y].size), 8, 4)

    def residual(make: Maker, x: str) -> str:
        y = make.linear(Conv2D(padding=same), x, (4, 3, 3, 4), 4, 4)
        return make.add(Add(clamp=RELU), [x, y], bits=4)

    def to_bytes(make: Maker, x: str) -> str:
        y = make.linear(Conv2D(padding=same), x, (4, 3, 3, 4), 4)
        return make.add(Add(), [y, x], bits=8)

    def average(*options: Any) -> Callable[[Maker, str], str]:
        return lambda make, x: make.add(AvgPool2D(*options), [x], bits=4)

    def largest(*options: Any) -> Callable[[Maker, str], str]:
        return lambda make, x: make.add(MaxPool2D(*options), [x], bits=4)

    return [
        _packed_conv("packed_conv", (9, 8, 4), 8, (3, 3), 4, padding=same),
        _packed_conv("packed_conv_stride_2", (11, 8, 5), 6, (3, 3), 8, padding=(0, 0, 1, 1), stride=(2, 2)),
        _packed_conv("packed_conv_wide", (5, 40, 3), 4, (3, 3), 2, padding=same),
        _packed_conv("packed_conv_tall_padding", (12, 8, 3), 8, (5, 3), 8, padding=(4, 1, 4, 1)),
        _packed_conv("packed_conv_dilation", (13, 8, 2), 3, (3, 3), 8, padding=(3, 3, 3, 3), dilation=(3, 3)),
        _packed_conv("packed_conv_one_row", (1, 9, 3), 5, (1, 3), 4, padding=(0, 1, 0, 1)),
        _packed_conv("packed_conv_whole_image", (5, 8, 2), 9, (5, 8), 4),
        _packed_conv("packed_pointwise", (10, 8, 8), 16, (1, 1), 8),
        _packed_conv("packed_pointwise_stride", (11, 12, 8), 4, (1, 1), 4, stride=(2, 3)),
        _packed_conv("packed_mixed_widths", (9, 8, 4), 10, (3, 3), (8, 4, 2), padding=same),
        _packed_conv("packed_depthwise", (9, 8, 6), 6, (3, 3), 8, padding=same, groups=6),
        _packed_conv("packed_depthwise_stride_2", (10, 12, 16), 16, (3, 3), 4, padding=same, stride=(2, 2), groups=16),
        _packed_conv("packed_depthwise_mixed", (9, 8, 9), 9, (3, 3), (8, 4), padding=same, groups=9),
        _packed("packed_dense", (4, 8, 2), flat),
        _packed("packed_add", (9, 8, 4), residual),
        _packed("packed_add_to_bytes", (9, 8, 4), to_bytes),
        _packed("packed_2_bits", (9, 8, 4), residual, 2),
        _packed("packed_maxpool", (9, 8, 4), largest((2, 2), (2, 2))),
        _packed("packed_maxpool_overlapping", (19, 8, 3), largest((3, 3), (2, 1), (1, 1, 1, 1))),
        _packed("packed_avgpool", (19, 16, 3), average((3, 3), (2, 2), (1, 1, 1, 1))),
        _packed("packed_avgpool_counted", (13, 8, 5), average((3, 3), (1, 1), (1, 1, 1, 1), (0, 0), True)),
        _packed("packed_avgpool_global", (6, 8, 5), average((6, 8))),
    ]


def all_cases() -> tuple[Case, ...]:
    """Every case; names are unique C identifiers."""
    cases = (
        *_every_width(), *_conv_shapes(), *_depthwise_shapes(), *_dense_shapes(), *_sparse_layers(), *_elementwise(),
        *_functions(), *_pools(), *_moves(), *_graphs(), *_packed_values(),
    )  # fmt: skip
    names = [case.name for case in cases]
    if len(set(names)) != len(names):
        raise AssertionError(f"cases share names: {sorted(n for n in names if names.count(n) > 1)}")
    return cases


def case_graph(case: Case, target: str) -> Graph:
    """The case's graph with scales that suit the target."""
    return case.graph(power_of_two=load_target(target).requantise == "shift")


def build_case_artefact_files(case: Case, target: str) -> dict[str, bytes]:
    """The case's C for a target: "c/<case name>.c", ... without a self-test."""
    hardware = load_target(target)
    graph = case_graph(case, target)
    program = lower(graph, hardware, case.selection(graph))
    return emit(graph, program, plan(graph, program.scratch, program.overwrites), hardware)
