"""One artefact, written by hand, on every runner: the same codes everywhere, and errors that say what went wrong."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

from dnnc.cost.loader import load_target
from dnnc.errors import DataError, OptionError, ToolchainError, VerificationError
from dnnc.ir.graph import Graph, Input, Output
from dnnc.ir.types import Layout, Quant, TensorType
from dnnc.run import blocks, make_runner, measure_flash
from dnnc.run.base import Execution
from dnnc.run.layers import OUTSIDE
from dnnc.run.qemu import QEMU, QemuRunner
from dnnc.run.toolchain import find_compiler, run_tool, temporary_folder
from emulated import EMULATED_TARGETS
from tiny import SIZE, tiny_artefact, tiny_graph, tiny_inputs

OUT_OF_BOUNDS = "static volatile int where = 20; static volatile int8_t row[20]; row[where] = row[0];"
OUT_OF_BOUNDS_POINTER = "static volatile int8_t row[20]; volatile int8_t *volatile p = row; p[21] = row[0];"
OVERFLOW = "static volatile int n = 2000000000; n += n;"

needs_host_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a host compiler called cc")
needs_qemu = pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"needs {QEMU}")
needs_arm_gcc = pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="needs arm-none-eabi-gcc")


def check(execution: Execution) -> None:
    """Outputs and every layer are the simulator's."""
    expected = make_runner(tiny_artefact("host")).run(tiny_inputs(), trace=True)
    assert set(execution.outputs) == {"z"}
    np.testing.assert_array_equal(execution.outputs["z"], expected.outputs["z"])
    assert list(execution.layers) == ["add_one", "negate"]
    for name, codes in expected.layers.items():
        np.testing.assert_array_equal(execution.layers[name], codes)


@pytest.mark.quick
def test_the_simulator_computes_the_tables() -> None:
    execution = make_runner(tiny_artefact("host")).run(tiny_inputs())
    x = tiny_inputs()["x"]
    np.testing.assert_array_equal(execution.outputs["z"], np.minimum(-np.minimum(x + 1, 127), 127))


@pytest.mark.quick
@needs_host_compiler
def test_host() -> None:
    execution = make_runner(tiny_artefact("cortex-m7"), on="host").run(tiny_inputs(), trace=True)
    check(execution)
    assert execution.compiler is not None
    assert execution.compiler.startswith("cc ")
    assert execution.instructions_per_inference is None


@pytest.mark.slow
def test_host_with_zig() -> None:
    execution = make_runner(tiny_artefact("host"), on="host", compiler="zig").run(tiny_inputs(), trace=True)
    check(execution)
    assert execution.compiler is not None
    assert execution.compiler.startswith("zig ")


@needs_host_compiler
def test_host_with_sanitizers() -> None:
    check(make_runner(tiny_artefact("host"), on="host", sanitize=True).run(tiny_inputs(), trace=True))


@needs_host_compiler
@pytest.mark.parametrize(
    ("body", "told"),
    [(OUT_OF_BOUNDS, "out of bounds"), (OUT_OF_BOUNDS_POINTER, "AddressSanitizer"), (OVERFLOW, "overflow")],
)
def test_the_sanitizers_catch(body: str, told: str) -> None:
    with pytest.raises(VerificationError, match=told):
        make_runner(tiny_artefact("host", body), on="host", sanitize=True).run(tiny_inputs())


@pytest.mark.parametrize("target", EMULATED_TARGETS)
@pytest.mark.parametrize("compiler", ["auto", "zig"])
def test_emulator(target: str, compiler: str) -> None:
    execution = make_runner(tiny_artefact(target), on="emulator", compiler=compiler).run(tiny_inputs(), trace=True)
    check(execution)
    assert execution.instructions_per_inference is not None
    assert 4 * SIZE < execution.instructions_per_inference < 100 * SIZE
    assert execution.profile is not None
    costs = execution.profile.layers
    assert list(costs) == ["add_one", "negate", OUTSIDE]
    assert all(costs[name].instructions > SIZE for name in ("add_one", "negate"))
    assert sum(c.instructions for c in costs.values()) == execution.instructions_per_inference
    assert execution.notes == ()


