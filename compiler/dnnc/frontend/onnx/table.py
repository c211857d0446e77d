"""Which handler translates which ONNX operator. Adding one: its handler, its row here, its cases in the tests."""

from __future__ import annotations

from collections.abc import Callable

from dnnc.frontend.onnx import dense, elementwise, movement, quantised, reduction, windows
from dnnc.frontend.onnx.context import Context
from dnnc.frontend.onnx.elementwise import pointwise, scalar
from dnnc.frontend.onnx.source import SourceNode

Handler = Callable[[Context, SourceNode], None]

HANDLERS: dict[str, Handler] = {
    "Conv": windows.conv,
    "MaxPool": windows.pool,
    "AveragePool": windows.pool,
    "GlobalAveragePool": windows.global_pool,
    "GlobalMaxPool": windows.global_pool,
    "BatchNormalization": windows.batch_norm,
    "Resize": windows.resize,
    "Upsample": windows.resize,
    "Gemm": dense.gemm,
    "MatMul": dense.matmul,
    "Add": elementwise.arithmetic,
    "Sub": elementwise.arithmetic,
    "Mul": elementwise.arithmetic,
    "Div": elementwise.arithmetic,
    "Neg": elementwise.negate,
    "Relu": pointwise("relu"),
    "LeakyRelu": pointwise("leaky_relu", alpha=0.01),
    "Sigmoid": pointwise("sigmoid"),
    "HardSigmoid": pointwise("hard_sigmoid", alpha=0.2, beta=0.5),
    "HardSwish": pointwise("hard_swish"),
    "Tanh": pointwise("tanh"),
    "Elu": pointwise("elu", alpha=1.0),
    "Selu": elementwise.selu,
    "Softplus": pointwise("softplus"),
    "Softsign": pointwise("softsign"),
    "Exp": pointwise("exp"),
    "Abs": pointwise("abs"),
    "Gelu": elementwise.gelu,
    "Erf": scalar("erf"),
    "Sqrt": scalar("sqrt"),
    "Log": scalar("log"),
    "Reciprocal": scalar("reciprocal"),
    "Pow": elementwise.power,
    "Clip": elementwise.clip,
    "Max": elementwise.extremum,
    "Min": elementwise.extremum,
    "PRelu": elementwise.prelu,
    "Identity": elementwise.passing,
    "Dropout": elementwise.passing,
    "Cast": elementwise.cast,
    "CastLike": elementwise.cast_like,
    "Transpose": movement.transpose,
    "Reshape": movement.reshape,
    "Flatten": movement.flatten,
    "Squeeze": movement.squeeze,
    "Unsqueeze": movement.unsqueeze,
    "Expand": movement.expand,
    "Shape": movement.shape_of,
    "Size": movement.size_of,
    "DepthToSpace": movement.depth_to_space,
    "SpaceToDepth": movement.depth_to_space,
    "Slice": movement.slice_,
    "Split": movement.split,
    "Gather": movement.gather,
    "Concat": movement.concat,
    "Pad": movement.pad,
    "ReduceMean": reduction.reduce,
    "ReduceSum": reduction.reduce,
    "ReduceMax": reduction.reduce,
    "Softmax": reduction.softmax,
    "LogSoftmax": reduction.no_log_softmax,
    "QuantizeLinear": quantised.quantize,
    "DequantizeLinear": quantised.dequantize,
}

ORDINARY = ("", "ai.onnx")

#: Operators that are also known in other domains. onnxruntime writes 16-bit and 4-bit pairs in its own.
DOMAINS: dict[str, tuple[str, ...]] = {
    "QuantizeLinear": (*ORDINARY, "com.microsoft"),
    "DequantizeLinear": (*ORDINARY, "com.microsoft"),
    "Gelu": (*ORDINARY, "com.microsoft"),
}
