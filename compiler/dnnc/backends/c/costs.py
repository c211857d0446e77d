"""What programs cost, layer by layer, for whoever chooses their widths: a `bits.costing.Source`, nothing compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc.backends.c.foresee import step_calls
from dnnc.backends.c.lower import lower
from dnnc.backends.c.program import Step
from dnnc.cost.estimate import LayerCost, NetworkCost
from dnnc.cost.kernels.table import KernelCosts, Taken
from dnnc.cost.target import Target
from dnnc.errors import TargetError, UnsupportedError
from dnnc.ir.graph import Graph, Node
from dnnc.quantise.bits.costing import Spent
from dnnc.quantise.sketch import sketch

Bits = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ProgramCosts:
    """graph: float, as it was calibrated; costs: of the target's kernels; whole: what an integer graph of it takes."""

    graph: Graph
    target: Target
    costs: KernelCosts
    whole: Callable[[Graph], NetworkCost]

    @property
    def clock_hz(self) -> int:
        return self.target.clock_hz

    @property
    def knows_code(self) -> bool:
        return True

    def layers(self, bits: Mapping[str, Bits], widths: Mapping[str, int]) -> Mapping[str, Spent]:
        """Channels that are dead are still there."""
        integer = self._sketch(bits, widths)
        try:
            program = lower(integer, self.target)
        except UnsupportedError:
            return {}
        found = {}
        for step, node in zip(program.steps, integer.nodes, strict=True):
            spent = self._spent(step, node)
            if spent is not None:
                found[node.name] = spent
        return found

    def network(self, bits: Mapping[str, Bits], widths: Mapping[str, int]) -> NetworkCost:
        return self.whole(self._sketch(bits, widths))

    def _sketch(self, bits: Mapping[str, Any], widths: Mapping[str, int]) -> Graph:
        return sketch(self.graph, {name: row.tolist() for name, row in bits.items()}, widths)

    def _spent(self, step: Step, node: Node) -> Spent | None:
        """None where one of its kernels was not measured."""
        try:
            taken = sum((self.costs.of(call) for call in step_calls(step, node)), Taken(0.0, 0.0))
        except TargetError:
            return None
        active = self.target.energy
        cost = LayerCost(
            name=node.name,
            op=node.op.kind,
            cycles=round(taken.cycles),
            instructions=round(taken.instructions),
            energy_pj={} if active is None else {"board": taken.cycles * active.pj_per_cycle},
            flash_bytes=step.weight_bytes + step.table_bytes,
        )
        return Spent(cost, self._code(step))

    def _code(self, step: Step) -> dict[str, int]:
        """Files of kernels, which other layers may call as well; calls and code of the layer's own, which none does."""
        called = [call.kernel for call in step.calls]
        found: dict[str, int] = {}
        for instance in (*called, *(kernel.inner for kernel in called if kernel.inner)):
            files = (instance.name, *(PurePosixPath(path).stem for path in instance.kernel.support))
            found |= {name: self.costs.code_bytes.get(name, 0) for name in files}
        own = step.code_bytes + self.costs.program_bytes[1] * len(step.calls)
        return {**{name: size for name, size in found.items() if size}, f"{step.node}: {own} bytes": own}