@pytest.mark.quick
@needs_arm_gcc
def test_the_first_sample_is_counted_and_no_other() -> None:
    runner = make_runner(tiny_artefact("cortex-m7"), on="emulator")
    many, one = runner.run(tiny_inputs()), runner.run({"x": tiny_inputs()["x"][:1]})
    assert many.instructions_per_inference == one.instructions_per_inference
    assert many.ram == one.ram


@needs_qemu
@pytest.mark.parametrize("target", ["cortex-m7", "cortex-m4", "cortex-m33"])
def test_qemu_and_unicorn_agree_on_everything(target: str) -> None:
    artefact = tiny_artefact(target)
    qemu = make_runner(artefact, on="qemu").run(tiny_inputs(), trace=True)
    unicorn = make_runner(artefact, on="emulator").run(tiny_inputs())
    check(qemu)
    assert qemu.instructions_per_inference == unicorn.instructions_per_inference
    assert (qemu.flash, qemu.ram) == (unicorn.flash, unicorn.ram)


@needs_qemu
def test_without_the_plugin_the_instruction_clock_counts_to_a_tick() -> None:
    runner = make_runner(tiny_artefact("cortex-m7", "for (volatile int i = 0; i < 1000; ++i) {}"), on="qemu")
    assert isinstance(runner, QemuRunner)
    exact = runner.run(tiny_inputs()).instructions_per_inference
    clock = dataclasses.replace(runner, plugin=False).run(tiny_inputs()).instructions_per_inference
    assert exact is not None
    assert clock is not None
    assert abs(exact - clock) <= 80


@needs_qemu
def test_a_fault_on_qemu_is_an_error() -> None:
    artefact = tiny_artefact("cortex-m7", '__asm__ volatile(".short 0xde00");')
    with pytest.raises(VerificationError, match="faulted"):
        make_runner(artefact, on="qemu").run(tiny_inputs())


def test_flash_and_ram_are_split_without_the_harness() -> None:
    artefact = tiny_artefact(
        "cortex-m7", declarations="int32_t counter; int32_t preset = 3;", body="counter += preset;"
    )
    execution = make_runner(artefact, on="emulator").run(tiny_inputs())
    assert execution.flash is not None
    assert execution.ram is not None
    assert (execution.flash.weights, execution.flash.tables) == (16, 12)
    assert 60 < execution.flash.code < 1000
    assert execution.flash.total == 28 + execution.flash.code
    assert execution.ram.arena == 40
    assert execution.ram.static == 8
    flash, ram = measure_flash(artefact, load_target("cortex-m7"))
    assert flash == execution.flash
    assert ram == dataclasses.replace(execution.ram, stack=0)


@needs_host_compiler
@pytest.mark.skipif(not hasattr(__import__("os"), "sched_getaffinity"), reason="needs ELF objects")
def test_the_host_is_measured_by_its_objects() -> None:
    flash, ram = measure_flash(tiny_artefact("host"), load_target("host"))
    assert (flash.weights, flash.tables, ram.arena) == (16, 12, 40)
    assert flash.code > 60


def test_more_memory_than_the_target_has_is_told() -> None:
    small = dataclasses.replace(load_target("cortex-m7"), ram_bytes=16)
    execution = make_runner(tiny_artefact("cortex-m7"), on="emulator", target=small).run(tiny_inputs())
    assert len(execution.notes) == 1
    assert "RAM" in execution.notes[0]


@pytest.mark.parametrize("on", ["host", "emulator"])
def test_a_failing_run_is_an_error(on: str) -> None:
    with pytest.raises(VerificationError):
        make_runner(tiny_artefact("cortex-m7", "if (one[0]) return 7;"), on=on).run(tiny_inputs())


