"""The scripts of tools/reproduce: those that offer a smoke run survive it and write their table."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared import needs_shared

FOLDER = Path(__file__).resolve().parents[1] / "tools" / "reproduce"
#: What scripts share, and the training of their networks.
OTHERS = ("common.py", "images.py", "networks.py", "olmp_authors.py", "summarise.py", "train_networks.py")
SCRIPTS = sorted(p for p in FOLDER.glob("*.py") if p.name not in OTHERS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_smoke_runs(script: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(script), "--smoke", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    written = (tmp_path / f"{script.stem}.md").read_text()
    assert "| --:" in written and "smoke run" in written and "torch" in written


@pytest.fixture(scope="module")
def common() -> Iterator[Any]:
    """What scripts share, imported as they do it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module("common")


def options(common: Any, monkeypatch: pytest.MonkeyPatch, *given: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["some/script.py", *given])
    return common.arguments("Says nothing.", seeds=4)


def test_tables(
    common: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = options(common, monkeypatch, "--output", str(tmp_path))
    table = common.Table("A title", found)
    table.goal("size", "<= 3", "2", True)
    table.goal("speed", ">= 3", "2", False)
    table.goal("colour", "", "red", None)
    with pytest.raises(ValueError, match="4 cells are expected, found 1"):
        table.row("short")
    table.finish("one note")
    shown = capsys.readouterr().out
    assert "A title" in shown and "one note" in shown and "missed" in shown
    written = (tmp_path / "script.md").read_text()
    assert "| size | <= 3 | 2 | met |" in written and "| speed | >= 3 | 2 | missed |" in written
    assert "| colour |  | red |  |" in written
    assert "- one note\n- full run, 4 seed(s)" in written
    assert f"torch {torch.__version__}" in written
    other = common.Table("Another", found)
    other.finish(append=True)
    assert (tmp_path / "script.md").read_text().startswith(written + "\n## Another")


def test_smoke_and_quick_runs_do_less_and_overwrite_no_results(common: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [options(common, monkeypatch, *given) for given in ((), ("--quick",), ("--smoke",))]
    assert [o.seeds for o in chosen] == [4, 1, 1]
    assert [o.pick(1, 2, 3) for o in chosen] == [1, 2, 3]
    assert len({o.output for o in chosen}) == 3
    assert options(common, monkeypatch, "--quick", "--seeds", "2").seeds == 2
    with pytest.raises(SystemExit):
        options(common, monkeypatch, "--seeds", "0")
    smoke = common.Table("T", chosen[2])
    smoke.goal("size", "<= 3", "2", True)
    assert smoke.rows == [("size", "<= 3", "2", "")]


def test_plots(common: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    found = options(common, monkeypatch, "--output", str(tmp_path))
    common.plot(found, {"a": [(1, 2), (2, 3)], "b": [(1, 1)]}, "x", "y", log=True)
    assert 1000 < (tmp_path / "script.png").stat().st_size < 60_000


def test_the_network_for_smoke_runs_has_learned(common: Any) -> None:
    graph, data = common.digits()
    assert common.accuracy(graph, data.held_out) > 95
    given = common.setting(data, seed=3)
    assert given.seed == 3 and given.target.name == "cortex-m7"
    assert not set(map(bytes, data.held_out.inputs["x"])) & set(map(bytes, data.train.dataset.inputs["x"]))


@needs_shared
def test_lenet_comes_with_its_data(common: Any) -> None:
    for name in ("lenet300", "lenet5"):
        graph, data = common.lenet(name, "shift")
        assert len(data.train) == 58_000 and len(data.held_out) == 2000
        assert common.accuracy(graph, data.held_out.first(500)) > 98
        batch = next(iter(data.train.batches(100, torch.Generator())))
        assert batch.inputs["input"].shape == (100, *graph.inputs[0].type.shape)


@needs_shared
def test_cifar_networks_come_with_their_data(common: Any) -> None:
    pytest.importorskip("PIL.Image", reason="needs Pillow to decode CIFAR-10")
    for name, least in (("resnet8_cifar10_jpeg", 80), ("vgg_small_cifar10", 80)):
        graph, data = common.cifar(name, limit=500)
        assert common.accuracy(graph, data.held_out.first(200)) > least
        batch = next(iter(data.train.batches(256, torch.Generator())))
        sample, fed = data.sample.inputs["input"], batch.inputs["input"].numpy()
        assert fed.dtype == sample.dtype == np.float32 and fed.shape[1:] == sample.shape[1:]
        # Crops bring zeros in; that is little.
        np.testing.assert_allclose(fed.mean(), sample.mean(), atol=0.3 * sample.std())
        np.testing.assert_allclose(fed.std(), sample.std(), rtol=0.3)


def test_the_summary_is_of_the_tables_that_are_there(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(FOLDER / "summarise.py"), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = (FOLDER / "RESULTS.md").read_text()
    for table in (FOLDER / "results").glob("*.md"):
        assert table.read_text().strip() in text, table.name
