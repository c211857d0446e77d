"""Constant channels folded away: the same outputs, borders included, of a smaller network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnnc.compress.budget import weight_count
from dnnc.compress.constants import constant_channels, fold_constants
from dnnc.compress.surgery import channel_map, mask
from dnnc.frontend import read
from dnnc.ir.graph import Graph, Node, freeze
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from models import ModelBuilder, tiny_cnn, tiny_conv1d, tiny_mlp
from random_graphs import graphs
from shared import model_path, needs_shared
from test_compress_surgery import enclosed, mobilenet_v2, same, some, squeeze_excite


def changed(node: Node, **params: np.ndarray) -> Node:
    return replace(node, params=freeze({**node.params, **params}))


def killed(graph: Graph, fraction: float, seed: int) -> Graph:
    """Some rows of every layer are zero but for their biases, some columns zero."""
    rng = np.random.default_rng([seed, 9])
    nodes = []
    for node in graph.nodes:
        if isinstance(node.op, Conv2D | Dense):
            weight = np.array(node.params["weight"])
            weight[rng.random(len(weight)) < fraction] = 0
            weight[..., rng.random(weight.shape[-1]) < fraction / 2] = 0
            node = changed(node, weight=weight)
        nodes.append(node)
    return graph.with_nodes(nodes)


def check(graph: Graph, count: int = 4, tolerance: float = 2e-6) -> Graph:
    smaller = fold_constants(graph)
    same(graph, smaller, count, tolerance)
    assert [n.name for n in smaller.nodes] == [n.name for n in graph.nodes]
    assert fold_constants(smaller) is smaller
    assert weight_count(smaller) <= weight_count(graph)  # a bias that comes to be takes the place of a weight
    return smaller


def widths(graph: Graph) -> list[int]:
    return [len(n.params["weight"]) for n in graph.nodes if "weight" in n.params]


@pytest.mark.quick
@given(graph=graphs(), fraction=st.sampled_from([0.3, 0.7]), seed=st.integers(0, 99))
def test_random_networks_compute_the_same(graph: Graph, fraction: float, seed: int) -> None:
    check(killed(graph, fraction, seed))
    check(killed(enclosed(graph, seed), fraction, seed))


@pytest.mark.quick
@pytest.mark.parametrize("make", [tiny_cnn, tiny_conv1d, tiny_mlp, mobilenet_v2, squeeze_excite])
def test_networks_of_known_structure_shrink(make: object) -> None:
    graph = killed(read(make()), 0.4, 3)  # type: ignore[operator]
    smaller = check(graph)
    assert smaller.macs < graph.macs


def chain(pads: int, activation: str = "Relu") -> Graph:
    b = ModelBuilder(17, 6)
    x = b.node(activation, [b.conv(b.input("x", ["N", 3, 7, 7]), 3, 8, (3, 3))])
    x = b.node("Relu", [b.conv(x, 8, 6, (3, 3), pads=[pads] * 4)])
    x = b.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    b.gemm(b.node("Flatten", [x]), 6 * (1 if pads == 0 else 4), 4)
    return read(b.model(b.nodes[-1].output[0]))


def only_biases(graph: Graph, rows: list[int], bias: list[float], layer: int = 0) -> Graph:
    """Output channels `rows` of a layer hold only `bias`."""
    nodes = list(graph.nodes)
    layers = [i for i, n in enumerate(nodes) if isinstance(n.op, Conv2D | Dense)]
    node = nodes[layers[layer]]
    weight, biases = np.array(node.params["weight"]), np.array(node.params["bias"])
    weight[rows], biases[rows] = 0, bias
    nodes[layers[layer]] = changed(node, weight=weight, bias=biases)
    return graph.with_nodes(nodes)


@pytest.mark.quick
def test_without_padding_all_constants_go() -> None:
    smaller = check(only_biases(chain(0), [1, 2, 5], [0.5, -0.25, 2.0]))
    assert widths(smaller) == [5, 6, 4]


@pytest.mark.quick
def test_under_padding_one_constant_stays_for_all() -> None:
    graph = only_biases(chain(1), [1, 2, 5], [0.5, -0.25, 2.0])
    smaller = check(graph)
    # -0.25 is 0 behind the Relu and goes; 0.5 and 2.0 become one.
    assert widths(smaller) == [6, 6, 4]
    held = constant_channels(smaller)[smaller.nodes[0].name]
    assert held[~np.isnan(held)].tolist() == [2.0]
    assert widths(check(only_biases(chain(1), [1, 2, 5], [0.0, -1.0, 0.0]))) == [5, 6, 4]


@pytest.mark.quick
def test_weights_on_a_grid_stay_on_it() -> None:
    """Constants are not merged into weights whose scale is prescribed; into biases they may go."""
    for pads, left in ((1, [7, 6, 4]), (0, [5, 6, 4])):
        graph = only_biases(chain(pads), [1, 2, 5], [0.5, -0.25, 2.0])
        last = len(graph.nodes[1].params["weight"])
        gridded = changed(graph.nodes[1], weight_scale=np.full(last, 0.01))
        assert isinstance(gridded.op, Conv2D)
        graph = graph.with_nodes([graph.nodes[0], gridded, *graph.nodes[2:]])
        smaller = check(graph)
        assert widths(smaller) == left
        assert len(smaller.nodes[1].params["weight_scale"]) == last


@pytest.mark.quick
def test_a_constant_of_a_function_goes_where_no_weight_reads_it() -> None:
    """sigmoid(bias) is merged with the other constants, although a masked sigmoid could not be removed."""
    assert widths(check(only_biases(chain(1, "Sigmoid"), [1, 2, 5], [0.5, -0.25, 2.0]))) == [6, 6, 4]


@pytest.mark.quick
def test_constants_go_through_flatten() -> None:
    smaller = check(only_biases(chain(1), [0, 3], [0.5, -0.25], layer=1))
    assert widths(smaller) == [8, 4, 4]
    assert smaller.nodes[-1].params["weight"].shape == (4, 16)


@pytest.mark.quick
def test_what_nobody_reads_frees_what_made_it() -> None:
    """The last layer reads two channels of the first."""
    graph = read(tiny_mlp())
    first, last = (n for n in graph.nodes if isinstance(n.op, Dense))
    weight = np.array(last.params["weight"])
    weight[:, 2:] = 0
    graph = graph.with_nodes([changed(n, weight=weight) if n is last else n for n in graph.nodes])
    smaller = check(graph)
    assert smaller.by_name[first.name].type.shape == (2,)
    assert widths(smaller) == [2, 4]


@pytest.mark.quick
def test_one_channel_of_a_layer_that_nobody_reads_stays() -> None:
    graph = read(tiny_mlp())
    last = next(n for n in reversed(graph.nodes) if isinstance(n.op, Dense))
    none = np.zeros_like(last.params["weight"])
    graph = graph.with_nodes([changed(n, weight=none) if n is last else n for n in graph.nodes])
    assert widths(check(graph)) == [1, 4]


@pytest.mark.quick
def test_a_graph_without_constants_is_left_alone() -> None:
    graph = read(tiny_cnn())
    assert fold_constants(graph) is graph


@needs_shared
@pytest.mark.parametrize("name", ["lenet300", "lenet5", "resnet8_cifar10_jpeg", "kws_dscnn", "vww_mobilenetv1_025"])
def test_real_networks_lose_what_is_masked(name: str) -> None:
    graph = read(model_path(name))
    cmap = channel_map(graph)
    masked = mask(graph, some(cmap, 0.5, 1))
    smaller = check(masked, count=2)
    assert smaller.macs < 0.6 * graph.macs
    check(killed(graph, 0.3, 1), count=2)
