"""The C back end: what it refuses, how it names, what it writes; that the C computes is tests/test_cases.py."""

from __future__ import annotations

import io
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from cases import Case, all_cases, build_case_artefact_files, case_graph
from dnnc import fixed
from dnnc.artefact import Vectors
from dnnc.backends.c import emit, lower
from dnnc.backends.c.identifiers import Names, comment, identifier
from dnnc.backends.c.pack import BLOCKS, pack_linear, padded_k, stored_width, tile_words, unpack_linear
from dnnc.backends.c.program import Refusal
from dnnc.backends.c.strides import broadcast_strides, merge, strides
from dnnc.cost.loader import load_target
from dnnc.errors import UnsupportedError
from dnnc.ir.graph import Graph, Input, Node, Output
from dnnc.ir.types import Layout, Quant, TensorType
from dnnc.ops.movement import Reshape, Transpose
from dnnc.passes.plan import plan
from dnnc.run import toolchain
from dnnc.run.bare_metal import c_files
from dnnc.simulate import simulate

CASES = {case.name: case for case in all_cases()}


def emitted(case: Case, target: str = "host", graph: Graph | None = None) -> dict[str, str]:
    """File name -> text, self-test included."""
    hardware = load_target(target)
    graph = graph or case_graph(case, target)
    program = lower(graph, hardware, case.selection(graph))
    inputs = case.inputs(graph, 1)
    vectors = Vectors(inputs, simulate(graph, inputs))
    files = emit(graph, program, plan(graph, program.scratch, program.overwrites), hardware, vectors)
    return {name: data.decode() for name, data in c_files(files).items()}


# --- packing ---------------------------------------------------------------------------------------------------------


