"""From what an array does to what a layer costs: memories, energy, bytes; shared by all families of accelerators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Generic, TypeVar

from dnnc.cost import energy
from dnnc.cost.accelerator import Accelerator
from dnnc.cost.estimate import LayerCost, NetworkCost, summed
from dnnc.cost.layer import LayerWork
from dnnc.errors import TargetError

Array = TypeVar("Array")

#: Bias and multiplier of an output channel.
CHANNEL_BYTES = 8
TABLE_BYTES, SLOPE_BYTES = 256, 4


@dataclass(frozen=True)
class AcceleratorModel(ABC, Generic[Array]):
    """A CostModel, but for what a layer takes; layers do not change what their neighbours take."""

    hardware: Accelerator

    @property
    def clock_hz(self) -> int:
        return self.hardware.clock_hz

    @property
    def array(self) -> Array:
        found: Array = self.hardware.array
        return found

    @abstractmethod
    def layer(self, work: LayerWork) -> LayerCost:
        """Of one layer by itself."""

    def network(self, works: Sequence[LayerWork]) -> NetworkCost:
        """Of all layers in their order."""
        return summed(self.layer, works, self.clock_hz, self.hardware.quality)


def next_width(bits: int, offered: tuple[int, ...]) -> int:
    """The narrowest of the offered widths that holds `bits`. Raises TargetError where none does."""
    found = min((width for width in offered if width >= bits), default=None)
    if found is None:
        raise TargetError(f"it computes with at most {max(offered)} bits, and a layer has an operand of {bits}")
    return found


def widened(work: LayerWork, hardware: Accelerator) -> LayerWork:
    """The layer as this hardware stores and computes it: every operand at the next width that it has.

    live_bits follow the output's width, which is exact where all activations have one. Raises TargetError.
    """
    channels: dict[int, int] = {}
    for bits, count in work.channel_bits:
        wide = next_width(bits, hardware.weight_bits)
        channels[wide] = channels.get(wide, 0) + count
    output_bits = next_width(work.output_bits, hardware.activation_bits)
    return replace(
        work,
        channel_bits=tuple(sorted(channels.items(), reverse=True)),
        input_bits=tuple(next_width(bits, hardware.activation_bits) for bits in work.input_bits),
        output_bits=output_bits,
        live_bits=work.live_bits * output_bits // work.output_bits,
    )


def constant_bytes(work: LayerWork) -> int:
    """Weights, biases, multipliers, tables."""
    if work.linear:
        return ceil(work.total_weight_bits / 8) + CHANNEL_BYTES * work.output[2]
    return {
        "table": TABLE_BYTES,
        "softmax": 2 * TABLE_BYTES,
        "prelu": SLOPE_BYTES * work.output[2],
        "constant": ceil(work.total_output_bits / 8),
    }.get(work.kind, 0)


def external_bits(work: LayerWork, hardware: Accelerator, constants: int) -> int:
    """What passes between the chip and the memory behind it: nothing but constants, where activations stay on the chip.

    They do where all that are alive fit beside a quarter of the SRAM, or beside all weights if these are less. Else one
    half of the SRAM holds what is stationary, weights or activations, whichever is less traffic: the other is fetched
    again for each part of it (the common traffic formulae of tiled accelerators). constants: bytes.
    """
    weights, sram = 8 * constants, 8 * hardware.memory.sram_bytes
    if work.live_bits + min(weights, sram // 4) <= sram:
        return weights
    inputs, half = work.total_input_bits, max(sram // 2, 1)
    weights_stay = weights + inputs * max(ceil(weights / half), 1)
    inputs_stay = inputs + weights * max(ceil(inputs / half), 1)
    return min(weights_stay, inputs_stay) + work.total_output_bits


def assemble(
    work: LayerWork,
    hardware: Accelerator,
    compute_cycles: float,
    sram_bits: int,
    compute_pj: Mapping[str, float],
    constants: int | None = None,
) -> LayerCost:
    """The cost of a layer: the slowest of array, SRAM and external memory, which work at the same time.

    sram_bits: read and written by the array. compute_pj: of the array, by component. constants: bytes, where they are
    not as `constant_bytes` says.
    """
    memory, given = hardware.memory, hardware.energy
    stored = constant_bytes(work) if constants is None else constants
    if work.kind == "constant":
        return LayerCost(work.name, work.op, 0, flash_bytes=stored, bound="none")
    outside = external_bits(work, hardware, stored)
    times = {
        "compute": ceil(compute_cycles),
        "sram": ceil(sram_bits / memory.sram_bits_per_cycle),
        memory.external: ceil(outside / memory.external_bits_per_cycle),
    }
    sram_pj = given.sram_pj_per_bit
    outside_pj = given.external_pj_per_bit
    # What comes from outside is written to the SRAM once.
    inside_pj = (sram_bits + outside) * (energy.sram_pj_per_bit(memory.sram_bytes) if sram_pj is None else sram_pj)
    return LayerCost(
        name=work.name,
        op=work.op,
        cycles=max(times.values()),
        energy_pj={
            **compute_pj,
            "sram": inside_pj,
            memory.external: outside * (energy.DRAM_PJ_PER_BIT if outside_pj is None else outside_pj),
        },
        traffic_bytes={"sram": ceil(sram_bits / 8), memory.external: ceil(outside / 8)},
        flash_bytes=stored,
        ram_bytes=ceil(work.live_bits / 8),
        bound=max(times, key=lambda name: times[name]),
        macs=work.macs,
    )


def mac_pj(hardware: Accelerator, weight_bits: int, activation_bits: int) -> float:
    """Of a multiply-accumulate of the array: as its file says, for the next wider operand, or by `cost.energy`."""
    given = hardware.energy.mac_pj
    if given:
        return given[next_width(max(weight_bits, activation_bits), tuple(given))]
    return energy.mac_pj(weight_bits, activation_bits)


def elementwise(work: LayerWork, hardware: Accelerator, elements_per_cycle: float) -> LayerCost:
    """A layer without weights: every element that is read or written passes the vector unit, as an addition each."""
    taps = work.kernel[0] * work.kernel[1] if work.kind in ("max-pool", "average-pool") else len(work.inputs)
    operations = max(work.output_elements * taps, work.input_elements)
    bits = work.total_input_bits + work.total_output_bits
    return assemble(work, hardware, operations / elements_per_cycle, bits, {"vector": operations * energy.add_pj(32)})
