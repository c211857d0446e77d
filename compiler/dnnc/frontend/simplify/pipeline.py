"""The simplifications, in order."""

from __future__ import annotations

from dnnc.frontend.simplify.affine import fold_affine, lower_affine
from dnnc.frontend.simplify.clamp import fuse_clamps, quant_clamps
from dnnc.frontend.simplify.padding import fuse_pads
from dnnc.frontend.simplify.recognise import recognise
from dnnc.frontend.simplify.tidy import check_finished, merge_reshapes, spread_quants
from dnnc.ir.graph import Graph


def simplify(graph: Graph) -> Graph:
    """An equivalent graph of dnnc.ops only. Raises UnsupportedError for functions that no operation computes."""
    graph = graph.prune_dead()
    graph = recognise(graph)
    graph = fuse_pads(graph)
    graph = fold_affine(graph)
    graph = fuse_clamps(lower_affine(graph))
    graph = quant_clamps(fuse_pads(graph))
    return check_finished(spread_quants(merge_reshapes(graph)))
