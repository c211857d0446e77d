"""Which values must share one quantisation, and which quantisations are prescribed.

Operations that only move elements (`keeps_quant`) tie their inputs to their output. A quantisation may be prescribed:
by a QDQ model, or by an operation (Softmax). Where two prescriptions meet in one tie, a requantising
`Pointwise("identity")` is put between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dnnc.ir.graph import Graph, Node, make_node
from dnnc.ir.types import Quant, TensorType
from dnnc.ops.pointwise import Pointwise
from dnnc.ops.softmax import Softmax


@dataclass(frozen=True)
class Ties:
    """A graph whose ties hold no contradiction. `group_of`: value -> the name of its group (one of its values);
    `prescribed`: group -> quantisation.
    """

    graph: Graph
    group_of: Mapping[str, str]
    prescribed: Mapping[str, Quant]

    def members(self) -> dict[str, list[str]]:
        """The values of every group, in graph order."""
        found: dict[str, list[str]] = {}
        for value in self.graph.types:
            found.setdefault(self.group_of[value], []).append(value)
        return found


def tie(graph: Graph, keep_prescribed: bool = True) -> Ties:
    """Group the values of `graph`. keep_prescribed=False drops what a QDQ model prescribes (not what Softmax does)."""
    parent: dict[str, str] = {}
    hard: dict[str, Quant] = {}
    types: dict[str, TensorType] = {}
    nodes: list[Node] = []
    renamed: set[str] = set(graph.types)

    def root(value: str) -> str:
        while parent[value] != value:
            value = parent[value]
        return value

    def declare(name: str, declared: TensorType, quant: Quant | None) -> None:
        types[name] = declared
        parent[name] = name
        if quant is not None:
            hard[name] = quant

    def own(name: str) -> Quant | None:
        return graph.types[name].quant if keep_prescribed else None

    for source in graph.inputs:
        declare(source.name, source.type, own(source.name))
    for node in graph.nodes:
        quant = Softmax.output_quant(8) if isinstance(node.op, Softmax) else own(node.name)
        if not node.op.keeps_quant:
            nodes.append(node)
            declare(node.name, node.type, quant)
            continue
        wanted = quant or _common([hard.get(root(v)) for v in node.inputs])
        inputs = []
        for value in node.inputs:
            found = hard.get(root(value))
            if found is not None and found != wanted:
                name = _fresh(f"{value}_requantised", renamed)
                bridge = make_node(name, Pointwise(function="identity"), [value], types)
                nodes.append(bridge)
                declare(name, bridge.type, wanted)
                value = name
            inputs.append(value)
        nodes.append(node if tuple(inputs) == node.inputs else replace(node, inputs=tuple(inputs)))
        declare(node.name, node.type, wanted)
        for value in inputs:
            representative = root(value)
            if wanted is not None:
                hard[representative] = wanted
            parent[root(node.name)] = representative
    ready = graph.with_nodes(nodes).verify()
    group_of = {value: root(value) for value in ready.types}
    return Ties(ready, group_of, {g: hard[g] for g in dict.fromkeys(group_of.values()) if g in hard})


def _common(quants: list[Quant | None]) -> Quant | None:
    """The prescription that all inputs share, or the only one there is, or None where they differ or some are free.

    Several inputs of which only some are prescribed (Softmax in a Concat) stay free: the prescribed ones requantise.
    """
    distinct = dict.fromkeys(quants)
    return quants[0] if len(distinct) == 1 else None


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
