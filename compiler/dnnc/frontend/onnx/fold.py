"""Nodes whose inputs are all constant are computed here, with onnx's own reference implementation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
import onnx.defs
import onnx.shape_inference
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from dnnc.errors import ModelError
from dnnc.frontend.onnx.source import MAX_ELEMENTS, Array, NotSupported, SourceNode, Subgraph
from dnnc.ir.types import Shape

#: A constant that is computed may not be larger: such sizes come from damaged shape arithmetic.
MAX_FOLDED_ELEMENTS = 2**27

#: What is computed at compile time. All of it is deterministic, and free of subgraphs.
FOLDABLE = frozenset(
    "Abs Add And Cast CastLike Ceil Clip Concat Constant ConstantOfShape CumSum DequantizeLinear Div Equal Erf Exp "
    "Expand Flatten Floor Gather GatherElements GatherND Gemm Greater GreaterOrEqual Identity Less LessOrEqual Log "
    "MatMul Max Min Mod Mul Neg Not Or Pad Pow QuantizeLinear Range Reciprocal ReduceMax ReduceMean ReduceMin "
    "ReduceProd ReduceSum Relu Reshape Round ScatterND Shape Sigmoid Sign Size Slice Split Sqrt Squeeze Sub Sum Tanh "
    "Tile Transpose Unsqueeze Where Xor".split()
)


def fold(node: SourceNode, values: Sequence[Array | None]) -> list[Array]:
    """The outputs of a node of constant inputs (None: left out). Raises ModelError where it cannot be computed."""
    if node.op not in FOLDABLE or any(isinstance(v, Subgraph) for v in node.attributes.values()):
        raise NotSupported("its inputs are constant, but dnnc cannot compute it at compile time")
    feeds = {name: value for name, value in zip(node.inputs, values, strict=True) if name and value is not None}
    try:
        proto = _proto(node)
        _check_size(node, proto, feeds)
        with np.errstate(all="ignore"):
            evaluator = ReferenceEvaluator(proto, opsets={node.domain: node.opset, "": node.opset})
            results = evaluator.run(None, feeds)
    except ModelError:
        raise
    except Exception as error:  # the reference implementation raises whatever numpy raises on shapes that do not fit
        raise ModelError(f"its constant inputs do not fit it: {_first_line(error)}") from error
    arrays = [np.asarray(r) for r in results]
    if any(a.dtype.kind == "f" and np.isnan(a).any() for a in arrays):
        raise ModelError("its constant inputs make it NaN")
    return arrays


def infer_shapes(
    node: SourceNode, shapes: Sequence[Shape | None], values: Sequence[Array | None]
) -> list[Shape | None]:
    """ONNX shapes of the outputs of any node of float inputs, as far as onnx knows them."""
    types: dict[str, Any] = {}
    data: dict[str, Array] = {}
    for name, shape, value in zip(node.inputs, shapes, values, strict=True):
        if name and shape is not None:
            kind = onnx.TensorProto.FLOAT if value is None else helper.np_dtype_to_tensor_dtype(value.dtype)
            types[name] = helper.make_tensor_type_proto(kind, shape)
        if name and value is not None:
            data[name] = value
    try:
        proto = _proto(node)
    except Exception:  # attributes that onnx cannot hold: then nothing is known
        return [None] * len(node.outputs)
    inferred = _infer(node, proto, types, data)
    return [_static(inferred.get(name)) for name in node.outputs]


def _infer(
    node: SourceNode, proto: onnx.NodeProto, types: Mapping[str, Any], data: Mapping[str, Array]
) -> dict[str, Any]:
    small = {n: numpy_helper.from_array(v, n) for n, v in data.items() if v.dtype.kind in "iuf" and v.size <= 64}
    try:
        schema = onnx.defs.get_schema(node.op, node.opset, node.domain)
        return dict(
            onnx.shape_inference.infer_node_outputs(
                schema, proto, dict(types), small, opset_imports=[helper.make_opsetid(node.domain, node.opset)]
            )
        )
    except Exception:  # no schema, or inputs that do not fit it: then nothing is known
        return {}


def _static(found: Any) -> Shape | None:
    if found is None or not found.tensor_type.HasField("shape"):
        return None
    dims = found.tensor_type.shape.dim
    if not all(d.HasField("dim_value") for d in dims):
        return None
    return tuple(d.dim_value for d in dims)


def _check_size(node: SourceNode, proto: onnx.NodeProto, feeds: Mapping[str, Array]) -> None:
    """Refuse results that would not fit memory, before they are computed."""
    if node.op in ("Constant", "Shape", "Size"):
        return
    types = {
        n: helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feeds.items()
    }
    inferred = _infer(node, proto, types, feeds)
    for name in node.outputs:
        if not name:
            continue
        shape = _static(inferred.get(name))
        if shape is None:
            if sum(v.size for v in feeds.values()) > 4096 or node.op in ("Expand", "Tile", "ConstantOfShape", "Range"):
                raise ModelError("the size of its constant result cannot be determined")
        elif prod(shape) > min(MAX_FOLDED_ELEMENTS, MAX_ELEMENTS) or min(shape, default=0) < 0:
            raise ModelError(f"its constant result would have the shape {shape}")


def _proto(node: SourceNode) -> onnx.NodeProto:
    proto = helper.make_node(node.op, node.inputs, node.outputs, name=node.name, domain=node.domain)
    for name, value in sorted(node.attributes.items()):
        if isinstance(value, Subgraph):
            continue
        if isinstance(value, np.ndarray):
            proto.attribute.append(helper.make_attribute(name, numpy_helper.from_array(value)))
        elif value != ():
            proto.attribute.append(helper.make_attribute(name, value))
        else:
            proto.attribute.append(onnx.AttributeProto(name=name, type=onnx.AttributeProto.INTS))
    return proto


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
