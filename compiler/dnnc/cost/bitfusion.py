"""BitFusion: a systolic array whose elements fuse into narrow or wide multipliers.

Source: Sharma et al., "Bit Fusion", ISCA 2018, and the cycle formulae of its simulator: an element makes
pf = floor(P/max(a, p)) * floor(P/max(w, p)) products of a and w bits a cycle, where P and p are its widest and
narrowest operands; a layer takes the less of

    OH*OW * ceil(OC/columns) * ceil(KH*KW*IC / (rows*pf))        windows copied together (im2col)
    OH*OW * KH*KW * ceil(OC/columns) * ceil(IC / (rows*pf))      one tap after the other

3 bits cost what 4 do, 5 to 7 what 8 do. An operand wider than P takes as many passes as it has parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from dnnc.cost.assemble import AcceleratorModel, assemble, elementwise, mac_pj, widened
from dnnc.cost.estimate import LayerCost
from dnnc.cost.layer import LayerWork
from dnnc.cost.systolic import tiles


@dataclass(frozen=True)
class BitFusion:
    """most_bits, least_bits: operands of an element; pe_pj_per_cycle: of an element, 0 where `energy` shall hold."""

    rows: int
    columns: int
    most_bits: int
    least_bits: int
    elements_per_cycle: int
    pe_pj_per_cycle: float = 0.0


def products_per_cycle(array: BitFusion, weight_bits: int, activation_bits: int) -> Fraction:
    """Of one element; less than 1 where an operand is wider than it."""
    found = Fraction(1)
    for bits in (weight_bits, activation_bits):
        if bits > array.most_bits:
            found /= tiles(bits, array.most_bits)
        else:
            found *= array.most_bits // max(bits, array.least_bits)
    return found


def product_cycles(work: LayerWork, array: BitFusion, weight_bits: int) -> int:
    """Of a linear layer whose weights all have that width."""
    taps, depth = work.kernel[0] * work.kernel[1], work.inputs[0][2] // work.groups
    height, width, channels = work.output
    side = array.rows * products_per_cycle(array, weight_bits, work.activation_bits)
    together = ceil(taps * depth / side)
    apart = taps * ceil(depth / side)
    return height * width * work.groups * tiles(channels // work.groups, array.columns) * min(together, apart)


class BitFusionModel(AcceleratorModel[BitFusion]):
    """A CostModel. A layer of several widths is computed at its widest."""

    def layer(self, work: LayerWork) -> LayerCost:
        array, work = self.array, widened(work, self.hardware)
        if not work.linear:
            return elementwise(work, self.hardware, array.elements_per_cycle)
        parallel = products_per_cycle(array, work.weight_bits, work.activation_bits)
        if array.pe_pj_per_cycle:
            energy = work.macs * array.pe_pj_per_cycle / float(parallel)
        else:
            energy = work.macs * mac_pj(self.hardware, work.weight_bits, work.activation_bits)
        cycles = product_cycles(work, array, work.weight_bits)
        return assemble(work, self.hardware, cycles, self._sram_bits(work), {"mac": energy})

    def _sram_bits(self, work: LayerWork) -> int:
        """Inputs once for each part of the columns, weights once (they stay in the elements), results once."""
        gemm = work.gemm
        reads = tiles(gemm.columns, self.array.columns)
        inputs = work.groups * gemm.rows * gemm.depth * work.activation_bits * reads
        return inputs + work.total_weight_bits + work.total_output_bits
