"""The cost models against what simulators, compilers, RTL and silicon say: the claims of the validation table."""

from __future__ import annotations

import csv
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

import cost_anchors as anchors
from dnnc.cost import energy
from shared import MODELS

pytestmark = pytest.mark.quick


def test_systolic_closed_forms_equal_scale_sim() -> None:
    points = anchors.systolic_points()
    assert len(points) == 120
    assert [p.name for p in points if p.ours != p.theirs] == []


def test_bit_serial_cycles_equal_the_rtl() -> None:
    points = anchors.bit_serial_points()
    assert len(points) == 6
    assert [p.name for p in points if p.ours != p.theirs] == []


def test_ethos_u55_cycles_are_near_velas() -> None:
    for point in anchors.ethos_npu_points():
        assert abs(point.error) < 0.06, point
    for point in anchors.ethos_points():
        assert abs(point.error) < 0.10, point


def test_ethos_u55_sizes_rank_as_velas() -> None:
    found = {point.name: point for point in anchors.ethos_points()}
    for network in anchors.NETWORKS:
        sizes = [found[f"{network} u55-{macs}"] for macs in anchors.ETHOS_SIZES]
        for smaller, larger in pairwise(sizes):
            assert smaller.ours >= larger.ours
            # Where flash is the bound, as in the autoencoder, all sizes are alike.
            assert smaller.theirs < 1.05 * larger.theirs or smaller.ours > larger.ours


@pytest.mark.skipif(shutil.which("vela") is None, reason="needs ethos-u-vela on the search path")
@pytest.mark.parametrize(("network", "file"), [("resnet8", "resnet8_cifar10_int8"), ("kws", "kws_dscnn_int8")])
def test_vela_itself_still_says_so(network: str, file: str, tmp_path: Path) -> None:
    model = MODELS / f"{file}.tflite"
    if not model.is_file():
        pytest.skip(f"needs shared/models/{file}.tflite")
    point = next(p for p in anchors.ethos_points() if p.name == f"{network} u55-128")
    command = ["vela", str(model), "--accelerator-config", "ethos-u55-128", "--output-dir", str(tmp_path)]
    options = ["--system-config", "Ethos_U55_High_End_Embedded", "--memory-mode", "Shared_Sram"]
    subprocess.run([*command, *options], check=True, capture_output=True, timeout=120)
    (summary,) = tmp_path.glob("*summary*.csv")
    with summary.open() as file_:
        total = float(next(csv.DictReader(file_))["cycles_total"])
    # Its Softmax is left out of ours.
    assert abs(point.ours / total - 1) < 0.10


def test_silicon_is_predicted_from_three_networks() -> None:
    points = anchors.silicon_points()
    assert len(points) == 4 * 48
    assert anchors.median_error(points) < 0.10
    # What the median hides is part of the claim: convolutions of CMSIS-NN's stacks vary most.
    assert max(abs(p.error) for p in points) < 0.60


@pytest.mark.parametrize(("what", "theirs", "ours"), anchors.HOROWITZ)
def test_energy_is_horowitz(what: str, theirs: float, ours: float) -> None:
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_energy_between_the_points() -> None:
    assert energy.multiply_pj(4, 4) == pytest.approx(0.052, rel=0.01)  # QKeras' qtools
    assert energy.multiply_pj(2, 8) < energy.multiply_pj(4, 8) < energy.multiply_pj(8, 8)
    assert energy.multiply_pj(2, 8) == energy.multiply_pj(8, 2)
    sizes = [1 << k for k in range(8, 24)]
    pj = [energy.sram_pj_per_bit(size) for size in sizes]
    assert pj == sorted(pj) and pj[0] == energy.sram_pj_per_bit(8192)
