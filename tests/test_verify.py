"""Verification finds what differs, where, and only that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest

from dnnc.artefact import VECTORS, Artefact, Vectors
from dnnc.ir.graph import Graph
from dnnc.run import make_runner
from dnnc.run.base import Array, Execution
from dnnc.simulate import simulate
from dnnc.verify import STORED, Difference, random_codes, verify
from tiny import tiny_artefact, tiny_graph, tiny_inputs


def artefact(target: str = "cortex-m7", body: str = "") -> Artefact:
    made = tiny_artefact(target, body)
    inputs = tiny_inputs()
    vectors = Vectors(inputs, simulate(tiny_graph(), inputs))
    return Artefact.create("tiny", target, {**made.files, VECTORS: vectors.dump()}, {})


@dataclass(frozen=True)
class OtherRunner:
    """Runs another graph than the artefact's."""

    graph: Graph

    def run(self, inputs: Mapping[str, Array], trace: bool = False) -> Execution:
        layers: dict[str, Array] = {}
        outputs = simulate(self.graph, inputs, layers.__setitem__)
        return Execution(outputs, layers=layers if trace else {})


def changed(layer: str, code: int) -> Graph:
    """The tiny graph with another answer of one layer for one code."""
    graph = tiny_graph()
    table = graph.by_name[layer].params["table"].copy()
    table[code + 128] += 1
    return graph.with_nodes(replace(n, params={"table": table}) if n.name == layer else n for n in graph.nodes)


@pytest.mark.quick
def test_equal_executions() -> None:
    result = verify(artefact(), {"other": OtherRunner(tiny_graph())}, tiny_inputs(3))
    assert result.equal and result.difference is None
    assert result.executions == ("simulator", "other")
    assert (result.samples, result.values) == (8, 8 * 20)


@pytest.mark.quick
@pytest.mark.parametrize("layer", ["add_one", "negate"])
def test_the_first_layer_that_differs_is_named(layer: str) -> None:
    made = artefact()
    codes = made.vectors.inputs["x"]
    watched: dict[str, Array] = {}
    simulate(tiny_graph(), {"x": codes}, watched.__setitem__)
    source = watched["x" if layer == "add_one" else "add_one"]
    code = int(source[2, 1, 4])
    first = tuple(int(i) for i in np.argwhere(source == code)[0])
    result = verify(made, {"other": OtherRunner(changed(layer, code))})
    expected = int(watched[layer][first])
    kind = "Pointwise"
    assert result.difference == Difference("other", first[0], layer, kind, first[1:], expected, expected + 1)
    assert f"first in layer '{layer}' (Pointwise), sample {first[0]}" in str(result.difference)


@pytest.mark.quick
def test_stored_outputs_are_compared_too() -> None:
    made = artefact()
    outputs = {"z": made.vectors.outputs["z"].copy()}
    outputs["z"][3, 2, 1] ^= 1
    files = {**made.files, VECTORS: Vectors(made.vectors.inputs, outputs).dump()}
    result = verify(Artefact.create("tiny", "cortex-m7", files, {}), {"other": OtherRunner(tiny_graph())})
    assert result.difference is not None
    assert (result.difference.execution, result.difference.index) == (STORED, (2, 1))
    assert result.measured == {}


@pytest.mark.quick
def test_random_codes_reach_both_ends() -> None:
    codes = random_codes(tiny_graph(), 200)["x"]
    assert (codes.min(), codes.max(), codes.shape) == (-128, 127, (200, 4, 5))
    assert np.array_equal(codes, random_codes(tiny_graph(), 200)["x"])


def test_a_fault_in_the_c_is_found_on_the_emulator() -> None:
    runner = make_runner(artefact(), on="emulator")
    assert verify(artefact(), {"emulator": runner}).equal
    wrong = artefact(body="out->z[7] = (int8_t)(out->z[7] ^ 4);")
    result = verify(wrong, {"emulator": make_runner(wrong, on="emulator")})
    assert result.difference is not None
    assert (result.difference.layer, result.difference.index) == ("negate", (1, 2))
