"""`dnnc estimate`: models and folders to costs on hardware, on the command line and as values."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from dnnc import cli
from dnnc.artefact import FLOAT_GRAPH, INTEGER_GRAPH, VECTORS, Artefact
from dnnc.cost.layer import layers_of
from dnnc.cost.loader import load_hardware
from dnnc.errors import ArtefactError, OptionError, TargetError
from dnnc.estimation import estimate, measured
from dnnc.ir.serial import dump_graph
from dnnc.report.comparison import bounds
from models import ModelBuilder, tiny_cnn, tiny_conv1d, tiny_mlp
from tiny import tiny_graph

ARRAYS = ("ethos-u55-128", "systolic-16x16", "bitserial-16x16")
quick = pytest.mark.quick


def dnnc(*arguments: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(a) for a in arguments])
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out, said.err


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(tiny_cnn(), path)
    return path


def compiled(folder: Path, instructions: int | None = 1000) -> Path:
    """An artefact for a board whose power is known, with a report as the compiler writes it."""
    layers = [
        {"name": n, "op": "Pointwise", "macs": 0, "weight_bytes": 0, "table_bytes": 256, "instructions": 400,
         "cycles_modelled": 500}
        for n in ("add_one", "negate")
    ]  # fmt: skip
    report = {
        "bits": "int8",
        "instructions_per_inference": instructions,
        "cycles_modelled": 1300,
        "cycle_model": "table",
        "flash_bytes": {"total": 900},
        "ram_bytes": {"total": 80},
        "layers": layers,
    }
    graph = dump_graph(tiny_graph())
    files = {"report.json": json.dumps(report).encode(), INTEGER_GRAPH: graph, FLOAT_GRAPH: graph, VECTORS: b""}
    Artefact.create("tiny", "stm32l4r5", files, {}).write(folder)
    return folder


@quick
@pytest.mark.parametrize("make", [tiny_cnn, tiny_mlp, tiny_conv1d])
def test_any_network_costs_something_everywhere(make: object) -> None:
    found = estimate(make(), targets=ARRAYS)  # type: ignore[operator]
    assert [one.hardware.name for one in found.targets] == list(ARRAYS)
    assert all(one.cost.cycles > 0 and one.cost.energy_uj for one in found.targets)
    assert not found.notes


@quick
def test_fewer_bits_are_faster_where_bits_are_serial_and_smaller_elsewhere() -> None:
    eight, four = (
        {one.hardware.name: one.cost for one in estimate(tiny_cnn(), targets=[*ARRAYS, "bitfusion"], bits=bits).targets}
        for bits in ("int8", "uniform{weights=4}")
    )
    linear = [
        [(a.cycles, b.cycles) for a, b in zip(eight[name].layers, four[name].layers, strict=True) if a.macs]
        for name in ("bitserial-16x16", "systolic-16x16", "bitfusion")
    ]
    assert all(a == 2 * b for a, b in linear[0])
    assert all(a == b for a, b in linear[1])
    assert all(a >= b for a, b in linear[2]) and sum(a for a, _ in linear[2]) > sum(b for _, b in linear[2])
    assert four["bitserial-16x16"].flash_bytes < eight["bitserial-16x16"].flash_bytes
    # A systolic int8 array stores what it computes with.
    assert four["systolic-16x16"].flash_bytes == eight["systolic-16x16"].flash_bytes


@quick
def test_narrow_operands_are_stored_as_the_hardware_has_them() -> None:
    wide, narrow = (one.cost for one in estimate(tiny_cnn(), targets=["eyeriss-like", "gap8"]).targets)
    assert wide.ram_bytes == 2 * narrow.ram_bytes
    linear = [(a, b) for a, b in zip(wide.layers, narrow.layers, strict=True) if a.macs]
    assert linear and all(a.traffic_bytes["sram"] == 2 * b.traffic_bytes["sram"] for a, b in linear)


@quick
def test_inputs_and_outputs_keep_eight_bits() -> None:
    network = estimate(tiny_cnn(), targets=["bismo"], bits="uniform{weights=8,activations=4}").targets[0].cost
    wide = estimate(tiny_cnn(), targets=["bismo"]).targets[0].cost
    ratios = [a.cycles / b.cycles for a, b in zip(wide.layers, network.layers, strict=True) if a.macs]
    assert ratios[0] == 1 and ratios[-1] in (1, 2) and 2 in ratios


@quick
def test_what_an_array_cannot_compute_is_left_out() -> None:
    found = estimate(tiny_cnn(), targets=["bitserial-8x8", "bismo"], bits="uniform{weights=8,activations=16}")
    assert [one.hardware.name for one in found.targets] == ["bismo"]
    assert found.notes == ("'bitserial-8x8': it computes with at most 8 bits, and a layer has an operand of 16",)
    with pytest.raises(TargetError, match="at most 8 bits"):
        estimate(tiny_cnn(), targets=["bitserial-8x8"], bits="uniform{weights=8,activations=16}")


@quick
def test_samples_decide_where_the_policy_asks_for_them() -> None:
    found = estimate(tiny_cnn(), targets=["bitserial-8x8"], bits="fisher{average=4}")
    assert found.bits == "fisher{average=4}"
    (one,) = found.targets
    eight = estimate(tiny_cnn(), targets=["bitserial-8x8"]).targets[0]
    assert one.cost.cycles < eight.cost.cycles


@quick
@pytest.mark.parametrize(
    ("bits", "told"),
    [
        ("uniform{weights=9}", "weights expects one of 1, 2, 3"),
        ("uniform{activations=12}", "activations expects one of"),
        ("uniform{wights=4}", "did you mean 'weights'"),
        ("int8{weights=4}", "'int8' has no options"),
        ("unifrom", "did you mean 'uniform'"),
        ("symog{weights=2}", "trains: compile with it"),
    ],
)
def test_wrong_bits(bits: str, told: str) -> None:
    with pytest.raises(OptionError, match=told):
        estimate(tiny_cnn(), targets=["gemmini"], bits=bits)


@quick
def test_the_document(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = dnnc("estimate", model, "--target", "gap8", "--target", "gemmini", "--json", capsys=capsys)
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert [one["target"] for one in told["targets"]] == ["gap8", "gemmini"]
    for one in told["targets"]:
        assert one["instructions"] is None and one["cycles"] == sum(layer["cycles"] for layer in one["layers"])
        assert one["flash_bytes"] == sum(layer["flash_bytes"] for layer in one["layers"])
        assert one["ram_bytes"] == max(layer["ram_bytes"] for layer in one["layers"])
        picojoules = sum(sum(layer["energy_pj"].values()) for layer in one["layers"])
        assert one["energy_uj"] == pytest.approx(picojoules * 1e-6)
        assert one["seconds"] == one["cycles"] / load_hardware(one["target"]).clock_hz


@quick
def test_tables(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = dnnc("estimate", model, "--target", "gap8", "--target", "bismo", capsys=capsys)
    assert code == 0 and "compute" in out and "a roofline" in out and "Conv2D" not in out
    code, out, _ = dnnc("estimate", model, "--target", "gap8", capsys=capsys)
    assert code == 0 and "Conv2D" in out
    assert dnnc("estimate", model, "--target", "gap8", "--quiet", capsys=capsys) == (0, "", "")


@quick
def test_a_folder_says_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = compiled(tmp_path / "built")
    code, out, err = dnnc("estimate", folder, "--json", capsys=capsys)
    assert (code, err) == (0, "")
    one, foreseen = json.loads(out)["targets"]
    assert foreseen["target"] == "stm32l4r5" and foreseen["note"].startswith("foreseen")
    assert (one["target"], one["instructions"], one["cycles"]) == ("stm32l4r5", 1000, 1300)
    assert (one["flash_bytes"], one["ram_bytes"]) == (900, 80)
    assert one["energy_uj"] == pytest.approx(1300 * 350e-6)
    assert [layer["name"] for layer in one["layers"]] == ["add_one", "negate"]
    found = measured(folder, ["gemmini", "stm32l4r5"])
    assert [t.hardware.name for t in found.targets] == ["stm32l4r5", "stm32l4r5", "gemmini"]
    assert [layer.name for layer in found.targets[2].cost.layers] == [w.name for w in layers_of(tiny_graph())]
    assert bounds(found.targets[0].cost) == "measured 100 %"


@quick
def test_a_folder_that_tells_nothing(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="has no measured figures"):
        measured(compiled(tmp_path / "built", None))
    with pytest.raises(ArtefactError):
        measured(tmp_path)


@quick
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target", "gap9"], "did you mean 'gap8'"),
        (["--target", "gap8", "--bits", "uniform{weight=4}"], "did you mean 'weights'"),
        (["--target", "gap8", "--plot", "roof.txt"], ".png, .svg or .pdf"),
        (["--target", "gap8", "--plot", "nowhere/roof.png"], "folder 'nowhere'"),
    ],
)
def test_wrong_options_are_one_sentence(
    options: list[str], said: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--plot" in options:
        pytest.importorskip("matplotlib")
    code, out, err = dnnc("estimate", model, *options, capsys=capsys)
    assert (code, out) == (2, "") and said in err and err.count("\n") == 1


@quick
def test_compiling_for_an_accelerator_is_refused_by_name(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = dnnc("compile", model, "--target", "ethos-u55-64", "-o", tmp_path / "b", capsys=capsys)
    assert (code, out) == (2, "") and "no programs for 'ethos-u55-64'" in err and err.count("\n") == 1


@quick
def test_a_plot_needs_matplotlib_and_says_so(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = dnnc("estimate", model, "--target", "gap8", "--plot", tmp_path / "r.png", capsys=capsys)
    assert code == 2 and "pip install matplotlib" in err


def test_a_roofline_is_drawn(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "roof.svg"
    code, _, _ = dnnc("estimate", model, "--target", "gap8", "--target", "bismo", "--plot", path, capsys=capsys)
    assert code == 0 and path.read_text().count("<svg") == 1


@quick
def test_a_microcontroller_is_foreseen(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = dnnc("estimate", model, "--target", "cortex-m7", "--json", capsys=capsys)
    (found,) = json.loads(out)["targets"]
    assert code == 0 and found["target"] == "cortex-m7"
    assert found["instructions"] > found["cycles"] > 0 and found["flash_bytes"] > 0 and found["ram_bytes"] > 0


@quick
def test_a_target_without_measured_kernels_is_left_out(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = dnnc("estimate", model, "--target", "host", capsys=capsys)
    assert code == 2 and "tools/calibrate_cost" in err
    code, out, _ = dnnc("estimate", model, "--target", "host", "--target", "gap8", capsys=capsys)
    assert code == 0 and "left out: 'host'" in out


def mobilenet_v2(path: Path) -> Path:
    """MobileNetV2 1.0 at 224 x 224 (Sandler et al., 2018, table 2) with random weights."""
    net = ModelBuilder()

    def layer(
        x: str, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, clip: bool = True
    ) -> str:
        options = {"strides": [stride] * 2, "pads": [kernel // 2] * 4, "group": groups}
        y = net.conv(x, inputs, outputs, (kernel, kernel), **options)
        return str(net.node("Clip", [y, net.constant(0.0), net.constant(6.0)])) if clip else y

    x, channels = layer(net.input("x", (1, 3, 224, 224)), 3, 32, 3, 2), 32
    for expand, outputs, repeats, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for index in range(repeats):
            hidden = channels * expand
            y = x if expand == 1 else layer(x, channels, hidden, 1)
            y = layer(y, hidden, hidden, 3, stride if index == 0 else 1, hidden)
            y = layer(y, hidden, outputs, 1, clip=False)
            x, channels = (str(net.node("Add", [x, y])) if index else y), outputs
    x = str(net.node("Flatten", [net.node("GlobalAveragePool", [layer(x, 320, 1280, 1)])]))
    onnx.save(net.model(net.gemm(x, 1280, 1000)), path)
    return path


def test_mobilenet_v2_takes_less_than_two_seconds_of_processor_time(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dnnc", "estimate", str(mobilenet_v2(tmp_path / "mobilenet_v2.onnx")), "--json"]
    for target in ARRAYS:
        command += ["--target", target]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
    told = json.loads(done.stdout)
    macs = sum(layer["macs"] for layer in told["targets"][0]["layers"])
    assert macs == pytest.approx(300.8e6, rel=0.01)  # the paper's 300 million
