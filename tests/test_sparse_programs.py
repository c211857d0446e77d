"""A pruned network, compiled with its layers in every format: bit-exact everywhere, and for size never above dense."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import digits
from dnnc import foresight
from dnnc.artefact import Artefact
from dnnc.backends.c import emit, lower
from dnnc.backends.c.optimise import GOALS, Cost, select
from dnnc.backends.c.program import Program
from dnnc.backends.c.table import IN_ORDER, Selection
from dnnc.cost.loader import load_target
from dnnc.driver import compile_with_report
from dnnc.frontend.onnx.export import to_onnx
from dnnc.ir.graph import Graph
from dnnc.ir.layout import to_model
from dnnc.ops.pool import ReduceMean
from dnnc.quantise.bytes import is_linear
from dnnc.run import make_runner, measure_flash
from dnnc.simulate import simulate
from dnnc.verify import verify
from emulated import Network as Emulated
from emulated import emulate
from host_program import Network, run_on_host
from test_sparse import wide_layer

M7 = load_target("cortex-m7")
FORMATS = ("dense", "delta", "bitmap", "straight")


def masked(graph: Graph, kept: float) -> Graph:
    """The largest weights of every layer; the others are 0."""
    nodes = []
    for node in graph.nodes:
        if is_linear(node):
            weight = np.asarray(node.params["weight"])
            least = np.quantile(np.abs(weight), 1 - kept)
            weight = np.where(np.abs(weight) >= least, weight, 0)
            node = replace(node, params={**node.params, "weight": weight})
        nodes.append(node)
    return graph.with_nodes(nodes).verify()


def small(kept: float) -> Graph:
    """A convolution and a classifier over the digits."""
    net = digits.Net(8, 8, 1)
    x = net.conv("c1", "x", 8, stride=(2, 2))
    x = net.add("mean", ReduceMean(axes=(0, 1)), [x])
    return masked(net.graph(net.dense("fc", x, 10)), kept)


@lru_cache
def compiled(kept: float, goal: str) -> Artefact:
    graph, images = small(kept), digits.images()[0][:64]
    data = to_model(images, graph.inputs[0].layout)
    artefact, _ = compile_with_report(to_onnx(graph), target="cortex-m7", data=data, optimise=goal)
    return artefact


@pytest.mark.slow
def test_every_mixture_of_formats_is_exact(tmp_path: Path) -> None:
    """On this computer, and on the emulated core."""
    graph = compiled(0.2, "balanced").integer_graph
    layers = [node.name for node in graph.nodes if is_linear(node)]
    vectors = compiled(0.2, "balanced").vectors
    networks, programs = [], []
    for number, mixture in enumerate(product(FORMATS, repeat=len(layers))):
        selection = IN_ORDER
        for layer, kind in zip(layers, mixture, strict=True):
            selection = selection.write(layer, kind)
        program = lower(graph, M7, selection)
        assert tuple(step.formats[0] for step in program.steps if step.formats) == mixture
        networks.append(Network(graph, vectors.inputs, False, selection=selection))
        named = replace(graph, name=f"mixture_{number}")
        files = emit(named, program, foresight.layout(named, program), M7)
        programs.append(Emulated(named.name, files, named, vectors.inputs))
    expected = simulate(graph, vectors.inputs)
    for found in (*run_on_host(networks, "cortex-m7", tmp_path), *(e.outputs for e in emulate(programs, "cortex-m7"))):
        assert all(np.array_equal(found[name], codes) for name, codes in expected.items())


@pytest.mark.slow
@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("kept", [0.05, 0.3])
def test_pruned_networks_are_verified_for_every_goal(goal: str, kept: float) -> None:
    artefact = compiled(kept, goal)
    assert verify(artefact, {on: make_runner(artefact, on=on) for on in ("host", "emulator")}).equal


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0.05, 0.3])
def test_for_size_no_program_is_larger_than_dense(kept: float) -> None:
    graph = compiled(kept, "balanced").integer_graph
    selection = IN_ORDER
    for node in graph.nodes:
        selection = selection.write(node.name, "dense") if is_linear(node) else selection
    program = lower(graph, M7, selection)
    files = emit(graph, program, foresight.layout(graph, program), M7)
    chosen, dense = compiled(kept, "size"), Artefact.create(graph.name, "cortex-m7", files, {})
    assert measure_flash(chosen, M7)[0].total <= measure_flash(dense, M7)[0].total


def forced(program: Program, name: str) -> bool:
    return all(step.formats[0] == name for step in program.steps if step.formats)


@pytest.mark.quick
@pytest.mark.parametrize("goal", ["size", "speed"])
def test_formats_are_changed_together(goal: str) -> None:
    """Where only the last layer of a format to go takes its kernel along."""
    graph = wide_layer(0.1, tiny=True)

    def measure(program: Program) -> Cost:
        return Cost(900, 900) if forced(program, "dense") else Cost(1000, 1000)

    def program_of(selection: Selection) -> Program:
        return lower(graph, M7, selection)

    assert not forced(program_of(IN_ORDER), "dense")
    assert forced(select(goal, program_of, measure), "dense")


@pytest.mark.quick
def test_for_size_speed_does_not_buy_more_than_dense() -> None:
    graph = wide_layer(0.1, tiny=True)

    def measure(program: Program) -> Cost:
        return Cost(1000, 100_000) if forced(program, "dense") else Cost(1001, 10)

    assert forced(select("size", lambda s: lower(graph, M7, s), measure), "dense")
    assert not forced(select("speed", lambda s: lower(graph, M7, s), measure), "dense")
