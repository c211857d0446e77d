"""The command line: quick to start, one sentence for every error, nothing on stdout that is not the result."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dnnc import cli, errors
from golden import check_golden

pytestmark = pytest.mark.quick


def dnnc(*arguments: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command in this process."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(a) for a in arguments])
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out, said.err


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys, dnnc.cli\n"
        "try: dnnc.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'numpy', 'scipy', 'rich', 'jinja2', 'unicorn', 'elftools'}\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & heavy), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "compile" in done.stdout


@pytest.mark.parametrize(
    "command", ["", "compile", "compress", "inspect", "estimate", "sweep", "run", "verify", "eval", "targets"]
)
def test_help(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    code, out, err = dnnc(*([command] if command else []), "--help", capsys=capsys)
    assert (code, err) == (0, "")
    check_golden(f"help_{command or 'dnnc'}.txt", out)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from dnnc import __version__

    assert dnnc("--version", capsys=capsys) == (0, f"dnnc, version {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["complie"], "compile"),
        (["compile"], "MODEL"),
        (["compile", "m.onnx", "--tagret", "host"], "--target"),
        (["compile", "m.onnx", "--seed", "-1"], "--seed"),
        (["compile", "missing.onnx"], "missing.onnx"),
        (["compile", "m.onnx", "--target", "cortex-m77"], "cortex-m7"),
        (["compile", "m.onnx", "--bits", "int9"], "int8"),
        (["compile", "m.onnx", "--input-shape", "x"], "NAME=SIZES"),
        (["compile", "m.onnx", "--input-shape", "x=1,-3"], "NAME=SIZES"),
        (["compile", "m.onnx", "--input-shape", "=1,3"], "NAME=SIZES"),
        (["run", "nowhere", "--input", "x.npy"], "nowhere"),
        (["run", "nowhere", "--input", "x.npy", "--on", "moon"], "simulator"),
        (["verify", "nowhere"], "nowhere"),
        (["verify", "nowhere", "--on", "host,moon"], "simulator, host, emulator"),
        (["verify", "nowhere", "--on", ","], "simulator, host, emulator"),
        (["eval", "nowhere", "--data", "x.npz"], "nowhere"),
        (["eval", "nowhere"], "--data"),
        (["inspect", "missing.onnx"], "missing.onnx"),
    ],
)
def test_bad_usage_is_one_message_and_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = dnnc(*arguments, capsys=capsys)
    assert (code, out) == (2, "")
    assert said in err
    assert err.startswith("error: ") and err.count("\n") == 1
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (errors.ModelError("the model is broken"), 2, "error: the model is broken\n"),
        (errors.BudgetError("too large"), 1, "error: too large\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (MemoryError(), 1, "error: there is not enough memory for this model\n"),
    ],
)
def test_errors_and_their_codes(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("dnnc.cost.loader.list_hardware", fail)
    found, out, err = dnnc("targets", capsys=capsys)
    assert (found, out, err.lstrip("\n")) == (code, "", message)


def test_a_fault_of_dnnc_is_told_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("dnnc.cost.loader.list_hardware", fail)
    code, _, err = dnnc("targets", capsys=capsys)
    assert code == cli.INTERNAL_ERROR
    assert err.startswith("error: internal error: ZeroDivisionError: oops.") and err.count("\n") == 1
    _, _, err = dnnc("--debug", "targets", capsys=capsys)
    assert "Traceback" in err


def test_targets(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = dnnc("targets", "--json", capsys=capsys)
    names = [target["name"] for target in json.loads(out)]
    assert (code, err) == (0, "")
    assert {"cortex-m7", "cortex-m4", "cortex-m33", "cortex-m0plus", "rv32imc", "host"} <= set(names)
    code, out, _ = dnnc("targets", capsys=capsys)
    assert code == 0 and all(name in out for name in names)
    assert dnnc("targets", "--quiet", capsys=capsys)[1] == ""
