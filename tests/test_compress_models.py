"""Every compression method on networks that it was not written for, and on through to C that computes the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import ModelProto

import dnnc
from dnnc.compress import METHODS, Setting, parse_method
from dnnc.compress.budget import weight_count
from dnnc.compress.constants import fold_constants
from dnnc.compress.feed import ArrayFeed
from dnnc.cost.loader import load_target
from dnnc.evaluate import evaluate_batches
from dnnc.frontend import read
from dnnc.frontend.onnx.export import to_onnx
from dnnc.ir.graph import Graph
from dnnc.ir.layout import to_model
from dnnc.quantise.dataset import Dataset
from dnnc.run import make_runner
from dnnc.verify import verify
from models import ModelBuilder
from test_compress_surgery import concatenated, mobilenet_v2, squeeze_excite

KEPT = 0.7
SAMPLES = 64

#: What makes a method quick; each is asked to keep 70 % of the parameters.
QUICK = {
    "fisher": f"structure=channel,params={KEPT},samples=32,steps=4,rounds=1",
    "mutual-information": f"params={KEPT},samples=64",
    "hfp": f"params={KEPT},epochs=1,finetune=1",
    "olmp": f"params={KEPT},epochs=2,tune=1,searches=0,batch=16",
}


def resnet() -> ModelProto:
    """Two stages; the second halves the image, its skip through a 1x1 convolution."""
    b = ModelBuilder(17, 7)
    x = b.input("image", ["N", 3, 12, 12])
    x = b.node("Relu", [b.conv(x, 3, 8, (3, 3), pads=[1, 1, 1, 1])])
    for inputs, outputs, stride in ((8, 8, 1), (8, 16, 2)):
        y = b.node("Relu", [b.conv(x, inputs, outputs, (3, 3), pads=[1, 1, 1, 1], strides=[stride, stride])])
        y = b.conv(y, outputs, outputs, (3, 3), pads=[1, 1, 1, 1])
        skip = x if stride == 1 else b.conv(x, inputs, outputs, (1, 1), strides=[stride, stride])
        x = b.node("Relu", [b.node("Add", [y, skip])])
    b.gemm(b.node("Flatten", [b.node("GlobalAveragePool", [x])]), 16, 5)
    return b.model(b.nodes[-1].output[0])


def keyword_spotter() -> ModelProto:
    """A tall window over a spectrogram, depthwise-separable layers, a mean, a softmax."""
    b = ModelBuilder(17, 8)
    x = b.input("mfcc", ["N", 1, 16, 10])
    x = b.node("Relu", [b.conv(x, 1, 12, (5, 4), pads=[2, 1, 2, 1], strides=[2, 2])])
    for _ in range(2):
        x = b.node("Relu", [b.conv(x, 12, 12, (3, 3), pads=[1, 1, 1, 1], group=12)])
        x = b.node("Relu", [b.conv(x, 12, 12, (1, 1))])
    x = b.gemm(b.node("Flatten", [b.node("GlobalAveragePool", [x])]), 12, 6)
    return b.model(b.node("Softmax", [x], axis=1))


NETWORKS: dict[str, Callable[[], ModelProto]] = {
    "resnet": resnet,
    "keyword_spotter": keyword_spotter,
    "mobilenet_v2": mobilenet_v2,
    "squeeze_excite": squeeze_excite,
    "concat": concatenated,
}


def data_for(graph: Graph) -> Dataset:
    """Samples that the network itself labels."""
    (source,) = graph.inputs
    rng = np.random.default_rng(11)
    inputs = {source.name: rng.standard_normal((SAMPLES, *source.type.shape)).astype(np.float32)}
    scores = evaluate_batches(graph, inputs)[graph.outputs[0].model_name]
    centred = scores - scores.mean(axis=0)
    return Dataset(inputs, centred.argmax(axis=1))


def setting_for(graph: Graph) -> Setting:
    seen, held_out = data_for(graph).halves()
    return Setting(ArrayFeed(seen), seen, held_out, load_target("cortex-m7"))


def method_text(name: str) -> str:
    return f"{name}{{{QUICK.get(name, f'params={KEPT}')}}}"


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_to_its_budget(name: str, network: str) -> None:
    graph = read(NETWORKS[network]())
    found = parse_method(method_text(name)).apply(graph, setting_for(graph))
    smaller = fold_constants(found.graph.verify())
    assert smaller.inputs == graph.inputs and smaller.outputs == graph.outputs
    assert {n.name for n in smaller.nodes} <= {n.name for n in graph.nodes}
    assert found.missed or weight_count(found.graph) <= KEPT * weight_count(graph)
    assert weight_count(found.graph) < weight_count(graph)
    for values in evaluate_batches(smaller, data_for(graph).inputs).values():
        assert np.isfinite(values).all()


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_one_method_after_another_and_on_to_c(network: str) -> None:
    """All of them in a row, through ONNX, to a program that computes what the simulator computes."""
    graph = read(NETWORKS[network]())
    data = data_for(graph)
    smaller = graph
    for name in METHODS:
        smaller = parse_method(method_text(name)).apply(smaller, setting_for(graph)).graph
    smaller = fold_constants(smaller)
    assert smaller.macs < graph.macs
    (source,) = graph.inputs
    samples = {source.model_name: to_model(data.inputs[source.name], source.layout)}
    artefact = dnnc.compile(to_onnx(smaller), data=samples, name=network)
    executions = ("host", "emulator") if network == "resnet" else ("host",)
    result = verify(artefact, {on: make_runner(artefact, on=on) for on in executions})
    assert result.equal, result.difference
