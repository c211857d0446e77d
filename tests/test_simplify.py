"""Exact removal of channels: nothing that comes out of a network changes, intervals hold, and real networks shrink."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

import emulated as emulator
from cases import RELU, Case, Maker, all_cases
from dnnc.backends.c import emit, lower, simplification
from dnnc.cost.loader import load_target
from dnnc.driver import compile_with_report
from dnnc.errors import ModelError, UnsupportedError
from dnnc.fixed import INT32_MAX
from dnnc.frontend import read
from dnnc.ir.graph import Graph, freeze
from dnnc.ir.op import Op
from dnnc.ops.activation import Clamp
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.elementwise import Add, Mul
from dnnc.ops.movement import Concat, Constant, Pad, Reshape, Slice
from dnnc.ops.pointwise import Pointwise, PRelu
from dnnc.ops.pool import AvgPool2D, MaxPool2D, ReduceMean
from dnnc.passes.plan import plan
from dnnc.passes.simplify import Simplify, intervals, removed, simplify
from dnnc.quantise.bits import parse_policy
from dnnc.quantise.calibrate import calibrate
from dnnc.quantise.data import synthesise
from dnnc.quantise.integer import quantise
from dnnc.simulate import simulate
from dnnc.verify import random_codes
from host_program import Network, run_on_host
from random_graphs import graphs, quantise_simply, random_data, random_graph
from shared import model_path, needs_shared
from test_random_graphs import differing, mixed_widths

Array = NDArray[Any]

SMALLEST = Simplify()
#: What targets with 4-bit activations and kernels for four channels ask for.
FOURS = Simplify(channel_multiple=4, packed_multiple=8)


def extreme_codes(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Codes [N, *shape]: all at the lowest, the highest, the zero point; checkerboards, extremes at random, noise."""
    found = {}
    rng = np.random.default_rng([seed, 7])
    for source in graph.inputs:
        q, shape = source.type.quant, source.type.shape
        assert q is not None
        parity = np.indices(shape).sum(axis=0) % 2 if shape else np.zeros(shape, np.int64)
        flat = [np.full(shape, code) for code in (q.lo, q.hi, q.zero_point)]
        boards = [np.where(parity, q.lo, q.hi), np.where(parity, q.hi, q.lo), np.where(parity, q.zero_point, q.hi)]
        found[source.name] = np.concatenate(
            [np.stack([*flat, *boards]), rng.choice([q.lo, q.zero_point, q.hi], (4, *shape))]
        ).astype(np.int32)
    noise = random_codes(graph, 6, seed)
    return {name: np.concatenate([codes, noise[name]]) for name, codes in found.items()}


def check(graph: Graph, options: Simplify = SMALLEST) -> Graph:
    """The simplified graph, after all that must hold of it was found to."""
    codes = extreme_codes(graph)
    values: dict[str, Array] = {}
    expected = simulate(graph, codes, watch=values.__setitem__)
    for name, interval in intervals(graph).items():
        held = values[name].reshape(-1, values[name].shape[-1] if graph.types[name].shape else 1)
        assert (held >= interval.lo).all() and (held <= interval.hi).all(), name
    smaller = simplify(graph, options)
    found = simulate(smaller, codes)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    assert smaller.inputs == graph.inputs
    for before, after in zip(graph.outputs, smaller.outputs, strict=True):
        assert graph.types[before.value] == smaller.types[after.value]
    for node in smaller.nodes:
        bounds = node.op.accumulator(node.params, smaller.input_types(node))
        assert bounds is None or (bounds[0].min() >= -INT32_MAX - 1 and bounds[1].max() <= INT32_MAX), node.name
        assert 0 not in node.type.shape
    assert simplify(smaller, options) is smaller
    return smaller


def deadened(graph: Graph, seed: int) -> Graph:
    """A float graph some of whose channels are dead: rows and columns of zeros, negative sums under a Relu."""
    rng = np.random.default_rng([seed, 5])
    nodes = []
    for node in graph.nodes:
        if "weight" not in node.params:
            nodes.append(node)
            continue
        weight, bias = (np.array(node.params[name]) for name in ("weight", "bias"))
        rows, columns = rng.random(len(weight)) < 0.4, rng.random(weight.shape[-1]) < 0.3
        weight[..., columns] = 0
        op = node.op
        if rng.random() < 0.5:
            weight[rows] = 0
        else:
            bias[rows] = -10 * (np.abs(weight).max() + 1)
            op = replace(node.op, clamp=Clamp(0.0, None))  # type: ignore[call-arg]
        nodes.append(replace(node, op=op, params=freeze({"weight": weight, "bias": bias})))
    return graph.with_nodes(nodes).verify()


