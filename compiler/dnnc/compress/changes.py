"""What compression took out, layer by layer, for reports."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnnc.ir.graph import Graph, Node


@dataclass(frozen=True)
class Change:
    """A layer with weights before and after. outputs: its channels; weights: those that are not zero, without biases;
    macs: dense ones. All 0 after, where the layer is gone.
    """

    layer: str
    kind: str
    outputs: tuple[int, int]
    weights: tuple[int, int]
    macs: tuple[int, int]


def changes(before: Graph, after: Graph) -> tuple[Change, ...]:
    """Every layer of `before` that has weights, in order."""
    return tuple(
        Change(
            node.name,
            node.op.kind,
            *zip(_numbers(before, node), _numbers(after, after.by_name.get(node.name)), strict=True),
        )
        for node in before.nodes
        if "weight" in node.params
    )


def _numbers(graph: Graph, node: Node | None) -> tuple[int, int, int]:
    if node is None:
        return 0, 0, 0
    weight = node.params["weight"]
    macs = graph.work(node).macs
    return len(weight), int(np.count_nonzero(weight)), macs
