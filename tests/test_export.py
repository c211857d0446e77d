"""Graphs written as ONNX: valid, the same in onnxruntime, and the same when they are read again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given

from against_onnx import check_against_onnxruntime, evaluate_model, session
from dnnc import ops
from dnnc.compress.constants import fold_constants
from dnnc.compress.surgery import channel_map, mask, remove
from dnnc.errors import ArtefactError, ModelError
from dnnc.frontend import read
from dnnc.frontend.onnx.export import save_onnx, to_onnx
from dnnc.frontend.onnx.export_ops import EMITTERS, FUNCTIONS
from dnnc.ir.graph import Graph, Input, Output, freeze, make_node
from dnnc.ir.op import Op
from dnnc.ir.types import Layout, TensorType
from dnnc.ops.conv import Conv2D
from dnnc.ops.elementwise import Add, Mul
from dnnc.ops.movement import Concat, Constant, Pad, Reshape, Resize, Slice, Transpose
from dnnc.ops.pointwise import FUNCTION_NAMES, Pointwise
from dnnc.ops.pool import AvgPool2D, MaxPool2D, ReduceMean
from models import ModelBuilder, tiny_cnn, tiny_conv1d, tiny_mlp
from random_graphs import PARAMETERS, graphs, quantise_simply, random_data, random_graph, single
from shared import model_path, needs_shared
from test_compress_surgery import concatenated, mobilenet_v2, some, squeeze_excite

Array = np.ndarray
TOLERANCE = 2e-5


def feeds_of(graph: Graph, batch: int, seed: int = 0) -> dict[str, Array]:
    """Random inputs in the model's own shapes; a batch only where the model has one."""
    rng = np.random.default_rng(seed)
    found = {}
    for source in graph.inputs:
        shape = source.layout.sample_shape
        full = shape if source.layout.batch_axis is None else (batch, *shape)
        found[source.model_name] = rng.standard_normal(full).astype(np.float32)
    return found


def alike(expected: Mapping[str, Array], found: Mapping[str, Array], tolerance: float = TOLERANCE) -> None:
    assert list(expected) == list(found)
    for name, y in expected.items():
        assert found[name].shape == y.shape, name
        np.testing.assert_allclose(found[name], y, rtol=0, atol=tolerance * max(float(np.abs(y).max()), 1.0))


def check(graph: Graph, batch: int = 3) -> tuple[onnx.ModelProto, Graph]:
    """Write, run and read again; returns the model and the graph that was read."""
    model = to_onnx(graph)
    runtime = session(model)
    batched = any(i.layout.batch_axis == 0 for i in graph.inputs)
    feeds = feeds_of(graph, batch if batched else 1)
    expected = evaluate_model(graph, feeds)
    names = [o.name for o in runtime.get_outputs()]
    assert names == [o.model_name for o in graph.outputs]
    alike(expected, dict(zip(names, runtime.run(None, feeds), strict=True)))
    again = read(model)
    read_ones = {value for node in graph.nodes for value in node.inputs} | {o.value for o in graph.outputs}
    assert [i.model_name for i in again.inputs] == [i.model_name for i in graph.inputs if i.name in read_ones]
    one = feeds_of(graph, 1, seed=1)
    alike(evaluate_model(graph, one), evaluate_model(again, one))
    return model, again


@pytest.mark.quick
def test_every_operation_and_function_is_written() -> None:
    assert set(EMITTERS) == set(ops.ALL)
    assert set(FUNCTIONS) == set(FUNCTION_NAMES)


@given(graph=graphs())
def test_random_networks(graph: Graph) -> None:
    check(graph)


def test_longer_random_networks() -> None:
    written = set()
    for seed in range(80):
        graph = random_graph(seed, 14)
        check(graph)
        written |= {node.op.kind for node in graph.nodes}
    assert written == {op.kind for op in ops.ALL}


@pytest.mark.quick
@pytest.mark.parametrize("name", FUNCTION_NAMES)
def test_functions_are_read_back_as_themselves(name: str) -> None:
    alpha, beta = PARAMETERS.get(name, (0.0, 0.0))
    _, again = check(single(Pointwise(name, alpha, beta), [(5, 4, 3)]))
    kinds = [getattr(n.op, "function", n.op.kind) for n in again.nodes]
    # An affine function becomes what the graph has for constants, a Clip stays one.
    assert kinds == [name] or name == "affine"


