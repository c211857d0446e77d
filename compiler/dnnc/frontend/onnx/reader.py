"""An ONNX file or message into a checked SourceModel: whatever is wrong with it is said here, in one sentence.

All checks are made in Python on the parsed message, before any native code of onnx works with its contents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner
from onnx import AttributeProto

from dnnc.errors import ModelError
from dnnc.frontend.names import clean
from dnnc.frontend.onnx.source import MAX_ELEMENTS, Dim, SourceInput, SourceModel, SourceNode, Subgraph
from dnnc.frontend.onnx.weights import tensor_array
from dnnc.ir.types import Shape

OPSETS = (9, 25)
MIN_IR_VERSION = 3
#: A protobuf message cannot be larger; weights beyond it are external.
MAX_FILE_BYTES = 2**31
#: Attributes that count something, for every operator that has them.
POSITIVE = ("strides", "dilations", "kernel_shape", "group", "blocksize", "num_outputs", "hidden_size")
#: Larger windows than any image: sizes computed from them would only overflow.
MAX_WINDOW = 2**20


def load(path: Path) -> SourceModel:
    """Read and check an ONNX file. Raises ModelError."""
    try:
        size = path.stat().st_size
        if size == 0:
            raise ModelError(f"'{path}' is empty; an ONNX model was expected")
        if size >= MAX_FILE_BYTES:
            raise ModelError(f"'{path}' has {size} bytes; an ONNX file has fewer than {MAX_FILE_BYTES}")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"'{path}' cannot be read: {error.strerror}") from error
    return check(parse(data, f"'{path}'"), f"'{path}'", path.stem, path.parent)


def parse(data: bytes, what: str) -> onnx.ModelProto:
    """The message in these bytes. Raises ModelError."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError has changed its module more than once
        raise ModelError(f"{what} is no ONNX model, or it is truncated: its contents cannot be decoded") from error
    return model


def check(model: onnx.ModelProto, what: str, name: str, folder: Path | None) -> SourceModel:
    """A parsed model as a SourceModel. `what` names it in errors, `name` is its name if it has none of its own."""
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise ModelError(f"{what} holds no graph; an ONNX model was expected")
    if model.ir_version < MIN_IR_VERSION:
        raise ModelError(f"{what} has IR version {model.ir_version}; {MIN_IR_VERSION} or later is expected")
    opsets = _opsets(model, what)
    if model.functions:
        model = _inlined(model, what)
    graph = model.graph
    _check_text(graph, what)
    if graph.sparse_initializer:
        raise ModelError(f"{what} has sparse initialisers, which are not supported")
    _distinct((i.name for i in graph.initializer), f"initialiser of {what}")
    constants = {
        tensor.name: tensor_array(tensor, f"initialiser '{clean(tensor.name, '?')}'", folder)
        for tensor in graph.initializer
    }
    inputs = [_input(i) for i in graph.input if i.name not in constants]
    _distinct((i.name for i in inputs), f"input of {what}")
    nodes = [_node(n, index, opsets, folder) for index, n in enumerate(graph.node)]
    outputs = [o.name for o in graph.output]
    if not outputs or "" in outputs:
        raise ModelError(f"{what} has no outputs, or one without a name")
    _distinct(outputs, f"output of {what}")
    known = {"", *constants, *(i.name for i in inputs)}
    ordered = _sorted(nodes, known)
    for output in outputs:
        if output not in known:
            raise ModelError(f"output '{clean(output, '?')}' of {what} is made by no node")
    needed = _needed(ordered, outputs)
    used = {n for node in needed for n in node.inputs} | set(outputs)
    return SourceModel(
        name,
        tuple(i for i in inputs if i.name in used) or tuple(inputs),
        tuple(outputs),
        tuple(needed),
        {n: a for n, a in constants.items() if n in used},
    )


