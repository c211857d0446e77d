"""Bits by what programs take: the costs of kernels that were measured, code that is shared, the planner's arena."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from digits import trained
from dnnc import build
from dnnc.cost.estimate import NetworkCost
from dnnc.cost.loader import load_target
from dnnc.errors import BudgetError
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.bits import parse_policy
from dnnc.quantise.bits.costing import Source
from dnnc.quantise.bytes import linear_nodes
from dnnc.quantise.calibrate import Calibration, calibrate

M7 = load_target("cortex-m7")


@lru_cache
def programs() -> build.Programs:
    graph, seen, _ = trained()
    return build.Programs(calibrate(graph, seen.first(128), M7), M7)


def source() -> Source:
    found = programs().source
    assert found is not None and found.knows_code
    return found


def calibration() -> Calibration:
    return programs().calibration


def allocated(text: str) -> Allocation:
    unseen = trained()[2]
    return parse_policy(text).allocate(calibration(), M7, unseen.first(200), programs=programs())


def cost(found: Allocation) -> NetworkCost:
    bits = {name: np.asarray(row) for name, row in found.weight_bits.items()}
    return source().network(bits, dict(found.activation_bits))


def kinds(found: Allocation) -> int:
    return len({int(b) for row in found.weight_bits.values() for b in row})


def test_layers_and_code_add_up_to_the_program() -> None:
    """But for what the rewrites of whole programs save, and what belongs to no layer."""
    graph = calibration().graph
    for width in (2, 4, 8):
        bits = {n.name: np.full(len(n.params["weight"]), width, np.uint8) for n in linear_nodes(graph.nodes)}
        widths = dict.fromkeys(graph.types, 8)
        layers, whole = source().layers(bits, widths), source().network(bits, widths)
        assert sum(s.cost.cycles for s in layers.values()) + whole.other_cycles == pytest.approx(whole.cycles, rel=0.02)
        code = {name: size for spent in layers.values() for name, size in spent.code.items()}
        flash = sum(s.cost.flash_bytes for s in layers.values()) + sum(code.values())
        assert 0 <= whole.flash_bytes - flash < 1500
        shared = [name for name in code if sum(name in spent.code for spent in layers.values()) > 1]
        assert shared


def test_small_networks_do_not_mix_kernels_for_nothing() -> None:
    """The default takes no more flash than the least uniform width that is as accurate; budgets count code."""
    default, eight = cost(allocated("fisher")), cost(allocated("uniform{weights=8}"))
    assert default.flash_bytes < eight.flash_bytes
    least = min(cost(allocated(f"uniform{{weights={w}}}")).flash_bytes for w in (2, 3, 4, 5, 6))
    smallest = allocated("fisher{minimise=flash_bytes,max_drop=100}")
    assert cost(smallest).flash_bytes <= least * 1.02 and kinds(smallest) <= 2
    budget = (least + eight.flash_bytes) // 2
    assert cost(allocated(f"fisher{{flash_bytes={budget}}}")).flash_bytes <= budget


def test_wide_weights_where_narrow_ones_are_slower() -> None:
    fast = allocated("fisher{minimise=cycles,max_drop=100}")
    every = [cost(allocated(f"uniform{{weights={w}}}")).cycles for w in (2, 3, 4, 5, 6, 8)]
    assert cost(fast).cycles <= min(every) * 1.02


def test_impossible_budgets_of_programs() -> None:
    with pytest.raises(
        BudgetError, match=r"cycles=5 cannot be met: time takes at least [0-9,]+ cycles, which would do"
    ):
        allocated("fisher{cycles=5}")
    with pytest.raises(BudgetError, match=r"flash_bytes=900 cannot be met: flash takes at least [0-9,]+ bytes"):
        allocated("fisher{flash_bytes=900}")
