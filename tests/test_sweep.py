"""Sweeps: deduplicated, resumable, the same whatever evaluates the candidates."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digits import trained
from dnnc.cost.loader import load_target
from dnnc.errors import OptionError
from dnnc.frontend.onnx.export import save_onnx
from dnnc.progress import silent
from dnnc.quantise.calibrate import calibrate
from dnnc.sweep import Point, Sweep, pareto, sweep
from dnnc.sweep.candidates import candidates
from dnnc.sweep.executors import executor
from dnnc.sweep.front import OBJECTIVES, beats, to_csv

POINT = Point("a", "int8", 8.0, {"c": 8.0}, 8.0, 90.0, 99.0, 30.0, 1000, 500, 9000, None)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(network, samples)"""
    folder = tmp_path_factory.mktemp("model")
    graph, seen, _ = trained()
    save_onnx(graph, folder / "digits.onnx")
    np.savez(folder / "digits.npz", x=seen.inputs["x"][:320], y=seen.labels[:320])  # type: ignore[index]
    return folder / "digits.onnx", folder / "digits.npz"


def swept(model: tuple[Path, Path], folder: Path, **options: Any) -> Sweep:
    chosen = {"flash_bytes": (2000, 60000), "points": 5, "target": "host", "samples": 64, "executor_name": "thread"}
    return sweep(model[0], data=model[1], folder=folder, **{**chosen, **options})


# --- fronts ---


@pytest.mark.quick
def test_a_front_is_what_none_beats() -> None:
    rng = np.random.default_rng(0)
    points = [
        replace(POINT, key=f"{i:03}", accuracy_percent=float(a), flash_bytes=int(f), ram_bytes=int(r), cycles=int(c))
        for i, (a, f, r, c) in enumerate(rng.integers(1, 8, (60, 4)))
    ]
    front = pareto(points)
    assert front and not any(beats(p, q) for p in points for q in front)
    for p in points:
        assert p in front or any(beats(q, p) or all(getattr(q, n) == getattr(p, n) for n in OBJECTIVES) for q in front)
    assert pareto(points[::-1]) == front
    rows = list(csv.DictReader(to_csv(points, front).splitlines()))
    assert len(rows) == 60 and sum(row["front"] == "yes" for row in rows) == len(front)


@pytest.mark.quick
def test_what_is_not_known_does_not_count() -> None:
    unknown = replace(POINT, key="b", cycles=None, flash_bytes=999)
    assert beats(unknown, POINT) and not beats(POINT, unknown)
    assert replace(POINT, accuracy_percent=None).quality == 99.0
    assert replace(POINT, accuracy_percent=None, agreement_percent=None).quality == 30.0


# --- candidates ---


def test_candidates_differ_and_are_always_the_same() -> None:
    graph, seen, _ = trained()
    target = load_target("cortex-m7")
    calibration = calibrate(graph, seen.first(128), target)
    found = [candidates(calibration, target, (7000, 14000), 12, "layer", 0, silent) for _ in range(2)]
    keys = [c.key for c in found[0]]
    assert keys == [c.key for c in found[1]] and len(set(keys)) == len(keys) >= 12
    assert "uniform{weights=4}" in {c.origin for c in found[0]}
    assert any(len({bits for row in c.weight_bits.values() for bits in row}) > 1 for c in found[0])


# --- sweeps ---


def test_threads_and_processes_write_the_same_files(model: tuple[Path, Path], tmp_path: Path) -> None:
    found = swept(model, tmp_path / "threads")
    swept(model, tmp_path / "processes", executor_name="process", workers=2)
    for name in ("sweep.csv", "sweep.json"):
        assert (tmp_path / "threads" / name).read_bytes() == (tmp_path / "processes" / name).read_bytes()
    assert len(found.points) == 5 and 0 < len(found.front) <= 5
    document = json.loads((tmp_path / "threads" / "sweep.json").read_text())
    assert document["front"] == [p.key for p in found.front] and len(document["points"]) == 5
    accuracies = {p.origin: p.accuracy_percent for p in found.points}
    assert accuracies["uniform{weights=6}"] > 80 and len(found.rows()[0]) == len(found.headings)


def test_an_interrupted_sweep_goes_on(
    model: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = swept(model, tmp_path / "whole")
    module = __import__("dnnc.sweep.sweep", fromlist=["keep"])
    kept, count = module.keep, 0

    def interrupted(results: Path, point: Point) -> None:
        nonlocal count
        if count == 2:
            raise KeyboardInterrupt
        count += 1
        kept(results, point)

    monkeypatch.setattr(module, "keep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        swept(model, tmp_path / "parts")
    assert len(list((tmp_path / "parts" / "results").glob("*.json"))) == 2
    done: list[str] = []
    monkeypatch.setattr(module, "keep", lambda results, point: (done.append(point.key), kept(results, point)))
    again = swept(model, tmp_path / "parts")
    assert len(done) == 3 and again.points == whole.points
    assert (tmp_path / "parts" / "sweep.csv").read_bytes() == (tmp_path / "whole" / "sweep.csv").read_bytes()
    done.clear()
    assert swept(model, tmp_path / "parts").front == whole.front and not done
    with pytest.raises(OptionError, match="holds another sweep, which differs in points"):
        swept(model, tmp_path / "parts", points=6)


def test_a_folder_of_something_else_is_left_alone(model: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(OptionError, match="is not empty and holds no sweep"):
        swept(model, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flash_bytes": (9, 2)}, "expects two sizes in bytes, the smaller first"),
        ({"points": 0}, "at least one point"),
    ],
)
def test_mistakes_are_explained(
    options: dict[str, Any], message: str, model: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=message):
        swept(model, tmp_path / "none", **options)


@pytest.mark.quick
def test_unknown_executors_are_named() -> None:
    message = "unknown executor 'ray'; allowed: process, thread, dask://host:port"
    with pytest.raises(OptionError, match=message), executor("ray"):
        pytest.fail("there is no such executor")


def test_a_dask_cluster_of_two(model: tuple[Path, Path], tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="Dask's distributed is not installed")
    with _cluster(distributed) as address:
        swept(model, tmp_path / "dask", executor_name=f"dask://{address}")
    swept(model, tmp_path / "threads")
    assert (tmp_path / "dask" / "sweep.csv").read_bytes() == (tmp_path / "threads" / "sweep.csv").read_bytes()


@contextmanager
def _cluster(distributed: Any) -> Iterator[str]:
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address.removeprefix("tcp://")
