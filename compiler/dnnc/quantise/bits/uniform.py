"""One width for all weights and one for all activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dnnc.cost.target import Target
from dnnc.progress import Progress, silent
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.bits.activations import activation_widths
from dnnc.quantise.bits.policy import Policy, Programs, require_width
from dnnc.quantise.bytes import linear_nodes
from dnnc.quantise.calibrate import Calibration
from dnnc.quantise.dataset import Dataset


@dataclass(frozen=True)
class Uniform(Policy):
    """weights, activations: bits. Inputs and outputs of the network keep at least 8."""

    name: ClassVar[str] = "uniform"
    weights: int = 8
    activations: int = 8

    def allocate(
        self,
        calibration: Calibration,
        target: Target,
        held_out: Dataset | None = None,
        seed: int = 0,
        progress: Progress = silent,
        programs: Programs | None = None,
    ) -> Allocation:
        require_width("weight", self.weights, target)
        require_width("activation", self.activations, target)
        nodes = linear_nodes(calibration.graph.nodes)
        weight_bits = {n.name: np.full(len(n.params["weight"]), self.weights, np.uint8) for n in nodes}
        return Allocation(weight_bits, activation_widths(calibration, self.activations))
