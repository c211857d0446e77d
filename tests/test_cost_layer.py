"""What cost models are told of a network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dnnc.cost.estimate import LayerCost, NetworkCost
from dnnc.cost.layer import KINDS, Gemm, layers_of
from dnnc.ir.graph import Graph, Input, Node, Output, make_node
from dnnc.ir.types import Layout, TensorType
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.elementwise import Add
from dnnc.ops.movement import Reshape
from dnnc.ops.pool import AvgPool2D

pytestmark = pytest.mark.quick


def network() -> Graph:
    """Conv, depthwise with stride 2, residual conv and Add, pooling, Dense."""
    rng = np.random.default_rng(0)
    source = Input("x", TensorType((8, 8, 3)), "x", Layout((1, 8, 8, 3), 0, (0, 1, 2)))
    types = {"x": source.type}
    nodes: list[Node] = []

    def put(name: str, op: object, inputs: tuple[str, ...], *weight: int) -> None:
        params = {"weight": rng.normal(size=weight), "bias": np.zeros(weight[0])} if weight else {}
        nodes.append(make_node(name, op, inputs, types, params))  # type: ignore[arg-type]
        types[name] = nodes[-1].type

    put("conv", Conv2D(padding=(1, 1, 1, 1)), ("x",), 4, 3, 3, 3)
    put("dw", Conv2D(stride=(2, 2), padding=(0, 0, 1, 1), groups=4), ("conv",), 4, 3, 3, 1)
    put("point", Conv2D(), ("dw",), 4, 1, 1, 4)
    put("sum", Add(), ("dw", "point"))
    put("pool", AvgPool2D((4, 4), (4, 4)), ("sum",))
    put("flat", Reshape((4,)), ("pool",))
    put("fc", Dense(), ("flat",), 10, 4)
    return Graph("net", (source,), tuple(nodes), (Output("fc", "y", Layout((1, 10), 0, (0,))),)).verify()


def test_layers_say_shapes_and_work() -> None:
    found = {work.name: work for work in layers_of(network())}
    assert list(found) == ["conv", "dw", "point", "sum", "pool", "fc"]
    assert [work.kind for work in found.values()] == ["conv", "depthwise", "conv", "add", "average-pool", "dense"]
    assert {work.kind for work in found.values()} <= set(KINDS)
    conv, dw, fc = found["conv"], found["dw"], found["fc"]
    assert conv.gemm == Gemm(64, 27, 4) and conv.macs == 64 * 27 * 4 == conv.output_elements * 27
    assert dw.groups == 4 and dw.gemm == Gemm(16, 9, 1) and dw.output == (4, 4, 4) and dw.stride == (2, 2)
    assert fc.inputs == ((1, 1, 4),) and fc.gemm == Gemm(1, 4, 10) and fc.output == (1, 1, 10)
    assert found["pool"].kernel == (4, 4) and found["sum"].inputs == ((4, 4, 4), (4, 4, 4))
    assert sum(work.macs for work in found.values()) == network().macs


def test_widths_are_those_given_else_eight() -> None:
    graph = network()
    plain = {work.name: work for work in layers_of(graph)}
    assert plain["conv"].channel_bits == ((8, 4),) and plain["sum"].channel_bits == ()
    assert plain["conv"].total_weight_bits == 8 * 108 and plain["conv"].activation_bits == 8
    mixed = {w.name: w for w in layers_of(graph, {"conv": np.array([2, 4, 2, 8])}, {"conv": 4, "x": 16})}
    conv = mixed["conv"]
    assert conv.channel_bits == ((8, 1), (4, 1), (2, 2)) and conv.weight_bits == 8
    assert conv.total_weight_bits == 27 * (8 + 4 + 2 + 2)
    assert conv.input_bits == (16,) and conv.output_bits == 4 and conv.total_output_bits == 4 * 256
    assert mixed["dw"].input_bits == (4,) and mixed["dw"].channel_bits == ((8, 4),)
    assert {w.weight_bits for w in layers_of(graph, 3, 4) if w.linear} == {3}


def test_zeros_and_kernels() -> None:
    graph = network()
    first = graph.nodes[0]
    weight = np.zeros_like(first.params["weight"])
    weight[0] = 1
    pruned = graph.with_nodes((replace(first, params={**first.params, "weight": weight}), *graph.nodes[1:]))
    found = layers_of(pruned, implementations={"conv": "a_kernel"})
    assert found[0].nonzero == 0.25 and found[1].nonzero == 1.0
    assert found[0].implementation == "a_kernel" and found[1].implementation is None


def test_live_bits_count_what_is_still_to_be_read() -> None:
    live = {work.name: work.live_bits for work in layers_of(network(), 8, 8)}
    image, quarter = 8 * 8 * 4, 4 * 4 * 4
    assert live["conv"] == 8 * (8 * 8 * 3 + image)
    assert live["point"] == 8 * (quarter + quarter)
    assert live["sum"] == 8 * 3 * quarter
    assert live["fc"] == 8 * (4 + 10)


def test_a_network_adds_up() -> None:
    one = LayerCost("a", "Conv2D", 100, 50, {"mac": 2e6, "dram": 1e6}, {"dram": 10}, 7, 30, macs=5)
    two = LayerCost("b", "Add", 20, 10, {"mac": 1e6}, {"sram": 3}, 1, 40, "sram")
    cost = NetworkCost((one, two), 1_000_000, "modelled", other_cycles=4, other_instructions=2, other_flash_bytes=5)
    assert cost.cycles == 124 and cost.instructions == 62 and cost.seconds == 124e-6
    assert cost.energy_uj == pytest.approx(4.0) and cost.energy_pj == {"mac": 3e6, "dram": 1e6}
    assert cost.traffic_bytes == {"dram": 10, "sram": 3}
    assert cost.flash_bytes == 13 and cost.ram_bytes == 40 and cost.macs == 5
    assert replace(cost, layers=(one, replace(two, instructions=None))).instructions is None
    assert NetworkCost((replace(one, energy_pj={}),), 1).energy_uj is None
