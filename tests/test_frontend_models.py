"""Whole models: the real ones beside the repository, and PyTorch modules through torch's exporter."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from against_onnx import check_against_onnxruntime, evaluate_model, kinds, random_inputs
from dnnc.errors import ModelError
from dnnc.frontend import inspect, read
from dnnc.ir.graph import Graph
from dnnc.ir.printer import print_graph
from models import ModelBuilder, tiny_cnn, tiny_conv1d, tiny_mlp
from shared import MODELS, model_path, needs_shared

LAYERS = {
    "ad_autoencoder": {"Dense"},
    "ad_autoencoder_fused": {"Dense"},
    "kws_dscnn": {"Conv2D", "AvgPool2D", "Reshape", "Dense", "Softmax"},
    "kws_dscnn_from_int8": {"Conv2D", "AvgPool2D", "Reshape", "Dense", "Softmax"},
    "kws_dscnn_nchw": {"Conv2D", "AvgPool2D", "Reshape", "Dense", "Softmax"},
    "lenet300": {"Reshape", "Dense"},
    "lenet300_ts17": {"Reshape", "Dense"},
    "lenet5": {"Conv2D", "MaxPool2D", "Reshape", "Dense"},
    "lenet5_ts17": {"Conv2D", "MaxPool2D", "Reshape", "Dense"},
    "resnet8_cifar10": {"Conv2D", "Add", "AvgPool2D", "Reshape", "Dense", "Softmax"},
    "resnet8_cifar10_nchw": {"Conv2D", "Add", "AvgPool2D", "Reshape", "Dense", "Softmax"},
    "resnet8_cifar10_jpeg": {"Conv2D", "Add", "AvgPool2D", "Reshape", "Dense"},
    "resnet8_cifar10_jpeg_bn": {"Conv2D", "Add", "AvgPool2D", "Reshape", "Dense"},
    "strww_streaming": {"Conv2D", "Reshape", "Dense", "Softmax"},
    "strww_streaming_nchw": {"Conv2D", "Reshape", "Dense", "Softmax"},
    "vgg_small_cifar10": {"Conv2D", "MaxPool2D", "Reshape", "Dense"},
    "vgg_small_cifar10_bn": {"Conv2D", "MaxPool2D", "Reshape", "Dense"},
    "vww_mobilenetv1_025": {"Conv2D", "AvgPool2D", "Reshape", "Dense", "Softmax"},
    "vww_mobilenetv1_025_nchw": {"Conv2D", "AvgPool2D", "Reshape", "Dense", "Softmax"},
}


@needs_shared
@pytest.mark.parametrize("name", LAYERS)
def test_real_model(name: str) -> None:
    """Right, and nothing left of the transposes, pads and normalisations in the file; no Reshape but one."""
    # Small inputs, so that no Softmax saturates and hides a difference.
    graph = check_against_onnxruntime(model_path(name), scale=0.1)
    assert set(kinds(graph)) == LAYERS[name]
    assert kinds(graph).count("Reshape") <= 1


@needs_shared
def test_every_real_model_is_tested() -> None:
    assert {p.stem for p in MODELS.glob("*.onnx")} == set(LAYERS)


def anonymous(graph: Graph) -> str:
    """The printed graph with values numbered instead of named."""
    numbers = {name: f"v{i}" for i, name in enumerate(graph.types)}
    text = re.sub(r"[^\s(),]+", lambda m: numbers.get(m[0].rstrip(":"), m[0]), print_graph(graph))
    return text.split("\n", 1)[1]


@needs_shared
@pytest.mark.parametrize("name", ["resnet8_cifar10", "kws_dscnn", "strww_streaming", "vww_mobilenetv1_025"])
def test_nhwc_and_nchw_are_the_same_graph(name: str) -> None:
    last, first = read(model_path(name)), read(model_path(f"{name}_nchw"))
    assert anonymous(last) == anonymous(first)
    assert last.inputs[0].layout.perm == (0, 1, 2)
    assert first.inputs[0].layout.perm == (1, 2, 0)
    for a, b in zip(last.nodes, first.nodes, strict=True):
        for key in a.params:
            np.testing.assert_allclose(a.params[key], b.params[key], rtol=1e-5, atol=1e-6)


@needs_shared
def test_exporters_agree() -> None:
    """The dynamo exporter has folded BatchNormalization, the older one left it: only statistics differ."""
    folded, kept = read(model_path("vgg_small_cifar10")), read(model_path("vgg_small_cifar10_bn"))
    assert kinds(folded) == kinds(kept)
    for a, b in zip(folded.nodes, kept.nodes, strict=True):
        assert set(b.params) - set(a.params) == ({"bn_mean", "bn_std"} if a.op.kind == "Conv2D" else set())
        for key in a.params:
            np.testing.assert_allclose(a.params[key], b.params[key], rtol=1e-3, atol=1e-5)


@pytest.mark.quick
@pytest.mark.parametrize("make", [tiny_cnn, tiny_mlp, tiny_conv1d])
def test_tiny_models(make: Any) -> None:
    check_against_onnxruntime(make())


@pytest.mark.quick
def test_reading_twice_gives_the_same_graph() -> None:
    first, second = read(tiny_cnn()), read(tiny_cnn())
    assert print_graph(first) == print_graph(second)
    for a, b in zip(first.nodes, second.nodes, strict=True):
        assert {k: v.tobytes() for k, v in a.params.items()} == {k: v.tobytes() for k, v in b.params.items()}


@pytest.mark.quick
def test_the_graph_is_named_after_the_file(tmp_path: Path) -> None:
    path = tmp_path / "my-net.onnx"
    path.write_bytes(tiny_mlp().SerializeToString())
    assert read(path).name == read(str(path)).name == "my-net"
    assert read(path, name="other").name == "other"


@pytest.mark.quick
def test_inspection_describes_what_cannot_be_read() -> None:
    b = ModelBuilder(17)
    x = b.conv(b.input("x", [1, 3, 8, 8]), 3, 4, (3, 3))
    found = inspect(b.model(b.node("InstanceNormalization", [x, b.weight(4), b.weight(4)], name="norm")))
    assert found.graph is None
    assert [(u.node, u.op) for u in found.unsupported] == [("norm", "InstanceNormalization")]
    assert found.op_counts == {"Conv": 1, "InstanceNormalization": 1}
    good = inspect(tiny_mlp())
    assert good.graph is not None
    assert good.unsupported == ()
    assert good.op_counts == {"Gemm": 2, "Relu": 1, "Softmax": 1}


# --- torch -----------------------------------------------------------------------------------------------------------


class ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)
        self.an, self.bn = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.bn(self.b(F.relu(self.an(self.a(x))))))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8)
        self.pool, self.block, self.out = nn.MaxPool2d(3, 2, 1), ResidualBlock(8), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block(self.pool(F.relu(self.norm(self.stem(x)))))
        return self.out(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class MobileBlock(nn.Module):
    """Inverted residual with squeeze-and-excite and hard swish."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        self.depth = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU6()
        )
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1), nn.Hardsigmoid()
        )
        self.project = nn.Sequential(nn.Conv2d(16, 8, 1, bias=False), nn.BatchNorm2d(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.depth(self.expand(x))
        return x + self.project(y * self.squeeze(y))


class MobileNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.act, self.head = nn.Conv2d(3, 8, 3, 2, 1), MobileBlock(), nn.SiLU(), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.act(self.block(self.act(self.stem(x)))).mean((2, 3))).softmax(-1)


class VGG(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Linear(8 * 4 * 4, 12), nn.GELU(), nn.Dropout(), nn.Linear(12, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).view(x.size(0), -1))


class Signal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(4, 8, 5, stride=2, padding=2), nn.BatchNorm1d(8), nn.LeakyReLU(0.1), nn.AvgPool1d(2),
            nn.Conv1d(8, 8, 3, padding=1, groups=8), nn.PReLU(8), nn.ZeroPad1d((1, 2)), nn.Conv1d(8, 6, 3),
        )  # fmt: skip
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean(-1))


