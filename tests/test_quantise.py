"""From float graphs to integer graphs: near to the reals, proven, corrected, the same every time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from digits import Net, network, trained
from dnnc.cost.loader import load_target
from dnnc.cost.target import Target
from dnnc.errors import OverflowBoundError
from dnnc.evaluate import evaluate_batches
from dnnc.fixed import INT32_MAX
from dnnc.ir.graph import Graph, freeze
from dnnc.ir.serial import dump_graph
from dnnc.ops.activation import NO_CLAMP
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.bits import parse_policy
from dnnc.quantise.calibrate import calibrate
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.integer import quantise
from dnnc.quantise.measure import correct_percent, float_outputs, integer_outputs
from dnnc.simulate import quantise_inputs, simulate
from random_graphs import graphs, random_data

M7, M0 = load_target("cortex-m7"), load_target("cortex-m0plus")
#: A target that lists every width.
ALL = replace(M7, activation_bits=(4, 8, 16))


def integers(graph: Graph, data: Dataset, bits: str, target: Target = M7) -> Graph:
    calibration = calibrate(graph, data, target)
    return quantise(graph, calibration, parse_policy(bits).allocate(calibration, target), target)


def snr_db(expected: Any, found: Any) -> float:
    error = float(np.sum((expected - found) ** 2, dtype=np.float64))
    return 10 * np.log10(
        max(float(np.sum((expected - expected.mean()) ** 2, dtype=np.float64)), 1e-12) / max(error, 1e-12)
    )


def accuracy(graph: Graph, data: Dataset) -> float:
    assert data.labels is not None
    outputs = integer_outputs(graph, data) if graph.integer else float_outputs(graph, data)
    return correct_percent(next(iter(outputs.values())), data.labels)


def proven(graph: Graph) -> None:
    for node in graph.nodes:
        bounds = node.op.accumulator(node.params, graph.input_types(node))
        if bounds is not None:
            assert max(np.abs(bounds[0]).max(), np.abs(bounds[1]).max()) <= INT32_MAX
        if node.op.keeps_quant:
            assert all(t.quant == node.type.quant for t in graph.input_types(node))


@settings(max_examples=25)
@given(graphs(6))
def test_any_graph_becomes_integer(graph: Graph) -> None:
    """Random networks at 8 bits are proven, run, and follow the reals (how near depends on the functions in them)."""
    data = Dataset(random_data(graph, 16))
    for target in (M7, M0):
        result = integers(graph, data, "int8", target)
        assert result.integer
        proven(result)
        found, expected = integer_outputs(result, data), float_outputs(graph, data)
        for name, value in found.items():
            assert np.all(np.isfinite(value)) and value.shape == expected[name].shape
    limit = [n for n in result.nodes if n.op.kind in ("Softmax", "Pointwise", "PRelu", "Mul")]
    if not limit and all(v.std() > 1e-3 for v in expected.values()):
        exact = integer_outputs(integers(graph, data, "int8", M7), data)
        assert all(snr_db(expected[n], exact[n]) > 12 for n in exact)


def test_more_bits_are_nearer() -> None:
    graph, data, unseen = trained()
    expected = float_outputs(graph, unseen)["probabilities"]
    found = [
        snr_db(
            expected,
            integer_outputs(integers(graph, data.first(256), f"uniform{{weights={b}}}"), unseen)["probabilities"],
        )
        for b in (2, 3, 4, 8)
    ]
    assert found == sorted(found) and found[-1] > 25


def test_accuracy_stays_on_digits() -> None:
    graph, data, unseen = trained()
    real = accuracy(graph, unseen)
    assert real > 93
    assert accuracy(integers(graph, data, "int8"), unseen) >= real - 0.4
    assert accuracy(integers(graph, data, "uniform{weights=4}"), unseen) >= real - 1.5
    assert accuracy(integers(graph, data, "int8", M0), unseen) >= real - 1.0
    assert accuracy(integers(graph, data, "uniform{weights=8,activations=16}", ALL), unseen) >= real - 0.2
    assert accuracy(integers(graph, data, "uniform{weights=8,activations=4}", ALL), unseen) >= real - 12


@pytest.mark.quick
def test_channel_means_are_corrected() -> None:
    """At 2 bits the pre-activation means of a layer would be far off without the correction."""
    net = Net(8, 8, 3, seed=2)
    graph = net.graph(net.conv("c", "x", 16, clamp=NO_CLAMP))
    x = np.abs(np.random.default_rng(0).standard_normal((64, 8, 8, 3))).astype(np.float32) + 1
    data = Dataset({"x": x})
    result = integers(graph, data, "uniform{weights=2}")
    expected, found = float_outputs(graph, data)["c"], integer_outputs(result, data)["c"]
    off = np.abs(expected.mean(axis=(0, 1, 2)) - found.mean(axis=(0, 1, 2)))
    quant = result.types["c"].quant
    assert quant is not None and off.max() < 0.25 * quant.scale


@pytest.mark.quick
def test_channels_without_weights_keep_their_bias() -> None:
    net = Net(5, 5, 3)
    graph = net.graph(net.conv("c", "x", 4, clamp=NO_CLAMP))
    weight, bias = graph.nodes[0].params["weight"].copy(), np.array([3.0, -2.0, 0.0, 0.1], np.float32)
    weight[0], weight[1], weight[2] = 0, 1e-12, 0
    graph = graph.with_nodes([replace(graph.nodes[0], params={"weight": weight, "bias": bias})])
    data = Dataset({"x": np.random.default_rng(0).standard_normal((8, 5, 5, 3)).astype(np.float32)})
    for target in (M7, M0):
        for bits in ("int8", "uniform{weights=2}", "uniform{weights=1}"):
            result = integers(graph, data, bits, target)
            quant = result.types["c"].quant
            assert quant is not None
            found = integer_outputs(result, data)["c"]
            if bits != "uniform{weights=1}":  # one bit has no zero
                np.testing.assert_allclose(found[..., :3].mean(axis=(0, 1, 2)), bias[:3], atol=quant.scale)


def test_mixed_widths_keep_to_their_ranges() -> None:
    graph, data, _ = trained()
    calibration = calibrate(graph, data, M7)
    even = parse_policy("int8").allocate(calibration, M7)
    rng = np.random.default_rng(0)
    weight_bits = {
        n: rng.choice([1, 2, 3, 4, 5, 6, 7, 8], len(b)).astype(np.uint8) for n, b in even.weight_bits.items()
    }
    result = quantise(graph, calibration, Allocation(weight_bits, even.activation_bits), M7)
    for name, bits in weight_bits.items():
        params = result.by_name[name].params
        np.testing.assert_array_equal(params["weight_bits"], bits)
        for row, width in zip(params["weight"].astype(int), bits.astype(int), strict=True):
            assert row.min() >= (-1 if width == 1 else -(2 ** (width - 1)))
            assert row.max() <= (1 if width == 1 else 2 ** (width - 1) - 1)
            assert width > 1 or np.all(row != 0)
    proven(result)


@pytest.mark.quick
def test_an_accumulator_that_does_not_fit_is_named() -> None:
    net = Net(1100)
    graph = net.graph(net.dense("wide", "x", 4))
    weight = np.full((4, 1100), 0.01, np.float32)
    weight[2] = 1.0
    graph = graph.with_nodes([replace(graph.nodes[0], params={"weight": weight, "bias": np.zeros(4, np.float32)})])
    data = Dataset({"x": np.random.default_rng(0).uniform(-1, 1, (16, 1100)).astype(np.float32)})
    assert integers(graph, data, "int8").integer
    with pytest.raises(
        OverflowBoundError, match=r"layer 'wide' \(Dense\): the accumulator of output channel \d may reach \d+"
    ) as error:
        integers(graph, data, "uniform{weights=8,activations=16}")
    assert "fewer activation bits" in str(error.value) and error.value.exit_code == 1
    assert integers(graph, data, "uniform{weights=4,activations=16}").integer


@pytest.mark.quick
def test_statistics_do_not_reach_the_integer_graph() -> None:
    graph = network()
    told = graph.with_nodes(
        replace(n, params={**n.params, "bn_mean": np.zeros(16), "bn_std": np.ones(16)}) if n.name == "c1" else n
        for n in graph.nodes
    )
    data = Dataset({"x": np.random.default_rng(0).random((8, 8, 8, 1)).astype(np.float32)})
    assert "bn_mean" not in integers(told, data, "int8").by_name["c1"].params


def test_same_input_same_bytes() -> None:
    graph, data, _ = trained()
    for bits in ("uniform{weights=3}", "fisher{average=3.5,group=channel}"):
        first, second = integers(graph, data, bits), integers(graph, data, bits)
        assert dump_graph(first) == dump_graph(second)


def test_float_and_integer_names_agree() -> None:
    """Every value of the float graph is in the integer graph, so that layers can be compared."""
    graph, data, _ = trained()
    result = integers(graph, data, "int8")
    assert list(result.types) == list(graph.types)
    seen: dict[str, Any] = {}
    part = data.first(8)
    simulate(result, quantise_inputs(result, part.inputs), watch=seen.__setitem__)
    real: dict[str, Any] = {}

    def record(name: str, value: Any) -> Any:
        real[name] = value.numpy()
        return value

    evaluate_batches(graph, part.inputs, hook=record)
    for name, codes in seen.items():
        quant = result.types[name].quant
        assert quant is not None
        if name != "probabilities":
            assert snr_db(real[name], quant.scale * (codes - quant.zero_point)) > 20


@pytest.mark.quick
@pytest.mark.parametrize("bits", ["int8", "uniform{weights=4}", "uniform{weights=2}", "uniform{weights=1}"])
def test_zeros_that_are_meant_stay_zero(bits: str) -> None:
    """Of a masked layer, at any width; one bit has no zero, so two are taken."""
    graph, data, _ = trained()
    rng = np.random.default_rng(0)
    nodes, masked = [], {}
    for node in graph.nodes:
        if "weight" in node.params:
            masked[node.name] = rng.random(node.params["weight"].shape) < 0.5
            weight = np.where(masked[node.name], 0, node.params["weight"]).astype(np.float32)
            node = replace(node, params=freeze({**node.params, "weight": weight}))
        nodes.append(node)
    graph = replace(graph, nodes=tuple(nodes))
    result = integers(graph, data, bits)
    for name, mask in masked.items():
        assert not result.by_name[name].params["weight"][mask].any()
        assert result.by_name[name].params["weight_bits"].min() >= 2
