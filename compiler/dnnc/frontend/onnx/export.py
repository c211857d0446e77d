"""Float graphs as ONNX models: with the names and layouts of the model that they were read from."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper

from dnnc import __version__
from dnnc.errors import ArtefactError, ModelError
from dnnc.frontend.onnx.export_builder import Builder, tensor_info
from dnnc.frontend.onnx.export_ops import EMITTERS
from dnnc.ir.graph import Graph, Node
from dnnc.ops.movement import Constant

OPSET, IR_VERSION = 17, 8


def to_onnx(graph: Graph) -> onnx.ModelProto:
    """The float graph as a checked ONNX model: inputs and outputs as the original called and laid them out, any batch.

    Nodes keep their names. Prescribed quantisations, and the statistics of folded BatchNormalizations, are not written.
    Raises ModelError for an integer graph.
    """
    params = [(name, param) for node in graph.nodes for name, param in node.params.items()]
    if any(param.dtype.kind != "f" for name, param in params if name != "weight_bits"):
        raise ModelError(f"'{graph.name}' is an integer graph; only a float graph can be saved as ONNX")
    b = Builder(graph)
    for source in graph.inputs:
        b.scope = source.name
        layout, tensor = source.layout, source.model_name
        if layout.batch_axis is None:
            tensor = b.emit("Unsqueeze", [tensor, b.integers([0], "axes")])
        b.put(source.name, tuple(int(i) for i in np.argsort(layout.perm)), tensor)
    for node in graph.nodes:
        b.scope = node.name
        if not isinstance(node.op, Constant) and all(value in b.constants for value in node.inputs):
            b.constants[node.name] = _computed(b, node)
        else:
            EMITTERS[type(node.op)](b, node)
    for output in graph.outputs:
        b.scope = output.model_name
        layout = output.layout
        tensor = b.whole(output.value, tuple(int(i) for i in np.argsort(layout.perm)))
        if layout.batch_axis is None:
            tensor = b.emit("Squeeze", [tensor, b.integers([0], "axes")])
        b.name_output(tensor, output.model_name)
    infos = [
        [tensor_info(v.model_name, v.layout.batch_axis == 0, v.layout.model_shape) for v in values]
        for values in (graph.inputs, graph.outputs)
    ]
    proto = helper.make_graph(b.nodes(), graph.name, infos[0], infos[1], b.initialisers())
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(proto, opset_imports=opsets, ir_version=IR_VERSION, producer_name="dnnc")
    model.producer_version = __version__
    onnx.checker.check_model(model, full_check=True)
    return model


def save_onnx(graph: Graph, path: str | Path) -> None:
    """Write `to_onnx(graph)` to a file, which appears whole or not at all. Raises ModelError, ArtefactError."""
    path = Path(path)
    data = to_onnx(graph).SerializeToString(deterministic=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".dnnc-", dir=path.parent))
        try:
            (staging / "new.onnx").write_bytes(data)
            (staging / "new.onnx").replace(path)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise ArtefactError(f"cannot write '{path}': {error.strerror or error}") from error


def _computed(b: Builder, node: Node) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The value of a node that reads constants only."""
    xs = [torch.from_numpy(b.constants[value][None].copy()) for value in node.inputs]
    params = {name: torch.from_numpy(np.array(p, np.float32)) for name, p in node.params.items()}
    return np.asarray(node.op.real(xs, params)[0].numpy(), np.float32)
