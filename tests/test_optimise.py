"""--optimise: what is tried, what is kept, and that every choice of kernels computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import dnnc
from cases import Case, Maker, all_cases, case_graph
from dnnc.backends.c import lower
from dnnc.backends.c.optimise import Cost, select
from dnnc.backends.c.program import Program
from dnnc.backends.c.table import IN_ORDER, Selection
from dnnc.cost.loader import load_target
from dnnc.driver import compile_with_report
from dnnc.errors import OptionError
from dnnc.ir.graph import Graph
from dnnc.ops.dense import Dense
from dnnc.run import make_runner
from dnnc.verify import verify
from models import tiny_cnn

M7 = load_target("cortex-m7")
CASES = {case.name: case for case in all_cases()}


def mixed() -> Graph:
    def build(make: Maker) -> list[str]:
        x = make.input(64)
        for bits in (3, 6, 8):
            x = make.linear(Dense(), x, (64, 64), bits)
        return [x]

    return Case("mixed_widths_of_layers", build).graph()


def widths(program: Program) -> list[int]:
    return [call.kernel.bits for step in program.steps for call in step.calls]


@pytest.mark.quick
def test_balanced_measures_nothing() -> None:
    def never(program: Program) -> Cost:
        raise AssertionError("measured")

    asked = []

    def program_of(selection: Selection) -> Program:
        asked.append(selection)
        return lower(mixed(), M7, selection)

    select("balanced", program_of, never)
    assert asked == [IN_ORDER]


@pytest.mark.quick
@pytest.mark.parametrize(
    ("goal", "bytes_a_bit", "cycles_a_bit", "expected"),
    [
        ("speed", 100, 1000, [8, 8, 8]),
        ("speed", 1000, 10, [3, 6, 8]),  # too little speed for the flash
        ("size", 100, 100, [3, 6, 8]),
        ("size", 1, 1000, [8, 8, 8]),  # hardly any flash for the cycles
    ],
)
def test_goals_weigh_cycles_and_flash(goal: str, bytes_a_bit: int, cycles_a_bit: int, expected: list[int]) -> None:
    """Where wide weights are faster and narrow ones smaller."""
    graph = mixed()

    def measure(program: Program) -> Cost:
        bits = sum(widths(program))
        return Cost(flash_bytes=5000 + bytes_a_bit * bits, cycles=50_000 - cycles_a_bit * bits)

    assert widths(select(goal, lambda s: lower(graph, M7, s), measure)) == expected


@pytest.mark.quick
def test_what_breaks_a_budget_is_not_chosen() -> None:
    graph = mixed()

    def measure(program: Program) -> Cost:
        used = widths(program)
        return Cost(1000 + sum(used), 1000 - 10 * sum(used), fits=sum(used) < 20)

    assert sum(widths(select("speed", lambda s: lower(graph, M7, s), measure))) < 20


@pytest.mark.quick
def test_an_avoided_row_serves_only_where_no_other_does() -> None:
    graph = case_graph(CASES["wide_conv_w8"], "cortex-m7")
    seen = []
    selection = IN_ORDER
    for _ in range(3):
        (kernel,) = lower(graph, M7, selection).kernels
        seen.append((kernel.kernel.family, kernel.kernel.variant))
        selection = selection.avoid(kernel.kernel, kernel.bits)
    assert seen[:2] == [("armv7em", "smlad"), ("generic", "1x4")]
    assert seen[2] == seen[0], "when all are avoided the order is the table's"


@pytest.mark.slow
@pytest.mark.parametrize("goal", ["speed", "size"])
def test_a_chosen_program_is_verified_and_better(goal: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 3, 8, 8)).astype(np.float32)
    model = tmp_path / "tiny.onnx"
    onnx.save(tiny_cnn(), model)
    _, balanced = compile_with_report(model, data=x, bits="uniform{weights=6}")
    artefact, report = compile_with_report(model, data=x, bits="uniform{weights=6}", optimise=goal)
    assert report.optimise == goal == artefact.manifest["optimise"]
    assert balanced.measured is not None and report.measured is not None
    before, after = balanced.measured, report.measured
    if goal == "speed":
        assert after.cycles is not None and before.cycles is not None and after.cycles < before.cycles
    else:
        assert after.flash.total < before.flash.total
    assert verify(artefact, {on: make_runner(artefact, on=on) for on in ("host", "emulator")}).equal
    again = dnnc.compile(model, data=x, bits="uniform{weights=6}", optimise=goal)
    assert again.files == artefact.files


@pytest.mark.quick
def test_goals_that_cannot_be_met_are_refused(tmp_path: Path) -> None:
    onnx.save(tiny_cnn(), tmp_path / "tiny.onnx")
    with pytest.raises(OptionError, match="cannot optimise for 'fast'; known: balanced, speed, size"):
        dnnc.compile(tmp_path / "tiny.onnx", optimise="fast")
    with pytest.raises(OptionError, match="emulated core, and target 'host' has none"):
        dnnc.compile(tmp_path / "tiny.onnx", target="host", optimise="size")


@pytest.mark.quick
def test_a_flash_budget_of_the_policy_binds_the_choice() -> None:
    from dnnc.quantise.bits import parse_policy

    assert parse_policy("fisher{flash_bytes=5000}").flash_budget_bytes == 5000
    assert parse_policy("uniform{weights=3}").flash_budget_bytes is None


@pytest.mark.quick
def test_selections_say_what_is_stored() -> None:
    selection = IN_ORDER.store(3, 4).store(6, 8)
    assert [selection.width(bits) for bits in range(1, 9)] == [1, 2, 4, 4, 5, 8, 8, 8]
    assert selection.store(4, 8).width(3) == 8
