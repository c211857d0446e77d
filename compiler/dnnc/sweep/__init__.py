"""Many allocations of bits of one network, each compiled and measured: the Pareto front of what they trade."""

from __future__ import annotations

from dnnc.sweep.front import Point, pareto
from dnnc.sweep.sweep import Sweep, sweep

__all__ = ["Point", "Sweep", "pareto", "sweep"]
