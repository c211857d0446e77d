"""The command line on small models, from a file to a verified program, and on what goes wrong on the way."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

import dnnc
from dnnc import cli, resources, samples
from dnnc.artefact import Artefact
from dnnc.run import make_runner
from dnnc.verify import verify
from models import tiny_cnn

SAMPLES = 24


def run(*arguments: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command in this process."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(a) for a in arguments])
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out, said.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny.onnx, labelled data, and the artefact `built`."""
    place = tmp_path_factory.mktemp("cli")
    onnx.save(tiny_cnn(), place / "tiny.onnx")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, 3, 8, 8)).astype(np.float32)
    np.savez(place / "data.npz", x=x, y=rng.integers(0, 5, SAMPLES))
    np.save(place / "x.npy", x[:3])
    dnnc.compile(place / "tiny.onnx", data=place / "data.npz").write(place / "built")
    return place


def test_as_written_in_the_readme(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").write_bytes((folder / "tiny.onnx").read_bytes())
    code, out, err = run("compile", "model.onnx", "--target", "cortex-m7", "--bits", "fisher", capsys=capsys)
    assert code == 0, err
    assert "no calibration data were given" in " ".join(out.split())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model-cortex-m7", "model.onnx"]
    artefact = Artefact.load("model-cortex-m7")
    assert artefact.name == "model"
    assert any("calibration data" in warning for warning in artefact.manifest["warnings"])
    code, out, err = run("verify", "model-cortex-m7", capsys=capsys)
    assert (code, err) == (0, "")
    assert out.startswith("equal: simulator, host, emulator agree on every bit")


def test_compile_json(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(
        "compile", folder / "tiny.onnx", "-o", tmp_path / "out", "--data", folder / "data.npz", "--json", capsys=capsys
    )
    assert (code, err) == (0, "")
    told = json.loads(out)
    for layer in told["layers"]:
        assert {"name", "op", "macs", "weight_bits", "activation_bits", "weight_bytes"} <= layer.keys()
    assert set(told["accuracy"]) == {"float", "integer", "samples"}
    assert told["accuracy"]["samples"] == SAMPLES // 2
    assert told["flash_bytes"]["total"] == sum(told["flash_bytes"][k] for k in ("weights", "tables", "code"))
    # The layers are counted in a program that also reports every step, which costs it a few instructions.
    layers = sum(layer["instructions"] for layer in told["layers"])
    assert layers == pytest.approx(told["instructions_per_inference"], rel=0.02)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["layers"] == told["layers"]
    assert json.loads((tmp_path / "out/report.json").read_text())["layers"] == told["layers"]
    assert {"c/tiny.c", "c/tiny.h", "model/float.npz", "model/integer.npz", "vectors.npz"} <= manifest["files"].keys()


def test_accuracy_with_few_and_with_many_samples(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with np.load(folder / "data.npz") as data:
        x, y = data["x"], data["y"]
    few = dnnc.compile(folder / "tiny.onnx", data=(x[:5], y[:5])).manifest
    assert few["accuracy"]["samples"] == 5
    assert any("too few samples" in warning for warning in few["warnings"])
    monkeypatch.setattr(samples, "HELD_OUT_SAMPLES", 7)
    many = dnnc.compile(folder / "tiny.onnx", data=(x, y)).manifest
    assert many["accuracy"]["samples"] == 7
    assert many["warnings"] == []


def test_the_same_input_gives_the_same_bytes(folder: Path) -> None:
    again = dnnc.compile(str(folder / "tiny.onnx"), data=folder / "data.npz")
    assert dict(again.files) == dict(Artefact.load(folder / "built").files)


def test_run(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for on in ("simulator", "host", "emulator"):
        place = tmp_path / f"{on}.npy"
        code, out, err = run(
            "run", folder / "built", "--input", folder / "x.npy", "--on", on, "--output", place, "--json", capsys=capsys
        )
        assert (code, err) == (0, "")
        told = json.loads(out)
        outputs.append(np.load(place))
        assert outputs[-1].shape == (3, 5) and outputs[-1].dtype == np.float32
        assert np.array_equal(outputs[-1], outputs[0])
        assert (told["cycles_modelled"] is None) == (told["cycle_model"] is None)
        assert told["cycles_modelled"] is None or on == "emulator"
        assert (told["instructions_per_inference"] is None) == (on != "emulator")
    assert set(told["flash_bytes"]) == {"weights", "tables", "code", "total"}
    assert set(told["ram_bytes"]) == {"arena", "static", "stack", "total"}
    assert told["ram_bytes"]["stack"] > 0 and told["compiler"]
    assert run("run", folder / "built", "--input", folder / "x.npy", "--on", "emulator", capsys=capsys)[0] == 0


def test_a_profile(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run("run", folder / "built", "--profile", "--json", capsys=capsys)
    assert (code, err) == (0, "")
    told = json.loads(out)
    profile = told["profile"]
    for what, key in (("instructions", "instructions_per_inference"), ("cycles_modelled", "cycles_modelled")):
        total = told[key]
        assert profile["total"][what] == total
        if total is not None:
            cells = [cost for layer in profile["layers"] for cost in layer["works"].values()]
            for costs in (cells, profile["layers"], profile["works"].values(), profile["blocks"]):
                assert sum(cost[what] for cost in costs) == total
    code, out, err = run("run", folder / "built", "--profile", capsys=capsys)
    assert (code, err) == (0, "") and "widening" in out and "entry and exit" in out
    code, _, err = run("run", folder / "built", "--profile", "--on", "host", capsys=capsys)
    assert code == 2 and "--on emulator" in err
    code, _, err = run("run", folder / "built", capsys=capsys)
    assert code == 2 and "--input" in err


def test_a_target_without_an_emulator(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(
        "compile", folder / "tiny.onnx", "--target", "host", "-o", tmp_path / "out", "--quiet", capsys=capsys
    )
    assert code == 0, err
    code, out, err = run("verify", tmp_path / "out", capsys=capsys)
    assert (code, err) == (0, "") and out.startswith("equal: simulator, host agree")
    code, _, err = run("verify", tmp_path / "out", "--on", "emulator", capsys=capsys)
    assert code == 2 and "host" in err


def test_a_target_of_ones_own(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (resources.targets() / "cortex-m4/target.toml").read_text()
    (tmp_path / "target.toml").write_text(text.replace('name = "cortex-m4"', 'name = "my-board"'))
    own = ("--target", tmp_path / "target.toml")
    code, _, err = run("compile", folder / "tiny.onnx", *own, "-o", tmp_path / "out", "--quiet", capsys=capsys)
    assert (code, Artefact.load(tmp_path / "out").target) == (0, "my-board"), err
    assert run("verify", tmp_path / "out", *own, capsys=capsys)[0] == 0
    code, _, err = run("verify", tmp_path / "out", capsys=capsys)
    assert code == 2 and "my-board" in err


@pytest.mark.parametrize("name", ["board", "driver", "memory", "x_harness_y"])
def test_no_name_meets_one_of_the_harness(folder: Path, name: str) -> None:
    artefact = dnnc.compile(folder / "tiny.onnx", data=folder / "data.npz", name=name)
    result = verify(artefact, {on: make_runner(artefact, on=on) for on in ("host", "emulator")})
    assert result.equal
    flash = result.measured["emulator"].flash
    told = json.loads((folder / "built/report.json").read_text())["flash_bytes"]
    assert flash is not None and (flash.weights, flash.tables) == (told["weights"], told["tables"])


def test_verify_on_more_inputs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = Artefact.load(folder / "built").vectors.count
    code, out, _ = run("verify", folder / "built", "--on", "host", "--samples", "50", "--json", capsys=capsys)
    told = json.loads(out)
    assert (code, told["equal"], told["samples"], told["first_difference"]) == (0, True, stored + 50, None)
    data = ("--data", folder / "data.npz", "--samples", "5")
    code, out, _ = run("verify", folder / "built", "--on", "simulator,host", *data, "--json", capsys=capsys)
    assert (code, json.loads(out)["samples"]) == (0, stored + 5)


@pytest.mark.parametrize("on", ["host", "emulator"])
def test_one_changed_weight_is_found(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], on: str) -> None:
    artefact = Artefact.load(folder / "built")
    text = artefact.files["c/tiny_weights.c"].decode()
    head, brace, body = text.partition("DNNC_WEIGHTS")[2].partition("{")
    number, comma, rest = body.partition(",")
    value = int(number.strip().rstrip("uU"), 0) ^ 0x40
    start = text[: -len(head + brace + body)]
    changed = start + head + brace + f" {value}u" + comma + rest
    place = tmp_path / "changed"
    artefact.write(place)
    (place / "c/tiny_weights.c").write_text(changed)
    code, out, err = run("verify", place, "--on", on, "--json", capsys=capsys)
    told = json.loads(out)
    first = told["first_difference"]
    assert (code, told["equal"], told["edited_files"]) == (1, False, ["c/tiny_weights.c"])
    assert first["layer"] in {layer["name"] for layer in artefact.manifest["layers"] if layer["weight_bytes"]}
    assert first["expected"] != first["found"]
    assert err == f"error: {on} differs from the simulator first in layer '{first['layer']}' ({first['op']}), " + (
        f"sample {first['sample']}, index [{', '.join(map(str, first['index']))}]: "
        f"expected {first['expected']}, found {first['found']}\n"
    )


def test_eval(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("eval", folder / "built", "--data", folder / "data.npz")
    code, out, err = run(*arguments, "--json", capsys=capsys)
    told = json.loads(out)
    assert (code, err, told["samples"], told["on"]) == (0, "", SAMPLES, "simulator")
    assert 0 <= told["accuracy"]["float"] <= 100 and 80 <= told["agreement"] <= 100
    code, out, _ = run(*arguments, "--on", "host", "--samples", "7", "--json", capsys=capsys)
    assert json.loads(out)["samples"] == 7
    assert "accuracy, integer" in run(*arguments, capsys=capsys)[1]


def test_eval_without_labels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run("eval", folder / "built", "--data", folder / "x.npy", "--json", capsys=capsys)
    told = json.loads(out)
    assert (code, told["accuracy"]) == (0, {"float": None, "integer": None})
    assert told["agreement"] is not None


def test_inspect(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run("inspect", folder / "tiny.onnx", "--target", "cortex-m4", "--json", capsys=capsys)
    told = json.loads(out)
    assert (code, err, told["supported"], told["fit"]["target"]) == (0, "", True, "cortex-m4")
    assert told["macs"] == sum(layer["macs"] for layer in told["layers"]) > 0
    assert "multiply-accumulates" in run("inspect", folder / "tiny.onnx", capsys=capsys)[1]


def test_inspect_tells_what_is_unsupported(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx.load(folder / "tiny.onnx")
    for node in model.graph.node:
        if node.op_type in ("Relu", "MaxPool"):
            node.op_type = {"Relu": "Erf", "MaxPool": "Det"}[node.op_type]
            del node.attribute[:]
    (tmp_path / "odd.onnx").write_bytes(model.SerializeToString())
    code, out, _ = run("inspect", tmp_path / "odd.onnx", "--json", capsys=capsys)
    told = json.loads(out)
    assert (code, told["supported"]) == (2, False)
    assert "Det" in {item["op"] for item in told["unsupported"]}
    code, out, err = run("compile", tmp_path / "odd.onnx", "-o", tmp_path / "out", capsys=capsys)
    assert (code, out) == (2, "") and "Det" in err
    assert not (tmp_path / "out").exists()


def test_an_artefact_is_replaced_only_when_told_to(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "built/manifest.json").stat().st_ino
    code, _, err = run("compile", folder / "tiny.onnx", "-o", folder / "built", capsys=capsys)
    assert (code, (folder / "built/manifest.json").stat().st_ino) == (2, before)
    assert "--overwrite" in err


@pytest.mark.parametrize(("memory", "said"), [("flash_bytes", "flash"), ("ram_bytes", "RAM")])
def test_what_does_not_fit_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], memory: str, said: str
) -> None:
    lines = (resources.targets() / "cortex-m7/target.toml").read_text().splitlines()
    small = [f"{memory} = 500" if line.startswith(memory) else line for line in lines]
    (tmp_path / "target.toml").write_text("\n".join(small))
    code, out, err = run(
        "compile", folder / "tiny.onnx", "--target", tmp_path / "target.toml", "-o", tmp_path / "out", capsys=capsys
    )
    assert (code, out) == (1, "")
    assert f"bytes of {said}, 500 are there" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.zeros((4, 8, 8, 3), np.float32), "expected shape [N, 3, 8, 8]"),
        (np.full((4, 3, 8, 8), np.nan, np.float32), "finite"),
        (np.zeros((0, 3, 8, 8), np.float32), "at least"),
    ],
)
def test_bad_data(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], x: np.ndarray, said: str) -> None:
    np.save(tmp_path / "bad.npy", x)
    for command in (
        ("compile", folder / "tiny.onnx", "-o", tmp_path / "out", "--data"),
        ("run", folder / "built", "--input"),
        ("eval", folder / "built", "--data"),
    ):
        code, out, err = run(*command, tmp_path / "bad.npy", capsys=capsys)
        assert (code, out) == (2, "")
        assert said in err and err.startswith("error: ") and "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.npy"]


def test_an_interrupt_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    # What is slow to import comes first, so that the signal meets the compiler at work on any machine.
    program = "import dnnc.driver, dnnc.cli, sys; print('ready', flush=True); dnnc.cli.main(sys.argv[1:])"
    command = [sys.executable, "-c", program, "compile", str(folder / "tiny.onnx"), "-o", str(tmp_path / "out")]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Jobs in the background of a shell are started with SIGINT ignored, and hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err and err.strip().endswith("interrupted")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_while_starting_is_one_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import dnnc.__main__
    import dnnc.cli

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dnnc.cli, "main", interrupted)
    with pytest.raises(SystemExit) as stopped:
        dnnc.__main__.run()
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_the_package_runs_as_a_module() -> None:
    shown = subprocess.run([sys.executable, "-m", "dnnc", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("dnnc, version ")
