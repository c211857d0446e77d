"""Channels scaled across layers: the float function stays, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from digits import Net
from dnnc import frontend
from dnnc.compress.equalise import equalise, links, reaches
from dnnc.evaluate import evaluate_batches
from dnnc.ir.graph import Graph
from dnnc.ops.activation import NO_CLAMP, Clamp
from dnnc.ops.elementwise import Add
from dnnc.ops.movement import Reshape
from dnnc.ops.pool import AvgPool2D, MaxPool2D, ReduceMean
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.synthesise import synthesise
from shared import model_path, needs_shared

quick = pytest.mark.quick


def wide_and_narrow() -> Graph:
    """Convolutions, depthwise, grouped, pools and Flatten, whose channels differ by up to a thousand."""
    net = Net(8, 8, 3)
    x = net.conv("c1", "x", 8)
    x = net.conv("dw", x, 8, groups=8)
    x = net.add("pool", MaxPool2D((2, 2), (2, 2)), [x])
    x = net.conv("grouped", x, 8, groups=2, clamp=NO_CLAMP)
    x = net.add("mean", AvgPool2D((2, 2), (2, 2)), [x])
    x = net.conv("c2", x, 6)
    x = net.add("flat", Reshape((24,)), [x])
    x = net.dense("d1", x, 10, Clamp(0.0, None))
    graph = net.graph(net.dense("d2", x, 4))
    rng = np.random.default_rng(3)
    nodes = []
    for node in graph.nodes:
        if "weight" in node.params:
            factor = np.exp(rng.normal(0, 1.5, len(node.params["weight"]))).astype(np.float32)
            weight = node.params["weight"] * factor.reshape(-1, *(1,) * (node.params["weight"].ndim - 1))
            node = replace(node, params={"weight": weight, "bias": node.params["bias"] * factor})
        nodes.append(node)
    return graph.with_nodes(nodes)


def same(a: Graph, b: Graph, data: Dataset) -> None:
    before, after = (evaluate_batches(g, data.inputs) for g in (a, b))
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


def spread(graph: Graph, data: Dataset) -> float:
    """Mean deviation of the logarithm of the channels' reach, over the layers that can be scaled."""
    found = reaches(graph, data, [link.maker for link in links(graph)])
    return float(np.mean([np.log2(r[r > 0]).std() for r in found.values()]))


@quick
@pytest.mark.parametrize("with_data", [False, True])
def test_the_same_function_with_channels_more_alike(with_data: bool) -> None:
    graph = wide_and_narrow()
    data = Dataset({"x": np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype(np.float32)})
    found = equalise(graph, data if with_data else None)
    assert [link.maker for link in links(graph)] == ["c1", "dw", "grouped", "c2", "d1"]
    same(graph, found, data)
    assert not np.array_equal(found.by_name["c1"].params["weight"], graph.by_name["c1"].params["weight"])
    assert spread(found, data) < 0.8 * spread(graph, data)
    again = equalise(found, data if with_data else None)
    for node in again.nodes:
        for key, value in node.params.items():
            np.testing.assert_array_equal(value, found.by_name[node.name].params[key])


@quick
def test_what_cannot_be_scaled() -> None:
    net = Net(6, 6, 2)
    a = net.conv("six", "x", 4, clamp=Clamp(0.0, 6.0))
    b = net.conv("shared", a, 4)
    c = net.conv("branch", b, 4)
    d = net.add("sum", Add(), [b, c])
    e = net.conv("read", d, 4)
    f = net.add("mean", ReduceMean(axes=(2,)), [e])
    g = net.conv("out", d, 3)
    graph = net.graph(f, g)
    assert links(graph) == ()
    assert equalise(graph).nodes == graph.nodes or all(
        np.array_equal(n.params[k], graph.by_name[n.name].params[k]) for n in equalise(graph).nodes for k in n.params
    )


@quick
def test_zeros_and_dead_channels_stay() -> None:
    graph = wide_and_narrow()
    nodes = []
    for node in graph.nodes:
        if node.name in ("c1", "c2"):
            weight = node.params["weight"].copy()
            weight[1] = 0
            weight[:, 0, 0, 0] = 0
            node = replace(node, params={**node.params, "weight": weight})
        nodes.append(node)
    masked = graph.with_nodes(nodes)
    found = equalise(masked)
    for node in found.nodes:
        if "weight" in node.params:
            before = masked.by_name[node.name].params["weight"]
            np.testing.assert_array_equal(node.params["weight"] == 0, before == 0)
            assert np.isfinite(node.params["weight"]).all()


@needs_shared
@pytest.mark.parametrize("name", ["vww_mobilenetv1_025", "resnet8_cifar10_jpeg", "lenet5"])
def test_models_stay_what_they_are(name: str) -> None:
    graph = frontend.read(model_path(name))
    data = synthesise(graph, 4, 0)
    assert links(graph)
    same(graph, equalise(graph), data)
