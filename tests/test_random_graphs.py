"""Random small networks through every execution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given

from dnnc.evaluate import evaluate
from dnnc.ir.graph import Graph
from dnnc.ops.softmax import Softmax
from dnnc.simulate import quantise_inputs, simulate
from random_graphs import graphs, quantise_simply, random_data
from tolerance import check_graph


def simulated(integer: Graph, data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The codes of every value."""
    values: dict[str, np.ndarray] = {}
    simulate(integer, quantise_inputs(integer, data), watch=values.__setitem__)
    return values


@pytest.mark.quick
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
    values: dict[str, np.ndarray] = {}
    simulate(integer, extremes, watch=values.__setitem__)
    check_graph(graph, integer, values)


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