def saturated(graph: Graph, seed: int) -> Graph:
    """An integer graph some of whose biases are as large as their 32 bits allow, so that many outputs saturate."""
    rng = np.random.default_rng([seed, 6])
    nodes = []
    for node in graph.nodes:
        if "weight" in node.params:
            without = freeze({**node.params, "bias": np.zeros_like(node.params["bias"])})
            bounds = node.op.accumulator(without, graph.input_types(node))
            assert bounds is not None
            room = (INT32_MAX - np.maximum(bounds[1], -bounds[0])) >> int(node.params["left_shift"])
            sign = rng.choice([-1, 0, 0, 1], len(room))
            bias = np.where(sign == 0, node.params["bias"], sign * room).astype(np.int32)
            node = replace(node, params=freeze({**node.params, "bias": bias}))
        nodes.append(node)
    return graph.with_nodes(nodes).verify()


def dead_integers(graph: Graph, seed: int, bits: int = 8) -> Graph | None:
    """An integer graph with dead channels, mixed widths and saturated outputs; None where a bias is beyond 32 bits."""
    dead = deadened(graph, seed)
    try:
        integer = quantise_simply(dead, random_data(dead), bits, mixed_widths(dead, seed) if seed % 2 else 8)
    except ModelError:
        return None
    return saturated(integer, seed) if seed % 3 else integer


def dead_random_graphs(count: int, largest: int = 8) -> list[Graph]:
    found = [dead_integers(random_graph(seed, largest), seed) for seed in range(count)]
    assert found.count(None) < count // 4
    return [graph for graph in found if graph is not None]


@pytest.mark.parametrize("options", [SMALLEST, FOURS])
@given(graph=graphs(), seed=st.integers(0, 999))
def test_dead_channels_of_random_networks_change_nothing(options: Simplify, graph: Graph, seed: int) -> None:
    integer = dead_integers(graph, seed)
    assume(integer is not None)
    assert integer is not None
    check(integer, options)


@pytest.mark.parametrize("options", [SMALLEST, FOURS])
@given(graph=graphs(), bits=st.sampled_from([4, 16]))
def test_other_activation_widths_change_nothing(options: Simplify, graph: Graph, bits: int) -> None:
    if bits == 16 and any(node.op.kind == "Softmax" for node in graph.nodes):
        return  # Softmax takes at most 8 bits
    integer = dead_integers(graph, 3 * bits, bits)
    assume(integer is not None)
    assert integer is not None
    check(integer, options)


def test_long_random_networks_change_nothing_and_shrink() -> None:
    shrunk = 0
    for graph in dead_random_graphs(60, largest=16):
        shrunk += removed(graph, check(graph)) is not None
    assert shrunk > 10


@pytest.mark.quick
@pytest.mark.parametrize("case", [case for case in all_cases() if not case.name.startswith("packed")], ids=str)
def test_cases_change_nothing(case: Case) -> None:
    graph = case.graph()
    if not any(value.packed for value in graph.types.values()):
        check(graph)


def kill(make: Maker, name: str, channels: list[int], lift: int = 0) -> None:
    """Make output channels of a linear node hold the zero point, whatever they read, and clamp all that much above."""
    index = next(i for i, node in enumerate(make.nodes) if node.name == name)
    node = make.nodes[index]
    multiplier, quant = np.array(node.params["multiplier"]), node.type.quant
    assert quant is not None
    multiplier[channels] = 0
    clamp = np.array([quant.zero_point + lift if lift else quant.lo, quant.hi], np.int32)
    make.nodes[index] = replace(node, params=freeze({**node.params, "multiplier": multiplier, "clamp": clamp}))


def unread(make: Maker, name: str, channels: list[int]) -> None:
    """Make a linear node read nothing of some input channels."""
    index = next(i for i, node in enumerate(make.nodes) if node.name == name)
    weight = np.array(make.nodes[index].params["weight"])
    weight[..., channels] = 0
    params = freeze({**make.nodes[index].params, "weight": weight})
    make.nodes[index] = replace(make.nodes[index], params=params)


def shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    return {node.name: node.type.shape for node in graph.nodes}


def separable(make: Maker) -> str:
    """A 1x1 convolution, a padded depthwise one, a 1x1 one: channels 1, 2 and 5 of 8 are dead."""
    x = make.linear(Conv2D(), make.input(6, 5, 3), (8, 1, 1, 3), 8)
    kill(make, x, [1, 2, 5])
    x = make.linear(Conv2D(padding=(1, 1, 1, 1), groups=8), x, (8, 3, 3, 1), 8)
    return make.linear(Conv2D(), x, (4, 1, 1, 8), 8)


@pytest.mark.quick
def test_a_dead_channel_goes_through_a_depthwise_layer() -> None:
    make = Maker("dead_depthwise")
    graph = make.graph(separable(make))
    smaller = check(graph)
    assert [n.type.shape[-1] for n in smaller.nodes] == [5, 5, 4]
    depthwise = smaller.nodes[1].op
    assert isinstance(depthwise, Conv2D) and depthwise.groups == 5


@pytest.mark.quick
def test_counts_stay_multiples_where_enough_channels_are_there() -> None:
    make = Maker("dead_depthwise")
    graph = make.graph(separable(make))
    assert [n.type.shape[-1] for n in check(graph, Simplify(channel_multiple=3)).nodes] == [6, 6, 4]
    assert check(graph, Simplify(channel_multiple=4)) is graph


@pytest.mark.quick
def test_padding_keeps_constants_that_it_does_not_hold() -> None:
    """A constant that differs from the zero point shows at the border of a padded convolution."""

    def build(make: Maker, padding: int) -> Graph:
        x = make.linear(Conv2D(), make.input(6, 5, 3), (4, 1, 1, 3), 8)
        kill(make, x, [2], lift=1)
        return make.graph(make.linear(Conv2D(padding=(padding,) * 4), x, (3, 3, 3, 4), 8))

    assert check(build(Maker("a_constant"), 1)).nodes[0].type.shape[-1] == 4
    assert check(build(Maker("a_constant"), 0)).nodes[0].type.shape[-1] == 3


@pytest.mark.quick
def test_what_nobody_reads_goes_through_every_channelwise_operation() -> None:
    make = Maker("unread")
    x = make.linear(Conv2D(), make.input(6, 6, 3), (8, 3, 3, 3), 8)
    y = make.linear(Conv2D(), make.input(4, 4, 2), (8, 1, 1, 2), 8)
    z = make.add(Add(), [x, y])
    z = make.add(Pointwise("tanh"), [z])
    z = make.add(PRelu(), [z], {"slope": np.linspace(0.1, 0.8, 8)})
    z = make.add(MaxPool2D((2, 2), (1, 1), (1, 1, 0, 0)), [z])
    z = make.add(AvgPool2D((2, 2), (2, 2)), [z])
    gate = make.add(ReduceMean((0, 1), True), [z])
    z = make.add(Mul(), [z, gate])
    z = make.add(Pad((1, 0, 0), (0, 1, 0), 0.25), [z])
    z = make.add(Concat(2), [z, z])
    z = make.add(Slice((0, 0, 4), (3, 3, 14), (1, 1, 1)), [z])
    z = make.add(Reshape((90,)), [z])
    last = make.linear(Dense(), z, (5, 90), 8)
    # Channel 2 of the eight stands at 6 of the slice (and was cut off before it), channel 6 at 2.
    unread(make, last, [10 * p + c for p in range(9) for c in (2, 6)])
    graph = make.graph(last)
    smaller = check(graph)
    assert {shape[-1] for shape in list(shapes(smaller).values())[:8]} == {6}
    assert smaller.nodes[-1].params["weight"].shape == (5, 72)


@pytest.mark.quick
def test_a_reader_of_everything_keeps_everything() -> None:
    make = Maker("residual")
    x = make.linear(Conv2D(), make.input(4, 4, 3), (8, 1, 1, 3), 8)
    y = make.linear(Conv2D(), x, (8, 1, 1, 8), 8)
    unread(make, y, [0, 3])
    graph = make.graph(make.add(Add(), [x, y]))
    assert check(graph) is graph


