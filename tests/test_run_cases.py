"""Emulated target == simulator, over the whole list of cases, with every compiler that is there."""

from __future__ import annotations

import shutil
from functools import lru_cache

import numpy as np
import pytest

from cases import all_cases, build_case_artefact_files, case_graph
from dnnc.cost.loader import load_target
from dnnc.simulate import simulate
from emulated import EMULATED_TARGETS, Network, emulate

pytestmark = pytest.mark.slow

HAS_ARM_GCC = shutil.which("arm-none-eabi-gcc") is not None
#: The kernels for DSP cores come in both compilers' code; elsewhere one compiler suffices.
BUILDS = [
    (target, compiler)
    for target in EMULATED_TARGETS
    for compiler in (("gcc", "zig") if HAS_ARM_GCC and target == "cortex-m7" else ("auto",))
]


@lru_cache(maxsize=1)
def networks(target: str) -> tuple[Network, ...]:
    """Every case that the target's kernels reach: only `activation_bits` may exclude one."""
    found = []
    for case in all_cases():
        graph = case_graph(case, target)
        widths = {t.quant.bits for t in graph.types.values() if t.quant is not None}
        if all(width in load_target(target).activation_bits or width < 8 for width in widths):
            files = build_case_artefact_files(case, target)
            found.append(Network(case.name, files, graph, case.inputs(graph)))
    return tuple(found)


@pytest.mark.parametrize(("target", "compiler"), BUILDS)
def test_every_case_on_an_emulated_target(target: str, compiler: str) -> None:
    wrong: list[str] = []
    for one, found in zip(networks(target), emulate(networks(target), target, compiler=compiler), strict=True):
        expected = simulate(one.graph, one.inputs)
        if not all(np.array_equal(found.outputs[name], codes) for name, codes in expected.items()):
            wrong.append(one.name)
    assert not wrong, f"{len(wrong)} of {len(networks(target))} cases differ on {target}: {', '.join(wrong)}"
    assert len(networks(target)) > 0.6 * len(all_cases())
