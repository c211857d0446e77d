"""The artefact's integer graph, interpreted: the reference that every other execution is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dnnc.artefact import Artefact
from dnnc.run import blocks
from dnnc.run.base import Array, Execution
from dnnc.simulate import simulate, simulate_batches


@dataclass(frozen=True)
class SimulatorRunner:
    """Runs in numpy; it counts nothing."""

    artefact: Artefact

    def run(self, inputs: Mapping[str, Array], trace: bool = False) -> Execution:
        graph = self.artefact.integer_graph
        blocks.pack_inputs(graph, inputs)  # the same checks as everywhere
        if not trace:
            return Execution(simulate_batches(graph, inputs))
        seen: dict[str, Array] = {}
        outputs = simulate(graph, inputs, watch=seen.__setitem__)
        layers = {node.name: np.asarray(seen[node.name], np.int32) for node in graph.nodes}
        return Execution(outputs, layers=layers)
