"""The integer interpreter: bit for bit what the generated code computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc.ir.graph import Graph

Array = NDArray[Any]


def simulate(
    graph: Graph, inputs: Mapping[str, Array], watch: Callable[[str, Array], None] | None = None
) -> dict[str, Array]:
    """Output codes (int32 [N, *shape]) by model name, for input codes by graph input name.

    watch(value name, codes) sees every value, inputs included.
    """
    last: dict[str, int] = {}
    for step, node in enumerate(graph.nodes):
        last.update(dict.fromkeys(node.inputs, step))
    last.update((o.value, len(graph.nodes)) for o in graph.outputs)
    values: dict[str, Array] = {}
    for source in graph.inputs:
        values[source.name] = np.asarray(inputs[source.name], np.int32)
        if watch:
            watch(source.name, values[source.name])
    batch = len(next(iter(values.values()))) if values else 1
    for step, node in enumerate(graph.nodes):
        y = node.op.integer([values[v] for v in node.inputs], node.params, graph.input_types(node), node.type)
        if not node.inputs:
            y = np.broadcast_to(y, (batch, *y.shape[1:]))
        values[node.name] = y
        if watch:
            watch(node.name, y)
        for name in node.inputs:
            if last[name] == step:
                values.pop(name, None)
    return {o.model_name: values[o.value] for o in graph.outputs}


def simulate_batches(graph: Graph, inputs: Mapping[str, Array], batch_size: int = 64) -> dict[str, Array]:
    """`simulate`, batch by batch, so that memory stays bounded."""
    count = len(next(iter(inputs.values())))
    parts = [
        simulate(graph, {k: v[start : start + batch_size] for k, v in inputs.items()})
        for start in range(0, count, batch_size)
    ]
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def quantise_inputs(graph: Graph, samples: Mapping[str, Array]) -> dict[str, Array]:
    """Real inputs [N, *shape] (graph layout) to codes, saturated, rounded half up."""
    codes: dict[str, Array] = {}
    for source in graph.inputs:
        q = source.type.quant
        if q is None:
            raise TypeError(f"input '{source.name}' is float: simulate() needs an integer graph")
        real = np.asarray(samples[source.name], np.float64)
        codes[source.name] = np.clip(np.floor(real / q.scale + 0.5) + q.zero_point, q.lo, q.hi).astype(np.int32)
    return codes


def dequantise_outputs(graph: Graph, codes: Mapping[str, Array]) -> dict[str, Array]:
    """Output codes by model name to reals (float32, graph layout)."""
    reals: dict[str, Array] = {}
    for output in graph.outputs:
        q = graph.types[output.value].quant
        if q is None:
            raise TypeError(f"output '{output.model_name}' is float: simulate() needs an integer graph")
        reals[output.model_name] = (q.scale * (codes[output.model_name].astype(np.float64) - q.zero_point)).astype(
            np.float32
        )
    return reals
