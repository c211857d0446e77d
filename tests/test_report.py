"""Reports: one set of figures, and everything that shows it."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from dnnc.passes.simplify import Removed
from dnnc.quantise.reasons import Reason
from dnnc.report.data import Accuracy, Layer, LayerCost, Measured, Report
from dnnc.report.files import report_files
from dnnc.report.machine import report_values
from dnnc.report.markdown import report_markdown
from dnnc.report.terminal import print_report
from dnnc.run.base import Flash, Ram
from golden import check_golden

pytestmark = pytest.mark.quick

LAYERS = (
    Layer(
        "conv1",
        "Conv2D",
        (16, 16, 8),
        55296,
        216,
        (8,) * 8,
        8,
        LayerCost("conv_w8", 224, 96),
        0.00123,
        41.27,
        98765,
        87654,
    ),
    Layer("a|b\nc", "Conv2D", (16, 16, 4), 8192, 32, (2, 3, 4, 5), 8, LayerCost("conv_w2", 20, 64), 1e-9, None, 4321),
    Layer("pool", "MaxPool2D", (8, 8, 4), 0, 0, (), 8, LayerCost("maxpool"), None, 30.0, None),
)
REPORT = Report(
    name="tiny",
    target="cortex-m7",
    target_description="Arm Cortex-M7",
    bits="fisher{average=4}",
    layers=LAYERS,
    arena_bytes=4096,
    arena_lower_bound_bytes=4000,
    flash_budget_bytes=1 << 20,
    ram_budget_bytes=1 << 18,
    accuracy=Accuracy(84.45, 84.2, 5000),
    measured=Measured(
        Flash(244, 160, 2500), Ram(4096, 0, 312), "gcc 12.2.1", 123456, 98000, "llvm-mca 19.1.7 cortex-m7"
    ),
    warnings=("no [red]calibration[/] data were given",),
)
PORT = {
    "name": "x",
    "model_name": "input.1",
    "shape": [32, 32, 3],
    "bits": 8,
    "scale": 0.0039215686,
    "zero_point": -128,
}
MANIFEST = {"inputs": [PORT], "outputs": [{**PORT, "name": "y", "model_name": "out", "shape": [10], "bits": 16}]}


def test_markdown() -> None:
    check_golden("report.md", report_markdown(REPORT))


def test_markdown_without_a_toolchain() -> None:
    check_golden("report_unmeasured.md", report_markdown(replace(REPORT, measured=None, accuracy=None, warnings=())))


def test_reasons_stand_in_markdown_and_json() -> None:
    why = (Reason("conv1", 4.0, 0.00123, 0.0051, 108, -2048), Reason("a|b", 3.5, 1e-9, None, 12, None))
    text = report_markdown(replace(REPORT, reasons=why))
    assert "## Why these bits" in text and "## Why these bits" not in report_markdown(REPORT)
    assert "| conv1 | 4 | 0.00123 | 0.0051 | 108 | -2,048 |" in text
    assert "| a\\|b | 3.5 | 1e-09 | - | 12 | - |" in text
    values = report_values(replace(REPORT, reasons=why))["reasons"]
    assert values[0]["cycles_saved"] == -2048 and values[1]["narrower_loss"] is None


def test_terminal() -> None:
    stream = io.StringIO()
    print_report(REPORT, Console(file=stream, width=150))
    check_golden("report_terminal.txt", stream.getvalue())


def test_readme_of_an_artefact() -> None:
    files = report_files(
        REPORT, MANIFEST, ["c/tiny.c", "c/tiny.h", "c/tiny_weights.c", "c/tiny_selftest.c", "vectors.npz"]
    )
    check_golden("artefact_readme.md", files["README.md"].decode())
    assert json.loads(files["report.json"]) == report_values(REPORT)


def test_json() -> None:
    values = report_values(REPORT)
    assert values["flash_bytes"] == {"weights": 244, "tables": 160, "code": 2500, "total": 2904}
    assert values["ram_bytes"] == {"arena": 4096, "static": 0, "stack": 312, "total": 4408}
    assert (values["instructions_per_inference"], values["cycles_modelled"]) == (123456, 98000)
    assert values["cycle_model"] == "llvm-mca 19.1.7 cortex-m7"
    assert [layer["cycles_modelled"] for layer in values["layers"]] == [87654, None, None]
    assert [layer["weight_bits"] for layer in values["layers"]] == [8, [2, 3, 4, 5], None]
    assert values["accuracy"] == {"float": 84.45, "integer": 84.2, "samples": 5000}
    assert values["mean_weight_bits"] == pytest.approx((216 * 8 + 32 * 3.5) / 248)
    assert report_values(replace(REPORT, measured=None))["flash_bytes"] is None
    assert values["simplified"] is None


def test_what_was_simplified_is_said() -> None:
    report = replace(REPORT, simplified=Removed(7000, 3500, 2738, 1034))
    line = "| simplified, exactly | 7,000 to 3,500 multiply-accumulates, 2,738 to 1,034 channels |"
    assert line in report_markdown(report)
    assert report_values(report)["simplified"]["macs_after"] == 3500
