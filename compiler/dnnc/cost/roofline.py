"""Products a cycle and bytes a cycle, no more: for hardware of which no closed form of the cycles is known.

cycles = max(MACs / (macs_per_cycle * utilisation), traffic / bandwidth). What it says is as good as the utilisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dnnc.cost.assemble import AcceleratorModel, assemble, elementwise, mac_pj, next_width, widened
from dnnc.cost.estimate import LayerCost
from dnnc.cost.layer import LayerWork


@dataclass(frozen=True)
class Roofline:
    """macs_per_cycle: of the whole hardware, by the bits of a weight; utilisation, depthwise_utilisation: shares of it
    that are reached; elements_per_cycle: of layers without weights.
    """

    macs_per_cycle: Mapping[int, float]
    utilisation: float
    depthwise_utilisation: float
    elements_per_cycle: float


class RooflineModel(AcceleratorModel[Roofline]):
    """A CostModel."""

    def layer(self, work: LayerWork) -> LayerCost:
        array, hardware = self.array, self.hardware
        work = widened(work, hardware)
        if not work.linear:
            return elementwise(work, hardware, array.elements_per_cycle)
        bits = next_width(work.weight_bits, tuple(array.macs_per_cycle))
        share = array.depthwise_utilisation if work.kind == "depthwise" else array.utilisation
        traffic = work.total_input_bits + work.total_weight_bits + work.total_output_bits
        energy = work.macs * mac_pj(hardware, work.weight_bits, work.activation_bits)
        return assemble(work, hardware, work.macs / (array.macs_per_cycle[bits] * share), traffic, {"mac": energy})