SINGLES: list[tuple[Op, list[tuple[int, ...]]]] = [
    (MaxPool2D((2, 2), (3, 3), (0, 1, 2, 1)), [(5, 4, 3)]),
    (MaxPool2D((2, 2), (2, 2), (0, 1, 0, 1), (2, 2)), [(6, 5, 3)]),
    (AvgPool2D((3, 2), (2, 2), (1, 1, 1, 1)), [(5, 4, 3)]),
    (AvgPool2D((3, 2), (2, 2), (1, 1, 1, 1), count_padding=True), [(5, 4, 3)]),
    (AvgPool2D((3, 2), (2, 2), (1, 0, 1, 0), (1, 1), count_padding=True), [(5, 5, 3)]),
    (AvgPool2D((2, 2), (1, 1), (3, 0, 2, 0)), [(4, 4, 2)]),
    (ReduceMean((0, 1)), [(4, 5, 3)]),
    (ReduceMean((2,), True), [(4, 5, 3)]),
    (ReduceMean((0,)), [(6,)]),
    (ReduceMean(()), [(6, 2)]),
    (Resize((0, 0, 1, 1, 2, 2), (0, 1, 2, 3)), [(3, 4, 2)]),
    (Resize((0, 0, 1, 2, 2), (1, 3)), [(3, 4, 2)]),
    (Resize((0, 1, 2), (0, 1, 2, 3)), [(3, 4, 2)]),
    (Slice((0, 1, 0), (4, 4, 3), (1, 2, 1)), [(4, 5, 3)]),
    (Slice((0, 0, 0), (4, 5, 3), (1, 1, 1)), [(4, 5, 3)]),
    (Pad((0, 0, 0), (0, 0, 0)), [(4, 5, 3)]),
    (Pad((1, 0, 2), (0, 1, 0), -0.5), [(4, 5, 3)]),
    (Transpose((2, 0, 1)), [(4, 5, 3)]),
    (Reshape((60,)), [(4, 5, 3)]),
    (Concat(1), [(4, 5, 3), (4, 2, 3)]),
    (Add(subtract=True), [(3,), (4, 5, 3)]),
    (Mul(), [(5, 1), (4, 1, 3)]),
]


@pytest.mark.quick
@pytest.mark.parametrize("op, shapes", SINGLES, ids=lambda v: str(v)[:40])
def test_single_operations(op: Op, shapes: list[tuple[int, ...]]) -> None:
    check(single(op, shapes))


@pytest.mark.quick
@pytest.mark.parametrize(
    "make", [tiny_cnn, tiny_conv1d, tiny_mlp, mobilenet_v2, squeeze_excite, concatenated], ids=lambda m: m.__name__
)
def test_networks_come_back_as_they_were(make: object) -> None:
    graph = read(make())  # type: ignore[operator]
    model, again = check(graph)
    assert [(n.name, n.op) for n in again.nodes if n.params] == [(n.name, n.op) for n in graph.nodes if n.params]
    assert [n.op.kind for n in again.nodes] == [n.op.kind for n in graph.nodes]
    for a, b in zip(graph.nodes, again.nodes, strict=True):
        for name in ("weight", "bias"):
            if name in a.params:
                np.testing.assert_array_equal(a.params[name], b.params[name])
    check_against_onnxruntime(model)


@pytest.mark.quick
def test_transposes_are_few() -> None:
    """A network of images is written without any but that of a flatten."""
    graph = read(mobilenet_v2())
    assert not [n for n in to_onnx(graph).graph.node if n.op_type == "Transpose"]
    flattened = to_onnx(read(concatenated())).graph.node
    assert len([n for n in flattened if n.op_type == "Transpose"]) == 1


@pytest.mark.quick
def test_pruned_weights_stay_zeros_and_pruned_channels_stay_away() -> None:
    graph = read(mobilenet_v2())
    ids = some(channel_map(graph), 0.5, 0)
    for pruned in (mask(graph, ids), remove(graph, ids), fold_constants(mask(graph, ids))):
        _, again = check(pruned)
        for node in pruned.nodes:
            if "weight" in node.params:
                np.testing.assert_array_equal(again.by_name[node.name].params["weight"], node.params["weight"])


