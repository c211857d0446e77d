"""Every operation: its floats against an independent reference, its integers against its floats, its proven bounds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dnnc import ops
from dnnc.errors import ModelError
from dnnc.evaluate import evaluate
from dnnc.ir.op import Op
from dnnc.ir.types import Quant, TensorType
from dnnc.ops.activation import Clamp
from dnnc.ops.common import exact_matmul
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.elementwise import Add, Mul, add_multipliers
from dnnc.ops.movement import Concat, Constant, Pad, Reshape, Resize, Slice, Transpose
from dnnc.ops.pointwise import FUNCTION_NAMES, Pointwise, PRelu, functions
from dnnc.ops.pool import AvgPool2D, MaxPool2D, ReduceMean
from dnnc.ops.softmax import MAX_CLASSES, Softmax
from dnnc.simulate import quantise_inputs, simulate
from random_graphs import quantise_simply, single
from tolerance import check_node

pytestmark = pytest.mark.quick
Array = NDArray[Any]
Shapes = Sequence[tuple[int, ...]]


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """An operation with input shapes and float parameters; `reference` computes [N, ...] with plain numpy loops."""

    op: Op
    shapes: Shapes
    params: Mapping[str, Array] = field(default_factory=dict)
    reference: Callable[..., Array] | None = None

    def __str__(self) -> str:
        return f"{self.op.kind}-{self.op.describe()}-{self.shapes}".replace(" ", "")


# --- references: written for clarity from the definitions, one output element at a time ---


def conv_reference(op: Conv2D, weight: Array, bias: Array) -> Callable[..., Array]:
    def reference(x: Array) -> Array:
        top, left, bottom, right = op.padding
        padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
        outputs, kh, kw, depth = weight.shape
        span_h, span_w = op.dilation[0] * (kh - 1) + 1, op.dilation[1] * (kw - 1) + 1
        rows = range(0, padded.shape[1] - span_h + 1, op.stride[0])
        columns = range(0, padded.shape[2] - span_w + 1, op.stride[1])
        y = np.zeros((len(x), len(rows), len(columns), outputs))
        for (i, r), (j, c), o in itertools.product(enumerate(rows), enumerate(columns), range(outputs)):
            first = o // (outputs // op.groups) * depth
            window = padded[:, r : r + span_h : op.dilation[0], c : c + span_w : op.dilation[1], first : first + depth]
            y[:, i, j, o] = (window * weight[o]).sum(axis=(1, 2, 3)) + bias[o]
        return np.clip(y, op.clamp.lo, op.clamp.hi)

    return reference


def conv_case(shape: tuple[int, int, int], weight: tuple[int, int, int, int], **fields: Any) -> Case:
    op = Conv2D(**fields)
    params = {"weight": normal(*weight), "bias": normal(weight[0], seed=1)}
    return Case(op, [shape], params, conv_reference(op, params["weight"], params["bias"]))


def dense_case(shape: tuple[int, ...], outputs: int, clamp: Clamp) -> Case:
    params = {"weight": normal(outputs, shape[-1]), "bias": normal(outputs, seed=1)}

    def reference(x: Array) -> Array:
        return np.clip(np.einsum("...i,oi->...o", x, params["weight"]) + params["bias"], clamp.lo, clamp.hi)

    return Case(Dense(clamp), [shape], params, reference)


RELU, RELU6 = Clamp(0.0, None), Clamp(0.0, 6.0)
CASES = [
    conv_case((6, 5, 3), (4, 3, 3, 3)),
    conv_case((6, 5, 3), (4, 3, 3, 3), stride=(2, 1), padding=(1, 1, 1, 1), clamp=RELU),
    conv_case((7, 6, 2), (3, 2, 3, 2), padding=(0, 2, 1, 0), dilation=(2, 1), clamp=RELU6),
    conv_case((1, 12, 3), (5, 1, 5, 3), padding=(0, 2, 0, 2), dilation=(1, 2)),
    conv_case((5, 5, 6), (4, 3, 3, 3), groups=2, padding=(1, 1, 0, 0), clamp=Clamp(-1.0, None)),
    conv_case((5, 5, 6), (6, 3, 3, 1), groups=6, padding=(1, 1, 1, 1)),
    conv_case((5, 4, 3), (6, 2, 2, 1), groups=3, stride=(1, 2)),
    conv_case((5, 4, 8), (7, 1, 1, 8), clamp=Clamp(None, 0.5)),
    dense_case((7,), 5, RELU),
    dense_case((3, 9), 4, Clamp()),
    Case(Add(), [(4, 3), (4, 3)], reference=lambda a, b: a + b),
    Case(Add(clamp=RELU), [(2, 4, 3), (3,)], reference=lambda a, b: np.maximum(a + b[:, None, None], 0)),
    Case(Add(subtract=True), [(1, 3), (4, 1)], reference=lambda a, b: a - b),
    Case(Mul(), [(4, 4, 3), (1, 1, 3)], reference=lambda a, b: a * b),
    Case(Mul(clamp=RELU6), [(3,), (2, 2, 3)], reference=lambda a, b: np.clip(a[:, None, None] * b, 0, 6)),
    Case(PRelu(), [(4, 3)], {"slope": np.float32([0.25, -0.5, 1.5])},
         lambda x: np.maximum(x, 0) + np.float32([0.25, -0.5, 1.5]) * np.minimum(x, 0)),
    Case(PRelu(), [(4, 3)], {"slope": np.float32([0.1])}, lambda x: np.where(x < 0, np.float32(0.1) * x, x)),
    Case(MaxPool2D((2, 3), (2, 1), (1, 1, 0, 1)), [(5, 6, 2)]),
    Case(MaxPool2D((2, 2), (1, 1), (0, 0, 0, 0), (2, 3)), [(5, 6, 2)]),
    Case(AvgPool2D((2, 3), (2, 1), (1, 1, 0, 1)), [(5, 6, 2)]),
    Case(AvgPool2D((3, 3), (2, 2), (1, 1, 1, 1), (1, 1), count_padding=True), [(6, 6, 2)]),
    Case(ReduceMean((0, 1)), [(4, 5, 3)], reference=lambda x: x.mean(axis=(1, 2))),
    Case(ReduceMean((2,), keepdims=True), [(4, 5, 3)], reference=lambda x: x.mean(axis=3, keepdims=True)),
    Case(Softmax(), [(10,)], reference=lambda x: np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)),
    Case(Softmax(), [(3, 4)], reference=lambda x: np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)),
    Case(Reshape((6, 2)), [(4, 3)], reference=lambda x: x.reshape(-1, 6, 2)),
    Case(Transpose((2, 0, 1)), [(2, 3, 4)], reference=lambda x: np.moveaxis(x, 3, 1)),
    Case(Concat(1), [(2, 3), (2, 1), (2, 3)], reference=lambda *xs: np.concatenate(xs, axis=2)),
    Case(Slice((1, 0), (4, 5), (2, 3)), [(4, 5)], reference=lambda x: x[:, 1:4:2, 0:5:3]),
    Case(Pad((1, 0, 0), (0, 2, 1), 0.5), [(2, 3, 1)],
         reference=lambda x: np.pad(x, ((0, 0), (1, 0), (0, 2), (0, 1)), constant_values=0.5)),
    Case(Resize((0, 0, 1, 2), (1, 1)), [(3, 2, 2)], reference=lambda x: x[:, [0, 0, 1, 2]][:, :, [1, 1]]),
    Case(Constant(), [], {"value": normal(3, 2)}, lambda: normal(3, 2)[None]),
    *(Case(Pointwise(name, 0.3, 1.2), [(5, 4)]) for name in FUNCTION_NAMES),
]  # fmt: skip
BY_NAME = {str(case): case for case in CASES}


def test_every_operation_has_a_case() -> None:
    assert {type(case.op) for case in CASES} == set(ops.ALL)
    assert set(functions()) == set(FUNCTION_NAMES)


@pytest.mark.parametrize("name", [name for name, case in BY_NAME.items() if case.reference])
def test_real_is_the_definition(name: str) -> None:
    case = BY_NAME[name]
    graph = single(case.op, case.shapes, case.params)
    xs = [normal(4, *shape, seed=7 + i) for i, shape in enumerate(case.shapes)]
    found = evaluate(graph, {f"x{i}": torch.tensor(x) for i, x in enumerate(xs)})["y"].numpy()
    assert case.reference is not None
    np.testing.assert_allclose(found, case.reference(*xs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("name", BY_NAME)
def test_integers_are_as_near_to_reals_as_the_scales_allow(name: str, bits: int) -> None:
    case = BY_NAME[name]
    if bits == 16 and isinstance(case.op, Softmax):
        pytest.skip("Softmax takes at most 8 bits")
    graph = single(case.op, case.shapes, case.params)
    data = {i.name: normal(6, *i.type.shape, seed=3) + np.float32(0.2) for i in graph.inputs}
    for weight_bits in (8, 4, 2, 1) if "weight" in case.params else (8,):
        integer = quantise_simply(graph, data, bits, weight_bits)
        node, twin = graph.nodes[0], integer.nodes[0]
        ins = integer.input_types(twin)
        codes = quantise_inputs(integer, data)
        check_node(node, twin, ins, list(codes.values()), simulate(integer, codes)["y"])
        # Far outside of what calibration saw, too: every code, extremes included.
        rng = np.random.default_rng(5)
        for choices in ([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1], np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1))):
            wild = {i.name: rng.choice(choices, (4, *i.type.shape)).astype(np.int32) for i in integer.inputs}
            check_node(node, twin, ins, list(wild.values()), simulate(integer, wild)["y"])


# --- exactness ---------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.sampled_from([2**3, 2**7, 2**15, 2**31]), st.integers(1, 40))
def test_exact_matmul_is_int64(seed: int, magnitude: int, depth: int) -> None:
    """All three routes (float32, float64, int64), at the extremes where a rounding would show."""
    rng = np.random.default_rng(seed)
    columns = rng.choice([-magnitude, magnitude - 1, magnitude - 3, 1], (5, depth))
    weights = rng.integers(-128, 128, (3, depth)) * rng.choice([1, 2**10, 2**20])
    if magnitude * int(np.abs(weights).sum(axis=1).max()) < 2**62:
        assert np.array_equal(exact_matmul(columns, weights, magnitude), columns @ weights.T)


def test_padding_of_a_convolution_is_exact() -> None:
    """Padded positions hold real zero: the same as padding first and convolving without padding, bit for bit."""
    params = {"weight": normal(3, 3, 3, 2), "bias": normal(3, seed=1)}
    padded = single(Conv2D(padding=(1, 2, 0, 1)), [(4, 4, 2)], params)
    data = {"x0": normal(5, 4, 4, 2) + np.float32(1.0)}
    integer = quantise_simply(padded, data)
    codes = quantise_inputs(integer, data)
    zero_point = integer.inputs[0].type.quant.zero_point  # type: ignore[union-attr]
    assert zero_point not in (0, -128)
    node = integer.nodes[0]
    wide = np.pad(codes["x0"], ((0, 0), (1, 0), (2, 1), (0, 0)), constant_values=zero_point)
    wide_type = TensorType((5, 7, 2), integer.inputs[0].type.quant)
    explicit = Conv2D().integer([wide], node.params, [wide_type], node.type)
    assert np.array_equal(simulate(integer, codes)["y"], explicit)


def test_padding_never_wins_a_maximum() -> None:
    quant = Quant(8, 0.1, 100)  # zero is coded 100, so a padding of zeros would win over the lowest codes
    x = np.full((1, 2, 2, 1), -128, np.int32)
    op = MaxPool2D((2, 2), (1, 1), (1, 1, 1, 1))
    y = op.integer([x], {}, [TensorType((2, 2, 1), quant)], TensorType((3, 3, 1), quant))
    assert np.all(y == -128)
    assert bool(torch.all(op.real([torch.full((1, 2, 2, 1), -5.0)], {}) == -5.0))


POOLS = [
    (extent, kernel, stride, padding, ceil, count)
    for extent, kernel, stride in itertools.product((3, 5, 6, 8), (2, 3, 4), (1, 2, 3))
    for padding in range(kernel // 2 + 1)
    for ceil, count in itertools.product((False, True), (False, True))
    if extent + 2 * padding >= kernel
]


def test_average_pools_count_as_torch_does() -> None:
    """ceil_mode x count_include_pad on every small geometry; the overhang is what ceil_mode adds beyond the padding."""
    for extent, kernel, stride, padding, ceil, count in POOLS:
        module = torch.nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil, count_include_pad=count)
        x = torch.tensor(normal(1, 2, extent, 5 + extent, seed=extent))
        expected = module(x).permute(0, 2, 3, 1)
        overhangs = [
            max((n - 1) * stride + kernel - size - 2 * padding, 0)
            for n, size in zip(expected.shape[1:3], (extent, 5 + extent), strict=True)
        ]
        op = AvgPool2D((kernel, kernel), (stride, stride), (padding,) * 4, (overhangs[0], overhangs[1]), count)
        assert op.infer([(extent, 5 + extent, 2)], {}) == tuple(expected.shape[1:])
        torch.testing.assert_close(op.real([x.permute(0, 2, 3, 1)], {}), expected)


def test_max_pools_are_torchs() -> None:
    for extent, kernel, stride, padding, _, _ in POOLS:
        x = torch.tensor(normal(1, 2, extent, extent, seed=extent))
        expected = torch.nn.MaxPool2d(kernel, stride, padding)(x).permute(0, 2, 3, 1)
        found = MaxPool2D((kernel, kernel), (stride, stride), (padding,) * 4).real([x.permute(0, 2, 3, 1)], {})
        assert torch.equal(found, expected)


@given(
    st.floats(1e-3, 8.0), st.floats(1e-3, 8.0), st.integers(-128, 127), st.integers(-128, 127), st.integers(-128, 127),
    st.booleans(),
)  # fmt: skip
def test_add_rounds_once(ra: float, rb: float, za: int, zb: int, zy: int, subtract: bool) -> None:
    """The integer result is half-up rounding of the exact sum that its multipliers stand for."""
    ins = [TensorType((256,), Quant(8, ra, za)), TensorType((256, 1), Quant(8, rb, zb))]
    out = TensorType((256, 256), Quant(8, 1.0, zy))
    op = Add(subtract=subtract)
    params = {k: np.asarray(v) for k, v in op.quantise({}, ins, out).items()}
    codes = np.arange(-128, 128)
    found = op.integer([codes[None], codes[None, :, None]], params, ins, out)[0]
    (ma, mb), shift = params["multipliers"].tolist(), int(params["shift"])
    assert max(abs(ma), abs(mb)) < 2**15
    for a, b in [(-128, -128), (-128, 127), (127, -128), (127, 127), (za, zb), (3, -7), (0, 1)]:
        exact = Fraction((a - za) * ma + (b - zb) * mb, 2**shift)
        expected = min(max(math.floor(exact + Fraction(1, 2)) + zy, -128), 127)
        assert found[b + 128, a + 128] == expected
    lo, hi = op.accumulator(params, ins)
    assert lo.min() >= -(2**31)
    assert hi.max() < 2**31


def test_add_refuses_scales_too_far_apart() -> None:
    with pytest.raises(ValueError, match="too large for 16-bit multipliers"):
        add_multipliers([1e6, 1.0], [Quant(8, 1.0, 0)] * 2, 0)


@pytest.mark.parametrize("classes", [1, 2, 10, 1000])
@pytest.mark.parametrize("bits", [4, 8])
def test_softmax_sums_to_one_as_nearly_as_its_steps_allow(classes: int, bits: int) -> None:
    x, y = TensorType((classes,), Quant(bits, 0.1, 3)), TensorType((classes,), Softmax.output_quant(bits))
    params = {k: np.asarray(v) for k, v in Softmax().quantise({}, [x], y).items()}
    rng = np.random.default_rng(classes)
    codes = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (50, classes)).astype(np.int32)
    shares = Softmax().integer([codes], params, [x], y).astype(np.int64) + 2 ** (bits - 1)
    assert np.all(shares >= 0)
    # Each share is rounded by at most a half, and one of them may lose one step to saturation.
    assert np.all(np.abs(shares.sum(axis=-1) - 2**bits) <= classes / 2 + 1)
    # A larger logit never gets a smaller share.
    order = np.argsort(codes, axis=-1, kind="stable")
    assert np.all(np.diff(np.take_along_axis(shares, order, axis=-1), axis=-1) >= 0)
    assert int(params["table"].max()) * MAX_CLASSES < 2**31


# --- proven bounds ---------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.sampled_from([1, 2, 4, 8]))
def test_linear_bounds_hold_for_every_partial_sum_and_are_reached(seed: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    graph = single(Dense(), [(6,)], {"weight": rng.normal(size=(3, 6)), "bias": rng.normal(size=3)})
    integer = quantise_simply(graph, {"x0": rng.normal(size=(4, 6)) + rng.normal()}, 8, bits)
    node = integer.nodes[0]
    bounds = node.op.accumulator(node.params, integer.input_types(node))
    assert bounds is not None
    shift = int(node.params["left_shift"])
    for channel, (lo, hi) in enumerate(zip(*bounds, strict=True)):
        weight, bias = node.params["weight"][channel].astype(np.int64), int(node.params["bias"][channel])
        for _ in range(20):
            products = weight * rng.choice([-128, 127, 0], 6)
            for sums in (bias + np.cumsum(products), np.cumsum(rng.permutation(products))):
                assert lo <= int(sums.min()) << shift
                assert int(sums.max()) << shift <= hi
        reached = np.maximum(weight * -128, weight * 127).sum()
        assert hi == (max(bias, 0) + reached) << shift
        reached = np.minimum(weight * -128, weight * 127).sum()
        assert lo == (min(bias, 0) + reached) << shift


@pytest.mark.parametrize(
    "name", [n for n, c in BY_NAME.items() if isinstance(c.op, (Mul, AvgPool2D, ReduceMean, PRelu))]
)
def test_other_bounds_are_those_of_the_extreme_codes(name: str) -> None:
    """Recompute the accumulator in the open and compare its extremes over extreme inputs with the proof."""
    case = BY_NAME[name]
    graph = single(case.op, case.shapes, case.params)
    integer = quantise_simply(graph, {i.name: normal(5, *i.type.shape) for i in graph.inputs})
    node = integer.nodes[0]
    ins = integer.input_types(node)
    bounds = node.op.accumulator(node.params, ins)
    assert bounds is not None
    centred = [(t.quant.lo - t.quant.zero_point, t.quant.hi - t.quant.zero_point) for t in ins if t.quant]
    if isinstance(case.op, Mul):
        ends = [a * b for a in centred[0] for b in centred[1]]
    elif isinstance(case.op, PRelu):
        ends = list(centred[0])
    else:
        shape = ins[0].shape
        window = case.op.kernel if isinstance(case.op, AvgPool2D) else [shape[a] for a in case.op.axes]  # type: ignore[attr-defined]
        count = math.prod(window)
        ends = [count * centred[0][0], count * centred[0][1]]
    shift = int(node.params["left_shift"])
    assert bounds[0].min() == min(ends) << shift
    assert bounds[1].max() == max(ends) << shift


@pytest.mark.parametrize("tiny", [1e-9, 1e-32])
def test_a_bias_too_large_for_32_bits_is_named(tiny: float) -> None:
    x, y = TensorType((2,), Quant(8, 1e-3, 0)), TensorType((2,), Quant(8, 1.0, 0))
    params = {
        "weight": np.ones((2, 2), np.int64), "weight_scale": np.array([1e-3, tiny]), "weight_bits": np.array([8, 8]),
        "bias": np.array([1.0, 1.0]),
    }  # fmt: skip
    with pytest.raises(ModelError, match="bias of output channel 1 does not fit 32 bits"):
        Dense().quantise(params, [x], y)


# --- what infer refuses ---------------------------------------------------------------------------------------------


W = {"weight": np.zeros((4, 3, 3, 2)), "bias": np.zeros(4)}


@pytest.mark.parametrize(
    ("op", "shapes", "params", "message"),
    [
        (Conv2D(), [(8, 8)], W, "Conv2D expects an image"),
        (Conv2D(), [(8, 8, 3)], W, "do not fit 3 input channels"),
        (Conv2D(groups=3), [(8, 8, 6)], W, "do not fit 6 input channels"),
        (Conv2D(), [(2, 8, 2)], W, "does not fit a padded image"),
        (Conv2D(dilation=(4, 1)), [(8, 8, 2)], W, "does not fit a padded image"),
        (Dense(), [(5,)], {"weight": np.zeros((4, 6))}, "do not fit an input"),
        (Dense(), [()], {"weight": np.zeros((4, 6))}, "do not fit an input"),
        (Add(), [(3,), (4,)], {}, "cannot be broadcast"),
        (Mul(), [(2, 3), (2, 2)], {}, "cannot be broadcast"),
        (PRelu(), [(4, 3)], {"slope": np.zeros(4)}, "PRelu expects 1 or"),
        (MaxPool2D((3, 3)), [(2, 8, 1)], {}, "window does not fit"),
        (AvgPool2D((2, 2)), [(8, 8)], {}, "pooling expects an image"),
        (ReduceMean((2,)), [(4, 4)], {}, "does not fit"),
        (Softmax(), [()], {}, "Softmax expects"),
        (Softmax(), [(MAX_CLASSES + 1,)], {}, "Softmax expects"),
        (Reshape((3,)), [(2, 2)], {}, "cannot be reshaped"),
        (Transpose((0, 0)), [(2, 2)], {}, "no permutation"),
        (Concat(0), [(2, 2), (2, 3)], {}, "expects equal other axes"),
        (Concat(2), [(2, 2), (2, 2)], {}, "Concat along axis 2"),
        (Concat(0), [(2, 2), (2,)], {}, "expects equal other axes"),
        (Slice((0,), (3,), (1,)), [(2,)], {}, "Slice"),
        (Slice((0,), (2,), (1,)), [(2, 2)], {}, "Slice"),
        (Slice((1,), (1,), (1,)), [(2,)], {}, "Slice"),
        (Pad((1,), (-1,)), [(4,)], {}, "Pad"),
        (Pad((1,), (1,)), [(4, 4)], {}, "Pad"),
        (Pad((), ()), [(4,)], {}, "Pad"),
        (Resize((0, 4), (0,)), [(4, 4, 1)], {}, "Resize expects"),
        (Resize((0,), (0,)), [(4, 4)], {}, "Resize expects"),
        (Resize((-1,), (0,)), [(4, 4, 1)], {}, "Resize expects"),
    ],
)  # fmt: skip
def test_infer_refuses(op: Op, shapes: Shapes, params: Mapping[str, Array], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        op.infer([TensorType(s) for s in shapes], params)


def test_an_unknown_pointwise_function_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"unknown pointwise function 'sine'; known: identity, affine"):
        Pointwise("sine")


def test_softmax_takes_at_most_eight_bits() -> None:
    with pytest.raises(ModelError, match="at most 8 bits"):
        Softmax().quantise({}, [TensorType((3,), Quant(16, 0.1, 0))], TensorType((3,), Softmax.output_quant(8)))


def test_work_counts_multiplications() -> None:
    conv = single(
        Conv2D(groups=2, padding=(1, 1, 1, 1)), [(5, 4, 4)], {"weight": normal(6, 3, 3, 2), "bias": normal(6)}
    )
    work = conv.nodes[0].op.work(conv.input_types(conv.nodes[0]), conv.nodes[0].params, conv.nodes[0].type)
    assert (work.macs, work.weights) == (5 * 4 * 6 * 3 * 3 * 2, 6 * 3 * 3 * 2)
    dense = single(Dense(), [(3, 7)], {"weight": normal(5, 7), "bias": normal(5)})
    work = dense.nodes[0].op.work(dense.input_types(dense.nodes[0]), dense.nodes[0].params, dense.nodes[0].type)
    assert (work.macs, work.weights) == (3 * 5 * 7, 5 * 7)
