"""TVM's kernels for other machines == simulator: the objects of the library, under an emulator of Linux programs.

What is tested is the machine code of every kernel of the exported library and how it takes its tensors; not the order
in which TVM's virtual machine calls them, which is the same on every machine, nor TVM's own runtime.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cases import all_cases
from dnnc.backends.tvm import missing
from dnnc.cost.loader import load_target
from dnnc.cost.target import Tvm
from dnnc.simulate import simulate

if TYPE_CHECKING:
    from dnnc.backends.tvm.machine import Machine

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

#: One of every kind of kernel, and networks of several.
CHOSEN = (
    "conv_w8", "conv_w4", "conv_w2", "depthwise_w3", "conv_mixed_groups", "conv_16_bit", "dense_w4", "dense_mixed",
    "mul_one", "pointwise_8_to_16_bit", "softmax_2x3x4", "maxpool_beyond_image", "avgpool_beyond_image", "mean_many",
    "pad_value", "residual_network", "two_inputs_two_outputs",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("target", ["aarch64", "aarch64-dotprod", "rv64"])
def test_kernels_for_other_machines_equal_the_simulator(target: str, tmp_path: Path) -> None:
    from tvm_objects import EMULATORS, Foreign, emulator_of, run_foreign

    if emulator_of(target) is None:
        pytest.skip(f"'{EMULATORS[target][0]}' is not installed: install the package qemu-user")
    cases = {case.name: case for case in all_cases()}
    networks = []
    for name in CHOSEN:
        graph = cases[name].graph()
        networks.append(Foreign(name, graph, cases[name].inputs(graph)))
    wrong = []
    for network, found in zip(networks, run_foreign(networks, target, tmp_path), strict=True):
        expected = simulate(network.graph, network.inputs)
        if not all(np.array_equal(found[output], codes) for output, codes in expected.items()):
            wrong.append(network.name)
    assert not wrong, f"TVM's kernels for {target} differ from the simulator: {', '.join(wrong)}"


def assembly(name: str, made_for: Machine) -> str:
    """Of a case's kernels."""
    import tvm

    from dnnc.backends.tvm.library import build, unchecked

    (case,) = (c for c in all_cases() if c.name == name)
    network = build(case.graph(), made_for)

    def of(module: Any) -> str:
        own = module.inspect_source("asm") if module.kind == "llvm" else ""
        return own + "".join(of(part) for part in module.imports)

    with unchecked():
        return of(tvm.compile(network.module, target=network.machine.target).mod)


@pytest.mark.parametrize("name", ["conv_w4", "depthwise_w3", "dense_w4"])
def test_dot_products_are_instructions_where_the_target_has_them(name: str) -> None:
    from dnnc.backends.tvm.machine import machine_of

    assert "\tsdot\t" in assembly(name, machine_of(load_target("aarch64-dotprod")))
    assert "\tsdot\t" not in assembly(name, machine_of(load_target("aarch64")))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="a core without a triple is one of this computer's kind")
@pytest.mark.parametrize("name", ["conv_w4", "depthwise_w3", "dense_w4", "conv_16_bit"])
def test_products_of_16_bits_are_instructions_of_avx2(name: str) -> None:
    from dnnc.backends.tvm.machine import machine

    assert "\tvpmaddwd\t" in assembly(name, machine(Tvm(cpu="haswell")))
