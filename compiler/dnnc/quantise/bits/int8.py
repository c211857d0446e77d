"""8 bits everywhere: what every other tool does, and the baseline of every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dnnc.cost.target import Target
from dnnc.progress import Progress, silent
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.bits.policy import Policy, Programs
from dnnc.quantise.bits.uniform import Uniform
from dnnc.quantise.calibrate import Calibration
from dnnc.quantise.dataset import Dataset


@dataclass(frozen=True)
class Int8(Policy):
    """8-bit weights with a scale an output channel, 8-bit activations with a scale a tensor."""

    name: ClassVar[str] = "int8"

    def allocate(
        self,
        calibration: Calibration,
        target: Target,
        held_out: Dataset | None = None,
        seed: int = 0,
        progress: Progress = silent,
        programs: Programs | None = None,
    ) -> Allocation:
        return Uniform(weights=8, activations=8).allocate(calibration, target, held_out, seed, progress)
