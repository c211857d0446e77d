"""Why layers have the bits that they have: what these cost in accuracy, and what they are worth against 8 bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc.ir.graph import Graph
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.bits.costing import Source, Spent
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


def reasons(graph: Graph, allocation: Allocation, source: Source | None) -> tuple[Reason, ...]:
    """For every layer whose sensitivity the allocation tells, in the order of the float graph that was calibrated."""
    linear = [node for node in linear_nodes(graph.nodes) if node.name in allocation.sensitivity]
    spent: Mapping[str, Spent] = {}
    plain: Mapping[str, Spent] = {}
    if source is not None and linear:
        widths = dict(allocation.activation_bits)
        rows = {name: np.asarray(bits) for name, bits in allocation.weight_bits.items()}
        spent = source.layers(rows, widths)
        plain = source.layers({name: np.full_like(row, _BASELINE) for name, row in rows.items()}, widths)
    found = []
    for node in linear:
        bits: NDArray[Any] = np.asarray(allocation.weight_bits[node.name])
        wide = np.full(len(bits), _BASELINE, np.uint8)
        known = node.name in spent and node.name in plain
        cycles = plain[node.name].cost.cycles - spent[node.name].cost.cycles if known else None
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