def outputs_of(values: list[str], types: Mapping[str, TensorType], layout: Layout | None = None) -> tuple[Output, ...]:
    def flat(value: str) -> Layout:
        shape = types[value].shape
        return layout or Layout((1, *shape), 0, tuple(range(len(shape))))

    return tuple(Output(value, f"y{i}", flat(value)) for i, value in enumerate(values))


@pytest.mark.quick
def test_outputs_may_be_inputs_constants_and_one_value_twice() -> None:
    source = Input("x", TensorType((2, 3)), "x", Layout((1, 2, 3), 0, (0, 1)))
    types = {"x": source.type}
    constant = make_node("c", Constant(), [], types, {"value": np.arange(6, dtype=np.float32).reshape(2, 3)})
    types["c"] = constant.type
    doubled = make_node("d", Pointwise("affine", 2.0, 1.0), ["c"], types)
    types["d"] = doubled.type
    joined = make_node("j", Concat(1), ["d", "x"], types)
    types["j"] = joined.type
    outputs = outputs_of(["x", "d", "j", "j"], types)
    graph = Graph("odd", (source,), (constant, doubled, joined), outputs).verify()
    feeds = feeds_of(graph, 2)
    expected = evaluate_model(graph, feeds)
    runtime = session(to_onnx(graph))
    alike(expected, dict(zip([o.name for o in runtime.get_outputs()], runtime.run(None, feeds), strict=True)))


@pytest.mark.quick
def test_a_model_without_a_batch_keeps_to_that() -> None:
    b = ModelBuilder(17, 2)
    x = b.input("x", [7])
    b.node("Tanh", [x], ["y"])
    graph = read(b.model("y"))
    assert graph.inputs[0].layout.batch_axis is None
    model, _ = check(graph)
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [7]


@pytest.mark.quick
def test_the_batch_is_left_open() -> None:
    model = to_onnx(read(tiny_cnn(batch=1)))
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert model.graph.output[0].name == "scores"


@pytest.mark.quick
def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = read(tiny_mlp())
    path = tmp_path / "folder" / "model.onnx"
    save_onnx(graph, path)
    assert [p.name for p in path.parent.iterdir()] == ["model.onnx"]
    before = path.read_bytes()
    save_onnx(graph, path)
    assert path.read_bytes() == before
    assert [n.name for n in read(path).nodes] == [n.name for n in graph.nodes]

    def interrupted(self: Path, data: bytes) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_onnx(graph, path)
    monkeypatch.undo()
    assert [p.name for p in path.parent.iterdir()] == ["model.onnx"] and path.read_bytes() == before
    with pytest.raises(ArtefactError, match="cannot write"):
        save_onnx(graph, path / "below")


@pytest.mark.quick
def test_weights_on_a_grid_are_written_as_they_are() -> None:
    graph = read(tiny_mlp())
    nodes = []
    for node in graph.nodes:
        if "weight" in node.params:
            scale, bits = np.full(len(node.params["weight"]), 0.25), np.full(len(node.params["weight"]), 4, np.uint8)
            weight = np.clip(np.round(node.params["weight"] / 0.25), -7, 7).astype(np.float32) * np.float32(0.25)
            params = {**node.params, "weight": weight, "weight_scale": scale, "weight_bits": bits}
            node = replace(node, params=freeze(params))
        nodes.append(node)
    gridded = graph.with_nodes(nodes)
    _, again = check(gridded)
    for node in gridded.nodes:
        if "weight" in node.params:
            np.testing.assert_array_equal(again.by_name[node.name].params["weight"], node.params["weight"])


@pytest.mark.quick
def test_integer_graphs_are_refused() -> None:
    with pytest.raises(ModelError, match="integer graph"):
        to_onnx(quantise_simply(read(tiny_cnn()), random_data(read(tiny_cnn()))))


@needs_shared
@pytest.mark.parametrize(
    "name", ["lenet300", "lenet5", "resnet8_cifar10", "resnet8_cifar10_jpeg", "kws_dscnn", "vww_mobilenetv1_025",
             "vgg_small_cifar10", "ad_autoencoder", "strww_streaming"],
)  # fmt: skip
def test_real_networks(name: str) -> None:
    graph = read(model_path(name))
    _, again = check(graph, batch=2)
    assert [n.op for n in again.nodes if isinstance(n.op, Conv2D)] == [
        n.op for n in graph.nodes if isinstance(n.op, Conv2D)
    ]
