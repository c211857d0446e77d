"""Every ONNX operator that is read, in the forms of several opsets, against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from against_onnx import check_against_onnxruntime, evaluate_model, kinds, session
from dnnc.frontend import read
from models import ModelBuilder

pytestmark = pytest.mark.quick

#: A 1-D signal [W, C] is viewed as an image [1, W, C], and back at the end.
VIEW = ["Reshape"]

Make = Callable[[ModelBuilder], str]
#: id -> (opsets, input shape, what to build on the input "x", the kinds of the operations that it becomes)
CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], Callable[[ModelBuilder, str], str], list[str] | None]] = {}

ALL = (9, 11, 13, 17, 21)
IMAGE = (1, 4, 9, 7)


def case(
    name: str,
    build: Callable[[ModelBuilder, str], str],
    shape: tuple[int, ...] = IMAGE,
    becomes: list[str] | None = None,
    opsets: tuple[int, ...] = (17,),
) -> None:
    CASES[name] = (opsets, shape, build, becomes)


def node(op: str, *constants: Any, dtype: Any = np.float32, **attributes: Any) -> Callable[[ModelBuilder, str], str]:
    """A node on x and constants; None leaves an input out."""

    def build(b: ModelBuilder, x: str) -> str:
        inputs = ["" if c is None else b.constant(c, dtype) for c in constants]
        result: str = b.node(op, [x, *inputs], **attributes)
        return result

    return build


def conv(inputs: int, outputs: int, kernel: tuple[int, ...], **attributes: Any) -> Callable[[ModelBuilder, str], str]:
    return lambda b, x: b.conv(x, inputs, outputs, kernel, **attributes)


def chain(*steps: Callable[[ModelBuilder, str], str]) -> Callable[[ModelBuilder, str], str]:
    def build(b: ModelBuilder, x: str) -> str:
        for step in steps:
            x = step(b, x)
        return x

    return build


def integers(op: str, *constants: Any, **attributes: Any) -> Callable[[ModelBuilder, str], str]:
    return node(op, *constants, dtype=np.int64, **attributes)


def batch_norm(channels: int) -> Callable[[ModelBuilder, str], str]:
    return lambda b, x: b.batch_norm(x, channels)


conv3 = conv(4, 6, (3, 3), pads=[1, 1, 1, 1])
relu = node("Relu")

# --- convolution -----------------------------------------------------------------------------------------------------
case("conv", conv(4, 6, (3, 2)), becomes=["Conv2D"], opsets=ALL)
case("conv no bias", conv(4, 6, (3, 3), bias=False), becomes=["Conv2D"])
case("conv strides pads", conv(4, 6, (3, 3), strides=[2, 3], pads=[1, 0, 2, 1]), becomes=["Conv2D"])
case("conv dilations", conv(4, 6, (3, 3), dilations=[2, 2], pads=[2, 2, 2, 2]), becomes=["Conv2D"])
case("conv groups", conv(4, 6, (3, 3), group=2), becomes=["Conv2D"])
case("conv depthwise", conv(4, 4, (3, 3), group=4), becomes=["Conv2D"])
case("conv depth multiplier", conv(4, 8, (3, 3), group=4), becomes=["Conv2D"])
for mode in ("SAME_UPPER", "SAME_LOWER", "VALID"):
    case(f"conv {mode}", conv(4, 6, (4, 3), auto_pad=mode, strides=[2, 2]), becomes=["Conv2D"])
    case(f"max pool {mode}", node("MaxPool", kernel_shape=[2, 3], strides=[2, 2], auto_pad=mode), becomes=["MaxPool2D"])
case("conv 1d", conv(4, 6, (3,), pads=[1, 1], strides=[2]), (1, 4, 20), [*VIEW, "Conv2D", *VIEW], ALL)
case(
    "conv 1d twice",
    chain(conv(4, 6, (3,)), relu, conv(6, 6, (3,), group=6, dilations=[2])),
    (1, 4, 20),
    [*VIEW, "Conv2D", "Conv2D", *VIEW],
)

# --- pooling ---------------------------------------------------------------------------------------------------------
POOL: dict[str, Any] = {"kernel_shape": [3, 2], "strides": [2, 2]}
case("max pool", node("MaxPool", **POOL), becomes=["MaxPool2D"], opsets=ALL)
case("max pool pads", node("MaxPool", **POOL, pads=[1, 0, 1, 1]), becomes=["MaxPool2D"])
case("max pool dilations", node("MaxPool", **POOL, dilations=[2, 2]), becomes=["MaxPool2D"])
case("average pool", node("AveragePool", **POOL), becomes=["AvgPool2D"], opsets=ALL)
case("average pool pads", node("AveragePool", **POOL, pads=[1, 1, 1, 0]), becomes=["AvgPool2D"])
case("average pool count", node("AveragePool", **POOL, pads=[1, 1, 1, 0], count_include_pad=1), becomes=["AvgPool2D"])
for h, w in ((8, 8), (9, 10), (11, 7)):
    for kernel, stride, pads in (
        ((3, 3), (2, 2), (0, 0, 0, 0)),
        ((3, 3), (2, 2), (1, 1, 1, 1)),
        ((2, 2), (3, 3), (0, 1, 0, 1)),
    ):
        window = {"kernel_shape": kernel, "strides": stride, "pads": pads, "ceil_mode": 1}
        label = f"{h}x{w} {kernel} {stride} {pads}"
        case(f"max pool ceil {label}", node("MaxPool", **window), (1, 2, h, w), ["MaxPool2D"])
        case(f"average pool ceil {label}", node("AveragePool", **window), (1, 2, h, w), ["AvgPool2D"])
        case(
            f"average count ceil {label}",
            node("AveragePool", **window, count_include_pad=1),
            (1, 2, h, w),
            ["AvgPool2D"],
        )
case("pool 1d", node("MaxPool", kernel_shape=[3], strides=[2]), (1, 4, 20), [*VIEW, "MaxPool2D", *VIEW])
case("average 1d", node("AveragePool", kernel_shape=[3], pads=[1, 1]), (1, 4, 20), [*VIEW, "AvgPool2D", *VIEW])
case("global average", node("GlobalAveragePool"), becomes=["AvgPool2D"], opsets=ALL)
case("global average 1d", node("GlobalAveragePool"), (1, 4, 20), [*VIEW, "AvgPool2D", *VIEW])
case("global max", node("GlobalMaxPool"), becomes=["MaxPool2D"])
case("mean hw", node("ReduceMean", axes=[2, 3]), becomes=["AvgPool2D"], opsets=(9, 11, 13, 17))
case(
    "mean hw flat",
    chain(conv3, node("ReduceMean", axes=[-1, -2], keepdims=0)),
    becomes=["Conv2D", "AvgPool2D", "Reshape"],
)
case("mean hw input", integers("ReduceMean", [2, 3]), becomes=["AvgPool2D"], opsets=(18, 21))
case("mean c", chain(conv3, node("ReduceMean", axes=[1])), becomes=["Conv2D", "ReduceMean"])
case("mean w", chain(conv3, node("ReduceMean", axes=[3], keepdims=0)), becomes=["Conv2D", "ReduceMean", "Reshape"])
case("mean all", node("ReduceMean", axes=[1, 2, 3]))
case("mean of features", node("ReduceMean", axes=[1]), (1, 6), ["ReduceMean"])
case("sum hw", integers("ReduceSum", [2, 3]), becomes=["AvgPool2D", "affine"])
case("max hw", node("ReduceMax", axes=[2, 3]), becomes=["MaxPool2D"])
case(
    "mean after flattening hw",
    chain(conv3, integers("Reshape", [1, 6, 63]), node("ReduceMean", axes=[2])),
    becomes=["Conv2D", "AvgPool2D", "Reshape"],
)

# --- fully connected -------------------------------------------------------------------------------------------------
W = np.random.default_rng(5).normal(size=(12, 5))
case("gemm", lambda b, x: b.gemm(x, 12, 5), (1, 12), ["Dense"], ALL)
case("gemm alpha beta", node("Gemm", W, W[0, :5], alpha=0.5, beta=2.0), (1, 12), ["Dense"])
case("gemm no bias", node("Gemm", W), (1, 12), ["Dense"])
case("gemm scalar bias", node("Gemm", W, 0.5), (1, 12), ["Dense"])
case("gemm row bias", node("Gemm", W, W[:1]), (1, 12), ["Dense"])
case("gemm rows", node("Gemm", W, W[:1]), (3, 12), ["Dense"])
case("gemm matrix bias", node("Gemm", W, W[:3]), (3, 12), ["Dense", "Constant", "Add"])
case("gemm column bias", node("Gemm", W, W[:3, :1]), (3, 12), ["Dense", "Constant", "Add"])
case("gemm transA", node("Gemm", W, transA=1), (12, 3), ["Dense"])
case("gemm computed bias", lambda b, x: b.node("Gemm", [x, b.constant(W), b.gemm(x, 12, 5)], beta=0.5), (1, 12))
case("matmul", node("MatMul", W), (1, 12), ["Dense"], ALL)
case("matmul add", chain(node("MatMul", W), node("Add", W[0, :5])), (1, 12), ["Dense"])
case("add matmul", chain(node("MatMul", W), lambda b, x: b.node("Add", [b.constant(W[0, :5]), x])), (1, 12), ["Dense"])
case("matmul rows", node("MatMul", W), (1, 7, 12), ["Dense"])
case("matmul rank 3 weights", node("MatMul", W[None]), (1, 7, 12), ["Dense"])
case("matmul vector", node("MatMul", W[:, 0]), (1, 12), None)
case("matmul of vector", node("MatMul", W), (12,), ["Dense"])
case(
    "matmul over channels last",
    chain(conv(4, 12, (1, 1)), node("Transpose", perm=[0, 2, 3, 1]), node("MatMul", W)),
    becomes=["Conv2D", "Dense"],
)
case("matmul over width", chain(conv(4, 6, (1, 1)), node("MatMul", W[:7])), becomes=["Conv2D", "Transpose", "Dense"])
case(
    "flatten gemm",
    chain(conv3, node("Flatten"), lambda b, x: b.gemm(x, 378, 5)),
    becomes=["Conv2D", "Reshape", "Dense"],
    opsets=ALL,
)
case(
    "reshape gemm",
    chain(conv3, integers("Reshape", [0, -1]), lambda b, x: b.gemm(x, 378, 5)),
    becomes=["Conv2D", "Reshape", "Dense"],
)
case(
    "flatten bias relu gemm",
    chain(conv3, node("Flatten"), node("Add", np.arange(378) / 400), relu, lambda b, x: b.gemm(x, 378, 5)),
)
case(
    "nhwc flatten gemm",
    chain(conv3, node("Transpose", perm=[0, 2, 3, 1]), node("Flatten"), lambda b, x: b.gemm(x, 378, 5)),
    becomes=["Conv2D", "Reshape", "Dense"],
)

# --- functions of one number -----------------------------------------------------------------------------------------
for name, attributes in {
    "Relu": {}, "LeakyRelu": {"alpha": 0.2}, "Sigmoid": {}, "HardSigmoid": {"alpha": 0.3, "beta": 0.4}, "Tanh": {},
    "Elu": {"alpha": 0.7}, "Selu": {}, "Softplus": {}, "Softsign": {}, "Exp": {}, "Abs": {},
}.items():  # fmt: skip
    case(name, node(name, **attributes), becomes=None, opsets=(9, 17))
    case(f"{name} defaults", node(name), opsets=(13,))
case("HardSwish", node("HardSwish"), becomes=["hard_swish"])
case("Gelu", node("Gelu"), becomes=["gelu"], opsets=(20,))
case("Gelu tanh", node("Gelu", approximate="tanh"), becomes=["gelu_tanh"], opsets=(20,))
case("Neg", node("Neg"), becomes=["affine"])
case("clip attributes", node("Clip", min=-0.5, max=0.8), becomes=["clip"], opsets=(9,))
case("clip inputs", node("Clip", -0.5, 0.8), becomes=["clip"], opsets=(11, 13, 17))
case("clip low only", node("Clip", 0.0), becomes=["relu"])
case("clip high only", node("Clip", None, 0.5), becomes=["clip"])
case("clip nothing", chain(node("Clip"), relu), becomes=["relu"], opsets=(13,))
case("max with constant", node("Max", 0.0), becomes=["relu"])
case("min with constant", node("Min", 0.3), becomes=["clip"])
case("square", node("Pow", 2.0), becomes=["square"])
case("prelu channel", node("PRelu", np.array([0.1, 0.2, -0.3, 0.4]).reshape(4, 1, 1)), becomes=["PRelu"], opsets=ALL)
case("prelu one", node("PRelu", [0.25]), becomes=["leaky_relu"])
case("prelu features", node("PRelu", np.linspace(-1, 1, 12)), (1, 12), ["PRelu"])

# --- spelled-out functions -------------------------------------------------------------------------------------------


def times(other: Callable[[ModelBuilder, str], str]) -> Callable[[ModelBuilder, str], str]:
    return lambda b, x: b.node("Mul", [x, other(b, x)])


case("silu", times(node("Sigmoid")), becomes=["silu"])
case("silu twice", chain(times(node("Sigmoid")), conv3, times(node("Sigmoid"))), becomes=["silu", "Conv2D", "silu"])
case("silu of relu", chain(relu, times(node("Sigmoid"))), becomes=["relu", "silu"])
case("hard swish from hard sigmoid", times(node("HardSigmoid", alpha=1 / 6)), becomes=["hard_swish"])
clip06 = node("Clip", 0.0, 6.0)
case("hard swish inner division", times(chain(node("Add", 3.0), clip06, node("Div", 6.0))), becomes=["hard_swish"])
case(
    "hard swish outer division", chain(times(chain(node("Add", 3.0), clip06)), node("Div", 6.0)), becomes=["hard_swish"]
)
case(
    "hard swish outer factor", chain(times(chain(node("Add", 3.0), clip06)), node("Mul", 1 / 6)), becomes=["hard_swish"]
)
case("hard sigmoid", chain(node("Add", 3.0), clip06, node("Div", 6.0)), becomes=["hard_sigmoid"])
erf = chain(node("Div", 2**0.5), node("Erf"), node("Add", 1.0))
case("gelu erf", chain(times(erf), node("Mul", 0.5)), becomes=["gelu"])
case(
    "gelu erf halved first",
    lambda b, x: b.node("Mul", [b.node("Mul", [x, b.constant(0.5)]), erf(b, x)]),
    becomes=["gelu"],
)
cube = lambda b, x: b.node("Add", [x, b.node("Mul", [b.node("Pow", [x, b.constant(3.0)]), b.constant(0.044715)])])  # noqa: E731
case(
    "gelu tanh spelled",
    chain(times(chain(cube, node("Mul", 0.7978845608), node("Tanh"), node("Add", 1.0))), node("Mul", 0.5)),
    becomes=["gelu_tanh"],
)
case("softplus spelled", chain(node("Exp"), node("Add", 1.0), node("Log")), becomes=["softplus"])
case(
    "softsign spelled",
    lambda b, x: b.node("Div", [x, b.node("Add", [b.node("Abs", [x]), b.constant(1.0)])]),
    becomes=["softsign"],
)
case("mish", times(chain(node("Softplus"), node("Tanh"))), becomes=["softplus", "tanh", "Mul"])

# --- arithmetic ------------------------------------------------------------------------------------------------------
C4 = np.array([0.5, -1.5, 2.0, 3.0]).reshape(4, 1, 1)
case(
    "residual", lambda b, x: b.node("Add", [conv3(b, x), conv(4, 6, (1, 1))(b, x)]), becomes=["Conv2D", "Conv2D", "Add"]
)
case(
    "difference",
    lambda b, x: b.node("Sub", [conv3(b, x), conv(4, 6, (1, 1))(b, x)]),
    becomes=["Conv2D", "Conv2D", "Add"],
)
case("residual relu", chain(lambda b, x: b.node("Add", [conv(4, 4, (1, 1))(b, x), x]), relu), becomes=["Conv2D", "Add"])
case("add constant", node("Add", 0.5), becomes=["affine"], opsets=ALL)
case("sub constant", node("Sub", 0.5), becomes=["affine"])
case("constant minus x", lambda b, x: b.node("Sub", [b.constant(1.0), x]), becomes=["affine"])
case("div constant", node("Div", 4.0), becomes=["affine"])
case("mul channels", chain(node("Mul", C4), conv3), becomes=["Conv2D"])
case("add channels padded conv", chain(node("Add", C4), conv3), becomes=["Conv2D", "Conv2D"])
case("add channels valid conv", chain(node("Add", C4), conv(4, 6, (3, 3))), becomes=["Conv2D"])
case("affine channels alone", chain(node("Mul", C4), node("Add", C4)), becomes=["Conv2D"])
case(
    "affine features alone",
    chain(node("Mul", np.arange(12)), node("Add", np.arange(12) / 3)),
    (1, 12),
    ["Constant", "Mul", "Constant", "Add"],
)
case("add tensor", node("Add", np.arange(252).reshape(1, 4, 9, 7) / 100), becomes=["Constant", "Add"])
case("add row", chain(conv3, node("Add", np.arange(7) / 3)), becomes=["Conv2D", "Constant", "Add"])
case("add larger constant", node("Add", np.arange(12).reshape(1, 4, 3)), (1, 4, 1))
case("sub from larger constant", lambda b, x: b.node("Sub", [b.constant(np.arange(12).reshape(1, 4, 3)), x]), (1, 4, 1))
case("outer", lambda b, x: b.node("Mul", [b.node("ReduceMean", [x], axes=[2]), b.node("ReduceMean", [x], axes=[3])]))
case(
    "spatial attention",
    lambda b, x: b.node("Mul", [x, b.node("Sigmoid", [b.conv(x, 4, 1, (3, 3), pads=[1] * 4)])]),
    becomes=["Conv2D", "sigmoid", "Mul"],
)
case("x times x", lambda b, x: b.node("Mul", [x, x]), becomes=["square"])


def squeeze_excite(b: ModelBuilder, x: str) -> str:
    s = b.node("GlobalAveragePool", [x])
    s = b.node("Relu", [b.conv(s, 4, 2, (1, 1))])
    return str(b.node("Mul", [x, b.node("HardSigmoid", [b.conv(s, 2, 4, (1, 1))])]))


def squeeze_excite_dense(b: ModelBuilder, x: str) -> str:
    s = b.node("Flatten", [b.node("GlobalAveragePool", [x])])
    s = b.node("Sigmoid", [b.gemm(b.node("Relu", [b.gemm(s, 4, 2)]), 2, 4)])
    s = b.node("Reshape", [s, b.constant([1, 4, 1, 1], np.int64)])
    return str(b.node("Mul", [s, x]))


case("squeeze and excite", squeeze_excite, becomes=["AvgPool2D", "Conv2D", "Conv2D", "hard_sigmoid", "Mul"])
case(
    "squeeze and excite dense",
    squeeze_excite_dense,
    becomes=["AvgPool2D", "Reshape", "Dense", "Dense", "sigmoid", "Mul"],
)

# --- BatchNormalization ----------------------------------------------------------------------------------------------
case("conv bn", chain(conv3, batch_norm(6)), becomes=["Conv2D"], opsets=ALL)
case("conv bn relu", chain(conv3, batch_norm(6), relu), becomes=["Conv2D"])
case("bn conv valid", chain(batch_norm(4), conv(4, 6, (3, 3))), becomes=["Conv2D"])
case("bn conv grouped", chain(batch_norm(4), conv(4, 6, (3, 3), group=2)), becomes=["Conv2D"])
case("bn conv depthwise", chain(batch_norm(4), conv(4, 4, (3, 3), group=4)), becomes=["Conv2D"])
case("bn conv padded", chain(batch_norm(4), conv3), becomes=["Conv2D", "Conv2D"])
case("bn relu conv", chain(batch_norm(4), relu, conv3), becomes=["Conv2D", "Conv2D"])
case("gemm bn", chain(lambda b, x: b.gemm(x, 12, 5), batch_norm(5)), (1, 12), ["Dense"])
case("bn gemm", chain(batch_norm(12), lambda b, x: b.gemm(x, 12, 5)), (1, 12), ["Dense"])
case("bn flatten gemm", chain(batch_norm(4), node("Flatten"), lambda b, x: b.gemm(x, 252, 5)), becomes=None)
case("conv 1d bn", chain(conv(4, 6, (3,)), batch_norm(6)), (1, 4, 20), [*VIEW, "Conv2D", *VIEW])
case(
    "pixels to gemm",
    chain(node("Sub", 0.5), node("Div", 0.25), node("Flatten"), lambda b, x: b.gemm(x, 252, 5)),
    becomes=["Reshape", "Dense"],
)

# --- clamps ----------------------------------------------------------------------------------------------------------
case("relu6", chain(conv3, clip06), becomes=["Conv2D"])
case("relu relu6", chain(conv3, relu, clip06), becomes=["Conv2D"])
case("pool relu", chain(conv3, node("MaxPool", **POOL), relu), becomes=["Conv2D", "MaxPool2D"])
case(
    "relu twice read",
    chain(conv3, lambda b, x: b.node("Add", [x, b.node("Relu", [x])])),
    becomes=["Conv2D", "relu", "Add"],
)
case("mul relu", chain(lambda b, x: b.node("Mul", [x, conv(4, 4, (1, 1))(b, x)]), relu), becomes=["Conv2D", "Mul"])

# --- movement --------------------------------------------------------------------------------------------------------
case(
    "transpose there and back",
    chain(node("Transpose", perm=[0, 2, 3, 1]), relu, node("Transpose", perm=[0, 3, 1, 2]), conv3),
    becomes=["relu", "Conv2D"],
)
case(
    "nhwc model",
    chain(node("Transpose", perm=[0, 3, 1, 2]), conv3, node("Transpose", perm=[0, 2, 3, 1])),
    (1, 9, 7, 4),
    ["Conv2D"],
)
case("transpose alone", node("Transpose", perm=[0, 2, 1]), (1, 4, 5))
case(
    "squeeze",
    chain(node("GlobalAveragePool"), node("Squeeze", axes=[2, 3]), lambda b, x: b.gemm(x, 4, 3)),
    becomes=["AvgPool2D", "Reshape", "Dense"],
    opsets=(9, 11),
)
case(
    "squeeze input",
    chain(node("GlobalAveragePool"), integers("Squeeze", [2, 3]), lambda b, x: b.gemm(x, 4, 3)),
    becomes=["AvgPool2D", "Reshape", "Dense"],
)
case("unsqueeze", chain(node("Unsqueeze", axes=[2]), conv(4, 3, (1, 3))), (1, 4, 9), [*VIEW, "Conv2D"], (9, 11))
case("unsqueeze input", chain(integers("Unsqueeze", [-2]), conv(4, 3, (1, 3))), (1, 4, 9))
case(
    "reshape input to image",
    chain(integers("Reshape", [-1, 4, 9, 7]), conv3),
    (1, 252),
    ["Reshape", "Transpose", "Conv2D"],
)
case("reshape 0 and -1", chain(conv3, integers("Reshape", [0, 0, -1])))
case(
    "reshape cuts an axis",
    chain(conv3, integers("Reshape", [0, 2, 3, 9, 7]), integers("Reshape", [0, 6, 9, 7]), relu),
    becomes=["Conv2D"],
)
case("reshape mixes axes", chain(conv3, integers("Reshape", [0, 7, 9, 6]), conv(7, 2, (1, 1))))
case("reshape recuts", integers("Reshape", [1, 4, 6]), (1, 6, 4))
case("flatten axis 2", node("Flatten", axis=2), (1, 4, 9, 7), None)
case(
    "shuffle",
    chain(
        conv(4, 6, (1, 1)),
        integers("Reshape", [1, 2, 3, 9, 7]),
        node("Transpose", perm=[0, 2, 1, 3, 4]),
        integers("Reshape", [1, 6, 9, 7]),
        conv(6, 2, (1, 1)),
    ),
    becomes=["Conv2D", "Reshape", "Transpose", "Reshape", "Conv2D"],
)
case(
    "concat channels",
    lambda b, x: b.node("Concat", [conv3(b, x), b.conv(x, 4, 2, (1, 1)), x], axis=1),
    becomes=["Conv2D", "Conv2D", "Concat"],
)
case(
    "concat single channels",
    lambda b, x: b.node("Concat", [b.conv(x, 4, 1, (1, 1)), b.conv(x, 4, 1, (1, 1))], axis=1),
    becomes=["Conv2D", "Conv2D", "Concat"],
)
case(
    "concat height",
    lambda b, x: b.node("Concat", [conv3(b, x), conv3(b, x)], axis=-2),
    becomes=["Conv2D", "Conv2D", "Concat"],
)
case(
    "concat features",
    lambda b, x: b.node("Concat", [b.gemm(x, 12, 3), b.gemm(x, 12, 4)], axis=1),
    (1, 12),
    ["Dense", "Dense", "Concat"],
)
case(
    "concat flattened",
    lambda b, x: b.gemm(b.node("Concat", [b.node("Flatten", [conv3(b, x)]), b.node("Flatten", [x])], axis=1), 630, 3),
)
case("concat constant", lambda b, x: b.node("Concat", [conv3(b, x), b.constant(np.ones((1, 1, 9, 7)))], axis=1))
case(
    "concat pooled",
    lambda b, x: b.node("Concat", [b.node("GlobalAveragePool", [x]), b.node("GlobalMaxPool", [x])], axis=1),
    becomes=["AvgPool2D", "MaxPool2D", "Concat"],
)
case(
    "split",
    lambda b, x: b.node("Concat", list(reversed(b.node("Split", [conv3(b, x)], 2, axis=1))), axis=1),
    becomes=["Conv2D", "Slice", "Slice", "Concat"],
    opsets=(9, 11, 13, 17),
)
case(
    "split sizes",
    lambda b, x: b.node("Split", [conv3(b, x), b.constant([1, 5], np.int64)], 2, axis=1)[1],
    becomes=["Conv2D", "Slice"],
)
case("split parts", lambda b, x: b.node("Split", [x], 2, axis=2, num_outputs=2)[0], becomes=["Slice"], opsets=(18,))
case(
    "split to sequence",
    lambda b, x: b.node(
        "SequenceAt",
        [b.node("SplitToSequence", [conv3(b, x), b.constant(4, np.int64)], axis=1), b.constant(-1, np.int64)],
    ),
    becomes=["Conv2D", "Slice"],
)
case(
    "split to sequence sizes",
    lambda b, x: b.node(
        "SequenceAt",
        [b.node("SplitToSequence", [conv3(b, x), b.constant([1, 5], np.int64)], axis=1), b.constant(1, np.int64)],
    ),
    becomes=["Conv2D", "Slice"],
)
case("slice attributes", node("Slice", starts=[1, 0], ends=[3, -2], axes=[1, 2]), becomes=["Slice"], opsets=(9,))
case("slice inputs", integers("Slice", [1, -6], [100, -1], [3, 2], [2, 1]), becomes=["Slice"], opsets=(11, 13, 17))
case("slice nothing", chain(integers("Slice", [0], [2**62], [1]), relu), becomes=["relu"])
case("gather one", lambda b, x: b.node("Gather", [x, b.constant(2, np.int64)], axis=2), becomes=["Slice", "Reshape"])
case("gather some", integers("Gather", [0, 2], axis=1), becomes=["Slice"])
case("depth to space", chain(conv(4, 8, (1, 1)), node("DepthToSpace", blocksize=2)), opsets=(13,))
case("depth to space crd", chain(conv(4, 8, (1, 1)), node("DepthToSpace", blocksize=2, mode="CRD")), opsets=(13,))
case("space to depth", chain(node("SpaceToDepth", blocksize=3), conv(36, 2, (1, 1))), (1, 4, 9, 6), opsets=(13,))
case(
    "expand nothing",
    chain(relu, integers("Expand", [1, 1, 4, 9, 7]), integers("Squeeze", [1]), conv3),
    becomes=["relu", "Conv2D"],
)
case(
    "cast like",
    lambda b, x: b.node("Add", [b.node("CastLike", [x, x]), b.node("CastLike", [b.constant(2, np.int64), x])]),
    becomes=["affine"],
)
case("dropout", chain(node("Dropout"), node("Identity"), node("Cast", to=1), relu), becomes=["relu"], opsets=ALL)

# --- padding ---------------------------------------------------------------------------------------------------------
case(
    "pad conv",
    chain(integers("Pad", [0, 0, 1, 2, 0, 0, 3, 0]), conv(4, 6, (3, 3))),
    becomes=["Conv2D"],
    opsets=(11, 13, 17, 21),
)
case(
    "pad attributes conv",
    chain(node("Pad", pads=[0, 0, 1, 2, 0, 0, 3, 0]), conv(4, 6, (3, 3), pads=[1, 1, 1, 1])),
    becomes=["Conv2D"],
    opsets=(9,),
)
case(
    "pad axes conv",
    chain(
        lambda b, x: b.node("Pad", [x, b.constant([1, 0, 0, 2], np.int64), "", b.constant([2, -1], np.int64)]),
        conv(4, 6, (3, 3)),
    ),
    becomes=["Conv2D"],
    opsets=(18, 21),
)
case("pad 1d conv", chain(integers("Pad", [0, 0, 2, 0, 0, 1]), conv(4, 6, (3,))), (1, 4, 20), [*VIEW, "Conv2D", *VIEW])
case(
    "pad average", chain(integers("Pad", [0, 0, 1, 1, 0, 0, 1, 1]), node("AveragePool", **POOL)), becomes=["AvgPool2D"]
)
case("pad max of relu", chain(relu, integers("Pad", [0, 0, 1, 1, 0, 0, 1, 1]), node("MaxPool", **POOL)), becomes=None)
case("pad max", chain(integers("Pad", [0, 0, 1, 1, 0, 0, 1, 1]), node("MaxPool", **POOL)), becomes=["Pad", "MaxPool2D"])
case(
    "pad low max",
    chain(
        lambda b, x: b.node("Pad", [x, b.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64), b.constant(-np.inf)]),
        node("MaxPool", **POOL),
    ),
    becomes=["MaxPool2D"],
)
case(
    "pad value",
    lambda b, x: b.node("Pad", [x, b.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64), b.constant(1.5)]),
    becomes=["Pad"],
)
case("pad channels", chain(conv3, integers("Pad", [0, 1, 0, 0, 0, 2, 0, 0])), becomes=["Conv2D", "Pad"])
case("pad crops", chain(integers("Pad", [0, 0, -1, 1, 0, 0, 0, -2]), relu))

# --- softmax ---------------------------------------------------------------------------------------------------------
case("softmax", node("Softmax"), (1, 6), ["Softmax"], ALL)
case("softmax channels", chain(conv3, node("Softmax", axis=1)), becomes=["Conv2D", "Softmax"])
case("softmax of all axes", chain(conv3, node("Softmax", axis=1)), becomes=None, opsets=(9, 11))
case("softmax width", chain(conv3, node("Softmax", axis=-1)), becomes=["Conv2D", "Transpose", "Softmax"])
case("softmax rows", node("Softmax", axis=-1), (1, 3, 5), ["Softmax"])

# --- resizing --------------------------------------------------------------------------------------------------------
for transformation in ("asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"):
    for nearest in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"):
        for scales in ([1, 1, 2, 3], [1, 1, 0.6, 1.7]):
            case(
                f"resize {transformation} {nearest} {scales[2]}",
                node("Resize", None, scales, coordinate_transformation_mode=transformation, nearest_mode=nearest),
                (1, 3, 8, 5),
                ["Resize"],
                (19,) if transformation == "half_pixel_symmetric" else (13,),
            )
case(
    "resize sizes", lambda b, x: b.node("Resize", [x, "", "", b.constant([1, 4, 20, 3], np.int64)]), becomes=["Resize"]
)
case("resize old", node("Resize", [1, 1, 2, 2]), becomes=["Resize"], opsets=(10,))
case("upsample", node("Upsample", [1, 1, 2, 3]), becomes=["Resize"], opsets=(9,))
case(
    "resize 1d",
    node("Resize", None, [1, 1, 2.0], coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    (1, 3, 8),
    [*VIEW, "Resize", *VIEW],
)

PARAMETERS = [pytest.param(*CASES[name], opset, id=f"{name}-{opset}") for name in CASES for opset in CASES[name][0]]


@pytest.mark.parametrize(("_opsets", "shape", "build", "becomes", "opset"), PARAMETERS)
def test_operator(
    _opsets: object,
    shape: tuple[int, ...],
    build: Callable[[ModelBuilder, str], str],
    becomes: list[str] | None,
    opset: int,
) -> None:
    b = ModelBuilder(opset)
    x = b.input("x", shape)
    model = b.model(build(b, x))
    graph = check_against_onnxruntime(model)
    if becomes is not None:
        assert kinds(graph) == becomes


def test_every_handler_has_a_case() -> None:
    from dnnc.frontend.onnx.table import HANDLERS

    seen: set[str] = set()
    for opsets, shape, build, _ in CASES.values():
        b = ModelBuilder(opsets[-1])
        build(b, b.input("x", shape))
        seen |= {n.op_type for n in b.nodes}
    elsewhere = {"Shape", "Size", "LogSoftmax", "QuantizeLinear", "DequantizeLinear", "Reciprocal", "Sqrt"}
    assert set(HANDLERS) - seen == elsewhere


def shape_arithmetic(b: ModelBuilder, x: str) -> str:
    """What exporters write for x.view(x.size(0), -1)."""
    first = b.node("Gather", [b.node("Shape", [x]), b.constant(0, np.int64)], axis=0)
    parts = [b.node("Unsqueeze", [first, b.constant([0], np.int64)]), b.constant([-1], np.int64)]
    return str(b.node("Reshape", [x, b.node("Concat", parts, axis=0)]))


def test_shape_arithmetic_is_computed() -> None:
    b = ModelBuilder(17)
    x = b.conv(b.input("x", ["N", 4, 9, 7]), 4, 6, (3, 3))
    graph = check_against_onnxruntime(b.model(b.gemm(shape_arithmetic(b, x), 210, 3)))
    assert kinds(graph) == ["Conv2D", "Reshape", "Dense"]


def test_size_is_computed() -> None:
    b = ModelBuilder(17)
    x = b.input("x", [1, 4])
    count = b.node("Cast", [b.node("Size", [x])], to=1)
    assert kinds(check_against_onnxruntime(b.model(b.node("Div", [x, count])))) == ["affine"]


def test_reciprocal_of_a_sqrt_of_constants() -> None:
    b = ModelBuilder(17)
    x = b.input("x", [1, 4])
    factor = b.node("Reciprocal", [b.node("Sqrt", [b.constant(4.0)])])
    assert kinds(check_against_onnxruntime(b.model(b.node("Mul", [x, factor])))) == ["affine"]


def test_constant_nodes_and_constant_of_shape() -> None:
    b = ModelBuilder(17)
    x = b.input("x", [1, 4, 6, 6])
    ones = b.node("ConstantOfShape", [b.constant([4, 1, 1], np.int64)], value=helper.make_tensor("v", 1, [1], [2.0]))
    half = b.node("Constant", [], value_float=0.5)
    y = b.node("Mul", [b.node("Mul", [x, ones]), half])
    assert kinds(check_against_onnxruntime(b.model(b.node("Relu", [y])))) == ["relu"]


def test_several_inputs_and_outputs() -> None:
    b = ModelBuilder(17)
    x, y = b.input("image", ["N", 3, 8, 8]), b.input("extra", ["N", 5])
    image = b.node("Relu", [b.conv(x, 3, 4, (3, 3))])
    flat = b.node("Flatten", [image])
    joined = b.node("Concat", [flat, y], axis=1)
    graph = check_against_onnxruntime(b.model(b.gemm(joined, 149, 3), image, joined))
    assert [i.model_name for i in graph.inputs] == ["image", "extra"]
    assert len(graph.outputs) == 3


def test_outputs_have_memory_of_their_own() -> None:
    b = ModelBuilder(17)
    x = b.input("x", [1, 6])
    y = b.node("Relu", [x])
    names = [
        b.node("Identity", [x]),
        y,
        b.node("Identity", [y]),
        b.node("Reshape", [y, b.constant([1, 2, 3], np.int64)]),
    ]
    graph = check_against_onnxruntime(b.model(*names))
    assert len({o.value for o in graph.outputs} - {i.name for i in graph.inputs}) == 4


def test_the_input_itself_as_output() -> None:
    x = helper.make_tensor_value_info("x", 1, [1, 3])
    model = helper.make_model(
        helper.make_graph([], "g", [x], [x]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    assert kinds(check_against_onnxruntime(model)) == ["identity"]


def test_a_constant_as_output() -> None:
    b = ModelBuilder(17)
    x = b.input("x", [1, 3])
    fixed = b.node("Add", [b.constant([[1.0, 2.0, 3.0]]), b.constant(1.0)])
    check_against_onnxruntime(b.model(b.node("Relu", [x]), fixed))


def test_weights_that_are_also_inputs() -> None:
    """Before IR version 4 every initialiser is listed as an input as well."""
    b = ModelBuilder(9)
    y = b.gemm(b.input("x", [1, 4]), 4, 3)
    model = b.model(y)
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, 1, list(tensor.dims)))
    model.ir_version = 3
    assert [i.model_name for i in check_against_onnxruntime(model).inputs] == ["x"]


def test_batch_norm_statistics_are_kept() -> None:
    b = ModelBuilder(17)
    x = b.conv(b.input("x", [1, 4, 6, 6]), 4, 6, (3, 3))
    model = b.model(b.node("Relu", [b.batch_norm(x, 6)]))
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    gamma, beta = (arrays[name] for name in model.graph.node[1].input[1:3])
    params = check_against_onnxruntime(model).nodes[0].params
    np.testing.assert_allclose(params["bn_mean"], beta, rtol=1e-6)
    np.testing.assert_allclose(params["bn_std"], np.abs(gamma), rtol=1e-6)


def test_images_of_bytes() -> None:
    """An integer input that is cast to float holds the same numbers as floats."""
    b = ModelBuilder(17)
    x = b.node("Cast", [b.input("x", ["N", 6, 6, 3], onnx.TensorProto.UINT8)], to=onnx.TensorProto.FLOAT)
    model = b.model(b.conv(b.node("Transpose", [x], perm=[0, 3, 1, 2]), 3, 4, (3, 3)))
    graph = read(model)
    assert kinds(graph) == ["Conv2D"]
    pixels = b.rng.integers(0, 256, (1, 6, 6, 3)).astype(np.uint8)
    (found,) = evaluate_model(graph, {"x": pixels}).values()
    np.testing.assert_allclose(found, session(model).run(None, {"x": pixels})[0], rtol=1e-4, atol=1e-3)


def test_half_precision_weights() -> None:
    b = ModelBuilder(17)
    w = b.node("Cast", [b.constant(b.rng.normal(size=(4, 3)), np.float16)], to=onnx.TensorProto.FLOAT)
    assert kinds(check_against_onnxruntime(b.model(b.node("MatMul", [b.input("x", [1, 4]), w])))) == ["Dense"]


def test_local_functions_are_written_out() -> None:
    body = [helper.make_node("Mul", ["a", "a"], ["b"]), helper.make_node("Tanh", ["b"], ["c"])]
    function = helper.make_function("local", "SquareTanh", ["a"], ["c"], body, [helper.make_opsetid("", 17)])
    b = ModelBuilder(17)
    y = b.node("SquareTanh", [b.input("x", [1, 4])], domain="local")
    model = b.model(y, check=False)
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
    assert kinds(read(model)) == ["square", "tanh"]
