"""The C of every case, compiled for this computer with sanitizers, computes what the simulator computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cases import all_cases, case_graph
from dnnc import ops
from dnnc.backends.c.lower import TABLE, lower
from dnnc.cost.loader import load_target
from dnnc.simulate import simulate
from host_program import Network, run_on_host

#: One target of each family of kernels and each way to requantise.
TARGETS = ("host", "cortex-m7", "cortex-m0plus")
CASES = all_cases()


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_c_equals_simulator(target: str, tmp_path: Path) -> None:
    """Each case twice: with poisoned gaps between all values, and as the planner shares the memory."""
    graphs = [case_graph(case, target) for case in CASES]
    inputs = [case.inputs(graph) for case, graph in zip(CASES, graphs, strict=True)]
    networks = [
        Network(graph, codes, spread, selection=case.selection(graph))
        for case, graph, codes in zip(CASES, graphs, inputs, strict=True)
        for spread in (True, False)
    ]
    outputs = run_on_host(networks, target, tmp_path)
    wrong = []
    for network, found in zip(networks, outputs, strict=True):
        expected = simulate(network.graph, network.inputs)
        for name, codes in expected.items():
            if not np.array_equal(found[name], codes):
                index = np.argwhere(found[name] != codes)[0]
                wrong.append(
                    f"{network.graph.name} ({'spread' if network.spread else 'planned'}) {name}{index.tolist()}: "
                    f"C {found[name][tuple(index)]}, simulator {codes[tuple(index)]}"
                )
    assert not wrong, "\n".join(wrong)


@pytest.mark.quick
def test_cases_reach_every_operation() -> None:
    used = {type(node.op) for case in CASES for node in case.graph().nodes}
    assert used == set(ops.ALL)


@pytest.mark.parametrize("target", TARGETS)
def test_cases_reach_every_kernel_row_and_width(target: str) -> None:
    """Every row of the families of these targets is chosen at every width that it is for."""
    hardware = load_target(target)
    chosen = set()
    for case in CASES:
        graph = case_graph(case, target)
        for instance in lower(graph, hardware, case.selection(graph)).kernels:
            chosen.add((instance.kernel, instance.bits))
    expected = {
        (kernel, bits)
        for kernel in TABLE
        if kernel.family == hardware.kernels[0] and (hardware.requantise == "shift" or not kernel.shifts)
        for bits in (kernel.widths or (0,))
    }
    if hardware.requantise == "shift":
        expected = {(kernel, bits) for kernel, bits in expected if kernel.shifts or not kernel.widths}
    missing = sorted((f"{k.op} {k.variant} {k.family}", bits) for k, bits in expected - chosen)
    assert not missing
