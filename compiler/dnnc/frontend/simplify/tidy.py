"""The last look at a simplified graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dnnc.errors import ModelError, Unsupported, UnsupportedError
from dnnc.frontend.simplify.edit import is_output, substitute, with_quant
from dnnc.frontend.simplify.ops import Affine, Divide, Scalar
from dnnc.ir.graph import Graph
from dnnc.ops import ALL
from dnnc.ops.movement import Reshape


def merge_reshapes(graph: Graph) -> Graph:
    """Reshapes of Reshapes become one, those that change nothing vanish."""
    for name in [n.name for n in graph.nodes if isinstance(n.op, Reshape)]:
        node = graph.by_name.get(name)
        if node is None:
            continue
        maker = graph.by_name.get(node.inputs[0])
        if maker is not None and isinstance(maker.op, Reshape):
            node = replace(node, inputs=maker.inputs)
            graph = substitute(graph, {name: node}, {})
        source = node.inputs[0]
        if graph.types[source].shape == node.type.shape and not is_output(graph, name):
            graph = substitute(graph, {}, {name: source})
    return graph


def spread_quants(graph: Graph) -> Graph:
    """Prescribed quantisations along operations that keep them: forwards, and backwards through views."""
    quants = {name: t.quant for name, t in graph.types.items()}
    for node in reversed(graph.nodes):
        if isinstance(node.op, Reshape) and quants[node.inputs[0]] is None:
            quants[node.inputs[0]] = quants[node.name]
    for node in graph.nodes:
        given = {quants[v] for v in node.inputs}
        if node.op.keeps_quant and quants[node.name] is None and len(given) == 1:
            quants[node.name] = given.pop()
    inputs = tuple(replace(i, type=replace(i.type, quant=quants[i.name])) for i in graph.inputs)
    return replace(graph, inputs=inputs, nodes=tuple(with_quant(n, quants[n.name]) for n in graph.nodes))


def check_finished(graph: Graph) -> Graph:
    """Only operations of dnnc.ops are left, and finite numbers. Raises UnsupportedError, ModelError."""
    missing = []
    for node in graph.nodes:
        if isinstance(node.op, Scalar):
            missing.append(Unsupported(node.name, node.op.function, "it is supported only inside of known functions"))
        elif isinstance(node.op, Divide):
            missing.append(Unsupported(node.name, "Div", "both of its operands are computed"))
        elif not isinstance(node.op, ALL) or isinstance(node.op, Affine):
            raise TypeError(f"{node.op.kind} '{node.name}' was not simplified away")
        for name, array in node.params.items():
            if not np.isfinite(array).all():
                raise ModelError(f"node '{node.name}' ({node.op.kind}) would have infinite or NaN values in its {name}")
    if missing:
        raise UnsupportedError(missing)
    return graph
