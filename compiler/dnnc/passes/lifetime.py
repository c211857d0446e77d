"""Which values need bytes of the arena, how many and when; who may write over whom; and what no plan can undercut.

Steps are the indices of `graph.nodes`; the inputs arrive at step -1 and the outputs are read at step len(graph.nodes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dnnc.ir.graph import Graph, Node
from dnnc.ops.movement import Constant, Reshape

#: Offsets and sizes are multiples of this many bytes; the arena itself is aligned to 8.
ALIGNMENT = 4


def aligned(size: int) -> int:
    """`size` bytes rounded up to the arena's granularity."""
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Buffer:
    """`size` bytes (a multiple of 4) that a value and its views share, live at the steps first..last inclusive."""

    size: int
    first: int
    last: int


def roots(graph: Graph) -> dict[str, str | None]:
    """value -> the value in whose bytes it lies: itself, the source of a view (Reshape), None for a constant."""
    found: dict[str, str | None] = {source.name: source.name for source in graph.inputs}
    for node in graph.nodes:
        if isinstance(node.op, Reshape):
            found[node.name] = found[node.inputs[0]]
        else:
            found[node.name] = None if isinstance(node.op, Constant) else node.name
    return found


def buffers(graph: Graph) -> dict[str, Buffer]:
    """The buffer of every value that has its own. What nobody reads still lives while it is written."""
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
    return {name: Buffer(aligned(graph.types[name].nbytes), first[name], last[name]) for name in first}


def candidates(graph: Graph, overwrites: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """node -> the inputs that its output may really take the place of, in the given order.

    An input qualifies when its bytes are the output's size or more, nothing reads them (through any view) after this
    node, and every input of the node that lies in them may be overwritten.
    """
    root, live = roots(graph), buffers(graph)
    found: dict[str, tuple[int, ...]] = {}
    for step, node in enumerate(graph.nodes):
        allowed = overwrites.get(node.name, ())
        good = tuple(
            i for i in allowed if root[node.name] == node.name and _dies(graph, node, i, allowed, step, root, live)
        )
        if good:
            found[node.name] = good
    return found


def _dies(
    graph: Graph,
    node: Node,
    index: int,
    allowed: tuple[int, ...],
    step: int,
    root: Mapping[str, str | None],
    live: Mapping[str, Buffer],
) -> bool:
    owner = root[node.inputs[index]]
    return (
        owner is not None
        and live[owner].last == step
        and graph.types[owner].nbytes >= node.type.nbytes
        and all(i in allowed for i, value in enumerate(node.inputs) if root[value] == owner)
    )