def concrete_shapes(model: SourceModel, given: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shape of every input: symbolic batches become 1, `given` (by input name) replaces what the model says.

    Raises ModelError for unknown names, for shapes that contradict the model, and for symbolic sizes without a value.
    """
    names = [i.name for i in model.inputs]
    for name in given:
        if name not in names:
            raise ModelError(f"the model has no input '{name}'; its inputs are {', '.join(names)}")
    shapes: dict[str, Shape] = {}
    open_sizes: list[str] = []
    for source in model.inputs:
        if source.name in given:
            shape = tuple(int(v) for v in given[source.name])
            fits = len(shape) == len(source.shape) and all(
                isinstance(want, str) or want == have or i == 0
                for i, (want, have) in enumerate(zip(source.shape, shape, strict=True))
            )
            if not fits:
                raise ModelError(f"input '{source.name}' has the shape {_show(source.shape)}, not {_show(shape)}")
        else:
            first_symbolic = bool(source.shape) and isinstance(source.shape[0], str)
            sizes = (1, *source.shape[1:]) if first_symbolic else source.shape
            symbolic = [str(s) for s in sizes if isinstance(s, str)]
            if symbolic:
                example = ",".join(str(s) if isinstance(s, int) else "32" for s in sizes)
                open_sizes.append(
                    f"input '{source.name}' of shape {_show(source.shape)} leaves {', '.join(symbolic)} open: "
                    f"give --input-shape {source.name}={example} (with your sizes)"
                )
                continue
            shape = tuple(int(s) for s in sizes)
        if any(v < 1 for v in shape) or prod(shape) >= MAX_ELEMENTS:
            raise ModelError(f"input '{source.name}' has the impossible shape {_show(shape)}")
        shapes[source.name] = shape
    if open_sizes:
        raise ModelError("; ".join(open_sizes))
    return shapes


def _show(shape: Sequence[Dim]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _opsets(model: onnx.ModelProto, what: str) -> dict[str, int]:
    if not all(isinstance(o.domain, str) for o in model.opset_import):
        raise ModelError(f"{what} is damaged: it holds names that are no UTF-8 text")
    opsets = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in model.opset_import}
    if "" not in opsets:
        raise ModelError(f"{what} does not say which opset of ONNX it uses")
    if not OPSETS[0] <= opsets[""] <= OPSETS[1]:
        raise ModelError(f"{what} uses opset {opsets['']}; {OPSETS[0]} to {OPSETS[1]} are supported")
    return opsets


def _check_text(graph: onnx.GraphProto, what: str) -> None:
    """protobuf hands out what is no text as bytes: names like that are damage."""
    names: list[Any] = [*(t.name for t in graph.initializer), *(o.name for o in graph.output)]
    names += [e.value for t in graph.initializer for e in t.external_data]
    for value in graph.input:
        names += [value.name, *(d.dim_param for d in value.type.tensor_type.shape.dim)]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output, *(a.name for a in node.attribute)]
    if not all(isinstance(name, str) for name in names):
        raise ModelError(f"{what} is damaged: it holds names that are no UTF-8 text")


def _distinct(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ModelError(f"there is more than one {what} called '{clean(name, '?')}'")
        seen.add(name)


def _input(value: onnx.ValueInfoProto) -> SourceInput:
    shown = clean(value.name, "?")
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise ModelError(f"input '{shown}' is no tensor")
    if not value.type.tensor_type.HasField("shape"):
        raise ModelError(f"input '{shown}' has no shape, not even its number of dimensions")
    dims: list[Dim] = []
    for i, dim in enumerate(value.type.tensor_type.shape.dim):
        if dim.HasField("dim_value") and not (dim.dim_value == -1 or (i == 0 and dim.dim_value == 0)):
            dims.append(int(dim.dim_value))
        else:
            dims.append(clean(dim.dim_param, f"dim{i}"))
    if any(isinstance(d, int) and d < 1 for d in dims) or prod(d for d in dims if isinstance(d, int)) >= MAX_ELEMENTS:
        raise ModelError(f"input '{shown}' has the impossible shape {_show(dims)}")
    return SourceInput(value.name, tuple(dims))


def _node(proto: onnx.NodeProto, index: int, opsets: Mapping[str, int], folder: Path | None) -> SourceNode:
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    fallback = next((clean(o, "") for o in proto.output if clean(o, "")), f"{clean(proto.op_type, 'node')}_{index}")
    name = clean(proto.name, fallback)
    attributes: dict[str, Any] = {}
    for attribute in proto.attribute:
        attributes[attribute.name] = _attribute(attribute, name, folder)
    for key in POSITIVE:
        values = attributes.get(key, ())
        for value in values if isinstance(values, tuple) else (values,):
            if not isinstance(value, int) or not 1 <= value <= MAX_WINDOW:
                raise ModelError(f"node '{name}' ({clean(proto.op_type, '?')}) has the impossible {key} {values}")
    outputs = tuple(proto.output)
    if not any(outputs):
        raise ModelError(f"node '{name}' ({clean(proto.op_type, '?')}) has no outputs")
    opset = opsets.get(domain, 1)
    return SourceNode(name, clean(proto.op_type, "?"), domain, tuple(proto.input), outputs, attributes, opset)


def _attribute(proto: AttributeProto, node: str, folder: Path | None) -> Any:
    """An attribute as a plain value; a graph becomes Subgraph()."""
    if proto.ref_attr_name:
        raise ModelError(
            f"attribute '{clean(proto.name, '?')}' of node '{node}' refers to a function that is not there"
        )
    kind = proto.type
    if kind == AttributeProto.FLOAT:
        return float(proto.f)
    if kind == AttributeProto.INT:
        return int(proto.i)
    if kind == AttributeProto.STRING:
        return proto.s.decode("utf-8", "replace")
    if kind == AttributeProto.TENSOR:
        return tensor_array(proto.t, f"attribute '{clean(proto.name, '?')}' of node '{node}'", folder)
    if kind == AttributeProto.FLOATS:
        return tuple(float(v) for v in proto.floats)
    if kind == AttributeProto.INTS:
        return tuple(int(v) for v in proto.ints)
    if kind == AttributeProto.STRINGS:
        return tuple(v.decode("utf-8", "replace") for v in proto.strings)
    return Subgraph()


def _sorted(nodes: Sequence[SourceNode], known: set[str]) -> list[SourceNode]:
    """The nodes in topological order; `known` grows by what they make. Raises ModelError for cycles and the like."""
    makers: dict[str, SourceNode] = {}
    for node in nodes:
        for output in node.outputs:
            if output and (output in makers or output in known):
                raise ModelError(f"tensor '{clean(output, '?')}' is made more than once, by node '{node.name}' again")
            if output:
                makers[output] = node
    for node in nodes:
        for name in node.inputs:
            if name not in known and name not in makers:
                raise ModelError(
                    f"node '{node.name}' ({node.op}) reads '{clean(name, '?')}', which is no input, no initialiser and "
                    "no node's output"
                )
    waiting = list(nodes)
    ordered: list[SourceNode] = []
    while waiting:
        later: list[SourceNode] = []
        for node in waiting:
            if all(name in known for name in node.inputs):
                known.update(node.outputs)
                ordered.append(node)
            else:
                later.append(node)
        if len(later) == len(waiting):
            shown = ", ".join(f"'{n.name}'" for n in later[:5])
            raise ModelError(f"the graph has a cycle: the nodes {shown} wait for one another")
        waiting = later
    return ordered


def _needed(nodes: Sequence[SourceNode], outputs: Sequence[str]) -> list[SourceNode]:
    """Without the nodes that no output depends on."""
    wanted = set(outputs)
    kept: list[SourceNode] = []
    for node in reversed(nodes):
        if wanted.intersection(o for o in node.outputs if o):
            wanted.update(node.inputs)
            kept.append(node)
    return kept[::-1]


def _inlined(model: onnx.ModelProto, what: str) -> onnx.ModelProto:
    """The model with its local functions written out."""
    calls = {(f.domain, f.name): {(n.domain, n.op_type) for n in f.node} for f in model.functions}
    done: set[tuple[str, str]] = set()
    while len(done) < len(calls):
        ready = {f for f, used in calls.items() if f not in done and not (used & calls.keys()) - done}
        if not ready:
            raise ModelError(f"{what} has functions that call one another in a cycle")
        done |= ready
    try:
        return onnx.inliner.inline_local_functions(model)
    except Exception as error:  # native code
        raise ModelError(f"{what} has functions that cannot be written out: {str(error)[:200]}") from error