@pytest.mark.quick
def test_groups_go_as_a_whole() -> None:
    make = Maker("groups")
    x = make.linear(Conv2D(groups=3), make.input(4, 4, 6), (9, 3, 3, 2), 8)
    y = make.linear(Conv2D(), x, (4, 1, 1, 9), 8)
    unread(make, y, [3, 4, 5, 8])
    x2 = make.linear(Conv2D(), x, (9, 1, 1, 9), 8)
    unread(make, x2, [3, 4, 5])
    smaller = check(make.graph(y, x2))
    # The input of the graph keeps its shape, and with it the groups that read it.
    assert smaller.nodes[0].type.shape == (2, 2, 9)

    make = Maker("inner_groups")
    x = make.linear(Conv2D(), make.input(4, 4, 2), (6, 1, 1, 2), 8)
    x = make.linear(Conv2D(groups=3), x, (9, 3, 3, 2), 8)
    y = make.linear(Conv2D(), x, (4, 1, 1, 9), 8)
    unread(make, y, [3, 4, 5, 8])
    smaller = check(make.graph(y))
    assert [n.type.shape[-1] for n in smaller.nodes] == [4, 6, 4]


@pytest.mark.quick
def test_one_bit_weights_are_never_zero() -> None:
    """A constant output of one-bit weights keeps what it reads; wider ones do without."""

    def channels(bits: int) -> int:
        make = Maker(f"constant_of_{bits}")
        x = make.linear(Conv2D(), make.input(4, 4, 3), (8, 1, 1, 3), 8)
        y = make.linear(Conv2D(clamp=RELU), x, (3, 1, 1, 8), bits)
        node = make.nodes[1]
        bias, weight = np.array(node.params["bias"]), np.array(node.params["weight"])
        bias[0] = -(2**20)
        if bits > 1:
            weight[1:, ..., 4:] = 0
        make.nodes[1] = replace(node, params=freeze({**node.params, "bias": bias, "weight": weight}))
        return check(make.graph(y)).nodes[0].type.shape[-1]

    assert channels(1) == 8
    assert channels(8) == 4


@pytest.mark.quick
def test_a_network_of_constants_becomes_one() -> None:
    make = Maker("all_constant")
    x = make.linear(Conv2D(clamp=RELU), make.input(4, 4, 3), (4, 1, 1, 3), 8)
    kill(make, x, [0, 1, 2, 3])
    x = make.linear(Conv2D(padding=(1, 1, 1, 1)), x, (4, 3, 3, 4), 8)
    x = make.add(ReduceMean((0, 1)), [x])
    smaller = check(make.graph(make.linear(Dense(), x, (5, 4), 8)))
    assert [type(node.op) for node in smaller.nodes] == [Constant]
    assert smaller.nodes[0].name == make.nodes[-1].name


@pytest.mark.quick
@pytest.mark.parametrize("op", [Add(), Mul()])
def test_a_dead_branch_leaves_one_position_of_constants(op: Op) -> None:
    make = Maker("dead_branch")
    x = make.linear(Conv2D(), make.input(6, 5, 3), (4, 1, 1, 3), 8)
    y = make.linear(Conv2D(), x, (4, 1, 1, 4), 8)
    kill(make, y, [0, 1, 2, 3], lift=5)
    smaller = check(make.graph(make.add(op, [x, y])))
    assert [(type(node.op), node.type.shape) for node in smaller.nodes] == [
        (Conv2D, (6, 5, 4)),
        (Constant, (1, 1, 4)),
        (type(op), (6, 5, 4)),
    ]


@pytest.mark.quick
def test_what_is_empty_leaves_a_concatenation() -> None:
    make = Maker("empty_part")
    x = make.input(4, 4, 3)
    a, b = (make.linear(Conv2D(), x, (4, 1, 1, 3), 8) for _ in range(2))
    # Both parts have one quantisation: that of the first.
    at = next(i for i, node in enumerate(make.nodes) if node.name == b)
    make.nodes[at] = replace(make.nodes[at], type=make.types[a])
    make.types[b] = make.types[a]
    y = make.linear(Conv2D(), make.add(Concat(2), [a, b]), (3, 1, 1, 8), 8)
    unread(make, y, [4, 5, 6, 7])
    assert list(shapes(check(make.graph(y)))) == [a, y]