class UNet(nn.Module):
    """Concatenation with an upsampled branch, several outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(10, 2, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a = F.relu(self.a(x))
        b = torch.tanh(self.b(F.max_pool2d(a, 2)))
        up = F.interpolate(b, scale_factor=2.0, mode="nearest")
        return self.c(torch.cat([a, up], 1)), b


MODULES: dict[str, tuple[type[nn.Module], tuple[int, ...], list[str]]] = {
    "resnet": (
        ResNet,
        (1, 3, 16, 16),
        ["Conv2D", "MaxPool2D", "Conv2D", "Conv2D", "Add", "AvgPool2D", "Reshape", "Dense"],
    ),
    "mobilenet": (
        MobileNet,
        (1, 3, 16, 16),
        ["Conv2D", "silu", "Conv2D", "hard_swish", "Conv2D", "AvgPool2D", "Conv2D", "Conv2D", "hard_sigmoid", "Mul",
         "Conv2D", "Add", "silu", "AvgPool2D", "Reshape", "Dense", "Softmax"],
    ),
    "vgg": (VGG, (1, 3, 16, 16), ["Conv2D", "MaxPool2D", "Conv2D", "MaxPool2D", "Reshape", "Dense", "gelu", "Dense"]),
    "signal": (
        Signal,
        (1, 4, 40),
        ["Reshape", "Conv2D", "leaky_relu", "AvgPool2D", "Conv2D", "PRelu", "Conv2D", "AvgPool2D", "Reshape", "Dense"],
    ),
    "unet": (UNet, (1, 3, 8, 8), ["Conv2D", "MaxPool2D", "Conv2D", "tanh", "Resize", "Concat", "Conv2D"]),
}  # fmt: skip


def trained(make: type[nn.Module]) -> nn.Module:
    """The module with BatchNorm statistics that are not the initial ones."""
    torch.manual_seed(0)
    module = make()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (layer.running_mean, layer.bias):
                nn.init.normal_(tensor, 0, 0.3)
            for tensor in (layer.running_var, layer.weight):
                nn.init.uniform_(tensor, 0.5, 1.5)
        if isinstance(layer, nn.PReLU):
            nn.init.uniform_(layer.weight, -0.5, 0.5)
    return module.eval()


def check_module(graph: Graph, module: nn.Module) -> None:
    feeds = random_inputs(graph, 1)
    with torch.no_grad():
        want = module(*(torch.from_numpy(x) for x in feeds.values()))
    wants = want if isinstance(want, tuple) else (want,)
    found = evaluate_model(graph, feeds)
    for output, reference in zip(graph.outputs, wants, strict=True):
        np.testing.assert_allclose(found[output.model_name], reference.numpy(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", MODULES)
def test_torch_module(name: str) -> None:
    make, shape, becomes = MODULES[name]
    module = trained(make)
    graph = read(module, {"x": shape})
    check_module(graph, module)
    assert kinds(graph) == becomes
    norms = sum(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in module.modules())
    assert sum("bn_mean" in n.params for n in graph.nodes) == norms


@pytest.mark.parametrize("name", ["mobilenet", "signal"])
def test_torch_module_without_onnxscript(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "onnxscript" else real(n, *a))
    make, shape, becomes = MODULES[name]
    module = trained(make)
    graph = read(module, {"x": shape})
    check_module(graph, module)
    assert kinds(graph) == becomes


def test_exported_program(tmp_path: Path) -> None:
    module = trained(VGG)
    program = torch.export.export(module, (torch.zeros(1, 3, 16, 16),))
    torch.export.save(program, tmp_path / "vgg.pt2")
    for model in (program, tmp_path / "vgg.pt2"):
        graph = read(model)
        check_module(graph, module)
        assert kinds(graph) == MODULES["vgg"][2]


def test_a_module_stays_in_training_mode() -> None:
    module = trained(Signal).train()
    read(module, {"x": (1, 4, 40)})
    assert module.training


@pytest.mark.quick
def test_a_module_needs_shapes() -> None:
    with pytest.raises(ModelError, match=r"input_shapes=\{'x': "):
        read(trained(Signal))


@pytest.mark.quick
def test_something_else_is_no_model() -> None:
    with pytest.raises(ModelError, match="of type dict cannot be read"):
        read({})
