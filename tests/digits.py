"""A small trained network on scikit-learn's handwritten digits, as a float graph: for tests that measure accuracy."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc.evaluate import evaluate, parameters
from dnnc.ir.graph import Graph, Input, Node, Output, make_node
from dnnc.ir.types import Layout, TensorType
from dnnc.ops.activation import NO_CLAMP, Clamp
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.pool import ReduceMean
from dnnc.ops.softmax import Softmax
from dnnc.quantise.dataset import Dataset

Array = NDArray[Any]
RELU = Clamp(0.0, None)
TRAINED = 1297


class Net:
    """Builds a graph node by node; weights are random until they are trained."""

    def __init__(self, *shape: int, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.types = {"x": TensorType(shape)}
        self.nodes: list[Node] = []

    def add(self, name: str, op: Any, inputs: list[str], **params: Array) -> str:
        node = make_node(name, op, inputs, self.types, params)
        self.types[name] = node.type
        self.nodes.append(node)
        return name

    def conv(self, name: str, x: str, outputs: int, kernel: int = 3, clamp: Clamp = RELU, **options: Any) -> str:
        depth = self.types[x].shape[-1] // options.get("groups", 1)
        weight = self.rng.normal(0, (2 / (kernel * kernel * depth)) ** 0.5, (outputs, kernel, kernel, depth))
        pad = (kernel // 2,) * 4
        op = Conv2D(clamp=clamp, **({"padding": pad} | options))
        bias = self.rng.normal(0, 0.1, outputs)
        return self.add(name, op, [x], weight=weight.astype(np.float32), bias=bias.astype(np.float32))

    def dense(self, name: str, x: str, outputs: int, clamp: Clamp = NO_CLAMP) -> str:
        features = self.types[x].shape[-1]
        weight = self.rng.normal(0, features**-0.5, (outputs, features)).astype(np.float32)
        bias = self.rng.normal(0, 0.1, outputs).astype(np.float32)
        return self.add(name, Dense(clamp=clamp), [x], weight=weight, bias=bias)

    def graph(self, *outputs: str) -> Graph:
        def plain(shape: tuple[int, ...]) -> Layout:
            return Layout((1, *shape), 0, tuple(range(len(shape))))

        source = Input("x", self.types["x"], "x", plain(self.types["x"].shape))
        ends = tuple(Output(v, v, plain(self.types[v].shape)) for v in outputs)
        return Graph("net", (source,), tuple(self.nodes), ends).verify()


def network(seed: int = 0, softmax: bool = True) -> Graph:
    """Two strided convolutions, a depthwise one, a mean and a classifier, over [8, 8, 1]."""
    net = Net(8, 8, 1, seed=seed)
    x = net.conv("c1", "x", 16, stride=(2, 2))
    x = net.conv("dw", x, 16, groups=16)
    x = net.conv("c2", x, 24, stride=(2, 2))
    x = net.add("mean", ReduceMean(axes=(0, 1)), [x])
    x = net.dense("fc", x, 10)
    return net.graph(net.add("probabilities", Softmax(), [x]) if softmax else x)


def images() -> tuple[Array, NDArray[np.int64]]:
    """1797 images float32 [N, 8, 8, 1] in 0..1 and their classes, in a fixed random order."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return (x[order].reshape(-1, 8, 8, 1) / 16.0).astype(np.float32), y[order].astype(np.int64)


@lru_cache
def trained() -> tuple[Graph, Dataset, Dataset]:
    """(graph, training samples, test samples): some 96 % right after two seconds of training on one thread."""
    x, y = images()
    graph = network(softmax=False)
    params = parameters(graph)
    leaves = [p.requires_grad_(True) for node in params.values() for p in node.values()]
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(leaves, 1e-2)
    inputs, labels = torch.tensor(x[:TRAINED]), torch.tensor(y[:TRAINED])
    for epoch in range(20):
        for group in optimiser.param_groups:
            group["lr"] = 1e-2 * (1 - epoch / 20)
        for batch in torch.randperm(TRAINED, generator=generator).split(64):
            optimiser.zero_grad()
            logits = evaluate(graph, {"x": inputs[batch]}, params)["fc"]
            torch.nn.functional.cross_entropy(logits, labels[batch]).backward()
            optimiser.step()
    found = {name: {k: v.detach().numpy() for k, v in node.items()} for name, node in params.items()}
    nodes = [make_node(n.name, n.op, n.inputs, graph.types, found.get(n.name)) for n in network().nodes[:-1]]
    last = network().nodes[-1]
    complete = network().with_nodes([*nodes, last]).verify()
    return complete, Dataset({"x": x[:TRAINED]}, y[:TRAINED]), Dataset({"x": x[TRAINED:]}, y[TRAINED:])
