"""Arrays that take operands bit by bit, so that cycles follow the widths.

rows x columns of output-stationary elements, `depth` products a cycle each:

    ceil(M/rows) * ceil(N/columns) * ceil(K/depth) * bits

where bits are those of the weights (as UNPU; equal to the RTL of an array of depth 1), of the activations (Stripes,
Judd et al., MICRO 2016) or their product (BISMO, Umuroglu et al., FPL 2018). Output channels of different widths are
computed in turn, each width in its own columns. Operations without weights pass the vector unit at full width.
"""

from __future__ import annotations

from dataclasses import dataclass

from dnnc.cost import energy
from dnnc.cost.assemble import AcceleratorModel, assemble, elementwise, widened
from dnnc.cost.estimate import LayerCost
from dnnc.cost.layer import LayerWork
from dnnc.cost.systolic import tiles

SERIAL = ("weights", "activations", "both")


@dataclass(frozen=True)
class BitSerial:
    """depth: products that an element sums up in a cycle; serial: of SERIAL; elements_per_cycle: of the vector unit."""

    rows: int
    columns: int
    depth: int
    serial: str
    elements_per_cycle: int


def product_cycles(work: LayerWork, array: BitSerial) -> int:
    """Of a linear layer, at the widths that it says."""
    gemm, input_bits = work.gemm, work.activation_bits
    passes = tiles(gemm.rows, array.rows) * tiles(gemm.depth, array.depth)
    total = 0
    for bits, channels in work.channel_bits:
        planes = {"weights": bits, "activations": input_bits, "both": bits * input_bits}[array.serial]
        # A group's channels lie in columns of their own, so a depthwise layer fills one column at a time.
        groups = min(work.groups, channels)
        total += groups * tiles(tiles(channels, groups), array.columns) * planes
    return passes * total


class BitSerialModel(AcceleratorModel[BitSerial]):
    """A CostModel."""

    def layer(self, work: LayerWork) -> LayerCost:
        array, hardware = self.array, self.hardware
        work = widened(work, hardware)
        if not work.linear:
            return elementwise(work, hardware, array.elements_per_cycle)
        input_bits = work.activation_bits
        cycles = product_cycles(work, array)
        mean_bits = work.total_weight_bits / max(work.weights, 1)
        return assemble(
            work,
            hardware,
            cycles,
            self._sram_bits(work, mean_bits, input_bits),
            {"mac": work.macs * self._mac_pj(mean_bits, input_bits)},
        )

    def _sram_bits(self, work: LayerWork, weight_bits: float, input_bits: int) -> int:
        """Weights once for each part of the rows, inputs once for each part of the columns; results once.

        A serial array reads operands again for each bit of the other where both are serial.
        """
        gemm, array = work.gemm, self.array
        weights = work.weights * weight_bits * tiles(gemm.rows, array.rows)
        inputs: float = work.groups * gemm.rows * gemm.depth * input_bits * tiles(gemm.columns, array.columns)
        if array.serial == "both":
            weights, inputs = weights * input_bits, inputs * weight_bits
        return int(weights + inputs) + work.total_output_bits

    def _mac_pj(self, weight_bits: float, input_bits: int) -> float:
        """One addition of the wide sum for each bit that arrives, of an operand as wide as the other; where both are
        serial a one-bit adder a product, and one wide addition for `depth` of them.
        """
        wide = energy.add_pj(energy.ACCUMULATOR_BITS)
        if self.array.serial == "weights":
            return weight_bits * wide
        if self.array.serial == "activations":
            return input_bits * wide
        return weight_bits * input_bits * (energy.add_pj(1) + wide / self.array.depth)
