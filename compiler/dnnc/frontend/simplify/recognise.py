"""Functions of one number that a model spells out (x * sigmoid(x), GELU from Erf, ...) as the one operation they are.

They are recognised by their values, not by their shape: every exporter spells them differently.
"""

from __future__ import annotations

import numpy as np

from dnnc.frontend.simplify.edit import is_output, substitute
from dnnc.frontend.simplify.ops import Affine, Divide, Scalar
from dnnc.ir.graph import Graph, Node
from dnnc.ops.activation import NO_CLAMP
from dnnc.ops.elementwise import Add, Mul
from dnnc.ops.pointwise import Pointwise

#: No known function is spelled with more nodes.
MAX_NODES = 16

KNOWN = (
    Pointwise("silu"),
    Pointwise("hard_swish"),
    Pointwise("gelu"),
    Pointwise("gelu_tanh"),
    Pointwise("hard_sigmoid", 1 / 6, 0.5),
    Pointwise("hard_sigmoid", 0.2, 0.5),
    Pointwise("sigmoid"),
    Pointwise("tanh"),
    Pointwise("softplus"),
    Pointwise("softsign"),
    Pointwise("abs"),
    Pointwise("square"),
)


def recognise(graph: Graph) -> Graph:
    """Replace every spelled-out known function, the last node of each first."""
    names = [n.name for n in reversed(graph.nodes)]
    for name in names:
        node = graph.by_name.get(name)
        found = _known(graph, node) if node is not None and _part(node) else None
        if node is not None and found is not None:
            op, source = found
            graph = substitute(graph, {name: Node(name, op, (source,), {}, node.type)}, {})
    return graph


def _part(node: Node) -> bool:
    """True for nodes of which functions of one number are spelled."""
    if isinstance(node.op, Affine):
        return node.params["scale"].ndim == node.params["shift"].ndim == 0
    if isinstance(node.op, Mul | Add):
        return node.op.clamp == NO_CLAMP
    return isinstance(node.op, Pointwise | Scalar | Divide)


def _known(graph: Graph, end: Node) -> tuple[Pointwise, str] | None:
    """The known function that `end` makes of one earlier value, and that value."""
    place = {n.name: i for i, n in enumerate(graph.nodes)}
    region = [end]
    frontier = set(end.inputs)
    while len(region) < MAX_NODES:
        names = {n.name for n in region}
        if len(frontier) == 1 and (len(region) > 1 or len(end.inputs) > 1):
            source = next(iter(frontier))
            op = _identify(region[::-1], source) if graph.types[source].shape == end.type.shape else None
            if op is not None:
                return op, source
        latest = max(frontier, key=lambda v: place.get(v, -1))
        node = graph.by_name.get(latest)
        if node is None or not _part(node) or node.type.shape != end.type.shape or is_output(graph, latest):
            return None
        if any(reader.name not in names for reader in graph.consumers[latest]):
            return None
        region.append(node)
        frontier = (frontier - {latest}) | set(node.inputs)
    return None


def _identify(region: list[Node], source: str) -> Pointwise | None:
    """The known function with the region's values, None where there is none. The region is in order of execution."""
    import torch

    grid = torch.linspace(-8, 8, 321, dtype=torch.float64)[:, None]
    values = {source: grid}
    with np.errstate(all="ignore"):
        for node in region:
            params = {k: torch.tensor(np.asarray(v), dtype=torch.float64) for k, v in node.params.items()}
            values[node.name] = node.op.real([values[v] for v in node.inputs], params)
    result = values[region[-1].name]
    for op in KNOWN:
        if torch.allclose(result, op.real([grid], {}), rtol=1e-5, atol=1e-6):
            return op
    return None
