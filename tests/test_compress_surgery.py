"""Removing channels: the pruned graph computes what the masked one does."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto

from dnnc import ops
from dnnc.compress.surgery import ChannelMap, channel_map, input_columns, mask, output_rows, remove
from dnnc.compress.surgery_held import HELD
from dnnc.compress.surgery_ties import TIES, Ties
from dnnc.evaluate import evaluate, parameters
from dnnc.frontend import read
from dnnc.ir.graph import Graph, Node, Output, make_node
from dnnc.ir.types import Layout, TensorType
from dnnc.ops.activation import NO_CLAMP, Clamp
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.movement import Reshape
from models import ModelBuilder, tiny_cnn, tiny_conv1d, tiny_mlp
from random_graphs import graphs, random_data, random_graph
from shared import model_path, needs_shared

#: Of a whole network, relative to its largest output: biases are rounded to float32 when constants go into them.
TOLERANCE = 2e-6


def outputs(graph: Graph, count: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    data = {k: torch.tensor(v, dtype=torch.float64) for k, v in random_data(graph, count, seed).items()}
    return {k: v.numpy() for k, v in evaluate(graph, data, parameters(graph, torch.float64)).items()}


def same(a: Graph, b: Graph, count: int = 4, tolerance: float = TOLERANCE) -> None:
    """Both graphs compute the same."""
    expected, found = outputs(a, count), outputs(b, count)
    assert expected.keys() == found.keys()
    for name, y in expected.items():
        scale = max(float(np.abs(y).max()), 1.0)
        np.testing.assert_allclose(found[name], y, rtol=0, atol=tolerance * scale, err_msg=name)


def some(cmap: ChannelMap, fraction: float, seed: int) -> list[int]:
    """Channels of every group, at random; never all of a group."""
    rng = np.random.default_rng(seed)
    picked: list[int] = []
    for group in cmap.groups:
        count = min(round(fraction * len(group.ids)), len(group.ids) - 1)
        picked += rng.permutation(group.ids)[:count].tolist()
    return picked


def check(graph: Graph, fraction: float = 0.5, seed: int = 0, count: int = 4) -> Graph:
    """Remove a part of every group: shapes shrink as told, values are those of the masked graph."""
    cmap = channel_map(graph)
    ids = some(cmap, fraction, seed)
    smaller = remove(graph, ids)
    same(mask(graph, ids), smaller, count)
    for name, of in cmap.of.items():
        shape = smaller.types[name].shape
        assert (shape[-1] if shape else 1) == int((~np.isin(of, ids)).sum()), name
    assert [n.name for n in smaller.nodes] == [n.name for n in graph.nodes]
    assert smaller.inputs == graph.inputs and smaller.outputs == graph.outputs
    return smaller


@pytest.mark.quick
def test_every_operation_has_a_rule() -> None:
    assert set(TIES) == set(HELD) == set(ops.ALL)


@pytest.mark.quick
def test_slots_joined_many_times_are_joined() -> None:
    ties = Ties()
    slots = ties.fresh(3)
    for _ in range(256):
        ties.join(slots[:1], slots[1:2])
    labels = ties.labels()
    assert labels[slots[0]] == labels[slots[1]] != labels[slots[2]]


@pytest.mark.quick
def test_ids_do_not_depend_on_weights() -> None:
    graph = read(squeeze_excite())
    cmap = channel_map(graph)
    again = channel_map(mask(graph, some(cmap, 0.5, 0)))
    assert all(np.array_equal(of, again.of[name]) for name, of in cmap.of.items())


def enclosed(graph: Graph, seed: int = 0) -> Graph:
    """The graph with a Dense layer behind every input and before every output, so that what is between can go."""
    rng = np.random.default_rng([seed, 8])

    def dense(name: str, source: str, types: dict[str, TensorType], outputs: int) -> Node:
        inputs = types[source].shape[-1]
        params = {"weight": rng.normal(0, inputs**-0.5, (outputs, inputs)), "bias": rng.normal(0, 0.3, outputs)}
        clamp = (NO_CLAMP, Clamp(0.0, None), Clamp(0.25, 1.0))[int(rng.integers(3))]
        return make_node(name, Dense(clamp), [source], types, {k: v.astype(np.float32) for k, v in params.items()})

    types = {f"{i.name}_raw": i.type for i in graph.inputs}
    nodes = [dense(i.name, f"{i.name}_raw", types, i.type.shape[-1]) for i in graph.inputs] + list(graph.nodes)
    types |= {n.name: n.type for n in nodes}
    outputs = []
    for i, output in enumerate(graph.outputs):
        flat = make_node(f"flat{i}", Reshape((types[output.value].size,)), [output.value], types)
        types[flat.name] = flat.type
        head = dense(f"head{i}", flat.name, types, 3)
        nodes += [flat, head]
        outputs.append(Output(head.name, f"out{i}", Layout((1, 3), 0, (0,))))
    inputs = tuple(replace(i, name=f"{i.name}_raw") for i in graph.inputs)
    return Graph(graph.name, inputs, tuple(nodes), tuple(outputs)).verify()


@given(graph=graphs(), fraction=st.sampled_from([0.3, 0.6, 1.0]), seed=st.integers(0, 99))
def test_pruned_random_networks_compute_what_masked_ones_do(graph: Graph, fraction: float, seed: int) -> None:
    check(graph, fraction, seed)
    check(enclosed(graph, seed), fraction, seed)


def test_longer_random_networks_shrink_and_agree() -> None:
    shrunk, reached = 0, set()
    for seed in range(80):
        graph = enclosed(random_graph(seed, 12), seed)
        smaller = check(graph, 1.0, seed)
        shrunk += smaller is not graph
        reached |= {a.op.kind for a, b in zip(graph.nodes, smaller.nodes, strict=True) if a.type != b.type}
    assert shrunk > 40
    assert reached == {op.kind for op in ops.ALL} - {"Softmax"}


# --- networks of known structure -----------------------------------------------------------------------------------


def mobilenet_v2() -> ModelProto:
    """Inverted residuals: 1x1 up, depthwise, 1x1 down, sums where shapes agree."""
    b = ModelBuilder(17, 3)
    x = b.input("image", ["N", 3, 12, 12])
    x = b.node("Relu", [b.conv(x, 3, 8, (3, 3), pads=[1, 1, 1, 1], strides=[2, 2])])
    for inputs, outputs_, stride in ((8, 8, 1), (8, 12, 2), (12, 12, 1), (12, 12, 1)):
        skip = x
        up = 3 * inputs
        x = b.node("Clip", [b.conv(x, inputs, up, (1, 1)), b.constant(0.0), b.constant(6.0)])
        x = b.conv(x, up, up, (3, 3), pads=[1, 1, 1, 1], strides=[stride, stride], group=up)
        x = b.node("Clip", [x, b.constant(0.0), b.constant(6.0)])
        x = b.conv(x, up, outputs_, (1, 1))
        if stride == 1 and inputs == outputs_:
            x = b.node("Add", [x, skip])
    x = b.node("Flatten", [b.node("GlobalAveragePool", [x])])
    b.gemm(x, 12, 5)
    b.nodes[-1].output[0] = "scores"
    return b.model("scores")


def squeeze_excite(gate: str = "Sigmoid") -> ModelProto:
    b = ModelBuilder(17, 4)
    x = b.input("image", ["N", 3, 8, 8])
    x = b.node("Relu", [b.conv(x, 3, 8, (3, 3), pads=[1, 1, 1, 1])])
    s = b.node("GlobalAveragePool", [x])
    s = b.node("Relu", [b.conv(s, 8, 4, (1, 1))])
    s = b.node(gate, [b.conv(s, 4, 8, (1, 1))])
    x = b.node("Mul", [x, s])
    x = b.node("Relu", [b.conv(x, 8, 6, (3, 3), pads=[1, 1, 1, 1])])
    b.gemm(b.node("Flatten", [x]), 6 * 64, 4)
    return b.model(b.nodes[-1].output[0])


def concatenated(activation: str = "Relu") -> ModelProto:
    """Dense blocks: every layer reads all before it; then a split, a grouped convolution, PRelu and a flatten."""
    b = ModelBuilder(17, 5)
    x = b.input("image", ["N", 3, 8, 8])
    x = b.conv(x, 3, 6, (3, 3), pads=[1, 1, 1, 1])
    for width in (6, 10):
        y = b.node(activation, [b.conv(x, width, 4, (1, 1))])
        x = b.node("Concat", [x, y], axis=1)
    x = b.conv(x, 14, 12, (1, 1))
    x = b.node("PRelu", [x, b.constant(np.linspace(0.1, 0.5, 12).reshape(12, 1, 1))])
    left, right = b.node("Split", [x, b.constant([4, 8], np.int64)], 2, axis=1)
    right = b.conv(right, 8, 12, (3, 3), group=2)
    left = b.node("MaxPool", [left], kernel_shape=[3, 3], strides=[1, 1])
    x = b.node("Concat", [left, right], axis=1)
    x = b.node("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2])
    b.gemm(b.node("Flatten", [x]), 16 * 9, 4)
    return b.model(b.nodes[-1].output[0])


NETWORKS = {
    "cnn": tiny_cnn,
    "mlp": tiny_mlp,
    "conv1d": tiny_conv1d,
    "mobilenet_v2": mobilenet_v2,
    "squeeze_excite": squeeze_excite,
    "hard_gate": lambda: squeeze_excite("HardSigmoid"),
    "concat": concatenated,
    "concat_sigmoid": lambda: concatenated("Sigmoid"),
}


@pytest.mark.quick
@pytest.mark.parametrize("fraction", [0.4, 1.0])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_known_structure(name: str, fraction: float) -> None:
    graph = read(NETWORKS[name]())
    smaller = check(graph, fraction)
    assert smaller.macs < graph.macs


@pytest.mark.quick
def test_a_residual_stage_is_one_group() -> None:
    graph = read(mobilenet_v2())
    cmap = channel_map(graph)
    convolutions = [n for n in graph.nodes if isinstance(n.op, Conv2D)]
    assert len(cmap.followers) == 4 and not any(set(g.producers) & cmap.followers for g in cmap.groups)
    sizes = [(len(g.ids), len(g.producers), len(g.consumers)) for g in cmap.groups]
    assert sizes == [(8, 2, 2), (24, 1, 1), (24, 1, 1), (12, 3, 3), (36, 1, 1), (36, 1, 1)]
    first = cmap.groups[0]
    assert first.name == convolutions[0].name
    for layer in first.producers:
        assert output_rows(cmap, layer, int(first.ids[2])).tolist() == [2]
    for layer in first.consumers:
        assert input_columns(graph, cmap, layer, int(first.ids[2])).tolist() == [2]


@pytest.mark.quick
def test_a_gate_goes_with_what_it_multiplies() -> None:
    graph = read(squeeze_excite())
    groups = channel_map(graph).groups
    assert [(len(g.ids), len(g.producers)) for g in groups] == [(8, 2), (4, 1), (6, 1)]


@pytest.mark.quick
def test_a_flattened_channel_is_many_columns() -> None:
    graph = read(squeeze_excite())
    cmap = channel_map(graph)
    last = cmap.groups[-1]
    assert input_columns(graph, cmap, last.consumers[0], int(last.ids[1])).tolist() == list(range(1, 384, 6))


@pytest.mark.quick
def test_a_channel_that_padding_shows_stays() -> None:
    """sigmoid(0) = 0.5 beside a padding of 0 cannot be folded into a bias; without padding it is."""

    def groups(pads: int) -> int:
        b = ModelBuilder(17, 6)
        x = b.node("Sigmoid", [b.conv(b.input("x", ["N", 3, 6, 6]), 3, 5, (3, 3))])
        x = b.conv(x, 5, 2, (3, 3), pads=[pads] * 4)
        graph = read(b.model(x))
        check(graph)
        return len(channel_map(graph).groups)

    assert (groups(0), groups(1)) == (1, 0)


@pytest.mark.quick
def test_what_cannot_be_removed_is_refused() -> None:
    graph = read(tiny_cnn())
    cmap = channel_map(graph)
    with pytest.raises(ValueError, match="one has to stay"):
        remove(graph, cmap.groups[0].ids)
    with pytest.raises(ValueError, match="none that can be removed"):
        remove(graph, [10**6])
    assert remove(graph, []) is graph


@pytest.mark.quick
def test_a_layer_of_a_million_weights_takes_little_time() -> None:
    b = ModelBuilder(17, 6)
    x = b.input("x", ["N", 64, 16, 16])
    for _ in range(3):
        x = b.node("Relu", [b.conv(x, 64, 64, (3, 3), pads=[1, 1, 1, 1])])
    b.gemm(b.node("Flatten", [x]), 64 * 256, 64)
    graph = read(b.model(b.nodes[-1].output[0]))
    start = time.perf_counter()
    remove(graph, some(channel_map(graph), 0.5, 0))
    assert time.perf_counter() - start < 1.5  # 0.05 s on an idle core


@needs_shared
@pytest.mark.parametrize(
    "name", ["lenet300", "lenet5", "resnet8_cifar10_jpeg", "kws_dscnn", "vww_mobilenetv1_025", "vgg_small_cifar10",
             "ad_autoencoder", "strww_streaming"],
)  # fmt: skip
def test_real_networks(name: str) -> None:
    graph = read(model_path(name))
    smaller = check(graph, 0.5, count=2)
    assert smaller.macs < 0.6 * graph.macs
