"""manifest.json: how the program's interface stands for the model's, and the figures that others script against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dnnc.ir.graph import Graph
from dnnc.ir.types import Layout, TensorType
from dnnc.passes.plan import struct_offsets
from dnnc.report.data import Report
from dnnc.report.machine import accuracy_values, layer_values


def manifest_values(
    graph: Graph, input_members: Sequence[str], output_members: Sequence[str], report: Report
) -> dict[str, Any]:
    """graph: the integer graph; members: names of the members of its input and output structs in C.

    `offset_bytes` is a member's place in its struct. `perm`: axis i of the program's tensor is axis perm[i] of the
    model's, whose `batch_axis` (if not null) is left out.
    """
    return {
        "bits": report.bits,
        "optimise": report.optimise,
        "inputs": _ports(input_members, [(i.model_name, i.type, i.layout) for i in graph.inputs]),
        "outputs": _ports(output_members, [(o.model_name, graph.types[o.value], o.layout) for o in graph.outputs]),
        "layers": [layer_values(layer) for layer in report.layers],
        "arena_bytes": report.arena_bytes,
        "arena_lower_bound_bytes": report.arena_lower_bound_bytes,
        "flash_bytes_estimate": report.weight_bytes + report.table_bytes,
        "weight_bytes": report.weight_bytes,
        "table_bytes": report.table_bytes,
        "accuracy": accuracy_values(report.accuracy),
        "warnings": list(report.warnings),
    }


def _ports(members: Sequence[str], values: Sequence[tuple[str, TensorType, Layout]]) -> list[dict[str, Any]]:
    offsets, _ = struct_offsets([kind.nbytes for _, kind, _ in values])
    found = []
    for member, (model_name, kind, layout), offset in zip(members, values, offsets, strict=True):
        if kind.quant is None:
            raise TypeError("a manifest is made of an integer graph")
        found.append(
            {
                "name": member,
                "model_name": model_name,
                "shape": list(kind.shape),
                "bits": kind.quant.bits,
                "scale": kind.quant.scale,
                "zero_point": kind.quant.zero_point,
                "offset_bytes": offset,
                "bytes": kind.nbytes,
                "model_shape": list(layout.model_shape),
                "perm": list(layout.perm),
                "batch_axis": layout.batch_axis,
            }
        )
    return found
