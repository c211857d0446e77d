"""The memory planner, judged by an arena whose bytes remember who wrote them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnc import frontend
from dnnc.backends.c import lower
from dnnc.cost.loader import load_target
from dnnc.ir.graph import Graph, Input, Node, Output
from dnnc.ir.op import Op
from dnnc.ir.types import Layout, Quant, TensorType
from dnnc.ops.movement import Constant, Reshape
from dnnc.passes.lifetime import Distance, Overwrites
from dnnc.passes.place import Piece, Placer
from dnnc.passes.plan import Plan, plan, struct_offsets
from random_graphs import quantise_simply, random_data
from shared import MODEL_NAMES, model_path, needs_shared


@dataclass(frozen=True)
class Opaque(Op):
    """Reads and writes; what exactly is no business of the planner."""

    kind: ClassVar[str] = "Opaque"

    def infer(self, ins: Sequence[Any], params: Any) -> tuple[int, ...]:
        raise NotImplementedError

    def real(self, xs: Any, params: Any) -> Any:
        raise NotImplementedError

    def quantise(self, params: Any, ins: Any, out: Any) -> Any:
        raise NotImplementedError

    def integer(self, xs: Any, params: Any, ins: Any, out: Any) -> Any:
        raise NotImplementedError


def bytes_type(size: int) -> TensorType:
    return TensorType((size,), Quant(8, 1.0, 0))


def make_graph(
    inputs: Mapping[str, int], nodes: Sequence[tuple[str, int, Sequence[str]]], outputs: Sequence[str]
) -> Graph:
    """Nodes are (name, bytes, inputs); a name that begins with "view" is a Reshape, with "const" a Constant."""
    layout = Layout((1,), 0, (0,))
    made = []
    for name, size, sources in nodes:
        op: Op = Opaque()
        if name.startswith("view"):
            op = Reshape((size,))
        elif name.startswith("const"):
            op = Constant()
        made.append(Node(name, op, tuple(sources), {}, bytes_type(size)))
    return Graph(
        "g",
        tuple(Input(name, bytes_type(size), name, layout) for name, size in inputs.items()),
        tuple(made),
        tuple(Output(value, f"out{i}", layout) for i, value in enumerate(outputs)),
    )


def in_place(**inputs: Sequence[str]) -> dict[str, dict[str, Distance]]:
    """Nodes that may begin where any of these inputs begins."""
    return {node: dict.fromkeys(values, Distance(0)) for node, values in inputs.items()}


class Arena:
    """Bytes that know their writer."""

    def __init__(self, size: int) -> None:
        self.bytes = np.zeros(size, np.int64)

    def write(self, tag: int, offset: int, size: int) -> None:
        assert offset >= 0 and offset + size <= len(self.bytes), "outside the arena"
        self.bytes[offset : offset + size] = tag * 2**20 + np.arange(size)

    def holds(self, tag: int, offset: int, size: int) -> bool:
        return bool(np.all(self.bytes[offset : offset + size] == tag * 2**20 + np.arange(size)))


def overlap(graph: Graph, result: Plan, value: str, other: str) -> bool:
    """Whether two values have bytes in common."""
    if value not in result.offsets or other not in result.offsets:
        return False
    start, at = result.offsets[value], result.offsets[other]
    return start < at + graph.types[other].nbytes and at < start + graph.types[value].nbytes


def assert_behind(behind: int, distance: Distance) -> None:
    """That an output which begins `behind` bytes before an input keeps its distance."""
    assert behind == distance.bytes if distance.exact else behind >= distance.bytes


def check(graph: Graph, result: Plan, scratch: Mapping[str, int], overwrites: Overwrites) -> None:
    """Execute the plan symbolically: every read must find what was written for it."""
    arena = Arena(result.arena_bytes)
    tags: dict[str, int] = {}
    fresh = itertools.count(1)

    def intact(value: str) -> bool:
        return value not in result.offsets or arena.holds(tags[value], result.offsets[value], graph.types[value].nbytes)

    starts, _ = struct_offsets([i.type.nbytes for i in graph.inputs])
    for source, start in zip(graph.inputs, starts, strict=True):
        assert result.offsets[source.name] == result.input_offset + start
        tags[source.name] = next(fresh)
        arena.write(tags[source.name], result.offsets[source.name], source.type.nbytes)
    for node in graph.nodes:
        if node.name in scratch:
            own = next(fresh)
            arena.write(own, result.scratch_offsets[node.name], scratch[node.name])
        assert all(intact(v) for v in node.inputs), f"an input of {node.name} is gone"
        if isinstance(node.op, Reshape):
            assert result.offsets.get(node.name) == result.offsets.get(node.inputs[0])
            tags[node.name] = tags[node.inputs[0]]
        elif isinstance(node.op, Constant):
            assert node.name not in result.offsets
            tags[node.name] = next(fresh)
        else:
            tags[node.name] = next(fresh)
            arena.write(tags[node.name], result.offsets[node.name], node.type.nbytes)
            for i, value in enumerate(node.inputs):
                met = overlap(graph, result, node.name, value)
                assert met == (i in result.overwritten.get(node.name, ()))
                assert met or intact(value)
                if met:
                    assert_behind(result.offsets[value] - result.offsets[node.name], overwrites[node.name][value])
        if node.name in scratch:
            assert arena.holds(own, result.scratch_offsets[node.name], scratch[node.name])
        assert intact(node.name)
    starts, _ = struct_offsets([graph.types[o.value].nbytes for o in graph.outputs])
    copies = {c.output: c for c in result.output_copies}
    for number, copy in copies.items():
        assert copy.value == graph.outputs[number].value and intact(copy.value)
        arena.write(tags[copy.value], copy.offset, graph.types[copy.value].nbytes)
    for number, (output, start) in enumerate(zip(graph.outputs, starts, strict=True)):
        at = copies[number].offset if number in copies else result.offsets[output.value]
        assert at == result.output_offset + start
        assert arena.holds(tags[output.value], at, graph.types[output.value].nbytes)
    assert result.arena_bytes >= result.lower_bound_bytes
    assert result.arena_bytes % 4 == 0
    assert all(o % 4 == 0 for o in (*result.offsets.values(), *result.scratch_offsets.values()))


@st.composite
def problems(draw: st.DrawFn) -> tuple[Graph, dict[str, int], dict[str, dict[str, Distance]]]:
    """Graphs with views, constants, residuals, dead values, shared outputs; scratch; permission to overwrite."""
    sizes = st.sampled_from([1, 3, 4, 8, 12, 20, 33, 64])
    inputs = {f"in{i}": draw(sizes) for i in range(draw(st.integers(1, 3)))}
    size = dict(inputs)
    nodes: list[tuple[str, int, list[str]]] = []
    scratch: dict[str, int] = {}
    overwrites: dict[str, dict[str, Distance]] = {}
    distances = st.builds(Distance, st.sampled_from([0, 0, 4, 8, 16, 40]), st.booleans())
    for i in range(draw(st.integers(0, 14))):
        known = list(size)
        kind = draw(st.sampled_from(["op", "op", "op", "op", "view", "const"]))
        name = f"{kind}{i}"
        recent = st.sampled_from(known[-3:]) | st.sampled_from(known)
        sources = draw(st.lists(recent, min_size=1, max_size={"op": 3, "view": 1, "const": 1}[kind]))
        size[name] = size[sources[0]] if kind == "view" or draw(st.booleans()) else draw(sizes)
        nodes.append((name, size[name], [] if kind == "const" else sources))
        if kind == "op":
            overwrites[name] = draw(st.dictionaries(st.sampled_from(sources), distances))
            if draw(st.booleans()):
                scratch[name] = draw(st.sampled_from([0, 2, 16, 40]))
    outputs = draw(st.lists(st.sampled_from(list(size)[-4:]) | st.sampled_from(list(size)), min_size=1, max_size=3))
    return make_graph(inputs, nodes, outputs), scratch, overwrites


@given(problems())
@settings(max_examples=100)
def test_every_read_finds_its_bytes(problem: tuple[Graph, dict[str, int], dict[str, dict[str, Distance]]]) -> None:
    graph, scratch, overwrites = problem
    result = plan(graph, scratch, overwrites)
    check(graph, result, scratch, overwrites)
    assert plan(graph, scratch, overwrites) == result


@pytest.mark.quick
def test_a_chain_alternates_between_the_two_ends() -> None:
    graph = make_graph({"x": 100}, [("a", 60, "x"), ("b", 100, "a"), ("c", 60, "b"), ("d", 8, "c")], ["d"])
    result = plan(graph)
    check(graph, result, {}, {})
    assert result.arena_bytes == result.lower_bound_bytes == 160


@pytest.mark.quick
def test_element_wise_chains_need_one_buffer() -> None:
    graph = make_graph({"x": 100}, [("a", 100, "x"), ("b", 100, "a"), ("c", 100, "b")], ["c"])
    overwrites = in_place(a="x", b="a", c="b")
    result = plan(graph, {}, overwrites)
    check(graph, result, {}, overwrites)
    assert result.arena_bytes == result.lower_bound_bytes == 100
    assert result.overwritten == dict.fromkeys("abc", (0,))


@pytest.mark.quick
def test_an_output_lies_behind_its_input_as_far_as_it_must() -> None:
    graph = make_graph({"x": 40}, [("a", 80, "x"), ("b", 80, "a"), ("c", 80, "b")], ["c"])
    overwrites = {"a": {"x": Distance(44)}, "b": {"a": Distance(8)}, "c": {"b": Distance(0)}}
    result = plan(graph, {}, overwrites)
    check(graph, result, {}, overwrites)
    assert result.arena_bytes == 92
    assert result.lower_bound_bytes == 88  # one step does not see that x moves with a
    assert result.offsets == {"x": 52, "a": 8, "b": 0, "c": 0}
    assert result.overwritten == {"a": (0,), "b": (0,), "c": (0,)}


@pytest.mark.quick
def test_an_exact_distance_is_kept_or_there_is_none() -> None:
    """`b` is as large as `a` and must lie 8 bytes before it; nothing may lie 4 bytes before."""
    graph = make_graph({"x": 4}, [("a", 40, "x"), ("b", 40, "a")], ["b"])
    overwrites = {"b": {"a": Distance(8, exact=True)}}
    result = plan(graph, {}, overwrites)
    check(graph, result, {}, overwrites)
    assert result.offsets["a"] - result.offsets["b"] == 8
    assert result.arena_bytes == result.lower_bound_bytes == 48


@pytest.mark.quick
def test_members_of_a_struct_stay_together_when_one_is_overwritten() -> None:
    graph = make_graph({"x": 20, "y": 36}, [("a", 40, "y"), ("b", 8, ["a", "x"])], ["b", "a"])
    overwrites = {"a": {"y": Distance(16)}, "b": {"x": Distance(0)}}
    result = plan(graph, {}, overwrites)
    check(graph, result, {}, overwrites)
    assert result.arena_bytes >= result.lower_bound_bytes == 20 + 16 + 36


@pytest.mark.quick
def test_a_distance_is_not_worth_a_gap() -> None:
    """Chained at their distances the three would take 100 + 2 * 60 bytes; the last one need not be."""
    graph = make_graph({"x": 100}, [("a", 100, "x"), ("b", 20, "a"), ("c", 100, "b")], ["c"])
    overwrites = {"a": {"x": Distance(60)}, "c": {"b": Distance(60)}}
    result = plan(graph, {}, overwrites)
    check(graph, result, {}, overwrites)
    assert result.arena_bytes == result.lower_bound_bytes == 160


@pytest.mark.quick
def test_a_residual_is_kept_and_the_sum_overwrites_the_branch() -> None:
    graph = make_graph({"x": 64}, [("a", 64, "x"), ("b", 64, "a"), ("sum", 64, ["b", "x"]), ("y", 64, ["sum"])], ["y"])
    overwrites = in_place(sum="bx", y=["sum"])
    result = plan(graph, {}, overwrites)
    check(graph, result, {}, overwrites)
    assert result.arena_bytes == result.lower_bound_bytes == 3 * 64


@pytest.mark.quick
def test_an_input_read_twice_is_overwritten_only_if_both_reads_allow_it() -> None:
    graph = make_graph({"x": 16}, [("view", 16, ["x"]), ("square", 16, ["x", "view"])], ["square"])
    assert plan(graph, {}, in_place(square="x")).overwritten == {}
    assert plan(graph, {}, in_place(square=["x", "view"])).arena_bytes == 16
    uneven = {"square": {"x": Distance(4), "view": Distance(8)}}
    assert plan(graph, {}, uneven).arena_bytes == 24
    assert plan(graph, {}, {"square": {"x": Distance(4, True), "view": Distance(8)}}).arena_bytes == 32


@pytest.mark.quick
def test_a_view_keeps_its_source_alive() -> None:
    nodes = [("a", 16, ["x"]), ("view", 16, ["a"]), ("b", 16, ["a"]), ("c", 16, ["view", "b"])]
    graph = make_graph({"x": 16}, nodes, ["c"])
    result = plan(graph, {}, in_place(b="a"))
    check(graph, result, {}, in_place(b="a"))
    assert result.overwritten == {}
    assert result.offsets["view"] == result.offsets["a"]


@pytest.mark.quick
def test_outputs_that_cannot_live_in_their_slots_are_copied() -> None:
    graph = make_graph(
        {"x": 8}, [("a", 8, ["x"]), ("const", 8, []), ("view", 8, ["x"])], ["a", "a", "x", "const", "view"]
    )
    result = plan(graph)
    check(graph, result, {}, {})
    assert [(c.output, c.value) for c in result.output_copies] == [(1, "a"), (2, "x"), (3, "const"), (4, "view")]


@pytest.mark.quick
def test_an_input_nobody_reads_and_an_output_that_is_the_input() -> None:
    graph = make_graph({"x": 8, "unused": 24}, [("a", 24, ["x"])], ["a"])
    result = plan(graph)
    check(graph, result, {}, {})
    assert result.arena_bytes == 32  # `a` lies where the unused input was
    graph = make_graph({"x": 8}, [], ["x"])
    result = plan(graph)
    check(graph, result, {}, {})
    assert result.arena_bytes == 16


@pytest.mark.quick
def test_scratch_lives_during_its_node_only() -> None:
    graph = make_graph({"x": 8}, [("a", 8, "x"), ("b", 8, "a"), ("c", 8, "b")], ["c"])
    scratch = {"a": 30, "b": 40, "c": 10}
    result = plan(graph, scratch)
    check(graph, result, scratch, {})
    assert result.arena_bytes == result.lower_bound_bytes == 8 + 8 + 40


@pytest.mark.quick
def test_the_search_is_exact() -> None:
    """Random small problems against brute force over all first-fit orders, which contain an optimum."""
    random = np.random.default_rng(0)
    improved = 0
    for _ in range(60):
        blocks = []
        for _ in range(6):
            first = int(random.integers(0, 8))
            blocks.append((Piece(0, int(random.integers(1, 9)), first, first + int(random.integers(0, 5))),))
        placer = Placer(blocks)
        start = placer._first_fit(range(6))
        found = placer.search(start, 0)
        best = min(placer.peak(placer._first_fit(order)) for order in itertools.permutations(range(6)))
        assert placer.peak(found) == best
        improved += best < placer.peak(start)
        assert best <= placer.peak(placer.greedy())
    assert improved > 10, "the problems are too easy to tell"


def apart(placer: Placer, offsets: Sequence[int]) -> bool:
    """Whether no two pieces that live at once share a byte, but as one of them allows."""
    placed = [(piece, at + piece.offset) for block, at in zip(placer.blocks, offsets, strict=True) for piece in block]
    for (p, at), (q, other) in itertools.permutations(placed, 2):
        together = p.first <= q.last and q.first <= p.last and at < other + q.size and other < at + p.size
        if together and q.behind(p) is None:
            distance = p.behind(q)
            if distance is None or other - at < distance.bytes or (distance.exact and other - at > distance.bytes):
                return False
    return True


@pytest.mark.quick
def test_the_search_is_exact_where_pieces_may_overlap() -> None:
    """As above; every other block is the output of one that dies when it is made."""
    random = np.random.default_rng(3)
    improved = helped = 0
    for _ in range(40):
        blocks: list[tuple[Piece, ...]] = []
        for i in range(6):
            before = blocks[-1][0] if i % 2 else None
            first = int(random.integers(0, 6)) if before is None else before.last
            distance = Distance(int(random.integers(0, 5)))
            over = () if before is None else ((before.name, distance),)
            last = first + int(random.integers(1, 4))
            blocks.append((Piece(0, int(random.integers(1, 9)), first, last, str(i), over),))
        placer, plain = Placer(blocks), Placer([tuple(replace(p, over=()) for p in block) for block in blocks])
        start = placer._first_fit(range(6))
        found = placer.search(start, 0)
        best = min(placer.peak(placer._first_fit(order)) for order in itertools.permutations(range(6)))
        assert apart(placer, found)
        assert placer.bound <= placer.peak(found) == best
        improved += best < placer.peak(start)
        helped += best < plain.peak(plain.search(plain.greedy(), 0))
    assert min(improved, helped) > 10, "the problems are too easy to tell"


@pytest.mark.quick
def test_a_hundred_nodes_take_less_than_a_second() -> None:
    random = np.random.default_rng(1)
    nodes: list[tuple[str, int, list[str]]] = []
    names = ["x"]
    for i in range(100):
        far = names[int(random.integers(max(0, len(names) - 6), len(names)))]
        nodes.append((f"n{i}", int(random.integers(1, 500)), [names[-1], far]))
        names.append(f"n{i}")
    graph = make_graph({"x": 300}, nodes, [names[-1]])
    scratch = dict.fromkeys(names[1::3], 50)
    distances = [Distance(int(d)) for d in random.choice([0, 4, 40], 100)]
    overwrites = {name: dict.fromkeys(sources, d) for (name, _, sources), d in zip(nodes, distances, strict=True)}
    began = time.process_time()
    result = plan(graph, scratch, overwrites)
    seconds = time.process_time() - began
    check(graph, result, scratch, overwrites)
    assert result.arena_bytes <= 1.05 * result.lower_bound_bytes
    assert seconds < 3, "meant to take less than one, on an idle machine"


#: How far the arena may lie above the bound. That sees one step at a time: not that a chain of kernels, each some bytes
#: behind its input, drifts by the sum of them.
ABOVE_BOUND = {
    ("host", "kws_dscnn"): 1.161,
    ("host", "strww_streaming"): 1.061,
    ("host", "vww_mobilenetv1_025"): 1.001,
    ("host", "vgg_small_cifar10"): 1.001,
}


@needs_shared
@pytest.mark.parametrize("target", ["cortex-m7", "host"])
@pytest.mark.parametrize("name", MODEL_NAMES)
def test_real_models_are_at_the_lower_bound(name: str, target: str) -> None:
    graph = frontend.read(model_path(name))
    integer = quantise_simply(graph, random_data(graph, 1))
    program = lower(integer, load_target(target))
    result = plan(integer, program.scratch, program.overwrites)
    check(integer, result, program.scratch, program.overwrites)
    assert result.arena_bytes <= ABOVE_BOUND.get((target, name), 1) * result.lower_bound_bytes


@needs_shared
@pytest.mark.parametrize(
    ("name", "most"),
    [("resnet8_cifar10", 36_000), ("vww_mobilenetv1_025", 50_000), ("kws_dscnn", 10_000), ("ad_autoencoder", 2_200)],
)
def test_arenas_stay_small(name: str, most: int) -> None:
    """Bytes on a cortex-m7 at 8 bits: a kernel that came without its order, or with much scratch, would show here."""
    graph = frontend.read(model_path(name))
    integer = quantise_simply(graph, random_data(graph, 1))
    program = lower(integer, load_target("cortex-m7"))
    assert plan(integer, program.scratch, program.overwrites).arena_bytes <= most
