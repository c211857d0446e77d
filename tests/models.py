"""Small ONNX models with seeded random weights, for every test that needs a network and no training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
Shape = Sequence[int | str]


class ModelBuilder:
    """Collects nodes and initialisers; every method returns the name of the tensor that it makes."""

    def __init__(self, opset: int = 17, seed: int = 0) -> None:
        self.opset = opset
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Shape, dtype: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
        return name

    def output(self, name: str, dtype: int = TensorProto.FLOAT) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, dtype, None))

    def constant(self, value: Any, dtype: Any = np.float32, name: str | None = None) -> str:
        name = name or f"const{len(self.initialisers)}"
        self.initialisers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def weight(self, *shape: int, scale: float | None = None) -> str:
        """Random normal values, scaled by fan-in unless `scale` is given."""
        fan_in = int(np.prod(shape[1:])) or 1
        return self.constant(self.rng.normal(0, 1, shape) * (scale if scale is not None else fan_in**-0.5))

    def node(self, op: str, inputs: Sequence[str], outputs: int | Sequence[str] = 1, **attributes: Any) -> Any:
        """Append a node; returns its output's name, or the list of names where it makes several."""
        domain = attributes.pop("domain", "")
        index = len(self.nodes)
        name = attributes.pop("name", f"{op.lower()}{index}")
        if isinstance(outputs, int):
            outputs = [f"t{index}_{i}" for i in range(outputs)] if outputs > 1 else [f"t{index}"]
        self.nodes.append(helper.make_node(op, list(inputs), list(outputs), name=name, domain=domain, **attributes))
        return outputs[0] if len(outputs) == 1 else list(outputs)

    def conv(
        self, x: str, inputs: int, outputs: int, kernel: Sequence[int], bias: bool = True, **attributes: Any
    ) -> str:
        group = attributes.get("group", 1)
        weights = [self.weight(outputs, inputs // group, *kernel)]
        if bias:
            weights.append(self.weight(outputs, scale=0.1))
        result: str = self.node("Conv", [x, *weights], **attributes)
        return result

    def gemm(self, x: str, inputs: int, outputs: int) -> str:
        result: str = self.node("Gemm", [x, self.weight(outputs, inputs), self.weight(outputs, scale=0.1)], transB=1)
        return result

    def batch_norm(self, x: str, channels: int) -> str:
        parts = (
            self.constant(self.rng.uniform(0.5, 1.5, channels)),
            self.constant(self.rng.normal(0, 0.3, channels)),
            self.constant(self.rng.normal(0, 0.3, channels)),
            self.constant(self.rng.uniform(0.3, 2.0, channels)),
        )
        result: str = self.node("BatchNormalization", [x, *parts])
        return result

    def model(self, *results: str, check: bool = True) -> onnx.ModelProto:
        """The finished model; `results` become outputs unless they were declared."""
        declared = {o.name for o in self.outputs}
        for name in results:
            if name not in declared:
                self.output(name)
        graph = helper.make_graph(self.nodes, "test", self.inputs, self.outputs, self.initialisers)
        ir_version = 8 if self.opset <= 18 else 10
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=ir_version)
        if check:
            model = onnx.shape_inference.infer_shapes(model)
            onnx.checker.check_model(model)
        return model


def tiny_cnn(seed: int = 0, batch: int | str = "N") -> onnx.ModelProto:
    """[N, 3, 8, 8] -> conv, max-pool, depthwise conv, 1x1 conv with a residual Add, global mean, Gemm -> [N, 5]."""
    b = ModelBuilder(17, seed)
    x = b.input("image", [batch, 3, 8, 8])
    x = b.node("Relu", [b.conv(x, 3, 8, (3, 3), pads=[1, 1, 1, 1])])
    x = b.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    skip = x
    x = b.node("Relu", [b.conv(x, 8, 8, (3, 3), pads=[1, 1, 1, 1], group=8)])
    x = b.conv(x, 8, 8, (1, 1))
    x = b.node("Relu", [b.node("Add", [x, skip])])
    x = b.node("Flatten", [b.node("GlobalAveragePool", [x])])
    b.gemm(x, 8, 5)
    b.nodes[-1].output[0] = "scores"
    return b.model("scores")


def tiny_mlp(seed: int = 0, batch: int | str = "N") -> onnx.ModelProto:
    """[N, 12] -> Gemm, Relu, Gemm, Softmax -> [N, 4]."""
    b = ModelBuilder(17, seed)
    x = b.input("features", [batch, 12])
    x = b.node("Relu", [b.gemm(x, 12, 16)])
    b.node("Softmax", [b.gemm(x, 16, 4)], ["probabilities"], axis=-1)
    return b.model("probabilities")


def tiny_conv1d(seed: int = 0, batch: int | str = "N") -> onnx.ModelProto:
    """[N, 4, 20] -> two 1-D convolutions, flatten, Gemm -> [N, 3]."""
    b = ModelBuilder(17, seed)
    x = b.input("signal", [batch, 4, 20])
    x = b.node("Relu", [b.conv(x, 4, 6, (5,), pads=[2, 2], strides=[2])])
    x = b.node("Relu", [b.conv(x, 6, 6, (3,), pads=[1, 1], group=6)])
    x = b.node("Flatten", [x])
    b.gemm(x, 60, 3)
    b.nodes[-1].output[0] = "scores"
    return b.model("scores")
