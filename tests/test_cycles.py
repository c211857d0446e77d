"""Modelled cycles: instructions told apart, blocks, llvm-mca on blocks that were checked by hand, tables."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

import pytest

from dnnc.cost import riscv, thumb
from dnnc.cost.instructions import Block, Instruction, Kind, split
from dnnc.cost.loader import load_target
from dnnc.errors import ToolchainError
from dnnc.run import cycles, make_runner, mca
from dnnc.run.cycles import TableModel, find_model
from dnnc.run.emulator import EmulatorRunner
from dnnc.run.mca import Mca, assembly, find_tools
from dnnc.run.profile import Profile
from tiny import tiny_artefact, tiny_inputs

needs_mca = pytest.mark.skipif(find_tools() is None, reason="needs llvm-mca")

K = Kind
THUMB = [
    ("bf00", K.ALU), ("bf1c", K.IT), ("4348", K.PRODUCT), ("00c8", K.SHIFT), ("0008", K.ALU), ("4088", K.SHIFT),
    ("4008", K.ALU), ("b2c8", K.EXTEND), ("6808", K.LOAD), ("6008", K.STORE), ("fb00 f001", K.PRODUCT),
    ("fb00 2301", K.PRODUCT), ("fb20 2301", K.PAIR_PRODUCT), ("fb10 2301", K.PAIR_PRODUCT),
    ("fb50 2311", K.HIGH_PRODUCT), ("fb80 2301", K.LONG_PRODUCT), ("fbc0 23c1", K.PAIR_PRODUCT),
    ("fb90 f0f1", K.DIVIDE), ("f300 0007", K.SATURATE), ("f380 0007", K.SATURATE), ("fa2f f081", K.EXTEND_PAIR),
    ("fa3f f081", K.EXTEND_PAIR), ("fa4f f081", K.EXTEND), ("fa00 f001", K.SHIFT), ("fab0 f080", K.ALU),
    ("eac0 4001", K.SHIFT), ("eac0 0001", K.ALU), ("f100 0001", K.ALU), ("f3c0 0007", K.ALU), ("f3bf 8f4f", K.ALU),
    ("f850 1b04", K.LOAD), ("f840 1b04", K.STORE), ("ee30 0a01", K.FLOAT), ("ed90 0a00", K.LOAD),
]  # fmt: skip


@pytest.mark.parametrize(("code", "kind"), THUMB)
def test_kinds_of_thumb_instructions(code: str, kind: Kind) -> None:
    words = [int(w, 16) for w in code.split()]
    found = thumb.decode(words[0], [*words, 0][1], 0x100)
    assert (found.kind, found.size, found.ends) == (kind, 2 * len(words), False)


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [("c90f", K.LOAD, 4), ("c10f", K.STORE, 4), ("b5f0", K.STORE, 5), ("e8bd 00f0", K.LOAD, 4),
     ("e92d 4ff0", K.STORE, 9), ("e9d0 2302", K.LOAD, 2), ("e9c0 2302", K.STORE, 2), ("ed90 0b00", K.LOAD, 2),
     ("ec90 0b08", K.LOAD, 8)],
)  # fmt: skip
def test_words_that_are_moved(code: str, kind: Kind, words: int) -> None:
    halves = [int(w, 16) for w in code.split()]
    found = thumb.decode(halves[0], [*halves, 0][1], 0)
    assert (found.kind, found.words) == (kind, words)


@pytest.mark.parametrize(
    ("code", "kind", "target", "conditional"),
    [
        ("d1fd", K.BRANCH, 0xFE, True), ("e7fe", K.BRANCH, 0x100, False), ("b108", K.BRANCH, 0x106, True),
        ("f43f affe", K.BRANCH, 0x100, True), ("f7ff bffe", K.BRANCH, 0x100, False),
        ("f000 f802", K.CALL, 0x108, False), ("4770", K.BRANCH, None, False), ("4798", K.CALL, None, False),
        ("bd10", K.LOAD, None, False), ("e8bd 8010", K.LOAD, None, False), ("e8df f001", K.BRANCH, None, False),
        ("4687", K.BRANCH, None, False), ("f85d fb04", K.LOAD, None, False),
    ],
)  # fmt: skip
def test_where_thumb_branches_lead(code: str, kind: Kind, target: int | None, conditional: bool) -> None:
    words = [int(w, 16) for w in code.split()]
    found = thumb.decode(words[0], [*words, 0][1], 0x100)
    assert (found.kind, found.target, found.conditional, found.ends) == (kind, target, conditional, True)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0x00A58533, (K.ALU, None, 4)), (0x02A58533, (K.PRODUCT, None, 4)), (0x02A59533, (K.HIGH_PRODUCT, None, 4)),
        (0x02A5C533, (K.DIVIDE, None, 4)), (0x00052503, (K.LOAD, None, 4)), (0x00A58023, (K.STORE, None, 4)),
        (0xFE051EE3, (K.BRANCH, 0xFC, 4)), (0xFFDFF06F, (K.BRANCH, 0xFC, 4)), (0x008000EF, (K.CALL, 0x108, 4)),
        (0x00008067, (K.BRANCH, None, 4)), (0x8082, (K.BRANCH, None, 2)), (0x9502, (K.CALL, None, 2)),
        (0x4108, (K.LOAD, None, 2)), (0xC10C, (K.STORE, None, 2)), (0xFD75, (K.BRANCH, 0xFC, 2)),
        (0xBFF5, (K.BRANCH, 0xFC, 2)), (0x0505, (K.ALU, None, 2)), (0x852E, (K.ALU, None, 2)),
        (0x4502, (K.LOAD, None, 2)),
    ],
)  # fmt: skip
def test_kinds_of_riscv_instructions(code: int, expected: tuple[Kind, int | None, int]) -> None:
    found = riscv.decode(code & 0xFFFF, code >> 16, 0x100)
    assert (found.kind, found.target, found.size) == expected
    assert found.ends == (found.kind in (K.BRANCH, K.CALL))


def _kind_of(mnemonic: str) -> set[Kind]:
    """What an instruction may be by its name in a listing."""
    for pattern, kinds in (
        (r"it[te]*$", {K.IT}),
        (r"(smlal?d|smls|smla[btx]|smul[bt]|smua|smus|smlal[bt])", {K.PAIR_PRODUCT}),
        (r"(smm|smlaw|smulw)", {K.HIGH_PRODUCT}),
        (r"([us]mull|[us]mlal|umaal)", {K.LONG_PRODUCT}),
        (r"(mul|mla|mls)", {K.PRODUCT}),
        (r"[us]sat", {K.SATURATE}),
        (r"[us]xta?b16", {K.EXTEND_PAIR}),
        (r"[us]xta?[bh]", {K.EXTEND}),
        (r"[us]div", {K.DIVIDE}),
        (r"(ldr|ldm|pop|vldr|vldm|vpop)", {K.LOAD}),
        (r"(str|stm|push|vstr|vstm|vpush)", {K.STORE}),
        (r"(bl|blx)$", {K.CALL}),
        (r"(b|bx|cbn?z|tb[bh]|b(eq|ne|hs|lo|mi|pl|hi|ls|ge|lt|gt|le))$", {K.BRANCH}),
        (r"v", {K.FLOAT}),
    ):
        if re.match(pattern, mnemonic):
            return kinds
    return {K.ALU, K.SHIFT}


@needs_mca
@pytest.mark.parametrize("target", ["cortex-m7", "cortex-m4", "cortex-m33"])
@pytest.mark.parametrize("compiler", ["auto", "zig"])
def test_a_disassembler_agrees_about_every_executed_instruction(target: str, compiler: str) -> None:
    runner = make_runner(tiny_artefact(target), on="emulator", compiler=compiler)
    assert isinstance(runner, EmulatorRunner)
    profile = runner.run({"x": tiny_inputs()["x"][:1]}).profile
    assert profile is not None
    listing = _mca(target).disassemble(runner.image.elf)
    executed = [i for b in profile.blocks for i in b.block.instructions]
    assert len(executed) > 20
    for one in executed:
        mnemonic = listing[one.address].split("\t")[0].split(".")[0]
        assert one.kind in _kind_of(mnemonic), listing[one.address]


def test_blocks_start_where_branches_lead_and_where_counts_change() -> None:
    code = [Instruction(2 * i, 2, K.ALU) for i in range(8)]
    code[3] = Instruction(6, 2, K.BRANCH, target=2, ends=True)
    counts: dict[int, object] = {2 * i: (1 if i in (0, 4) else 9 if i < 4 else 5) for i in range(8)}
    assert [[i.address for i in b.instructions] for b in split(code, counts)] == [[0], [2, 4, 6], [8], [10, 12, 14]]


def _mca(target: str) -> Mca:
    core, tools = load_target(target).cycles, find_tools()
    assert core is not None and core.mca_triple is not None and core.mca_cpu is not None and tools is not None
    return Mca(tools, core.mca_triple, core.mca_cpu, core.transfer_words)


def price(target: str, *lines: str) -> float:
    """Cycles of a block that is listed so."""
    model = _mca(target)
    text = assembly(lines, model.transfer_words)
    return float(model.prices_of([text], [len(lines)], [lines[-1].startswith("bl\t")]).cycles[0])


SMLAD = "smlad\tr2, r4, r5, r2"


@needs_mca
@pytest.mark.parametrize(
    ("lines", "m7", "m4"),
    [
        ((SMLAD,), 1, 1),
        ((SMLAD, "smlad\tr3, r6, r7, r3"), 2, 2),
        (("ldr\tr4, [r0]", "ldr\tr5, [r0, #4]"), 1, 2),
        (("ldrd\tr4, r5, [r0]",), 1, 2),
        (("ldm.w\tr0, {r4, r5, r6, r7}",), 2, 4),
        (("ldm\tr0!, {r4, r5, r6, r7, r8}",), 4, 6),
        (("add\tr4, r4, r5", "add\tr6, r6, r7"), 1, 2),
        (("udiv\tr0, r1, r2",), 6, 1),
        (("it\tlt", "movlt\tr4, r5"), 0.5, 1),
        (("mov\tr4, r5", "cbz\tr3, 0x40 <there+0x4>"), 2, 3),
        (("mov\tr0, r4", "bl\t0x1234 <there> @ imm = #-4"), 2, 3),
    ],
)
def test_hand_checked_blocks(lines: tuple[str, ...], m7: float, m4: float) -> None:
    """In a loop: two instructions a cycle on the M7, but one product, shift, store or branch; what depends waits."""
    assert (price("cortex-m7", *lines), price("cortex-m4", *lines)) == pytest.approx((m7, m4), abs=0.01)


def test_what_llvm_mca_cannot_take_is_put_differently() -> None:
    listing = ["ite\tlt", "movlt.w\tr4, r5", "strge\tr4, [r0]", "cbnz\tr3, 0x40", "bl\t0x20", "blx\tr3", "bhi.w\t0x10"]
    assert assembly(listing, 2) == (
        "mov.w\tr4, r5", "str\tr4, [r0]", "cmp\tr3, #0", "bne\there", "b\there", "bx\tr3", "bhi\there",
    )  # fmt: skip
    several = ["pop.w\t{r4, r5, r6, pc}", "ldm\tr0, {r0, r1, r2}", "ldrd\tr0, r1, [r0], #8", "ldrd\tr2, r3, [r0, #16]"]
    assert assembly(several, 2) == (
        "ldrd\tr4, r5, [sp]", "ldr\tr6, [sp]", "ldr\tpc, [sp], #4", "ldrd\tr1, r2, [r0]", "ldr\tr0, [r0]",
        "ldrd\tr0, r1, [r0], #8", "ldrd\tr2, r3, [r0, #16]",
    )  # fmt: skip
    assert assembly(several, 1) == (
        "ldr\tr4, [sp]", "ldr\tr5, [sp]", "ldr\tr6, [sp]", "ldr\tpc, [sp], #4", "ldr\tr1, [r0]", "ldr\tr2, [r0]",
        "ldr\tr0, [r0]", "ldr\tr1, [r0]", "ldr\tr0, [r0], #8", "ldr\tr2, [r0]", "ldr\tr3, [r0, #16]",
    )  # fmt: skip


@needs_mca
def test_what_does_not_assemble_is_charged_like_the_rest_and_counted() -> None:
    model = _mca("cortex-m4")
    texts = [("add\tr4, r5, r6", "frobnicate\tr1", "add\tr7, r5, r6"), ("sub\tr4, r5, r6",)]
    prices = model.prices_of(texts, [3, 1], [False, False])
    assert prices.extrapolated == (1, 0)
    assert [float(c) for c in prices.cycles] == [3.0, 1.0]
    assert model.prices_of(texts, [3, 1], [False, False]) == prices


@needs_mca
def test_a_core_that_llvm_does_not_know_is_told() -> None:
    model = replace(_mca("cortex-m7"), cpu="cortex-m0plus", triple="thumbv6m-none-eabi")
    with pytest.raises(ToolchainError, match="cortex-m0plus"):
        model.prices_of([("adds\tr0, r0, r1",)], [1], [False])


def test_missing_tools_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert mca.find_tools.__wrapped__() is None


TARGETS = ("cortex-m7", "cortex-m4", "cortex-m33", "cortex-m0plus", "rv32imc")
ARM_LOOP = '__asm__ volatile(".syntax unified\\n movs r3, #{n}\\n1: nop\\n subs r3, #1\\n bne 1b" ::: "r3", "cc");'
RISCV_LOOP = '__asm__ volatile("li t0, {n}\\n1: nop\\n addi t0, t0, -1\\n bnez t0, 1b" ::: "t0");'


def profile(target: str, body: str = "") -> Profile:
    found = make_runner(tiny_artefact(target, body), on="emulator").run({"x": tiny_inputs()["x"][:1]}).profile
    assert found is not None
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_without_llvm_mca_the_table_of_the_target_tells(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cycles, "find_tools", lambda: None)
    loop = RISCV_LOOP if target == "rv32imc" else ARM_LOOP
    short, long = (profile(target, loop.format(n=n)) for n in (10, 210))
    assert short.model is not None and short.model.startswith("table (")
    core = load_target(target).cycles
    assert core is not None and core.table is not None and short.total.cycles and long.total.cycles
    each = 2 * core.table.alu + core.table.branch_taken
    # a block is rounded to whole cycles
    assert long.total.cycles - short.total.cycles == pytest.approx(200 * each, abs=4)


def test_documented_costs_of_a_loop() -> None:
    """Cortex-M0+: NOP 1, SUBS 1, BNE 2 where taken; CV32E40P: 1, 1 and 3."""
    for target, loop, each in (("cortex-m0plus", ARM_LOOP, 4), ("rv32imc", RISCV_LOOP, 5)):
        short, long = (profile(target, loop.format(n=n)).total.cycles for n in (10, 210))
        assert short is not None and long is not None
        assert long - short == 200 * each


def test_a_table_adds_up_over_a_block() -> None:
    core = load_target("cortex-m0plus").cycles
    assert core is not None and core.table is not None
    block = Block(
        (
            Instruction(0, 2, K.LOAD, words=4),
            Instruction(2, 2, K.PRODUCT),
            Instruction(4, 2, K.STORE),
            Instruction(6, 2, K.LOAD, words=3, ends=True),
        )
    )
    prices = TableModel(core.table).price(b"", [block], {6: Fraction(1)})
    assert prices.cycles == (Fraction(2 + 3 + 1 + 2 + 2 + 2 + 2),)


def test_a_target_without_cycles_has_no_model() -> None:
    assert find_model(load_target("host")) is None
    assert find_model(replace(load_target("cortex-m7"), cycles=None)) is None


@needs_mca
def test_the_report_says_which_model() -> None:
    tools = find_tools()
    assert tools is not None
    assert profile("cortex-m7").model == f"llvm-mca {tools.version} cortex-m7"
    assert profile("cortex-m7") == profile("cortex-m7")
