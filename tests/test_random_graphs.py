"""Random small networks through every execution."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from numpy.typing import NDArray

import emulated as emulator
from cases import stored_bytes
from dnnc import ops
from dnnc.backends.c import emit, lower
from dnnc.backends.c.banded import rows_are_words, takes_packed
from dnnc.cost.loader import load_target
from dnnc.errors import UnsupportedError
from dnnc.evaluate import evaluate
from dnnc.fixed import WEIGHT_BITS
from dnnc.ir.graph import Graph
from dnnc.ops.softmax import Softmax
from dnnc.passes.pack import pack_activations
from dnnc.passes.plan import plan
from dnnc.simulate import quantise_inputs, simulate
from host_program import Network, run_on_host
from random_graphs import graphs, quantise_simply, random_data, random_graph
from test_plan import check as check_plan
from tolerance import check_graph

Array = NDArray[Any]


def simulated(integer: Graph, data: Mapping[str, Array]) -> dict[str, Array]:
    """The codes of every value."""
    values: dict[str, Array] = {}
    simulate(integer, quantise_inputs(integer, data), watch=values.__setitem__)
    return values


@pytest.mark.parametrize("bits", [8, 4, 16])
@given(graph=graphs())
def test_every_node_is_as_near_to_its_reals_as_its_scales_allow(bits: int, graph: Graph) -> None:
    if bits == 16 and any(isinstance(node.op, Softmax) for node in graph.nodes):
        return  # Softmax takes at most 8 bits
    data = random_data(graph)
    integer = quantise_simply(graph, data, bits)
    check_graph(graph, integer, simulated(integer, data))


@pytest.mark.quick
@given(graph=graphs())
def test_accumulators_stay_within_their_proof(graph: Graph) -> None:
    """Inputs at random extremes, far from calibration: no bound is ever passed, and codes stay in range."""
    integer = quantise_simply(graph, random_data(graph), 8)
    rng = np.random.default_rng(1)
    extremes = {i.name: rng.choice([-128, 127], (3, *i.type.shape)) for i in integer.inputs}
    values: dict[str, Array] = {}
    simulate(integer, extremes, watch=values.__setitem__)
    check_graph(graph, integer, values)


@pytest.mark.quick
def test_random_networks_reach_every_operation() -> None:
    assert {type(node.op) for seed in range(NETWORKS) for node in random_graph(seed).nodes} == set(ops.ALL)


NETWORKS = 60


def mixed_widths(graph: Graph, seed: int) -> dict[str, Sequence[int]]:
    """Weight bits by node: one width a layer, and in every third network one a channel."""
    rng = np.random.default_rng([seed, 3])
    outputs = {node.name: len(node.params["weight"]) for node in graph.nodes if "weight" in node.params}
    if seed % 3 == 0:
        return {name: rng.choice(WEIGHT_BITS, count).tolist() for name, count in outputs.items()}
    return {name: [WEIGHT_BITS[(seed + i) % 8]] * count for i, (name, count) in enumerate(outputs.items())}


def random_networks(target: str, bits: int = 8) -> list[Network]:
    """Integer graphs with input codes over the whole range, as many of NETWORKS as the target can compute.

    What can be packed is.
    """
    made = []
    for seed in range(NETWORKS):
        graph = random_graph(seed)
        if bits == 16 and any(isinstance(node.op, Softmax) for node in graph.nodes):
            continue
        integer = quantise_simply(graph, random_data(graph), bits, mixed_widths(graph, seed))
        integer = pack_activations(integer, takes_packed, rows_are_words, stored_bytes)
        try:
            lower(integer, load_target(target))
        except UnsupportedError:
            continue
        rng = np.random.default_rng([seed, 4])
        shapes = {i.name: (3, *i.type.shape) for i in integer.inputs}
        codes = {k: rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), v).astype(np.int32) for k, v in shapes.items()}
        made.append(Network(integer, codes, spread=bool(seed % 2)))
    assert len(made) > NETWORKS // 3, f"{target} computes only {len(made)} of {NETWORKS} random networks"
    return made


def differing(networks: Sequence[Network], outputs: Iterable[Mapping[str, Array]]) -> list[str]:
    """The networks whose outputs are not the simulator's."""
    return [
        network.graph.name
        for network, found in zip(networks, outputs, strict=True)
        for name, codes in simulate(network.graph, network.inputs).items()
        if not np.array_equal(found[name], codes)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("target", "bits"), [("cortex-m7", 8), ("cortex-m7", 4), ("host", 16)])
def test_c_on_this_computer_computes_what_the_simulator_does(target: str, bits: int, tmp_path: Path) -> None:
    networks = random_networks(target, bits)
    assert differing(networks, run_on_host(networks, target, tmp_path)) == []


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cortex-m7", "rv32imc"])
def test_c_on_an_emulated_target_computes_what_the_simulator_does(target: str) -> None:
    hardware = load_target(target)
    networks = random_networks(target)[::2]
    emulated = []
    for network in networks:
        graph = network.graph
        program = lower(graph, hardware)
        files = emit(graph, program, plan(graph, program.scratch, program.overwrites), hardware)
        emulated.append(emulator.Network(graph.name, files, graph, network.inputs))
    assert differing(networks, (found.outputs for found in emulator.emulate(emulated, target))) == []


@given(graph=graphs())
def test_real_programs_are_planned_soundly(graph: Graph) -> None:
    """Plans with the scratch and the permissions of the C back end, checked by the arena that knows its writers."""
    integer = quantise_simply(graph, random_data(graph))
    try:
        program = lower(integer, load_target("cortex-m7"))
    except UnsupportedError:
        return
    result = plan(integer, program.scratch, program.overwrites)
    check_plan(integer, result, program.scratch, program.overwrites)


@pytest.mark.quick
@given(graph=graphs(largest=4))
def test_evaluate_is_differentiable_and_batched(graph: Graph) -> None:
    """Sample by sample gives what the batch gives."""
    data = {k: torch.tensor(v) for k, v in random_data(graph).items()}
    together = evaluate(graph, data)
    for i in range(2):
        alone = evaluate(graph, {k: v[i : i + 1] for k, v in data.items()})
        for name, y in alone.items():
            torch.testing.assert_close(y[0], together[name][i], rtol=1e-4, atol=1e-4)
