"""The artefact's integer graph, compiled for this computer by TVM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dnnc.artefact import Artefact
from dnnc.ir.graph import Graph, Output
from dnnc.ir.types import Layout
from dnnc.run import blocks
from dnnc.run.base import Array, Execution

#: Samples a call: enough that the weights are unpacked rarely, few enough that values stay in the cache.
BATCH = 16


@dataclass(frozen=True)
class TvmRunner:
    """The artefact's own library where it was made for this computer; else its integer graph, compiled now."""

    artefact: Artefact

    def run(self, inputs: Mapping[str, Array], trace: bool = False) -> Execution:
        from importlib.metadata import version

        from dnnc.backends.tvm import library
        from dnnc.backends.tvm.machine import machine

        graph = self.artefact.integer_graph
        blocks.pack_inputs(graph, inputs)  # the same checks as everywhere
        batch = min(BATCH, len(next(iter(inputs.values()))))
        made = self.artefact.manifest.get("tvm")
        here = machine()
        if made is not None and (made["triple"], made["cpu"]) == (here.triple, here.cpu):
            outputs = library.load(graph, self.artefact.files[made["library"]], made["batch"]).run(inputs)
        else:
            outputs = library.jit(graph, batch).run(inputs)
        layers = library.jit(observed(graph), batch).run(inputs) if trace else {}
        return Execution(outputs, compiler=f"TVM {version('apache-tvm')}", layers=layers)


def observed(graph: Graph) -> Graph:
    """The graph with the value of every node as an output, under the node's name."""
    everything = tuple(
        Output(n.name, n.name, Layout((1, *n.type.shape), 0, tuple(range(len(n.type.shape))))) for n in graph.nodes
    )
    return replace(graph, outputs=everything)