@pytest.mark.quick
def test_tables_that_change_nothing_go() -> None:
    """A Relu after a Relu of one quantisation; not one that still clips."""

    def length(clamp: Clamp) -> int:
        make = Maker("relu_twice")
        x = make.linear(Conv2D(clamp=clamp), make.input(4, 4, 3), (4, 1, 1, 3), 8)
        return len(check(make.graph(make.add(Pointwise("relu"), [x], quant=make.types[x].quant))).nodes)

    assert length(RELU) == 1
    assert length(Clamp(-0.5, None)) == 2


@pytest.mark.quick
def test_a_graph_without_anything_to_remove_is_left_alone() -> None:
    make = Maker("whole")
    x = make.linear(Conv2D(padding=(1, 1, 1, 1)), make.input(6, 5, 3), (8, 3, 3, 3), 8)
    graph = make.graph(make.linear(Conv2D(), x, (4, 1, 1, 8), 8))
    assert simplify(graph) is graph
    assert removed(graph, graph) is None


def dead_networks(count: int) -> list[tuple[Graph, Mapping[str, Array]]]:
    """Simplified networks that lost something and that a Cortex-M7 computes, with codes for their inputs."""
    found = []
    for seed, graph in enumerate(dead_random_graphs(count, largest=12)):
        smaller = simplify(graph)
        try:
            lower(smaller, load_target("cortex-m7"))
        except UnsupportedError:
            continue
        if removed(graph, smaller) is not None:
            found.append((smaller, extreme_codes(graph, seed)))
    assert len(found) > count // 6
    return found


@pytest.mark.slow
def test_c_of_simplified_networks_on_this_computer(tmp_path: Path) -> None:
    networks = [Network(graph, codes, spread=bool(i % 2)) for i, (graph, codes) in enumerate(dead_networks(120))]
    assert differing(networks, run_on_host(networks, "cortex-m7", tmp_path)) == []


@pytest.mark.slow
def test_c_of_simplified_networks_on_an_emulated_target() -> None:
    hardware = load_target("cortex-m7")
    networks = []
    for graph, codes in dead_networks(120)[::2]:
        program = lower(graph, hardware)
        files = emit(graph, program, plan(graph, program.scratch, program.overwrites), hardware)
        networks.append(emulator.Network(graph.name, files, graph, codes))
    found = emulator.emulate(networks, "cortex-m7")
    for network, execution in zip(networks, found, strict=True):
        for name, codes in simulate(network.graph, network.inputs).items():
            np.testing.assert_array_equal(execution.outputs[name], codes, err_msg=network.name)


def quantised_model(name: str) -> Graph:
    """A shared model at int8, calibrated on made-up data, before it is simplified."""
    hardware = load_target("cortex-m7")
    real = read(model_path(name))
    calibration = calibrate(real, synthesise(real, 16), hardware)
    allocation = parse_policy("int8").allocate(calibration, hardware, None)
    return quantise(real, calibration, allocation, hardware)


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize("name", ["kws_dscnn", "resnet8_cifar10", "ad_autoencoder_fused", "lenet5", "strww_streaming"])
def test_real_networks_without_dead_channels_stay_as_they_are(name: str) -> None:
    graph = quantised_model(name)
    assert removed(graph, check(graph, FOURS)) is None


@needs_shared
@pytest.mark.slow
def test_half_of_visual_wake_words_is_dead() -> None:
    graph = quantised_model("vww_mobilenetv1_025")
    found = removed(graph, check(graph, FOURS))
    assert found is not None and found.macs_before == 7_489_664
    assert found.macs_after < 3_900_000
    exact = removed(graph, check(graph))
    assert exact is not None and exact.macs_after <= found.macs_after


@needs_shared
@pytest.mark.slow
def test_the_driver_simplifies_and_says_so() -> None:
    artefact, report = compile_with_report(model_path("vww_mobilenetv1_025"))
    assert report.simplified is not None and report.macs == report.simplified.macs_after < 3_900_000
    assert all(layer.sqnr_db is not None for layer in report.layers if layer.macs)
    again = simplify(artefact.integer_graph, simplification(load_target("cortex-m7")))
    assert again is artefact.integer_graph
