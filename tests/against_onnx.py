"""A read graph against onnxruntime: the same inputs, nearly the same outputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from dnnc.evaluate import Hook, evaluate_batches
from dnnc.frontend import read
from dnnc.ir.graph import Graph
from dnnc.ir.layout import from_model, to_model
from dnnc.ir.types import Shape

Array = NDArray[Any]


def session(model: onnx.ModelProto | Path) -> onnxruntime.InferenceSession:
    """onnxruntime on one thread, without its chatter and its optimisations (which pad MaxPool with zeros, wrongly)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def random_inputs(graph: Graph, seed: int = 0, scale: float = 1.0) -> dict[str, Array]:
    """One sample of normal numbers for every input, in the model's own shape, by model name."""
    rng = np.random.default_rng(seed)
    return {i.model_name: (scale * rng.normal(size=i.layout.model_shape)).astype(np.float32) for i in graph.inputs}


def evaluate_model(graph: Graph, feeds: Mapping[str, Array], hook: Hook | None = None) -> dict[str, Array]:
    """The graph's outputs by model name, from and to the model's own layout."""
    samples = {}
    for source in graph.inputs:
        x = feeds[source.model_name]
        samples[source.name] = from_model(x if source.layout.batch_axis == 0 else x[None], source.layout)
    values = evaluate_batches(graph, samples, hook=hook)
    results = {}
    for output in graph.outputs:
        y = to_model(values[output.model_name], output.layout)
        assert y.shape[1:] == output.layout.sample_shape
        results[output.model_name] = y if output.layout.batch_axis == 0 else y[0]
    return results


def fake_quantise(graph: Graph) -> Hook:
    """Rounds every value to the quantisation that its type prescribes, ties to even as onnxruntime does."""
    types = graph.types

    def hook(name: str, x: torch.Tensor) -> torch.Tensor:
        q = types[name].quant
        if q is None:
            return x
        codes = torch.clamp(torch.round(x / np.float32(q.scale)) + q.zero_point, q.lo, q.hi)
        return (codes - q.zero_point) * np.float32(q.scale)

    return hook


def check_against_onnxruntime(
    model: onnx.ModelProto | Path,
    input_shapes: Mapping[str, Shape] | None = None,
    tolerance: float = 1e-4,
    scale: float = 1.0,
    samples: int = 2,
) -> Graph:
    """Read the model and compare it on random inputs, by error relative to the largest output. Returns the graph."""
    graph = read(model, input_shapes)
    runtime = session(model)
    names = [o.name for o in runtime.get_outputs()]
    for seed in range(samples):
        feeds = random_inputs(graph, seed, scale)
        expected = dict(zip(names, runtime.run(None, feeds), strict=True))
        found = evaluate_model(graph, feeds)
        for name, want in expected.items():
            assert found[name].shape == want.shape, name
            error = np.abs(found[name] - want).max() / max(np.abs(want).max(), 1e-3)
            assert error <= tolerance, f"{name}: relative error {error}"
    return graph


def kinds(graph: Graph) -> list[str]:
    """The operations in order, by kind; pointwise ones by their function."""
    return [getattr(n.op, "function", n.op.kind) for n in graph.nodes]
