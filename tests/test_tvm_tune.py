"""Tuning: what was measured is kept, what fails is counted, what is interrupted ends with the best so far."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import models
from dnnc.backends.tvm import missing
from dnnc.driver import compile as compile_model
from dnnc.errors import OptionError
from dnnc.ir.graph import Graph
from dnnc.progress import silent
from dnnc.run import make_runner
from dnnc.simulate import simulate
from dnnc.verify import random_codes, verify

needs_tvm = pytest.mark.skipif(missing() is not None, reason=str(missing()))


def tuned_here() -> bool:
    """Whether this computer's kernels can be arranged in several ways."""
    from dnnc.backends.tvm.machine import machine

    return machine().dot.intrinsic is not None


@pytest.fixture(scope="module")
def graph() -> Graph:
    return compile_model(models.tiny_cnn(), target="host", bits="uniform{weights=4}").integer_graph


class Invented:
    """Measures nothing: the later a way to arrange a kernel, the faster it is said to be."""

    def __init__(self, fails: tuple[int, ...] = (), interrupt_at: int = -1) -> None:
        self.fails, self.interrupt_at, self.calls = fails, interrupt_at, 0

    def run(self, inputs: list[Any]) -> list[Any]:
        from tvm.s_tir.meta_schedule.runner import RunnerResult

        self.calls += 1
        if self.calls == self.interrupt_at:
            raise KeyboardInterrupt
        failed = self.calls in self.fails
        given = RunnerResult(None, "it crashed") if failed else RunnerResult([1.0 / self.calls], None)
        future = type("Future", (), {"result": lambda _: given})()
        return [future]


def tune(graph: Graph, folder: Path, runner: Invented, trials: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    from dnnc.backends.tvm import tune as tuning
    from dnnc.backends.tvm.machine import machine

    monkeypatch.setattr(tuning.ms.runner, "LocalRunner", lambda **_: runner)
    return tuning.tune(graph, machine(), trials, tuning.open_database(folder), ["cc"], silent)


def assert_equal_to_the_simulator(graph: Graph, folder: Path) -> None:
    import tvm
    from tvm import relax

    from dnnc.backends.tvm import library, tune
    from dnnc.backends.tvm.machine import machine

    choose = tune.chosen(graph, machine(), tune.open_database(folder))
    network = library.build(graph, machine(), 3, choose)
    main = relax.VirtualMachine(tvm.compile(network.module, target=network.machine.target), tvm.cpu())["main"]
    codes = random_codes(graph, 3)
    (found,), (expected,) = library.Loaded(graph, 3, main).run(codes).values(), simulate(graph, codes).values()
    assert np.array_equal(found, expected)


@needs_tvm
def test_a_second_tuning_measures_only_what_is_new(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not tuned_here():
        pytest.skip("this machine has no product of its own")
    first = tune(graph, tmp_path, Invented(), 5, monkeypatch)
    assert (first.trials, first.failed, first.known) == (5, 0, 0)
    second = tune(graph, tmp_path, Invented(), 10_000, monkeypatch)
    assert second.known == 5 and second.trials == second.choices - 5
    third = Invented()
    assert tune(graph, tmp_path, third, 10, monkeypatch).trials == 0 and third.calls == 0
    assert_equal_to_the_simulator(graph, tmp_path)


@needs_tvm
def test_the_fastest_is_chosen(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not tuned_here():
        pytest.skip("this machine has no product of its own")
    from dnnc.backends.tvm import tune as tuning
    from dnnc.backends.tvm.machine import machine
    from dnnc.backends.tvm.network import lower
    from dnnc.backends.tvm.schedule import arranged

    tune(graph, tmp_path, Invented(), 10_000, monkeypatch)
    choose = tuning.chosen(graph, machine(), tuning.open_database(tmp_path))
    for step in lower(graph, machine().dot, 1, choose).steps:
        if len(step.choices) > 1:
            texts = [arranged(step.plain, choice).mod["main"].script() for choice in step.choices]
            expected = step.kernel.without_attr("global_symbol").script().split("\n", 5)[-1]
            assert [text.split("\n", 5)[-1] for text in texts].index(expected) == len(texts) - 1


@needs_tvm
def test_a_trial_that_fails_is_counted_and_not_tried_again(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not tuned_here():
        pytest.skip("this machine has no product of its own")
    first = tune(graph, tmp_path, Invented(fails=(1, 3)), 4, monkeypatch)
    assert (first.trials, first.failed) == (4, 2)
    assert tune(graph, tmp_path, Invented(), 1, monkeypatch).known == 4
    assert_equal_to_the_simulator(graph, tmp_path)


@needs_tvm
def test_an_interruption_ends_with_the_best_so_far(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not tuned_here():
        pytest.skip("this machine has no product of its own")
    result = tune(graph, tmp_path, Invented(interrupt_at=3), 10, monkeypatch)
    assert result.interrupted and result.trials == 2
    assert_equal_to_the_simulator(graph, tmp_path)


@needs_tvm
@pytest.mark.slow
def test_compiling_with_trials_that_really_run(tmp_path: Path) -> None:
    folder = tmp_path / "database"
    made = [
        compile_model(models.tiny_cnn(), target="host", backend="tvm", tune=trials, tune_database=folder, name="tiny")
        for trials in (2, 0)
    ]
    said = made[0].manifest["tvm"]["tuning"]
    assert said["failed"] == 0 and said["trials"] == (2 if tuned_here() else 0)
    assert made[1].manifest["tvm"]["tuning"]["known"] == said["trials"]
    assert verify(made[1], {"tvm": make_runner(made[1], "tvm")}, random_codes(made[1].integer_graph, 2)).equal


@needs_tvm
def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    from dnnc.backends.tvm.tune import open_database

    (tmp_path / "file").write_text("x")
    with pytest.raises(OptionError, match="is not a database of tuned kernels"):
        open_database(tmp_path / "file")
    (tmp_path / "database_workload.json").write_text("nonsense\n")
    (tmp_path / "database_tuning_record.json").write_text("")
    with pytest.raises(OptionError, match="is not a database of tuned kernels"):
        open_database(tmp_path)


@pytest.mark.quick
def test_tuning_is_for_this_computer() -> None:
    for options in ({"backend": "c"}, {"backend": "tvm", "target": "aarch64"}):
        with pytest.raises(OptionError, match="tuning measures on this computer"):
            compile_model(models.tiny_mlp(), **{"target": "host", "tune": 3, **options})
