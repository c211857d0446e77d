"""Costs of kernels foreseen from their loops: complete, and near to what the emulated core counts."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cases import Case, Maker, all_cases, case_graph
from dnnc.backends.c import lower
from dnnc.backends.c.foresee import program_calls
from dnnc.cost.kernels.axis import starts, taps_inside, windows_of_taps
from dnnc.cost.kernels.call import KernelCall, symbol_of
from dnnc.cost.kernels.loops import counts
from dnnc.cost.kernels.table import FILE_NAME, load_costs
from dnnc.cost.loader import list_targets, load_target
from dnnc.errors import DnncError, TargetError
from dnnc.ops.conv import Conv2D

CALIBRATED = tuple(name for name in list_targets() if (load_target(name).folder / FILE_NAME).is_file())


@pytest.mark.quick
def test_the_cores_that_programs_are_measured_on_are_calibrated() -> None:
    assert {"cortex-m7", "cortex-m4", "cortex-m33", "cortex-m0plus", "rv32imc"} <= set(CALIBRATED)


@pytest.mark.slow
@pytest.mark.parametrize("target", CALIBRATED)
def test_every_kernel_of_the_cases_has_costs(target: str) -> None:
    hardware = load_target(target)
    costs = load_costs(*hardware.folders)
    missing = set()
    for case in all_cases():
        try:
            graph = case_graph(case, target)
            program = lower(graph, hardware)
        except (DnncError, ValueError):  # what the target cannot do
            continue
        if any(kind.quant and kind.quant.bits not in (*hardware.activation_bits, 2) for kind in graph.types.values()):
            continue
        for calls in program_calls(graph, program).values():
            for call in calls:
                found = counts(call)
                missing |= {key for key in found if key not in costs.costs}
                taken = costs.of(call)
                assert taken.instructions > 0, call.kernel
                assert taken.cycles > 0, call.kernel
    assert not missing


@pytest.mark.quick
def test_a_symbol_comes_apart() -> None:
    found = symbol_of("dnnc_s8s16_conv_w4_1x4_shift__generic")
    assert (found.elements, found.op, found.bits) == (("s8", "s16"), "conv", 4)
    assert (found.variant, found.family, found.pixels) == ("1x4_shift", "generic", 1)
    assert found.frame == "dnnc_s8s16_conv_1x4_shift__generic"
    assert symbol_of("dnnc_s8_bitmap__generic").variant == ""
    with pytest.raises(DnncError, match="is not the name of a kernel"):
        symbol_of("memcpy")


@pytest.mark.quick
def test_positions_of_windows() -> None:
    # 3 taps, stride 2, one of padding, over 5: at -1, 1, 3.
    first = starts(3, 2, 1)
    assert first.tolist() == [-1, 1, 3]
    assert taps_inside(first, 3, 1, 5).tolist() == [2, 3, 2]
    assert windows_of_taps(3, 2, 1, 3, 1, 5).tolist() == [2, 3, 2]


@pytest.mark.quick
def test_a_convolution_counts_its_loops() -> None:
    """2x2 over 3x3 with 4 channels in and 6 out, by 8-bit sums: two steps of two pixels, two tiles each."""
    case = Case("counted_conv", lambda m: [_conv(m)])
    graph = case.graph()
    program = lower(graph, load_target("cortex-m7"))
    (call,) = program_calls(graph, program)[graph.nodes[0].name]
    assert call.kernel == "dnnc_s8_conv_w8_smlad_sums__armv7em"
    found = counts(call)
    assert found["smlad_conv", "step"] == 2
    assert found["smlad_w8_sums", "two"] == 2
    assert found["smlad_w8_sums", "two_tile"] == 4
    assert found["smlad_w8_sums", "two_k"] == 4 * 16
    assert found["smlad_conv", "whole_row"] == 2 * 2  # every window lies in the image


def _conv(make: Maker) -> str:
    x = make.input(3, 3, 4)
    weight = make.rng.integers(-100, 101, (6, 2, 2, 4))
    params = {
        "weight": weight,
        "weight_bits": np.full(6, 8, np.uint8),
        "weight_scale": np.full(6, 0.001),
        "bias": np.zeros(6),
    }
    return make.add(Conv2D(), [x], params)


@pytest.mark.quick
def test_an_unknown_kernel_is_named() -> None:
    costs = load_costs(load_target("cortex-m7").folder)
    with pytest.raises(DnncError, match="dnnc_s8_fft__generic"):
        costs.of(KernelCall("dnnc_s8_fft__generic", {}))
    without = replace(costs, costs={key: t for key, t in costs.costs.items() if key[0] != "dnnc_s8_fill__generic"})
    with pytest.raises(TargetError, match="tools/calibrate_cost cortex-m7"):
        without.of(KernelCall("dnnc_s8_fill__generic", {"size": 3}))


@pytest.mark.quick
def test_a_table_is_read_strictly(tmp_path: Path) -> None:
    source = load_target("cortex-m7").folder / FILE_NAME
    with pytest.raises(TargetError, match="is not there"):
        load_costs(tmp_path)
    shutil.copy(source, tmp_path / FILE_NAME)
    assert load_costs(tmp_path).dump() == source.read_bytes()
    tree = json.loads(source.read_bytes())
    for broken in ({**tree, "speed": 1}, {**tree, "outside": [1]}, {**tree, "layers": -3}, {**tree, "costs": {"a": 1}}):
        (tmp_path / FILE_NAME).write_text(json.dumps(broken))
        with pytest.raises(TargetError, match=FILE_NAME):
            load_costs(tmp_path)
    (tmp_path / FILE_NAME).write_text("{")
    with pytest.raises(TargetError, match="cannot be read"):
        load_costs(tmp_path)
