"""Models that onnxruntime's static quantiser wrote: scales and zero points are kept, the pairs vanish."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from against_onnx import evaluate_model, fake_quantise, kinds, random_inputs, session
from dnnc.errors import ModelError, UnsupportedError
from dnnc.frontend import read
from dnnc.ir.types import Quant
from models import ModelBuilder, tiny_cnn, tiny_conv1d, tiny_mlp

pytestmark = pytest.mark.quick


class Samples(CalibrationDataReader):  # type: ignore[misc]
    """Sixteen samples of normal numbers."""

    def __init__(self, model: onnx.ModelProto) -> None:
        source = model.graph.input[0]
        shape = [d.dim_value or 1 for d in source.type.tensor_type.shape.dim]
        rng = np.random.default_rng(0)
        self.feeds = iter([{source.name: rng.normal(size=shape).astype(np.float32)} for _ in range(16)])

    def get_next(self) -> dict[str, Any] | None:
        return next(self.feeds, None)


def quantise(model: onnx.ModelProto, folder: Path, activations: QuantType, **options: Any) -> onnx.ModelProto:
    source, target = folder / "float.onnx", folder / "qdq.onnx"
    onnx.save(model, source)
    logging.disable(logging.WARNING)
    try:
        quantize_static(
            source, target, Samples(model), quant_format=QuantFormat.QDQ, activation_type=activations, **options
        )
    finally:
        logging.disable(logging.NOTSET)
    return onnx.load(target)


def attention_cnn() -> onnx.ModelProto:
    """Squeeze and excite, x * sigmoid(x), concatenation, average pooling."""
    b = ModelBuilder(17)
    x = b.conv(b.input("x", [1, 3, 8, 8]), 3, 8, (3, 3), pads=[1, 1, 1, 1])
    x = b.node("Mul", [x, b.node("Sigmoid", [x])])
    s = b.node("Sigmoid", [b.conv(b.node("GlobalAveragePool", [x]), 8, 8, (1, 1))])
    x = b.node("Concat", [b.node("Mul", [x, s]), b.conv(x, 8, 4, (1, 1))], axis=1)
    x = b.node("Clip", [x, b.constant(0.0), b.constant(6.0)])
    x = b.node("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2])
    return b.model(b.gemm(b.node("Flatten", [x]), 192, 4))


def preserves_codes(graph: Any) -> None:
    """Weights are integral multiples of their scale, and fit 8 bits."""
    for node in graph.nodes:
        if "weight" in node.params:
            scale = node.params["weight_scale"]
            assert scale.dtype == np.float64
            assert scale.shape == node.params["bias"].shape
            codes = node.params["weight"] / scale.reshape(-1, *(1,) * (node.params["weight"].ndim - 1))
            assert np.abs(codes - np.round(codes)).max() < 1e-3
            assert np.round(codes).min() >= -128
            assert np.round(codes).max() <= 127


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("activations", [QuantType.QInt8, QuantType.QUInt8], ids=["int8", "uint8"])
@pytest.mark.parametrize("make", [tiny_cnn, tiny_mlp, tiny_conv1d])
def test_static_quantisation(make: Any, activations: QuantType, per_channel: bool, tmp_path: Path) -> None:
    model = quantise(make(), tmp_path, activations, per_channel=per_channel, weight_type=QuantType.QInt8)
    graph = read(model)
    assert graph.integer
    preserves_codes(graph)
    runtime, hook = session(model), fake_quantise(graph)
    for seed in range(5):
        feeds = random_inputs(graph, seed)
        (found,) = evaluate_model(graph, feeds, hook).values()
        np.testing.assert_allclose(found, runtime.run(None, feeds)[0], atol=1e-6)


def test_relu_that_the_quantiser_dropped_comes_back(tmp_path: Path) -> None:
    model = quantise(tiny_cnn(), tmp_path, QuantType.QUInt8, weight_type=QuantType.QInt8)
    assert "Relu" not in [n.op_type for n in model.graph.node]
    assert [n.op.clamp.lo for n in read(model).nodes if n.op.kind in ("Conv2D", "Add")] == [0.0, 0.0, None, 0.0]


def test_fused_functions_keep_the_outer_quantisation(tmp_path: Path) -> None:
    model = quantise(attention_cnn(), tmp_path, QuantType.QInt8, weight_type=QuantType.QInt8)
    graph = read(model)
    assert (kinds(graph).count("silu"), kinds(graph).count("sigmoid"), kinds(graph).count("Mul")) == (1, 1, 1)
    assert all(t.quant is not None for t in graph.types.values())
    runtime, hook = session(model), fake_quantise(graph)
    feeds = random_inputs(graph)
    (found,) = evaluate_model(graph, feeds, hook).values()
    want = runtime.run(None, feeds)[0]
    # sigmoid(x) is no longer rounded inside of x * sigmoid(x): near, not equal.
    assert np.abs(found - want).max() < 0.1 * np.abs(want).max()


def test_16_bit_activations(tmp_path: Path) -> None:
    model = quantise(tiny_cnn(), tmp_path, QuantType.QUInt16, weight_type=QuantType.QInt8)
    graph = read(model)
    assert {t.quant.bits for t in graph.types.values() if t.quant} == {16}
    feeds = random_inputs(graph)
    (found,) = evaluate_model(graph, feeds, fake_quantise(graph)).values()
    np.testing.assert_allclose(found, session(model).run(None, feeds)[0], atol=1e-4)


def test_asymmetric_weights_have_no_scale(tmp_path: Path) -> None:
    """Codes minus a zero point that do not fit 8 signed bits are float weights like any others."""
    b = ModelBuilder(17)
    x = b.node("QuantizeLinear", [b.input("x", [1, 4]), b.constant(0.1), b.constant(128, np.uint8)])
    x = b.node("DequantizeLinear", [x, b.constant(0.1), b.constant(128, np.uint8)])
    codes = b.constant(np.arange(12).reshape(3, 4) * 20, np.uint8)
    w = b.node("DequantizeLinear", [codes, b.constant(0.5), b.constant(7, np.uint8)])
    graph = read(b.model(b.node("Gemm", [x, w], transB=1)))
    assert "weight_scale" not in graph.nodes[0].params
    np.testing.assert_allclose(graph.nodes[0].params["weight"], (np.arange(12).reshape(3, 4) * 20 - 7) * 0.5)
    assert graph.inputs[0].type.quant == Quant(8, float(np.float32(0.1)), 0)


def test_weights_that_are_stored_as_floats_are_rounded() -> None:
    """QuantizeLinear of a constant is computed; the scale is the DequantizeLinear's."""
    b = ModelBuilder(17)
    scale, zero = b.constant([0.1, 0.2, 0.4]), b.constant([0, 0, 0], np.int8)
    w = b.node("QuantizeLinear", [b.constant(b.rng.normal(size=(4, 3))), scale, zero], axis=1)
    w = b.node("DequantizeLinear", [w, scale, zero], axis=1)
    graph = read(b.model(b.node("MatMul", [b.input("x", [1, 4]), w])))
    np.testing.assert_allclose(graph.nodes[0].params["weight_scale"], [0.1, 0.2, 0.4], rtol=1e-6)
    preserves_codes(graph)


