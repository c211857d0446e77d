"""What a sweep tries: the allocations of least predicted loss along budgets, and one width for all to compare."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from dnnc import build
from dnnc.cost.target import Target
from dnnc.progress import Progress
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.bits.budgets import Allocator, Decision
from dnnc.quantise.bits.costing import choices
from dnnc.quantise.bits.uniform import Uniform
from dnnc.quantise.calibrate import Calibration
from dnnc.quantise.fisher import fisher
from dnnc.quantise.menu import menu

#: Widths that stand beside the allocations, where a target has them.
_UNIFORM = (2, 3, 4, 5, 6, 8)
#: Where a target's cycles are known, every budget of flash is also tried with such shares of the cycles it took.
_CYCLE_SHARES = (0.97, 0.9)


@dataclass(frozen=True)
class Candidate:
    """weight_bits: by node the width of each output channel; activation_bits: by value. origin: in words."""

    origin: str
    weight_bits: Mapping[str, tuple[int, ...]]
    activation_bits: Mapping[str, int]

    @property
    def key(self) -> str:
        """The same for the same widths."""
        text = repr((sorted(self.weight_bits.items()), sorted(self.activation_bits.items())))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def allocation(self) -> Allocation:
        bits = {name: np.array(widths, np.uint8) for name, widths in self.weight_bits.items()}
        return Allocation(bits, dict(self.activation_bits))


def candidates(
    calibration: Calibration, target: Target, flash: tuple[int, int], points: int, group: str, seed: int, tell: Progress
) -> tuple[Candidate, ...]:
    """At least `points` different ones where there are as many, at most a few more.

    flash: the least and the most bytes of weights and tables (and of code, where the target's model knows it). Budgets
    begin evenly spaced and are halved until they give candidates enough.
    """
    found: dict[str, Candidate] = {}

    def add(candidate: Candidate) -> None:
        found.setdefault(candidate.key, candidate)

    for width in _UNIFORM:
        if width in target.weight_bits and len(found) < points:
            policy = Uniform(weights=width)
            add(candidate_of(str(policy), policy.allocate(calibration, target, None, seed)))
    allocator = _allocator(calibration, target, group, seed, tell)
    tried: set[int] = set()
    for steps in (points, 2 * points, 4 * points, 8 * points):
        for budget in np.linspace(flash[0], flash[1], max(steps, 2)).round().astype(int).tolist():
            if len(found) >= points:
                return tuple(found.values())
            if budget in tried:
                continue
            tried.add(budget)
            tell("candidates", len(found), points)
            for candidate in _within(allocator, budget):
                add(candidate)
    return tuple(found.values())


def _allocator(calibration: Calibration, target: Target, group: str, seed: int, tell: Progress) -> Allocator:
    """What `fisher{flash_bytes=...}` chooses from, made once for all budgets."""
    information = fisher(calibration, calibration.dataset, (8,), seed, tell)
    widths = [b for b in target.weight_bits if b in _UNIFORM]
    source = build.Programs(calibration, target).source
    table = menu(calibration, information, widths, group == "channel")
    return Allocator(calibration, choices(calibration, table, information, [8], source, packed=True), source)


def _within(allocator: Allocator, budget: int) -> Iterator[Candidate]:
    """The best within a budget of flash, and with fewer cycles than that takes; nothing where it cannot be met."""
    first = allocator.least_loss({"flash_bytes": budget})
    if first is None:
        return
    yield _decided(f"fisher{{flash_bytes={budget}}}", first)
    if allocator.source is None:
        return
    for share in _CYCLE_SHARES:
        cycles = round(share * first.costs["cycles"])
        faster = allocator.least_loss({"flash_bytes": budget, "cycles": cycles})
        if faster is None:
            return
        yield _decided(f"fisher{{flash_bytes={budget},cycles={cycles}}}", faster)


def _decided(origin: str, decision: Decision) -> Candidate:
    weights = {name: tuple(int(b) for b in bits) for name, bits in decision.bits.items()}
    return Candidate(origin, weights, dict(decision.activation_bits))


def candidate_of(origin: str, allocation: Allocation) -> Candidate:
    """The widths of an allocation."""
    weights = {name: tuple(int(b) for b in bits) for name, bits in allocation.weight_bits.items()}
    return Candidate(origin, weights, dict(allocation.activation_bits))
