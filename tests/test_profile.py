"""What the instructions of a network are for, on made-up blocks and on real builds."""

from __future__ import annotations

import numpy as np
import pytest

import dnnc
from dnnc.artefact import Artefact
from dnnc.cost.instructions import Block, Instruction, Kind
from dnnc.cost.work import Part, Work, innermost_loops, parts
from dnnc.run import make_runner, toolchain
from dnnc.run.emulator import EmulatorRunner
from dnnc.run.layers import ALL, OUTSIDE
from dnnc.run.profile import Profile
from models import tiny_cnn

K = Kind


def block(*kinds: Kind, narrow: bool = False, target: int | None = None, at: int = 0x100) -> Block:
    made = [Instruction(at + 2 * i, 2, k, narrow=narrow and k is K.STORE) for i, k in enumerate(kinds)]
    if target is not None:
        made[-1] = Instruction(made[-1].address, 2, made[-1].kind, target=target, ends=True)
    return Block(tuple(made))


@pytest.mark.quick
@pytest.mark.parametrize(
    ("kinds", "in_loop", "expected"),
    [
        ((K.LOAD, K.EXTEND_PAIR, K.PAIR_PRODUCT, K.ALU, K.BRANCH), True, [(Work.MAC, 5)]),
        ((K.LOAD, K.PAIR_PRODUCT, K.LOAD, K.HIGH_PRODUCT, K.SATURATE, K.STORE), False,
         [(Work.MAC, 2), (Work.REQUANTISE, 4)]),
        ((K.LOAD, K.PRODUCT, K.ALU), True, [(Work.MAC, 3)]),
        ((K.LOAD, K.PRODUCT, K.ALU), False, [(Work.SETUP, 3)]),
        ((K.LOAD, K.EXTEND_PAIR, K.EXTEND_PAIR, K.STORE), True, [(Work.WIDEN, 4)]),
        ((K.LOAD, K.EXTEND, K.STORE, K.BRANCH), True, [(Work.WIDEN, 4)]),
        ((K.LOAD, K.STORE, K.ALU, K.BRANCH), True, [(Work.COPY, 4)]),
        ((K.LOAD, K.ALU, K.BRANCH), True, [(Work.OTHER, 3)]),
        ((K.STORE, K.ALU, K.CALL), False, [(Work.SETUP, 3)]),
    ],
)  # fmt: skip
def test_the_rule(kinds: tuple[Kind, ...], in_loop: bool, expected: list[tuple[Work, int]]) -> None:
    assert parts(block(*kinds), "kernel", in_loop) == tuple(Part(*e) for e in expected)


@pytest.mark.quick
def test_the_rule_knows_stores_of_results_and_names() -> None:
    assert parts(block(K.STORE, K.STORE, narrow=True), "kernel", False) == (Part(Work.REQUANTISE, 2),)
    assert parts(block(K.ALU, K.BRANCH), "dnnc_smlad_widen_two", False) == (Part(Work.WIDEN, 2),)
    assert parts(block(K.ALU, K.ALU), "memcpy", False) == (Part(Work.COPY, 2),)
    assert parts(block(K.ALU, K.ALU), "rewiden", False) == (Part(Work.SETUP, 2),)


@pytest.mark.quick
def test_innermost_loops() -> None:
    inner = block(K.ALU, K.BRANCH, at=0x104, target=0x104)
    outer = block(K.ALU, K.BRANCH, at=0x108, target=0x100)
    called = block(K.ALU, K.CALL, at=0x10C, target=0x100)
    other = block(K.ALU, K.BRANCH, at=0x200, target=0x100)
    found = innermost_loops([inner, outer, called, other], lambda a: "f" if a < 0x200 else "g")
    assert found == ((0x104, 0x108),)


@pytest.fixture(scope="module")
def artefacts() -> dict[str, Artefact]:
    x = np.random.default_rng(0).normal(size=(24, 3, 8, 8)).astype(np.float32)
    return {name: dnnc.compile(tiny_cnn(), target=name, data={"x": x}) for name in ("cortex-m7", "rv32imc")}