@pytest.mark.quick
@pytest.mark.parametrize("bits", range(1, 9))
def test_packed_tiles_come_back(bits: int) -> None:
    rng = np.random.default_rng(bits)
    lo, hi = fixed.weight_range(bits)
    for outputs, k, groups, order in (
        (5, 27, 1, "natural"),
        (6, 9, 3, "natural"),
        (5, 26, 1, "sxtb16"),
        (5, 27, 1, "columns"),
        (6, 10, 2, "unsigned"),
        (1, 1, 1, "natural"),
    ):
        weight = rng.integers(lo, hi + 1, (outputs, k))
        weight[weight == 0] = 1 if bits == 1 else 0
        words = pack_linear(weight, bits, groups, order)  # type: ignore[arg-type]
        assert np.array_equal(unpack_linear(words, bits, outputs, k, groups, order), weight)  # type: ignore[arg-type]
        if order == "natural":
            assert len(words) == groups * -(-outputs // groups // 4) * tile_words(k, bits)


@pytest.mark.quick
def test_padding_that_meets_any_activation_has_field_0() -> None:
    assert [hex(w) for w in pack_linear(np.array([[5]]), 8, order="columns")] == ["0x5", "0x0", "0x0", "0x0"]
    assert [hex(w) for w in pack_linear(np.array([[5]]), 8, order="unsigned")] == ["0x85", "0x0", "0x0", "0x0"]
    assert [hex(w) for w in pack_linear(np.array([[1]]), 1, order="columns")] == ["0x1"]
    assert [hex(w) for w in pack_linear(np.array([[-1, 1]]), 4, order="unsigned")] == ["0x90007", "0x0"]


@pytest.mark.quick
def test_a_word_of_bytes_is_two_channels_of_one_pair() -> None:
    weight = np.arange(8).reshape(4, 2)  # channel c holds 2c, 2c + 1
    assert [hex(w) for w in pack_linear(weight, 8)] == ["0x3010200", "0x7050604"]
    assert [hex(w) for w in pack_linear(weight - 4, 4)] == ["0xb975a864"]  # u = w + 8: low fields 4 6 8 a, high 5 7 9 b


@pytest.mark.quick
def test_blocks_are_whole_words_of_whole_pairs() -> None:
    sizes = {bits: (BLOCKS[bits].k_pairs, BLOCKS[bits].words) for bits in (1, 2, 3, 4, 5, 6, 8)}
    assert sizes == {1: (4, 1), 2: (2, 1), 3: (5, 4), 4: (1, 1), 5: (3, 4), 6: (2, 3), 8: (1, 2)}
    assert (padded_k(27, 8), padded_k(27, 3), padded_k(8, 1)) == (28, 30, 8)
    assert [stored_width(bits) for bits in range(1, 9)] == [1, 2, 3, 4, 5, 6, 8, 8]


# --- loops -----------------------------------------------------------------------------------------------------------


@pytest.mark.quick
def test_loops_are_merged_without_changing_the_visits() -> None:
    shape = (2, 1, 3, 4)
    loops = merge(shape, [strides(shape), broadcast_strides((3, 4), shape)], 4)
    assert loops.sizes == (1, 1, 2, 12)
    assert loops.strides == ((0, 0, 12, 1), (0, 0, 0, 1))
    with pytest.raises(Refusal, match="5 nested loops"):
        merge((2, 3, 2, 3, 2), [(0, 1, 0, 1, 0), (1, 0, 1, 0, 1)], 4)


# --- what is refused -------------------------------------------------------------------------------------------------


def _moved(shape: tuple[int, ...], perms: list[tuple[int, ...]]) -> Graph:
    quant = Quant(8, 0.1, 0)
    layout = Layout((1, *shape), 0, tuple(range(len(shape))))
    source = Input("x", TensorType(shape, quant), "x", layout)
    nodes = [
        Node(f"t{i}", Transpose(perm), ("x",), {}, TensorType(tuple(shape[p] for p in perm), quant))
        for i, perm in enumerate(perms)
    ]
    return Graph("moved", (source,), tuple(nodes), (Output("t0", "y", layout),)).verify()


@pytest.mark.quick
def test_everything_refused_is_named_at_once() -> None:
    graph = _moved((2, 3, 2, 3, 2), [(4, 3, 2, 1, 0), (0, 1, 2, 3, 4), (1, 0, 2, 3, 4)])
    with pytest.raises(UnsupportedError) as caught:
        lower(graph, load_target("host"))
    assert [item.node for item in caught.value.items] == ["t0"]
    graph = _moved((2, 3, 2, 3, 2), [(4, 3, 2, 1, 0), (4, 2, 0, 3, 1)])
    with pytest.raises(UnsupportedError, match=r"2 thing\(s\)") as caught:
        lower(graph, load_target("host"))
    assert "Transpose 't1': it needs 5 nested loops" in str(caught.value)


@pytest.mark.quick
def test_a_size_beyond_its_field_is_refused() -> None:
    node = CASES["dense_rows"].graph().nodes[0]
    graph = CASES["dense_rows"].graph()
    rows = 70000
    source = replace(graph.inputs[0], type=replace(graph.inputs[0].type, shape=(rows, 9)))
    wide = replace(graph, inputs=(source,), nodes=(replace(node, type=replace(node.type, shape=(rows, 6))),)).verify()
    with pytest.raises(UnsupportedError, match=r"in_w = 70000 is outside 0\.\.65535"):
        lower(wide, load_target("host"))


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.quick
def test_identifiers_are_harmless() -> None:
    hostile = ["", "int", "3x", "a b", "a/b:0", "../../etc", 'x";system("rm")', "ünï", "_", "A" * 100, "while", "*/"]
    for text in hostile:
        assert re.fullmatch(r"[a-z][a-z0-9_]{0,41}", identifier(text)), text
        assert identifier(identifier(text)) == identifier(text)
    assert identifier("int") != "int"
    names = Names("taken")
    assert [names.take("a"), names.take("A"), names.take("taken"), names.take("a")] == ["a", "A_2", "taken_2", "a_3"]


@pytest.mark.quick
def test_comments_cannot_be_left() -> None:
    assert comment("a */ b") == "a * / b"
    assert comment("a /* \\\n b ??/") == "a / * /? b ? ?/"


def test_hostile_names_compile(tmp_path: Path) -> None:
    """Inputs, outputs and nodes whose names collide with each other, with C and with the API."""
    graph = CASES["two_inputs_two_outputs"].graph()
    rename = dict(zip(graph.types, ("run", "input", "int", "*/ x ??/ \\"), strict=True))
    graph = replace(
        graph,
        name="while",
        inputs=tuple(replace(i, name=rename[i.name], model_name="*/") for i in graph.inputs),
        nodes=tuple(
            Node(rename[n.name], n.op, tuple(rename[i] for i in n.inputs), n.params, n.type) for n in graph.nodes
        ),
        outputs=tuple(replace(o, value=rename[o.value], model_name="run") for o in graph.outputs),
    )
    hardware = load_target("host")
    program = lower(graph, hardware)
    files = c_files(emit(graph, program, plan(graph, program.scratch, program.overwrites), hardware))
    toolchain.write_files(tmp_path, files)
    sources = [name for name in files if name.endswith(".c") and not name.startswith("dnnc_")]
    toolchain.compile_objects(toolchain.find_compiler(hardware), tmp_path, sources, ())


# --- what is written -------------------------------------------------------------------------------------------------


@pytest.mark.quick
def test_the_same_graph_gives_the_same_bytes() -> None:
    case = CASES["residual_network"]
    assert emitted(case) == emitted(case)


@pytest.mark.quick
def test_only_what_is_used_is_there() -> None:
    files = emitted(CASES["dense_w3"])
    assert sorted(files) == [
        "dense_w3.c", "dense_w3.h", "dense_w3_layers.h", "dense_w3_selftest.c", "dense_w3_weights.c",
        "dnnc_decode.h", "dnnc_kernels.h", "dnnc_s8_dense_w3_1x4__generic.c", "dnnc_tile.h",
    ]  # fmt: skip


@pytest.mark.quick
def test_generated_c_is_plain() -> None:
    """ASCII, lines of at most 120 columns, no absolute path, no include but of the standard's freestanding headers."""
    for target in ("host", "cortex-m7", "cortex-m0plus"):
        for name, text in emitted(CASES["residual_network"], target).items():
            assert text.isascii() and text.endswith("\n")
            assert all(len(line) <= 120 for line in text.splitlines()), name
            for header in re.findall(r"#include <(.*)>", text):
                assert header in ("stdint.h", "stddef.h"), name


@pytest.mark.quick
def test_equal_tables_are_stored_once() -> None:
    case = CASES["in_place_chain"]
    graph = case.graph()
    doubled = replace(graph.nodes[-1], name="again", inputs=(graph.nodes[-2].name,))
    graph = replace(
        graph,
        nodes=(*graph.nodes, doubled),
        outputs=(*graph.outputs, replace(graph.outputs[0], value="again", model_name="z")),
    )
    text = emitted(case, graph=graph.verify())["in_place_chain_weights.c"]
    assert text.count("_slopes[1] DNNC_TABLES") == 1
    assert text.count(".negative = ") == 2


@pytest.mark.quick
def test_weight_bytes_are_what_packing_promises() -> None:
    graph = CASES["conv_mixed_widths"].graph()
    step = lower(graph, load_target("host")).steps[0]
    words = dict.fromkeys((1, 2, 3, 4, 5, 6, 8), 0)
    widths = [stored_width(int(b)) for b in graph.nodes[0].params["weight_bits"]]
    for bits in words:
        words[bits] = -(-widths.count(bits) // 4) * tile_words(3 * 3 * 5, bits, "columns")
    assert step.weight_bytes == 4 * sum(words.values())
    assert step.kernel.count("_conv_w") == 7


@pytest.mark.quick
def test_outputs_may_take_the_place_of_inputs() -> None:
    def distances(name: str) -> dict[str, int]:
        found = lower(CASES[name].graph(), load_target("host")).steps[0].overwrites
        return {value: distance.bytes for value, distance in found.items()}

    assert distances("add_equal") == {"x0": 0, "x1": 0}
    assert distances("mul_vector_first") == {"x0": 56, "x1": 0}
    assert distances("add_8_and_16_to_8") == {"x0": 0, "x1": 0}
    assert distances("pointwise_8_to_16_bit") == {"x0": 32}
    host = load_target("host")
    assert isinstance(CASES["reshape"].graph().nodes[0].op, Reshape)
    assert lower(CASES["reshape"].graph(), host).steps[0].calls == ()


@pytest.mark.quick
def test_general_multipliers_on_a_shifting_target_are_multiplied() -> None:
    """A model may prescribe scales that are no powers of two; then its layers use the exact product of halves."""
    graph = CASES["conv_w8"].graph(power_of_two=False)
    target = load_target("cortex-m0plus")
    assert lower(graph, target).steps[0].kernel == "dnnc_s8_conv_w8_1x4__armv6m"
    assert lower(CASES["conv_w8"].graph(power_of_two=True), target).steps[0].kernel.endswith("1x4_shift__armv6m")


def test_no_long_arithmetic_on_cortex_m0plus(tmp_path: Path) -> None:
    """The kernels of a core without a long multiply call each other, and of the compiler's only Softmax's division."""
    files: dict[str, bytes] = {}
    for case in CASES.values():
        bits = {t.quant.bits for t in case.graph().types.values() if t.quant is not None}
        if max(bits) <= 8:
            files |= c_files(build_case_artefact_files(case, "cortex-m0plus"))
    files = {name: data for name, data in files.items() if name.startswith("dnnc_")}
    toolchain.write_files(tmp_path, files)
    sources = sorted(name for name in files if name.endswith(".c"))
    compiler = toolchain.find_compiler(load_target("cortex-m0plus"), "zig")
    for made in toolchain.compile_objects(compiler, tmp_path, sources, (), "-Os"):
        needed = _undefined((tmp_path / made).read_bytes()) - {"memcpy", "memset"}
        allowed = {name for name in needed if name.startswith(("__aeabi_mem", "__aeabi_unwind"))}
        allowed |= {name for name in needed if name.startswith("dnnc_")}
        if "softmax" in made:
            allowed |= {"__aeabi_uidiv"}
        assert needed <= allowed, f"{made} needs {sorted(needed - allowed)}"


def _undefined(elf: bytes) -> set[str]:
    symbols = ELFFile(io.BytesIO(elf)).get_section_by_name(".symtab").iter_symbols()
    return {s.name for s in symbols if s["st_shndx"] == "SHN_UNDEF" and s.name}


def test_selftest_finds_a_wrong_table(tmp_path: Path) -> None:
    """The stored vectors pass, and fail once a weight is changed."""
    case = CASES["residual_network"]
    files = emitted(case)
    name = case.name
    files["main.c"] = f'#include "{name}.h"\nint main(void) {{ return {name}_selftest(); }}\n'
    compiler = toolchain.find_compiler(load_target("host"))
    broken = re.sub(r"(_bias\w*\[\d+\] DNNC_TABLES = \{\n  )-?\d+", r"\g<1>99999", files[f"{name}_weights.c"])
    assert broken != files[f"{name}_weights.c"]
    results = []
    for label, weights in (("good", files[f"{name}_weights.c"]), ("bad", broken)):
        folder = tmp_path / label
        folder.mkdir()
        toolchain.write_files(folder, {k: v.encode() for k, v in (files | {f"{name}_weights.c": weights}).items()})
        objects = toolchain.compile_objects(compiler, folder, sorted(f for f in files if f.endswith(".c")), ())
        toolchain.run_tool((*compiler.command, *objects, "-o", "main.exe"), folder)
        results.append(_code(folder / "main.exe"))
    assert results[0] == 0
    assert results[1] > 0


def _code(program: Path) -> int:
    return subprocess.run([program], check=False).returncode
