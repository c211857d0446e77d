"""The graph: immutable, typed, in topological order. A value is named by the node that makes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc.errors import ModelError
from dnnc.ir.op import Op, Work
from dnnc.ir.types import Layout, TensorType

Params = Mapping[str, NDArray[Any]]


def freeze(params: Mapping[str, Any]) -> Params:
    """Parameters as read-only arrays in a read-only mapping."""
    frozen: dict[str, NDArray[Any]] = {}
    for name, value in params.items():
        array = np.asarray(value)
        if array.flags.writeable:
            array = array.copy()
            array.setflags(write=False)
        frozen[name] = array
    return MappingProxyType(frozen)


@dataclass(frozen=True, eq=False)
class Node:
    """One operation and the single value that it makes. `inputs` name values; `params` are its constants."""

    name: str
    op: Op
    inputs: tuple[str, ...]
    params: Params
    type: TensorType

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", freeze(self.params))


@dataclass(frozen=True)
class Input:
    """A graph input; `model_name` is what the model's file calls it."""

    name: str
    type: TensorType
    model_name: str
    layout: Layout


@dataclass(frozen=True)
class Output:
    """A graph output: the value `value`, called `model_name` in the model's file."""

    value: str
    model_name: str
    layout: Layout


@dataclass(frozen=True, eq=False)
class Graph:
    """A network. Change it with `with_nodes` or `dataclasses.replace`; call `verify` after a pass."""

    name: str
    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Output, ...]
    notes: tuple[str, ...] = field(default=())

    @cached_property
    def types(self) -> Mapping[str, TensorType]:
        """The type of every value."""
        sources = {i.name: i.type for i in self.inputs}
        return MappingProxyType(sources | {n.name: n.type for n in self.nodes})

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        return MappingProxyType({n.name: n for n in self.nodes})

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each value."""
        found: dict[str, list[Node]] = {name: [] for name in self.types}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                found[value].append(node)
        return MappingProxyType({k: tuple(v) for k, v in found.items()})

    @property
    def integer(self) -> bool:
        """True once every value is quantised."""
        return all(t.quant is not None for t in self.types.values())

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(self.work(n).macs for n in self.nodes)

    def work(self, node: Node) -> Work:
        """Of one of the nodes, an inference."""
        return node.op.work(self.input_types(node), node.params, node.type)

    def input_types(self, node: Node) -> tuple[TensorType, ...]:
        return tuple(self.types[name] for name in node.inputs)

    def with_nodes(self, nodes: Iterable[Node]) -> Graph:
        return replace(self, nodes=tuple(nodes))

    def verify(self) -> Graph:
        """Check names, order and shapes; returns self. Raises ModelError naming the node."""
        known: dict[str, TensorType] = {}
        for source in self.inputs:
            if source.name in known:
                raise ModelError(f"input '{source.name}' appears twice")
            known[source.name] = source.type
        for node in self.nodes:
            if node.name in known:
                raise ModelError(f"node '{node.name}' appears twice")
            for value in node.inputs:
                if value not in known:
                    raise ModelError(f"node '{node.name}' reads '{value}' before it is made")
            shape = node.op.infer(tuple(known[v] for v in node.inputs), node.params)
            if shape != node.type.shape:
                raise ModelError(
                    f"node '{node.name}' ({node.op.kind}) makes {shape}, but its type says {node.type.shape}"
                )
            known[node.name] = node.type
        for output in self.outputs:
            if output.value not in known:
                raise ModelError(f"output '{output.model_name}' names the unknown value '{output.value}'")
        return self

    def prune_dead(self) -> Graph:
        """Without the nodes that no output needs."""
        needed = {o.value for o in self.outputs}
        kept: list[Node] = []
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.inputs)
                kept.append(node)
        return self.with_nodes(reversed(kept))


def make_node(
    name: str, op: Op, inputs: Sequence[str], types: Mapping[str, TensorType], params: Mapping[str, Any] | None = None
) -> Node:
    """A float node whose type is inferred from `types` (values by name)."""
    frozen = freeze(params or {})
    return Node(name, op, tuple(inputs), frozen, TensorType(op.infer(tuple(types[i] for i in inputs), frozen)))