@pytest.mark.quick
def test_wrong_c_is_told_with_the_compiler_s_first_lines() -> None:
    with pytest.raises(ToolchainError, match=r"(?s)failed with code 1:.*tiny\.c:\d+.*nowhere") as caught:
        make_runner(tiny_artefact("cortex-m7", "nowhere();"), on="emulator").run(tiny_inputs())
    assert "dnnc-" not in str(caught.value)  # the temporary folder


@pytest.mark.quick
def test_warnings_are_errors() -> None:
    with pytest.raises(ToolchainError, match="conver"):
        make_runner(
            tiny_artefact("cortex-m7", "int8_t c = (int8_t)0; int k = limit[0]; c = k; (void)c;"), on="emulator"
        ).run(tiny_inputs())


@pytest.mark.quick
@pytest.mark.parametrize(
    ("target", "options", "told"),
    [
        ("cortex-m7", {"on": "moon"}, "known: simulator, host, emulator, qemu"),
        ("cortex-m7", {"on": "emulator", "compiler": "tcc"}, "compiler must be one of auto, zig, gcc"),
        ("cortex-m7", {"on": "emulator", "sanitize": True}, "sanitizers run on the host only"),
        ("host", {"on": "host", "sanitize": True, "compiler": "zig"}, "AddressSanitizer"),
        ("host", {"on": "emulator"}, "'host' has no emulator"),
        ("rv32imc", {"on": "qemu"}, "'rv32imc' names no QEMU board"),
    ],
)
def test_options_that_do_not_fit(target: str, options: dict[str, object], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        make_runner(tiny_artefact(target), **options)  # type: ignore[arg-type]


@pytest.mark.quick
def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ToolchainError, match="'arm-none-eabi-gcc' is not installed"):
        find_compiler(load_target("cortex-m7"), "gcc")
    assert find_compiler(load_target("cortex-m7")).kind == "zig"
    with pytest.raises(ToolchainError, match="install the package qemu-system-arm"):
        make_runner(tiny_artefact("cortex-m7"), on="qemu")


@pytest.mark.quick
def test_a_build_leaves_nothing_behind_even_when_interrupted() -> None:
    with pytest.raises(KeyboardInterrupt), temporary_folder() as work:
        left = work
        raise KeyboardInterrupt
    with pytest.raises(ToolchainError, match="cannot be started"):
        run_tool([f"{left}/missing"], load_target("host").folder)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({}, "input 'x' is missing"),
        ({"x": np.zeros((2, 5, 4))}, r"must have the shape \[N, 4, 5\]"),
        ({"x": np.full((1, 4, 5), 200)}, "outside -128..127"),
    ],
)
def test_inputs_that_do_not_fit(inputs: dict[str, np.ndarray], told: str) -> None:
    with pytest.raises(DataError, match=told):
        make_runner(tiny_artefact("host")).run(inputs)


@pytest.mark.quick
def test_blocks_pad_every_member_to_four_bytes() -> None:
    layout = Layout((1, 3), 0, (0,))
    narrow, wide = TensorType((3,), Quant(8, 1.0, 0)), TensorType((3,), Quant(16, 1.0, 0))
    graph = Graph(
        "two", (Input("a", narrow, "a", layout), Input("b", wide, "b", layout)), (), (Output("b", "b", layout),)
    )
    block = blocks.pack_inputs(graph, {"a": np.array([[1, -1, 2]]), "b": np.array([[-2, 300, 4]])})
    assert block.tolist() == [[1, 255, 2, 0, 254, 255, 44, 1, 4, 0, 0, 0]]
    assert (blocks.input_bytes(graph), blocks.output_bytes(graph)) == (12, 8)
    assert blocks.unpack_outputs(graph, block[:, 4:])["b"].tolist() == [[-2, 300, 4]]


@pytest.mark.quick
def test_inputs_of_different_lengths() -> None:
    graph = tiny_graph()
    two = Graph("two", (*graph.inputs, dataclasses.replace(graph.inputs[0], name="y")), graph.nodes, graph.outputs)
    with pytest.raises(DataError, match="different numbers of samples"):
        blocks.pack_inputs(two, {"x": np.zeros((1, 4, 5)), "y": np.zeros((2, 4, 5))})
