"""The float interpreter: a graph over torch tensors, differentiable in its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from dnnc.ir.graph import Graph

Params = Mapping[str, Mapping[str, torch.Tensor]]
Hook = Callable[[str, torch.Tensor], torch.Tensor]


def parameters(graph: Graph, dtype: torch.dtype = torch.float32) -> dict[str, dict[str, torch.Tensor]]:
    """The float parameters of every node, by node name, as fresh tensors."""
    return {
        node.name: {k: torch.tensor(np.asarray(v), dtype=dtype) for k, v in node.params.items()}
        for node in graph.nodes
        if node.params
    }


def evaluate(
    graph: Graph, inputs: Mapping[str, torch.Tensor], params: Params | None = None, hook: Hook | None = None
) -> dict[str, torch.Tensor]:
    """Every output by model name, for inputs [N, *shape] by graph input name.

    params: replaces the graph's own (see `parameters`). hook(value name, tensor) sees every value, inputs included, and
    what it returns takes the value's place: calibration records there, sensitivity perturbs there.
    """
    params = parameters(graph) if params is None else params
    last_use = _last_use(graph)
    values: dict[str, torch.Tensor] = {}
    for source in graph.inputs:
        x = inputs[source.name]
        values[source.name] = hook(source.name, x) if hook else x
    batch = next(iter(values.values())).shape[0] if values else 1
    for step, node in enumerate(graph.nodes):
        y = node.op.real([values[v] for v in node.inputs], params.get(node.name, {}))
        if not node.inputs:
            y = y.expand(batch, *y.shape[1:])
        values[node.name] = hook(node.name, y) if hook else y
        for name in node.inputs:
            if last_use[name] == step:
                values.pop(name, None)
    return {o.model_name: values[o.value] for o in graph.outputs}


def _last_use(graph: Graph) -> dict[str, int]:
    """The index of the last node that reads each value; outputs are never dropped."""
    last = dict.fromkeys(graph.types, -1)
    for step, node in enumerate(graph.nodes):
        for name in node.inputs:
            last[name] = step
    for output in graph.outputs:
        last[output.value] = len(graph.nodes)
    return last


def evaluate_batches(
    graph: Graph, inputs: Mapping[str, np.ndarray[Any, Any]], batch_size: int = 128, hook: Hook | None = None
) -> dict[str, np.ndarray[Any, Any]]:
    """`evaluate` without gradients over numpy arrays [N, *shape], batch by batch."""
    count = len(next(iter(inputs.values())))
    params = parameters(graph)
    parts: dict[str, list[np.ndarray[Any, Any]]] = {o.model_name: [] for o in graph.outputs}
    with torch.inference_mode():
        for start in range(0, count, batch_size):
            part = {k: torch.as_tensor(np.array(v[start : start + batch_size], np.float32)) for k, v in inputs.items()}
            for name, value in evaluate(graph, part, params, hook).items():
                parts[name].append(value.numpy())
    return {name: np.concatenate(chunks) for name, chunks in parts.items()}
