"""What a model holds, before anything is compiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dnnc import frontend
from dnnc.cost.loader import load_target
from dnnc.cost.target import Target
from dnnc.errors import Unsupported
from dnnc.ir.graph import Graph
from dnnc.ir.types import Quant, Shape
from dnnc.passes.plan import plan

_BYTE = Quant(8, 1.0, 0)


@dataclass(frozen=True)
class InspectedLayer:
    """One node of the graph that dnnc makes of the model: shapes without the batch axis, channels last."""

    name: str
    op: str
    attributes: str
    shape: Shape
    macs: int
    weights: int


@dataclass(frozen=True)
class Fit:
    """What of a target's memories the model takes at 8 bits, without code, scratch and stack."""

    target: Target
    weight_bytes: int
    activation_bytes: int


@dataclass(frozen=True)
class Inspection:
    """Layers are empty where something is unsupported: then the model has no graph.

    op_counts: how often each operator stands in the model's file.
    """

    name: str
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]
    op_counts: Mapping[str, int]
    layers: tuple[InspectedLayer, ...]
    unsupported: tuple[Unsupported, ...]
    notes: tuple[str, ...]
    fit: Fit | None

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def weights(self) -> int:
        return sum(layer.weights for layer in self.layers)


def inspect_model(model: Any, input_shapes: Mapping[str, Shape] | None = None, target: str | None = None) -> Inspection:
    """Read `model` (see dnnc.frontend.read). Raises ModelError where it cannot be read at all, TargetError."""
    chosen = None if target is None else load_target(target)
    found = frontend.inspect(model, input_shapes)
    graph = found.graph
    if graph is None:
        return Inspection(found.name, {}, {}, found.op_counts, (), found.unsupported, (), None)
    return Inspection(
        name=graph.name,
        inputs={source.model_name: source.layout.model_shape for source in graph.inputs},
        outputs={output.model_name: output.layout.model_shape for output in graph.outputs},
        op_counts=found.op_counts,
        layers=_layers(graph),
        unsupported=(),
        notes=graph.notes,
        fit=None if chosen is None else _fit(graph, chosen),
    )


def _layers(graph: Graph) -> tuple[InspectedLayer, ...]:
    found = []
    for node in graph.nodes:
        work = graph.work(node)
        found.append(
            InspectedLayer(node.name, node.op.kind, node.op.describe(), node.type.shape, work.macs, work.weights)
        )
    return tuple(found)


def _fit(graph: Graph, target: Target) -> Fit:
    """One byte a weight and a value; in-place writing is left to the compiler, so RAM is an upper figure."""
    inputs = tuple(replace(source, type=replace(source.type, quant=_BYTE)) for source in graph.inputs)
    nodes = tuple(replace(node, type=replace(node.type, quant=_BYTE)) for node in graph.nodes)
    weights = sum(layer.weights for layer in _layers(graph))
    return Fit(target, weights, plan(replace(graph, inputs=inputs, nodes=nodes), {}, {}).arena_bytes)
