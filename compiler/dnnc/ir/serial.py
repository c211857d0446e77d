"""Graphs to bytes and back: a JSON description and an npz of the parameters, the same bytes for the same graph."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc.errors import ArtefactError, ModelError
from dnnc.ir.graph import Graph, Input, Node, Output
from dnnc.ir.op import Op
from dnnc.ir.types import Layout, Quant, TensorType


def dump_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """An npz with the same bytes for the same arrays, whenever it is made (numpy's own carries the time of day)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(name + ".npy"), member.getvalue(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def load_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """Inverse of dump_arrays. Raises ArtefactError where the bytes are no npz."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    # RuntimeError: what zipfile says of encryption and of methods that it lacks (NotImplementedError is one).
    except (
        ValueError, TypeError, OSError, EOFError, AttributeError, RuntimeError, zlib.error, zipfile.BadZipFile
    ) as error:  # fmt: skip
        raise ArtefactError(f"stored arrays are damaged: {error}") from error


def dump_graph(graph: Graph) -> bytes:
    """One npz: member `graph` is the JSON text as uint8, the others are `p<node index>/<param>`."""
    nodes = [
        {
            "name": node.name,
            "op": node.op.kind,
            "fields": {f.name: _plain(getattr(node.op, f.name)) for f in dataclasses.fields(node.op)},
            "inputs": node.inputs,
            "params": sorted(node.params),
            "type": dataclasses.asdict(node.type),
        }
        for node in graph.nodes
    ]
    text = json.dumps(
        {
            "format": 1,
            "name": graph.name,
            "inputs": [dataclasses.asdict(i) for i in graph.inputs],
            "nodes": nodes,
            "outputs": [dataclasses.asdict(o) for o in graph.outputs],
            "notes": graph.notes,
        },
        sort_keys=True,
    )
    arrays = {"graph": np.frombuffer(text.encode(), np.uint8)}
    for index, node in enumerate(graph.nodes):
        arrays |= {f"p{index}/{name}": node.params[name] for name in sorted(node.params)}
    return dump_arrays(arrays)


def load_graph(data: bytes, ops: dict[str, type[Op]]) -> Graph:
    """Inverse of dump_graph; `ops` is dnnc.ops.BY_KIND. Raises ArtefactError where the bytes are no graph."""
    try:
        arrays = load_arrays(data)
        tree = json.loads(arrays["graph"].tobytes())
        nodes = tuple(
            Node(
                n["name"],
                _revive(ops[n["op"]], n["fields"]),
                tuple(n["inputs"]),
                {p: arrays[f"p{index}/{p}"] for p in n["params"]},
                _type(n["type"]),
            )
            for index, n in enumerate(tree["nodes"])
        )
        inputs = tuple(
            Input(i["name"], _type(i["type"]), i["model_name"], _layout(i["layout"])) for i in tree["inputs"]
        )
        outputs = tuple(Output(o["value"], o["model_name"], _layout(o["layout"])) for o in tree["outputs"])
    except (KeyError, ValueError, TypeError, AttributeError, ModelError) as error:
        raise ArtefactError(f"a stored graph is damaged: {error}") from error
    return Graph(tree["name"], inputs, nodes, outputs, tuple(tree["notes"]))


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def _revive(op: type[Op], fields: dict[str, Any]) -> Op:
    """An op from plain JSON values: lists become tuples, nested dataclasses are rebuilt from their default's class."""
    values: dict[str, Any] = {}
    for spec in dataclasses.fields(op):
        value = fields[spec.name]
        if isinstance(value, list):
            value = tuple(value)
        elif isinstance(value, dict):
            nested: Any = type(spec.default)
            value = nested(**value)
        values[spec.name] = value
    return op(**values)


def _type(tree: dict[str, Any]) -> TensorType:
    return TensorType(tuple(tree["shape"]), Quant(**tree["quant"]) if tree["quant"] else None, tree["packed"])


def _layout(tree: dict[str, Any]) -> Layout:
    return Layout(tuple(tree["model_shape"]), tree["batch_axis"], tuple(tree["perm"]))
