"""Types and graphs: what verify() catches, dead nodes, the printer, and graphs as bytes."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnc import ops
from dnnc.errors import ArtefactError, ModelError
from dnnc.ir.graph import Graph, Input, Node, Output, make_node
from dnnc.ir.layout import from_model, to_model
from dnnc.ir.printer import print_graph
from dnnc.ir.serial import dump_graph, load_graph
from dnnc.ir.types import Layout, Quant, TensorType
from dnnc.ops.activation import Clamp
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.elementwise import Add
from dnnc.ops.movement import Reshape
from dnnc.ops.pointwise import Pointwise
from random_graphs import graphs, quantise_simply, random_data, random_graph, single
from test_ops import CASES, Case

pytestmark = pytest.mark.quick
PLAIN = Layout((1, 4, 4, 2), 0, (1, 2, 0))


def little_net() -> Graph:
    """conv -> add(input) -> reshape -> dense, and a node that nobody needs."""
    image = Input("x", TensorType((4, 4, 2)), "images", Layout((1, 2, 4, 4), 0, (1, 2, 0)))
    types = {"x": image.type}
    nodes: list[Node] = []

    def add(name: str, op: ops.Op, inputs: list[str], **params: np.ndarray) -> None:
        nodes.append(make_node(name, op, inputs, types, params))
        types[name] = nodes[-1].type

    conv = Conv2D(padding=(1, 1, 1, 1), clamp=Clamp(0.0, 6.0))
    add("conv", conv, ["x"], weight=np.ones((2, 3, 3, 2), np.float32), bias=np.zeros(2, np.float32))
    add("sum", Add(), ["conv", "x"])
    add("dead", Pointwise("tanh"), ["sum"])
    add("flat", Reshape((32,)), ["sum"])
    add("logits", Dense(), ["flat"], weight=np.ones((3, 32), np.float32), bias=np.zeros(3, np.float32))
    return Graph("little", (image,), tuple(nodes), (Output("logits", "scores", Layout((1, 3), 0, (0,))),)).verify()


def changed(graph: Graph, node: str, /, **fields: object) -> Graph:
    """The graph with fields of one node replaced."""
    return graph.with_nodes(replace(n, **fields) if n.name == node else n for n in graph.nodes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("corrupt", "message"),
    [
        (lambda g: replace(g, inputs=g.inputs * 2), "input 'x' appears twice"),
        (lambda g: changed(g, "sum", name="conv"), "node 'conv' appears twice"),
        (lambda g: changed(g, "conv", name="x"), "node 'x' appears twice"),
        (lambda g: changed(g, "sum", inputs=("conv", "flat")), "node 'sum' reads 'flat' before it is made"),
        (lambda g: changed(g, "sum", inputs=("sum", "x")), "node 'sum' reads 'sum' before it is made"),
        (lambda g: changed(g, "sum", inputs=("conv", "ghost")), "node 'sum' reads 'ghost' before it is made"),
        (lambda g: g.with_nodes(reversed(g.nodes)), "node 'logits' reads 'flat' before it is made"),
        (lambda g: changed(g, "sum", type=TensorType((4, 4, 3))), r"'sum' \(Add\) makes .* but its type says"),
        (lambda g: changed(g, "flat", op=Reshape((31,))), "cannot be reshaped"),
        (lambda g: changed(g, "logits", inputs=("x",)), "do not fit an input"),
        (lambda g: replace(g, outputs=(replace(g.outputs[0], value="ghost"),)), "'scores' names the unknown value"),
    ],
)
def test_verify_catches(corrupt: object, message: str) -> None:
    broken = corrupt(little_net())  # type: ignore[operator]
    with pytest.raises(ModelError, match=message):
        broken.verify()


def test_prune_dead_keeps_what_an_output_needs_and_every_input() -> None:
    pruned = little_net().prune_dead()
    assert [n.name for n in pruned.nodes] == ["conv", "sum", "flat", "logits"]
    assert pruned.prune_dead().nodes == pruned.nodes
    graph = replace(little_net(), outputs=(Output("conv", "features", PLAIN),)).prune_dead()
    assert [n.name for n in graph.nodes] == ["conv"]
    nothing = replace(little_net(), outputs=(Output("x", "echo", PLAIN),)).prune_dead().verify()
    assert (nothing.nodes, len(nothing.inputs)) == ((), 1)


def test_graphs_answer_questions() -> None:
    graph = little_net()
    assert [n.name for n in graph.consumers["sum"]] == ["dead", "flat"]
    assert [n.name for n in graph.consumers["x"]] == ["conv", "sum"]
    assert graph.consumers["logits"] == ()
    assert graph.types["flat"].shape == (32,)
    assert [t.shape for t in graph.input_types(graph.by_name["sum"])] == [(4, 4, 2), (4, 4, 2)]
    assert not graph.integer
    assert quantise_simply(graph, random_data(graph)).integer


def test_graphs_cannot_be_changed_in_place() -> None:
    graph = little_net()
    weights = np.ones((3, 32), np.float32)
    node = make_node("d", Dense(), ["flat"], graph.types, {"weight": weights, "bias": np.zeros(3)})
    weights[0, 0] = 5
    assert node.params["weight"][0, 0] == 1, "a node owns its parameters"
    with pytest.raises(ValueError, match="read-only"):
        node.params["weight"][0, 0] = 2
    with pytest.raises(TypeError):
        node.params["weight"] = weights  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.name = "other"  # type: ignore[misc]


def test_printed() -> None:
    assert print_graph(little_net()) == (
        "graph little\n"
        "  input x: f32[4x4x2]\n"
        "  conv = Conv2D(x) padding=(1, 1, 1, 1) clamp=[0.0, 6.0] {bias:2 weight:2x3x3x2}: f32[4x4x2]\n"
        "  sum = Add(conv, x): f32[4x4x2]\n"
        "  dead = Pointwise(sum) function=tanh: f32[4x4x2]\n"
        "  flat = Reshape(sum) shape=(32,): f32[32]\n"
        "  logits = Dense(flat) {bias:3 weight:3x32}: f32[3]\n"
        "  output scores = logits\n"
    )


def test_printed_integers_show_their_quantisation() -> None:
    node = Node("y", Pointwise("relu"), ("x",), {}, TensorType((), Quant(8, 0.5, -3)))
    image = Input("x", TensorType((2,), Quant(4, 0.25, 0)), "x", Layout((2,), None, (0,)))
    assert print_graph(Graph("g", (image,), (node,), ())) == (
        "graph g\n"
        "  input x: [2] s4 scale=0.25 zero_point=0\n"
        "  y = Pointwise(x) function=relu: [scalar] s8 scale=0.5 zero_point=-3\n"
    )


STORED = dump_graph(random_graph(3))


# --- bytes -----------------------------------------------------------------------------------------------------------


def same(a: Graph, b: Graph) -> None:
    """Equal in everything that means something."""
    assert (a.name, a.inputs, a.outputs, a.notes) == (b.name, b.inputs, b.outputs, b.notes)
    assert len(a.nodes) == len(b.nodes)
    for x, y in zip(a.nodes, b.nodes, strict=True):
        assert (x.name, x.op, x.inputs, x.type) == (y.name, y.op, y.inputs, y.type)
        assert type(x.op) is type(y.op)
        assert sorted(x.params) == sorted(y.params)
        for key, value in x.params.items():
            assert value.dtype == y.params[key].dtype
            assert value.shape == y.params[key].shape
            assert np.array_equal(value, y.params[key])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_operation_with_its_attributes_round_trips(case: Case) -> None:
    graph = replace(single(case.op, case.shapes, case.params), notes=("made by hand", "naïve"))
    same(load_graph(dump_graph(graph), ops.BY_KIND), graph)


@given(graphs())
def test_graphs_round_trip_in_floats_and_integers(graph: Graph) -> None:
    integer = quantise_simply(graph, random_data(graph))
    for one in (graph, integer):
        data = dump_graph(one)
        back = load_graph(data, ops.BY_KIND).verify()
        same(back, one)
        assert dump_graph(back) == data, "the same graph gives the same bytes"


def test_damaged_bytes_are_named() -> None:
    data = dump_graph(random_graph(3))
    for broken in (b"", b"nonsense", data[: len(data) // 2], data[:-30]):
        with pytest.raises(ArtefactError, match=r"stored (graph is|arrays are) damaged"):
            load_graph(broken, ops.BY_KIND)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("other.npy", b"x")
    with pytest.raises(ArtefactError, match="damaged"):
        load_graph(buffer.getvalue(), ops.BY_KIND)
    unknown = {kind: op for kind, op in ops.BY_KIND.items() if kind != "Dense"}
    with pytest.raises(ArtefactError, match="Dense"):
        load_graph(dump_graph(little_net()), unknown)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=3))
@settings(max_examples=300)
def test_flipped_bytes_never_escape_as_another_error(flips: list[tuple[int, int]]) -> None:
    data = bytearray(STORED)
    for where, value in flips:
        data[where % len(data)] = value
    try:
        load_graph(bytes(data), ops.BY_KIND)
    except ArtefactError as error:
        assert "damaged" in str(error)


# --- types and layouts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "lo", "hi", "size"), [(2, -2, 1, 1), (4, -8, 7, 1), (8, -128, 127, 1), (16, -32768, 32767, 2)]
)
def test_codes(bits: int, lo: int, hi: int, size: int) -> None:
    quant = Quant(bits, 0.5, 1)
    assert (quant.lo, quant.hi) == (lo, hi)
    assert (quant.real_lo, quant.real_hi) == ((lo - 1) / 2, (hi - 1) / 2)
    assert quant.code(0.0) == 1
    assert quant.code(1e9) == hi
    assert quant.code(-1e9) == lo
    assert quant.code(-0.25) == 1, "half up: -0.5 + 1 rounds to 1"
    assert TensorType((3, 5), quant).nbytes == 15 * size
    assert TensorType((), quant).nbytes == size
    assert TensorType((3, 5)).nbytes == 60


def test_layouts_undo_each_other() -> None:
    layout = Layout((1, 2, 3, 4), 0, (1, 2, 0))
    x = np.arange(5 * 24).reshape(5, 2, 3, 4)
    inside = from_model(x, layout)
    assert inside.shape == (5, 3, 4, 2)
    assert inside[1, 2, 3, 0] == x[1, 0, 2, 3]
    assert np.array_equal(to_model(inside, layout), x)
    assert layout.sample_shape == (2, 3, 4)
    assert Layout((3, 4), None, (0, 1)).sample_shape == (3, 4)
