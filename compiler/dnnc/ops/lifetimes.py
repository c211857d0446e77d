"""When values live: whose bytes each lies in, and from which step to which they are needed.

Steps are the indices of `graph.nodes`; the inputs arrive at step -1 and the outputs are read at step len(graph.nodes).
"""

from __future__ import annotations

from dnnc.ir.graph import Graph
from dnnc.ops.movement import Constant, Reshape


def roots(graph: Graph) -> dict[str, str | None]:
    """value -> the value in whose bytes it lies: itself, the source of a view (Reshape), None for a constant."""
    found: dict[str, str | None] = {source.name: source.name for source in graph.inputs}
    for node in graph.nodes:
        if isinstance(node.op, Reshape):
            found[node.name] = found[node.inputs[0]]
        else:
            found[node.name] = None if isinstance(node.op, Constant) else node.name
    return found


def lifetimes(graph: Graph) -> dict[str, tuple[int, int]]:
    """(first step, last step) of every value with bytes of its own. What nobody reads still lives while it is made."""
    root = roots(graph)
    first = {source.name: -1 for source in graph.inputs}
    last = dict(first)
    for step, node in enumerate(graph.nodes):
        for value in (*node.inputs, node.name):
            owner = root[value]
            if owner is not None:
                first.setdefault(owner, step)
                last[owner] = step
    for output in graph.outputs:
        owner = root[output.value]
        if owner is not None:
            last[owner] = len(graph.nodes)
    return {name: (first[name], last[name]) for name in first}
