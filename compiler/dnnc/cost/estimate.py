"""What a cost model says of a layer and of a network, and the one interface that all of them have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dnnc.cost.layer import LayerWork

#: What may limit a layer: arithmetic, the memory on the chip, the one behind it (DRAM or flash); "none": it takes no
#: time; "measured": not told apart.
BOUNDS = ("compute", "sram", "dram", "flash", "none", "measured")


@dataclass(frozen=True)
class LayerCost:
    """Of one layer and one inference.

    instructions: None where the hardware executes none, or none are known. energy_pj: by component (mac, sram, dram,
    ...), empty where nothing is known. traffic_bytes: by memory, both ways. flash_bytes: constants, wherever they
    are stored; ram_bytes: activations that exist while the layer runs and what it needs beside them. bound: of BOUNDS.
    macs: what the layer multiplies, for the roofline.
    """

    name: str
    op: str
    cycles: int
    instructions: int | None = None
    energy_pj: Mapping[str, float] = field(default_factory=dict)
    traffic_bytes: Mapping[str, int] = field(default_factory=dict)
    flash_bytes: int = 0
    ram_bytes: int = 0
    bound: str = "compute"
    macs: int = 0


@dataclass(frozen=True)
class NetworkCost:
    """The layers, and what they add up to at a clock of `clock_hz`.

    other_*: what belongs to no layer: code, calls, start-up. note: what kind of figures these are, in one sentence.
    """

    layers: tuple[LayerCost, ...]
    clock_hz: int
    note: str = ""
    other_cycles: int = 0
    other_instructions: int = 0
    other_flash_bytes: int = 0
    other_ram_bytes: int = 0
    other_energy_pj: Mapping[str, float] = field(default_factory=dict)

    @property
    def cycles(self) -> int:
        return self.other_cycles + sum(layer.cycles for layer in self.layers)

    @property
    def instructions(self) -> int | None:
        """None where those of a layer are not known."""
        found = [layer.instructions for layer in self.layers]
        known = [count for count in found if count is not None]
        return self.other_instructions + sum(known) if found and len(known) == len(found) else None

    @property
    def energy_pj(self) -> dict[str, float]:
        return _added((*(layer.energy_pj for layer in self.layers), self.other_energy_pj))

    @property
    def energy_uj(self) -> float | None:
        """Micro-joules of one inference; None where nothing is known of them."""
        found = self.energy_pj
        return sum(found.values()) * 1e-6 if found else None

    @property
    def traffic_bytes(self) -> dict[str, int]:
        return {name: int(count) for name, count in _added(layer.traffic_bytes for layer in self.layers).items()}

    @property
    def flash_bytes(self) -> int:
        return self.other_flash_bytes + sum(layer.flash_bytes for layer in self.layers)

    @property
    def ram_bytes(self) -> int:
        """The fullest layer's."""
        return self.other_ram_bytes + max((layer.ram_bytes for layer in self.layers), default=0)

    @property
    def seconds(self) -> float | None:
        """None at an unknown clock (0)."""
        return self.cycles / self.clock_hz if self.clock_hz else None

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)


class CostModel(Protocol):
    """What every family of hardware has; `dnnc.cost.families` makes it of a target."""

    @property
    def clock_hz(self) -> int: ...

    def layer(self, work: LayerWork) -> LayerCost:
        """Of one layer by itself."""

    def network(self, works: Sequence[LayerWork]) -> NetworkCost:
        """Of all layers in their order, with what depends on the neighbours."""


def summed(
    layer: Callable[[LayerWork], LayerCost], works: Sequence[LayerWork], clock_hz: int, note: str
) -> NetworkCost:
    """A network whose layers do not depend on each other."""
    return NetworkCost(tuple(layer(work) for work in works), clock_hz, note)


def _added(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    return total