def profile(artefact: Artefact, compiler: str = "auto") -> tuple[EmulatorRunner, Profile]:
    runner = make_runner(artefact, on="emulator", compiler=compiler)
    assert isinstance(runner, EmulatorRunner)
    found = runner.run({name: codes[:1] for name, codes in artefact.vectors.inputs.items()}).profile
    assert found is not None
    return runner, found


@pytest.mark.parametrize("compiler", ["auto", "zig"])
@pytest.mark.parametrize("target", ["cortex-m7", "rv32imc"])
def test_a_profile_adds_up_exactly(artefacts: dict[str, Artefact], target: str, compiler: str) -> None:
    runner, found = profile(artefacts[target], compiler)
    inputs = {name: codes[:1] for name, codes in runner.artefact.vectors.inputs.items()}
    assert found.total.instructions == runner.run(inputs).instructions_per_inference
    for costs in (found.layers.values(), found.works.values(), [b.cost for b in found.blocks]):
        assert sum(c.instructions for c in costs) == found.total.instructions
        assert sum(c.cycles or 0 for c in costs) == found.total.cycles
    nodes = [node.name for node in runner.artefact.integer_graph.nodes]
    assert list(found.layers) == [*nodes, OUTSIDE]
    assert 0 < found.layers[OUTSIDE].instructions < 100
    assert found == profile(artefacts[target], compiler)[1]


@pytest.mark.parametrize("compiler", ["auto", "zig"])
def test_what_kernels_are_for(artefacts: dict[str, Artefact], compiler: str) -> None:
    _, found = profile(artefacts["cortex-m7"], compiler)
    for one in found.blocks:
        kinds = [i.kind for i in one.block.instructions]
        if one.place.startswith("dnnc_smlad_widen"):
            assert one.work is Work.WIDEN
        elif K.HIGH_PRODUCT in kinds and K.PAIR_PRODUCT not in kinds:
            assert one.work is Work.REQUANTISE
        elif kinds.count(K.PAIR_PRODUCT) > 2 and K.HIGH_PRODUCT not in kinds:
            assert one.work is Work.MAC
    assert set(found.works) >= {Work.MAC, Work.WIDEN, Work.REQUANTISE, Work.SETUP}


def test_scalar_loops_are_found_too(artefacts: dict[str, Artefact]) -> None:
    _, found = profile(artefacts["rv32imc"])
    assert found.works[Work.MAC].instructions > found.total.instructions / 3


@pytest.mark.parametrize("compiler", ["auto", "zig"])
@pytest.mark.parametrize("target", ["cortex-m7", "rv32imc"])
def test_line_tables_do_not_change_the_program(
    artefacts: dict[str, Artefact], target: str, compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_lines, _ = profile(artefacts[target], compiler)
    compile_objects = toolchain.compile_objects

    def without(compiler: toolchain.Compiler, folder, sources, flags, optimise="-O2"):  # type: ignore[no-untyped-def]
        assert "-g1" in flags
        return compile_objects(compiler, folder, sources, [f for f in flags if f != "-g1"], optimise)

    monkeypatch.setattr(toolchain, "compile_objects", without)
    plain, _ = profile(artefacts[target], compiler)
    assert plain.image.segments == with_lines.image.segments


def test_a_program_that_does_not_tell_its_layers_is_one(artefacts: dict[str, Artefact]) -> None:
    artefact = artefacts["cortex-m7"]
    source = artefact.files["c/" + artefact.name + ".c"].replace(b"TRACE(0,", b"TRACE(99,")
    edited = Artefact.create(
        artefact.name, artefact.target, {**artefact.files, f"c/{artefact.name}.c": source}, dict(artefact.manifest)
    )
    _, found = profile(edited)
    assert list(found.layers) == [ALL]
    assert found.total.instructions == profile(artefact)[1].total.instructions
