"""Quantisation of activations: scales by least error, ties, prescriptions, powers of two."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from digits import Net, network
from dnnc.cost.loader import load_target
from dnnc.errors import DataError
from dnnc.ir.graph import Graph
from dnnc.ir.types import Quant
from dnnc.ops.activation import NO_CLAMP
from dnnc.ops.movement import Concat, Pad, Reshape
from dnnc.ops.pointwise import Pointwise
from dnnc.ops.pool import MaxPool2D
from dnnc.ops.softmax import Softmax
from dnnc.quantise.bits import parse_policy
from dnnc.quantise.calibrate import Calibration, calibrate
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.integer import quantise
from dnnc.quantise.moments import MomentSum, sample_rows
from dnnc.quantise.ranges import choose_quant, squared_error
from dnnc.quantise.ties import tie
from dnnc.quantise.weights import quantise_weights

pytestmark = pytest.mark.quick
M7, M0 = load_target("cortex-m7"), load_target("cortex-m0plus")
RNG = np.random.default_rng(0)


def data(graph: Graph, count: int = 16, scale: float = 1.0) -> Dataset:
    x = np.random.default_rng(1).standard_normal((count, *graph.inputs[0].type.shape)) * scale
    return Dataset({"x": x.astype(np.float32)})


def prescribed(graph: Graph, **quants: Quant) -> Graph:
    inputs = tuple(replace(i, type=replace(i.type, quant=quants.get(i.name))) for i in graph.inputs)
    nodes = [replace(n, type=replace(n.type, quant=quants.get(n.name))) for n in graph.nodes]
    return replace(graph, inputs=inputs, nodes=tuple(nodes)).verify()


def int8(calibration: Calibration) -> Graph:
    allocation = parse_policy("int8").allocate(calibration, M7)
    return quantise(calibration.graph, calibration, allocation, M7)


# --- scales ---


@given(
    st.sampled_from([4, 8, 16]), st.booleans(), st.floats(-100, 100), st.floats(1e-4, 100), st.integers(0, 99)
)  # fmt: skip
def test_zero_is_exact_and_the_error_no_worse_than_by_maximum(
    bits: int, power_of_two: bool, middle: float, spread: float, seed: int
) -> None:
    values = np.random.default_rng(seed).standard_t(3, 500) * spread + middle
    lo, hi = float(values.min()), float(values.max())
    quant = choose_quant(values, lo, hi, bits, power_of_two)
    assert quant.bits == bits and quant.lo <= quant.zero_point <= quant.hi and quant.scale > 0
    if power_of_two:
        assert np.log2(quant.scale) == np.floor(np.log2(quant.scale))
        return
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    scale = (hi - lo) / (2**bits - 1)
    by_maximum = Quant(bits, scale, int(np.clip(np.floor(quant.lo - lo / scale + 0.5), quant.lo, quant.hi)))
    seen = torch.tensor(values)
    assert squared_error(seen, quant) <= squared_error(seen, by_maximum) * (1 + 1e-9)


def test_outliers_are_clipped() -> None:
    values = np.concatenate([RNG.standard_normal(20000), [40.0]])
    quant = choose_quant(values, values.min(), 40.0, 4, False)
    assert quant.real_hi < 10


def test_values_on_a_grid_have_no_error() -> None:
    values = RNG.integers(0, 256, 5000) / 255
    quant = choose_quant(values, 0.0, 1.0, 8, False)
    assert squared_error(torch.tensor(values), quant) < 1e-12


def test_constant_zero_is_representable() -> None:
    quant = choose_quant(np.zeros(5), 0.0, 0.0, 8, False)
    assert quant.scale > 0 and quant.zero_point == 0


def test_pixels_get_scale_one() -> None:
    graph = network()
    pixels = Dataset({"x": RNG.integers(0, 256, (16, 8, 8, 1)).astype(np.uint8)})
    assert calibrate(graph, pixels, M7).quant("x", 8) == Quant(8, 1.0, -128)
    assert calibrate(graph, pixels, M0).quant("x", 8) == Quant(8, 1.0, -128)
    assert calibrate(graph, data(graph), M7).quant("x", 8).scale != 1.0


@pytest.mark.parametrize(
    ("function", "expected"),
    [("sigmoid", Quant(8, 2.0**-8, -128)), ("hard_sigmoid", Quant(8, 1 / 255, -128)), ("tanh", Quant(8, 2.0**-7, 0))],
)
def test_known_ranges_are_fixed(function: str, expected: Quant) -> None:
    net = Net(6)
    graph = net.graph(net.add("f", Pointwise(function=function, alpha=0.2, beta=0.5), [net.dense("d", "x", 4)]))
    assert calibrate(graph, data(graph), M7).quant("f", 8) == expected


# --- ties ---


def tied() -> Graph:
    net = Net(6, 6, 2)
    a, b = net.conv("a", "x", 3), net.conv("b", "x", 3, clamp=NO_CLAMP)
    joined = net.add("joined", Concat(axis=2), [a, net.add("pool", MaxPool2D(kernel=(1, 1)), [b])])
    padded = net.add("padded", Pad(before=(1, 0, 0), after=(0, 0, 0)), [joined])
    return net.graph(net.add("flat", Reshape(shape=(7 * 36,)), [padded]))


def test_moved_values_share_one_quantisation() -> None:
    graph = tied()
    ties = tie(graph)
    assert all(a is b for a, b in zip(ties.graph.nodes, graph.nodes, strict=True))
    assert len({ties.group_of[v] for v in ("a", "b", "pool", "joined", "padded", "flat")}) == 1
    assert ties.group_of["x"] != ties.group_of["a"]
    result = int8(calibrate(graph, data(graph), M7))
    quants = {result.types[v].quant for v in ("a", "b", "pool", "joined", "padded", "flat")}
    assert len(quants) == 1
    (quant,) = quants
    assert quant is not None and quant.real_lo < 0 < quant.real_hi


def test_prescriptions_that_meet_are_requantised() -> None:
    first, second, third = Quant(8, 0.02, -128), Quant(8, 0.05, 3), Quant(8, 0.04, 0)
    graph = prescribed(tied(), a=first, b=second, joined=third)
    ties = tie(graph)
    bridges = [n for n in ties.graph.nodes if isinstance(n.op, Pointwise)]
    assert [n.op.function for n in bridges if isinstance(n.op, Pointwise)] == ["identity", "identity"]
    result = int8(calibrate(graph, data(graph), M7))
    assert result.types["a"].quant == first and result.types["pool"].quant == second
    assert {result.types[v].quant for v in ("joined", "padded", "flat")} == {third}
    for node in result.nodes:
        if node.op.keeps_quant:
            assert {t.quant for t in result.input_types(node)} == {node.type.quant}


def test_one_prescription_spreads_over_its_tie() -> None:
    quant = Quant(8, 0.03, -10)
    ties = tie(prescribed(tied(), joined=quant))
    assert len(ties.graph.nodes) == 6 and set(ties.prescribed.values()) == {quant}
    dropped = tie(prescribed(tied(), joined=quant), keep_prescribed=False)
    assert not dropped.prescribed


def test_softmax_beside_other_values_is_requantised() -> None:
    net = Net(6)
    d = net.dense("d", "x", 4)
    joined = net.add("joined", Concat(axis=0), [d, net.add("p", Softmax(), [d])])
    graph = net.graph(joined)
    result = int8(calibrate(graph, data(graph), M7))
    assert result.types["p"].quant == Softmax.output_quant(8)
    assert result.types["d"].quant == result.types["joined"].quant != result.types["p"].quant
    assert result.by_name["joined"].inputs == ("d", "p_requantised")


def test_a_moved_softmax_keeps_its_quantisation() -> None:
    net = Net(6)
    p = net.add("p", Softmax(), [net.dense("d", "x", 4)])
    graph = net.graph(net.add("r", Reshape(shape=(2, 2)), [p]))
    result = int8(calibrate(graph, data(graph), M7))
    assert result.types["r"].quant == Softmax.output_quant(8) and len(result.nodes) == 3


# --- weights ---


def test_prescribed_weights_stay_exactly() -> None:
    net = Net(6, 6, 2)
    graph = net.graph(net.conv("c", "x", 3))
    codes = RNG.integers(-127, 128, (3, 3, 3, 2))
    scale = np.array([0.01, 0.003, 0.02])
    weight = (codes * scale.reshape(3, 1, 1, 1)).astype(np.float32)
    node = replace(graph.nodes[0], params={**graph.nodes[0].params, "weight": weight, "weight_scale": scale})
    graph = graph.with_nodes([node])
    result = int8(calibrate(graph, data(graph), M7)).by_name["c"]
    np.testing.assert_array_equal(result.params["weight"], codes)
    np.testing.assert_array_equal(result.params["weight_scale"], scale)
    quant = calibrate(graph, data(graph), M7).quant("x", 8)
    folded = np.floor(node.params["bias"] / (scale * quant.scale) + 0.5)
    np.testing.assert_array_equal(result.params["bias"], folded - quant.zero_point * codes.reshape(3, -1).sum(axis=1))
    narrow = parse_policy("uniform{weights=4}").allocate(calibrate(graph, data(graph), M7), M7)
    quantised = quantise(graph, calibrate(graph, data(graph), M7), narrow, M7)
    assert np.abs(quantised.by_name["c"].params["weight"]).max() <= 8


def test_error_feedback_lowers_the_error_of_the_output() -> None:
    net = Net(10, 10, 6)
    graph = net.graph(net.conv("c", "x", 12))
    mixing = RNG.standard_normal((6, 6))
    x = torch.tensor(np.abs(RNG.standard_normal((40, 10, 10, 6))) @ mixing, dtype=torch.float32)
    total = MomentSum(graph.nodes[0], 1)
    total.add(x, torch.Generator().manual_seed(0))
    moments = total.finish()
    rows = sample_rows(graph.nodes[0], x, 4000, torch.Generator().manual_seed(1))[:, 0].double()
    weight = graph.nodes[0].params["weight"]

    def error(options: Any, bits: int) -> float:
        moved = torch.tensor((options[bits].real() - weight).reshape(12, -1))
        out = rows @ moved.T
        return float(((out - out.mean(dim=0)) ** 2).mean())

    fed, plain = quantise_weights(weight, [2, 3, 4, 8], moments), quantise_weights(weight, [2, 3, 4, 8], None)
    for bits in (2, 3, 4, 8):
        lo, hi = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        assert lo <= fed[bits].codes.min() and fed[bits].codes.max() <= hi
        assert error(fed, bits) < 0.75 * error(plain, bits)


def test_widths_do_not_depend_on_one_another() -> None:
    net = Net(6, 6, 4)
    graph = net.graph(net.conv("dw", "x", 4, groups=4))
    calibration = calibrate(graph, data(graph), M7)
    node = graph.nodes[0]
    alone = quantise_weights(node.params["weight"], [3], calibration.moments["dw"])[3]
    together = calibration.weights(node, [2, 3, 8])[3]
    np.testing.assert_array_equal(alone.codes, together.codes)
    np.testing.assert_array_equal(alone.scale, together.scale)


def test_moments_are_those_of_the_patches() -> None:
    net = Net(5, 5, 4)
    graph = net.graph(net.conv("c", "x", 6, groups=2, stride=(2, 1)))
    x = RNG.standard_normal((8, 5, 5, 4)).astype(np.float32)
    moments = calibrate(graph, Dataset({"x": x}), M7).moments["c"]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = np.array([
        padded[n, i : i + 3, j : j + 3, 2:].ravel() for n in range(8) for i in (0, 2, 4) for j in range(5)
    ])  # fmt: skip
    np.testing.assert_allclose(moments.mean[1], rows.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(moments.covariance[1], np.cov(rows.T, bias=True), atol=1e-4)


# --- powers of two ---


def test_all_scales_are_powers_of_two_where_the_target_only_shifts() -> None:
    graph = network()
    calibration = calibrate(graph, data(graph), M0)
    allocation = parse_policy("uniform{weights=4}").allocate(calibration, M0)
    result = quantise(graph, calibration, allocation, M0)

    def power(values: Any) -> bool:
        return bool(np.all(np.log2(values) == np.floor(np.log2(values))))

    for value, declared in result.types.items():
        assert declared.quant is not None and power(declared.quant.scale), value
    for node in result.nodes:
        if "weight_scale" in node.params:
            assert power(node.params["weight_scale"]) and power(node.params["multiplier"].astype(float))


def test_prescriptions_give_way_where_the_target_only_shifts() -> None:
    graph = prescribed(tied(), joined=Quant(8, 0.03, -10))
    calibration = calibrate(graph, data(graph), M0)
    assert "powers of two" in calibration.notes[0]
    assert np.log2(calibration.quant("joined", 8).scale) % 1 == 0


# --- refusals ---


def test_too_few_samples() -> None:
    graph = network()
    with pytest.raises(DataError, match="at least 4 samples, found 2"):
        calibrate(graph, data(graph, 2), M7)


def test_values_that_are_not_finite_are_named() -> None:
    net = Net(6)
    graph = net.graph(net.add("boom", Pointwise(function="exp"), [net.dense("d", "x", 4)]))
    with pytest.raises(DataError, match="'boom' of the float network is not finite"):
        calibrate(graph, data(graph, scale=1e4), M7)


def test_more_samples_than_needed_are_drawn_by_seed() -> None:
    graph = network()
    many = data(graph, 700)
    first, same, other = (calibrate(graph, many, M7, seed) for seed in (0, 0, 1))
    assert len(first.dataset) == 512
    np.testing.assert_array_equal(first.dataset.inputs["x"], same.dataset.inputs["x"])
    assert first.quant("c1", 8) == same.quant("c1", 8)
    assert not np.array_equal(first.dataset.inputs["x"], other.dataset.inputs["x"])
