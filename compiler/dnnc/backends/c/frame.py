"""What is the same whichever kernels a program calls: its header, its run function, its arrays and its self-test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import jinja2

from dnnc import __version__, resources
from dnnc.artefact import Vectors
from dnnc.backends.c.identifiers import comment, identifier
from dnnc.backends.c.interface import Tensor, interface
from dnnc.backends.c.text import array_lines
from dnnc.cost.target import Target
from dnnc.ir.graph import Graph, Node
from dnnc.ir.types import Shape
from dnnc.passes.plan import Plan, struct_offsets

#: What follows the network's name in its C interface; nothing else may be called that.
API = ("run", "input", "output", "selftest", "input_t", "output_t", "arena", "layers", "weights")


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """Keeps compiled templates: compiling one takes longer than all else here."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(resources.kernels() / "templates"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )


@dataclass(frozen=True)
class Data:
    """An array as the templates want it. attribute: DNNC_WEIGHTS or DNNC_TABLES."""

    name: str
    c_type: str
    count: int
    attribute: str
    note: str
    values: Any

    @property
    def lines(self) -> list[str]:
        return array_lines(self.values, self.c_type)


@dataclass(frozen=True)
class Lines:
    """A layer in the run function."""

    comment: str
    lines: Sequence[str]


@dataclass(frozen=True)
class _Stored:
    """Test vectors of one input or output, [N, count]."""

    name: str
    c_type: str
    count: int
    values: Any

    @property
    def rows(self) -> list[list[str]]:
        return [array_lines(sample, self.c_type) for sample in self.values]


@dataclass(frozen=True, eq=False)
class Frame:
    graph: Graph
    plan: Plan
    target: Target

    @cached_property
    def name(self) -> str:
        return identifier(self.graph.name)

    @cached_property
    def tensors(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return interface(self.graph, self.name)

    def title(self, weight_bytes: int) -> str:
        layers, macs = len(self.graph.nodes), self.graph.macs
        return f"{layers} layers, {macs} multiply-accumulates, {weight_bytes} bytes of weights"

    def render(self, template: str, **values: Any) -> str:
        inputs, outputs = self.tensors
        return environment().get_template(template).render(
            name=self.name, upper=self.name.upper(), version=__version__, target=self.target.name,
            inputs=inputs, outputs=outputs, **values,
        )  # fmt: skip

    def header(self, title: str) -> str:
        inputs, outputs = self.tensors
        return self.render(
            "model.h.j2", title=title, arena_bytes=max(self.plan.arena_bytes, 4), tensors=inputs + outputs
        )

    def model(self, title: str, steps: Sequence[Lines], place: Callable[[str], str]) -> str:
        """steps: one a node. place: where a value lies, as an expression."""
        _, input_bytes = struct_offsets([source.type.nbytes for source in self.graph.inputs])
        copies = []
        for copy in self.plan.output_copies:
            count = self.graph.types[copy.value].nbytes
            copies.append(f"copy(SCRATCH({copy.offset}), {place(copy.value)}, {count});")
        return self.render(
            "model.c.j2", title=title, input_offset=self.plan.input_offset, output_offset=self.plan.output_offset,
            input_bytes=input_bytes, copies=copies, steps=steps,
        )  # fmt: skip

    def step(self, index: int, node: Node, calls: Sequence[str], place: Callable[[str], str]) -> Lines:
        """The lines of a layer; the last tells a debugger what it made."""
        widths = sorted({int(b) for b in node.params["weight_bits"]}) if "weight_bits" in node.params else []
        weights = f", weights of {', '.join(map(str, widths))} bits" if widths else ""
        arguments = ", ".join(node.inputs)
        text = f"{index} {node.name} = {node.op.kind}({arguments}): {_shape(node.type.shape)}{weights}"
        return Lines(comment(text), [*calls, f"TRACE({index}, {place(node.name)}, {node.type.nbytes});"])

    def in_arena(self, value: str, element: int = 0) -> str:
        """A pointer to an element of a value that lies in the arena."""
        kind = self.graph.types[value]
        assert kind.quant is not None
        assert not (kind.packed and element)
        macro, width = ("S4", 0) if kind.packed else ("S8", 1) if kind.quant.bits <= 8 else ("S16", 2)
        return f"{macro}({self.plan.offsets[value] + element * width})"

    def selftest(self, vectors: Vectors) -> str:
        inputs, outputs = self.tensors
        arrays = [
            _Stored(f"{tensor.what}_{tensor.member}", tensor.c_type, tensor.count, values)
            for tensors, codes in ((inputs, vectors.inputs), (outputs, vectors.outputs))
            for tensor, values in zip(tensors, codes.values(), strict=True)
        ]
        return self.render("selftest.c.j2", count=vectors.count, arrays=arrays)


def _shape(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "1"
