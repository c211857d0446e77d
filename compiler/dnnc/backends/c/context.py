"""What every lowering is given."""

from __future__ import annotations

from dataclasses import dataclass

from dnnc.backends.c.banded import band, banded
from dnnc.backends.c.program import Refusal
from dnnc.backends.c.table import IN_ORDER, Instance, Kernel, Layer, Selection, choose
from dnnc.cost.target import Target
from dnnc.ir.graph import Graph, Node
from dnnc.ir.types import TensorType
from dnnc.ops.common import quant_of


def element(value: TensorType) -> str:
    """How one element is stored: "s4" (packed), "s8" or "s16"."""
    if value.packed:
        return "s4"
    return "s8" if quant_of(value).bits <= 8 else "s16"


@dataclass(frozen=True, eq=False)
class Context:
    """The graph, the target, the kernels to choose from, and what is not left to their order."""

    graph: Graph
    target: Target
    table: tuple[Kernel, ...]
    selection: Selection = IN_ORDER

    def elements(self, node: Node) -> tuple[str, ...]:
        """Of every input and of the output."""
        return (*(element(t) for t in self.graph.input_types(node)), element(node.type))

    def instance(self, layer: Layer) -> Instance:
        """The kernel for a call; raises Refusal where no family of the target has one."""
        if "s4" in layer.elements:
            return banded(layer, self.instance(band(layer)))
        kernel = choose(layer, self.target.kernels, self.table, self.selection)
        if kernel is None:
            width = f" with {layer.bits}-bit weights" if layer.bits else ""
            raise Refusal(f"no kernel for {layer.op} of {', '.join(layer.elements)}{width} on {self.target.name}")
        return Instance(kernel, layer.elements, layer.bits)
