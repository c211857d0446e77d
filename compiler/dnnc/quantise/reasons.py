"""Why layers have the bits that they have: what these cost in accuracy, and what they are worth against 8 bits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc.cost.estimate import CostModel
from dnnc.cost.layer import layers_of
from dnnc.ir.graph import Graph
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.bytes import linear_bytes, linear_nodes

_BASELINE = 8


@dataclass(frozen=True)
class Reason:
    """Of one layer. loss: predicted, of its widths; narrower_loss: of the next narrower ones, None where there are
    none, or where channels differ. bytes_saved, cycles_saved: against 8 bits, less than 0 where the layer takes more;
    cycles by the target's cost model, None without one.
    """

    layer: str
    bits: float
    loss: float
    narrower_loss: float | None
    bytes_saved: int
    cycles_saved: int | None


def reasons(graph: Graph, allocation: Allocation, model: CostModel | None) -> tuple[Reason, ...]:
    """For every layer whose sensitivity the allocation tells, in the order of the float graph that was calibrated."""
    widths = {name: [int(b) for b in bits] for name, bits in allocation.weight_bits.items()}
    works = {work.name: work for work in layers_of(graph, widths, dict(allocation.activation_bits))}
    found = []
    for node in linear_nodes(graph.nodes):
        if node.name not in allocation.sensitivity:
            continue
        bits: NDArray[Any] = np.asarray(allocation.weight_bits[node.name])
        wide = np.full(len(bits), _BASELINE, np.uint8)
        cycles = None
        if model is not None:
            work = works[node.name]
            plain = replace(work, channel_bits=tuple(sorted(Counter(wide.tolist()).items())))
            cycles = model.layer(plain).cycles - model.layer(work).cycles
        found.append(
            Reason(
                node.name,
                float(bits.mean()),
                allocation.sensitivity[node.name],
                allocation.narrower_loss.get(node.name),
                linear_bytes(node, wide) - linear_bytes(node, bits),
                cycles,
            )
        )
    return tuple(found)
