"""Systolic int8 arrays: weight-, output- and input-stationary.

Cycles of a product [M, K] x [K, N] on R rows and C columns are closed forms that equal SCALE-Sim 3.0.0 (zero stalls):

    weight-stationary  ceil(K/R) * ceil(N/C) * (2R + C + M - 2) - 1
    output-stationary  ceil(M/R) * ceil(N/C) * (K + R + C - 2) - 1
    input-stationary   ceil(K/R) * ceil(M/C) * (2R + C + N - 2) - 1

A grouped convolution is one product a group: in a depthwise one a single column works. Widths below 8 bits change
traffic, not cycles.
"""

from __future__ import annotations

from dataclasses import dataclass

from dnnc.cost.assemble import AcceleratorModel, assemble, elementwise, mac_pj, widened
from dnnc.cost.energy import ACCUMULATOR_BITS
from dnnc.cost.estimate import LayerCost
from dnnc.cost.layer import Gemm, LayerWork

DATAFLOWS = ("weight-stationary", "output-stationary", "input-stationary")


@dataclass(frozen=True)
class Systolic:
    """rows, columns: of the array; dataflow: of DATAFLOWS, what stays in it; elements_per_cycle: of the vector unit."""

    rows: int
    columns: int
    dataflow: str
    elements_per_cycle: int


def product_cycles(gemm: Gemm, rows: int, columns: int, dataflow: str) -> int:
    """Of one product, from the first operand to the last result."""
    m, k, n = gemm.rows, gemm.depth, gemm.columns
    if dataflow == "weight-stationary":
        return tiles(k, rows) * tiles(n, columns) * (2 * rows + columns + m - 2) - 1
    if dataflow == "output-stationary":
        return tiles(m, rows) * tiles(n, columns) * (k + rows + columns - 2) - 1
    return tiles(k, rows) * tiles(m, columns) * (2 * rows + columns + n - 2) - 1


def tiles(extent: int, size: int) -> int:
    """How many parts of `size` cover an extent."""
    return -(-extent // size)


class SystolicModel(AcceleratorModel[Systolic]):
    """A CostModel."""

    def layer(self, work: LayerWork) -> LayerCost:
        array, work = self.array, widened(work, self.hardware)
        if not work.linear:
            return elementwise(work, self.hardware, array.elements_per_cycle)
        cycles = work.groups * product_cycles(work.gemm, array.rows, array.columns, array.dataflow)
        energy = work.macs * mac_pj(self.hardware, work.weight_bits, work.activation_bits)
        return assemble(work, self.hardware, cycles, self._sram_bits(work), {"mac": energy})

    def _sram_bits(self, work: LayerWork) -> int:
        """Operands that enter the array: what is stationary once, what streams once for each part of it."""
        gemm, array = work.gemm, self.array
        weights = work.total_weight_bits
        inputs = work.groups * gemm.rows * gemm.depth * work.activation_bits
        sums = work.groups * gemm.rows * gemm.columns * ACCUMULATOR_BITS
        deep = tiles(gemm.depth, array.rows)
        if array.dataflow == "weight-stationary":
            return weights + inputs * tiles(gemm.columns, array.columns) + 2 * sums * deep
        if array.dataflow == "output-stationary":
            return (
                inputs * tiles(gemm.columns, array.columns) + weights * tiles(gemm.rows, array.rows)
            ) + work.total_output_bits
        return inputs + weights * tiles(gemm.rows, array.columns) + 2 * sums * deep
