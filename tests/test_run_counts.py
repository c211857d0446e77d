"""What the emulator counts, against programs whose instructions and stack are known."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dnnc.errors import ToolchainError
from dnnc.run import make_runner
from dnnc.run.emulator import EmulatorRunner, Model
from dnnc.run.machine import EmulationFault, Machine
from dnnc.run.native import shared_library
from dnnc.run.qemu import QEMU
from emulated import EMULATED_TARGETS, Network, emulate
from tiny import tiny_artefact, tiny_graph, tiny_inputs

needs_qemu = pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"needs {QEMU}")

ARM_LOOP = '__asm__ volatile(".syntax unified\\n movs r3, #{n}\\n1: nop\\n subs r3, #1\\n bne 1b" ::: "r3", "cc");'
RISCV_LOOP = '__asm__ volatile("li t0, {n}\\n1: nop\\n addi t0, t0, -1\\n bnez t0, 1b" ::: "t0");'
# of the three conditional instructions one or two are not taken; one is four bytes long
IT_BLOCK = (
    '__asm__ volatile("cmp %0, %0\\n itet {condition}\\n mov{condition} r3, #1\\n mov{other} r12, #2\\n '
    'mov{condition} r3, #3" :: "r"(in) : "r3", "r12", "cc");'
)
# the index is volatile so that no compiler keeps only the byte that is used
FRAME = "volatile uint8_t frame[{n}]; volatile int at = 0; frame[at] = 1; (void)frame[at];"
UNTOUCHED_FRAME = "volatile uint8_t frame[{n}]; volatile int at = {n} - 1; frame[at] = 1; (void)frame[at];"


def count(target: str, body: str, compiler: str = "auto", on: str = "emulator") -> tuple[int, int]:
    """Instructions and stack bytes of an inference."""
    execution = make_runner(tiny_artefact(target, body), on=on, compiler=compiler).run({"x": tiny_inputs()["x"][:1]})
    assert execution.instructions_per_inference is not None
    assert execution.ram is not None
    return execution.instructions_per_inference, execution.ram.stack


@pytest.mark.parametrize("target", EMULATED_TARGETS)
def test_a_loop_of_three_instructions(target: str) -> None:
    loop = RISCV_LOOP if target == "rv32imc" else ARM_LOOP
    short, long = (count(target, loop.format(n=n))[0] for n in (10, 210))
    assert long - short == 3 * 200


@pytest.mark.quick
def test_counts_do_not_change_from_run_to_run() -> None:
    assert count("cortex-m7", "") == count("cortex-m7", "")


@pytest.mark.parametrize("on", ["emulator", pytest.param("qemu", marks=needs_qemu)])
@pytest.mark.parametrize(("condition", "other"), [("eq", "ne"), ("ne", "eq")])
def test_conditional_instructions_count_whether_taken_or_not(on: str, condition: str, other: str) -> None:
    body = IT_BLOCK.format(condition=condition, other=other)
    five_nops = '__asm__ volatile("cmp %0, %0\\n nop\\n nop\\n nop\\n nop" :: "r"(in) : "r3", "r12", "cc");'
    assert count("cortex-m7", body, on=on)[0] == count("cortex-m7", five_nops, on=on)[0]


@pytest.mark.parametrize("target", EMULATED_TARGETS)
@pytest.mark.parametrize("frame", [FRAME, UNTOUCHED_FRAME])
def test_the_deepest_stack(target: str, frame: str) -> None:
    small, large = (count(target, frame.format(n=n))[1] for n in (256, 4096))
    assert 256 <= small <= 256 + 64
    assert large - small == pytest.approx(4096 - 256, abs=16)  # bigger frames may need one more register


@needs_qemu
def test_painting_finds_the_same_depth_but_for_bytes_that_are_never_written() -> None:
    body = FRAME.format(n=512)
    (painted_count, painted), (counted, exact) = count("cortex-m7", body, on="qemu"), count("cortex-m7", body)
    assert painted_count == counted
    assert exact - 16 <= painted <= exact


@pytest.mark.quick
def test_a_profile_adds_up() -> None:
    runner = make_runner(tiny_artefact("cortex-m7", ARM_LOOP.format(n=50)), on="emulator")
    assert isinstance(runner, EmulatorRunner)
    execution = runner.run({"x": tiny_inputs()["x"][:1]})
    profile = execution.profile
    assert profile is not None
    assert profile.total.instructions == execution.instructions_per_inference
    loop = max(profile.blocks, key=lambda block: block.executions)
    assert (loop.executions, loop.length) == (50, 3)
    assert loop.place.startswith("tiny_run+0x")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("*(volatile int *)0x60000000u = 1;", r"write to 0x60000000 in tiny_run\+0x"),
        ("*(volatile int *)(uintptr_t)one = 1;", r"write to read-only 0x\w+ in tiny_run\+0x"),
        ("((void (*)(void))0x60000001u)();", r"jump to 0x60000000"),
        ('__asm__ volatile(".short 0xde00");', r"tiny_run\+0x"),
        ("deep(40);", r"the stack has overflowed"),
    ],
)
def test_faults_name_place_and_step(body: str, told: str) -> None:
    declarations = (
        "static int deep(int n); static int deep(int n) { "
        "volatile int8_t frame[4000]; volatile int at = n; frame[at] = 1; "
        "return n ? deep(n - 1) + frame[at] : 0; }"
        if "deep" in body
        else ""
    )
    artefact = tiny_artefact("cortex-m7", body, declarations)
    with pytest.raises(EmulationFault, match=rf"(?s){told}.*sample 0, in step 1 \('negate'\)"):
        make_runner(artefact, on="emulator").run(tiny_inputs())


def test_a_program_that_hangs_is_ended() -> None:
    runner = make_runner(tiny_artefact("cortex-m7", "for (;;) { (void)one[0]; }"), on="emulator")
    assert isinstance(runner, EmulatorRunner)
    machine = Machine(runner.image, runner.target, timeout_seconds=1)
    with pytest.raises(EmulationFault, match=r"tiny_run did not return within 1 s; it is in tiny_run\+0x"):
        Model(machine, "tiny").run(bytes(20), 20)


def test_many_networks_share_a_program() -> None:
    expected = make_runner(tiny_artefact("cortex-m7")).run(tiny_inputs()).outputs["z"]
    networks = []
    for name in ("first", "second", "third"):
        files = tiny_artefact("cortex-m7").files
        renamed = {k.replace("tiny", name): v.replace(b"tiny", name.encode()) for k, v in files.items()}
        networks.append(
            Network(name, {k: v for k, v in renamed.items() if k.startswith("c/")}, tiny_graph(), tiny_inputs())
        )
    found = list(emulate(networks, "cortex-m7", chunk=2))
    assert [f.name for f in found] == ["first", "second", "third"]
    for one in found:
        np.testing.assert_array_equal(one.outputs["z"], expected)
    assert len({f.instructions for f in found}) == 1


@pytest.mark.quick
def test_the_native_library_is_built_once(tmp_path: Path) -> None:
    first = shared_library("hook.c", tmp_path / "cache")
    stamp = first.stat().st_mtime_ns
    assert shared_library("hook.c", tmp_path / "cache") == first
    assert first.stat().st_mtime_ns == stamp
    assert list(first.parent.iterdir()) == [first]


@pytest.mark.quick
def test_a_cache_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolchainError, match="cache folder"):
        shared_library("hook.c", tmp_path / "file" / "cache")