def test_batch_norm_behind_quantised_weights_scales_them() -> None:
    b = ModelBuilder(17)
    codes = b.constant(b.rng.integers(-127, 128, (6, 4, 3, 3)), np.int8)
    w = b.node("DequantizeLinear", [codes, b.constant(0.05), b.constant(0, np.int8)])
    y = b.node("Conv", [b.input("x", [1, 4, 6, 6]), w])
    graph = read(b.model(b.batch_norm(y, 6)))
    assert kinds(graph) == ["Conv2D"]
    preserves_codes(graph)


def qdq(b: ModelBuilder, x: str, scale: float, back: float) -> str:
    codes = b.node("QuantizeLinear", [x, b.constant(scale), b.constant(0, np.int8)])
    return str(b.node("DequantizeLinear", [codes, b.constant(back), b.constant(0, np.int8)]))


def test_two_quantisations_of_one_value_are_two_values() -> None:
    b = ModelBuilder(17)
    x = b.node("Relu", [b.input("x", [1, 4])])
    graph = read(b.model(b.node("Add", [qdq(b, x, 0.1, 0.1), qdq(b, x, 0.2, 0.2)])))
    assert kinds(graph) == ["relu", "identity", "Add"]


def test_a_pair_that_differs_is_not_supported() -> None:
    b = ModelBuilder(17)
    with pytest.raises(UnsupportedError, match=r"differs from its QuantizeLinear"):
        read(b.model(qdq(b, b.input("x", [1, 4]), 0.1, 0.2)))


def test_integer_outputs_are_not_supported() -> None:
    b = ModelBuilder(17)
    y = b.node("QuantizeLinear", [b.input("x", [1, 4]), b.constant(0.1), b.constant(0, np.int8)])
    b.output(y, onnx.TensorProto.INT8)
    with pytest.raises(UnsupportedError, match="integer tensor"):
        read(b.model())


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf")])
def test_impossible_scales(scale: float) -> None:
    b = ModelBuilder(17)
    with pytest.raises(ModelError, match="is not a positive number"):
        read(b.model(qdq(b, b.input("x", [1, 4]), scale, scale)))
