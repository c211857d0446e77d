"""Hardware that dnnc writes no programs for, but says what a network would cost on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Memory:
    """The memory on the chip, and the one behind it.

    sram_bytes, sram_bits_per_cycle: what operands are read from, and how fast. external: "dram" or "flash", where the
    weights come from, and activations that do not fit; external_bits_per_cycle of the array's clock.
    """

    source: str
    sram_bytes: int
    sram_bits_per_cycle: float
    external: str
    external_bits_per_cycle: float


@dataclass(frozen=True)
class Energy:
    """Where it differs from `cost.energy`, in pJ: of a multiply-accumulate by its widest operand, of a bit moved."""

    source: str = "45 nm, 0.9 V (Horowitz, ISSCC 2014)"
    mac_pj: Mapping[int, float] = field(default_factory=dict)
    sram_pj_per_bit: float | None = None
    external_pj_per_bit: float | None = None


@dataclass(frozen=True)
class Accelerator:
    """family: of `cost.families.FAMILIES`; array: the figures that this family has. Clock in Hz.

    weight_bits, activation_bits: what it computes with; other widths are stored and computed as the next wider one.
    quality: what the figures are worth, in one sentence.
    """

    name: str
    description: str
    folder: Path
    family: str
    quality: str
    weight_bits: tuple[int, ...]
    activation_bits: tuple[int, ...]
    clock_hz: int
    memory: Memory
    array: Any
    energy: Energy = Energy()
