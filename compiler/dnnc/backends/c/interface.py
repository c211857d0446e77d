"""How the program's inputs and outputs appear in C: members of two structs, and macros."""

from __future__ import annotations

from dataclasses import dataclass

from dnnc.backends.c.identifiers import Names, comment, identifier
from dnnc.ir.graph import Graph
from dnnc.ir.types import TensorType
from dnnc.ops.common import quant_of
from dnnc.passes.lifetime import aligned


@dataclass(frozen=True)
class Tensor:
    """One graph input or output. member: its name in the struct; macro: what its macros begin with."""

    what: str
    comment: str
    member: str
    macro: str
    type: TensorType

    @property
    def shape(self) -> str:
        return "x".join(map(str, self.type.shape)) or "1"

    @property
    def count(self) -> int:
        return self.type.size

    @property
    def bits(self) -> int:
        return quant_of(self.type).bits

    @property
    def c_type(self) -> str:
        return "int8_t" if self.bits <= 8 else "int16_t"

    @property
    def padded(self) -> int:
        """Elements of the member: its bytes are a multiple of four."""
        return aligned(self.type.nbytes) // (1 if self.bits <= 8 else 2)

    @property
    def scale(self) -> str:
        """The shortest decimal that reads back as the same double."""
        return repr(float(quant_of(self.type).scale))

    @property
    def zero_point(self) -> int:
        return quant_of(self.type).zero_point

    @property
    def lo(self) -> int:
        return quant_of(self.type).lo

    @property
    def hi(self) -> int:
        return quant_of(self.type).hi

    @property
    def steps_lo(self) -> int:
        return self.lo - self.zero_point

    @property
    def steps_hi(self) -> int:
        return self.hi - self.zero_point


def interface(graph: Graph, name: str) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Inputs and outputs; no two share a name, not even an input with an output."""
    names = Names("arena")
    found: list[tuple[Tensor, ...]] = []
    inputs = [("input", source.model_name, source.name, source.type) for source in graph.inputs]
    outputs = [("output", o.model_name, o.model_name, graph.types[o.value]) for o in graph.outputs]
    for side in (inputs, outputs):
        tensors = []
        for what, shown, called, value in side:
            member = names.take(identifier(called))
            tensors.append(Tensor(what, comment(shown), member, f"{name}_{member}".upper(), value))
        found.append(tuple(tensors))
    return found[0], found[1]
