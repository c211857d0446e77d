"""One network on several pieces of hardware."""

from __future__ import annotations

from dataclasses import dataclass

from dnnc.cost.accelerator import Accelerator
from dnnc.cost.estimate import NetworkCost
from dnnc.cost.target import Target


@dataclass(frozen=True)
class TargetCost:
    """What the network costs on one target; peak_macs_per_cycle: of its array at 8 bits, None where that is unknown."""

    hardware: Target | Accelerator
    cost: NetworkCost
    peak_macs_per_cycle: float | None = None


@dataclass(frozen=True)
class Comparison:
    """network: its name; bits: what decided the widths, in words; notes: what could not be said, one sentence each."""

    network: str
    bits: str
    targets: tuple[TargetCost, ...]
    notes: tuple[str, ...] = ()
