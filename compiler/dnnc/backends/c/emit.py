"""A planned program to C files. Python decides names and numbers here, the templates lay them out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import jinja2
import numpy as np

from dnnc import __version__, resources
from dnnc.artefact import Vectors
from dnnc.backends.c.identifiers import Names, comment, identifier
from dnnc.backends.c.interface import Tensor, interface
from dnnc.backends.c.program import Array, Operand, Program, Step
from dnnc.backends.c.table import Instance
from dnnc.backends.c.text import array_lines, struct_lines
from dnnc.cost.target import Target
from dnnc.ir.graph import Graph
from dnnc.ir.types import Shape
from dnnc.passes.plan import Plan, struct_offsets

_API = ("run", "input", "output", "selftest", "input_t", "output_t", "arena", "layers", "weights")


def emit(
    graph: Graph, program: Program, plan: Plan, target: Target, vectors: Vectors | None = None
) -> dict[str, bytes]:
    """The files of the artefact's c/ folder, by path ("c/..."). The model's C name is `identifier(graph.name)`.

    vectors: what NAME_selftest() runs; None leaves the self-test out. The same arguments give the same bytes.
    """
    writer = _Writer(graph, program, plan, target)
    name = writer.name
    files = {f"{name}.h": writer.header(), f"{name}.c": writer.model(), f"{name}_layers.h": writer.layers()}
    files[f"{name}_weights.c"] = writer.weights()
    if vectors is not None:
        files[f"{name}_selftest.c"] = writer.selftest(vectors)
    files |= kernel_files(program, target)
    return {f"c/{path}": text.encode("ascii") for path, text in sorted(files.items())}


def kernel_files(program: Program, target: Target) -> dict[str, str]:
    """The kernels that the program calls: one C file each, and the headers and sources that they share."""
    folder = resources.kernels()
    common = (folder / "generic" / "dnnc_kernels.h").read_text()
    if target.requantise == "shift":
        common = f"#ifndef DNNC_NO_LONG_MULTIPLY\n#define DNNC_NO_LONG_MULTIPLY\n#endif\n{common}"
    files = {"dnnc_kernels.h": common}
    for instance in program.kernels:
        files[f"{instance.name}.c"] = _instantiate(instance)
        for shared in (*instance.kernel.headers, *instance.kernel.support):
            path = folder / shared
            files[path.name] = path.read_text()
    return files


def _instantiate(instance: Instance) -> str:
    path = resources.kernels() / instance.kernel.source
    source = path.read_text()
    if instance.values:
        source = _environment().get_template(path.name).render(dict(instance.values))
    defines = "".join(f"#define {macro} {value}\n" for macro, value in instance.defines)
    return defines + "\n" + source


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    """Keeps compiled templates: compiling one takes longer than all else here."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(resources.kernels() / "templates"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )


def _shape(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "1"


@dataclass(frozen=True)
class _Data:
    """An array as the templates want it."""

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
class _Stored:
    """Test vectors of one input or output, [N, count]."""

    name: str
    c_type: str
    count: int
    values: Any

    @property
    def rows(self) -> list[list[str]]:
        return [array_lines(sample, self.c_type) for sample in self.values]


@dataclass(frozen=True)
class _Struct:
    name: str
    type: str
    lines: list[str]


@dataclass(frozen=True)
class _Lines:
    comment: str
    lines: list[str]


@dataclass(frozen=True, eq=False)
class _Writer:
    graph: Graph
    program: Program
    plan: Plan
    target: Target

    @cached_property
    def name(self) -> str:
        return identifier(self.graph.name)

    @cached_property
    def tensors(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return interface(self.graph, self.name)

    @cached_property
    def _named(self) -> tuple[dict[Array, str], tuple[_Data, ...], dict[int, str], tuple[_Struct, ...]]:
        """Names of all arrays (equal ones share one), the distinct arrays, names of all calls' structs, the structs."""
        names = Names(*(f"{self.name}_{word}" for word in _API))
        arrays: dict[Array, str] = {}
        distinct: dict[tuple[str, str, bytes], _Data] = {}
        calls: dict[int, str] = {}
        structs: list[_Struct] = []
        for step in self.program.steps:
            own = f"{self.name}_{identifier(step.node)}"
            for array in step.arrays:
                key = (array.c_type, array.section, np.asarray(array.values, array.c_type.removesuffix("_t")).tobytes())
                if key not in distinct:
                    attribute = "DNNC_WEIGHTS" if array.section == "weights" else "DNNC_TABLES"
                    note = comment(f"{step.node}: {array.role.replace('_', ' ')}")
                    called = names.take(f"{own}_{array.role}")
                    distinct[key] = _Data(called, array.c_type, array.values.size, attribute, note, array.values)
                arrays[array] = distinct[key].name
            for call in step.calls:
                calls[id(call)] = names.take(own)
                lines = struct_lines(call.fields, arrays)
                structs.append(_Struct(calls[id(call)], call.kernel.kernel.struct, lines))
        return arrays, tuple(distinct.values()), calls, tuple(structs)

    def _render(self, template: str, **values: Any) -> str:
        inputs, outputs = self.tensors
        return _environment().get_template(template).render(
            name=self.name, upper=self.name.upper(), version=__version__, target=self.target.name,
            inputs=inputs, outputs=outputs, **values,
        )  # fmt: skip

    @cached_property
    def title(self) -> str:
        _, data, _, _ = self._named
        weights = sum(4 * d.count for d in data if d.attribute == "DNNC_WEIGHTS")
        return f"{len(self.graph.nodes)} layers, {self.graph.macs} multiply-accumulates, {weights} bytes of weights"

    def header(self) -> str:
        inputs, outputs = self.tensors
        return self._render(
            "model.h.j2", title=self.title, arena_bytes=max(self.plan.arena_bytes, 4), tensors=inputs + outputs
        )

    def layers(self) -> str:
        _, arrays, _, structs = self._named
        prototypes = [instance.prototype for instance in self.program.kernels]
        return self._render("layers.h.j2", prototypes=prototypes, arrays=arrays, structs=structs)

    def weights(self) -> str:
        _, arrays, _, structs = self._named
        return self._render("weights.c.j2", arrays=arrays, structs=structs)

    def model(self) -> str:
        _, input_bytes = struct_offsets([source.type.nbytes for source in self.graph.inputs])
        copies = []
        for copy in self.plan.output_copies:
            count = self.graph.types[copy.value].nbytes
            copies.append(f"copy(SCRATCH({copy.offset}), {self._place(Operand(copy.value))}, {count});")
        return self._render(
            "model.c.j2", title=self.title, input_offset=self.plan.input_offset, output_offset=self.plan.output_offset,
            input_bytes=input_bytes, copies=copies,
            steps=[self._step(index, step) for index, step in enumerate(self.program.steps)],
        )  # fmt: skip

    def _step(self, index: int, step: Step) -> _Lines:
        node = self.graph.by_name[step.node]
        widths = sorted({int(b) for b in node.params["weight_bits"]}) if "weight_bits" in node.params else []
        weights = f", weights of {', '.join(map(str, widths))} bits" if widths else ""
        arguments = ", ".join(node.inputs)
        text = f"{index} {node.name} = {node.op.kind}({arguments}): {_shape(node.type.shape)}{weights}"
        _, _, calls, _ = self._named
        scratch = self.plan.scratch_offsets.get(step.node)
        lines = []
        for call in step.calls:
            operands = [self._place(operand) for operand in call.operands]
            last = "NULL" if scratch is None else f"SCRATCH({scratch})"
            lines.append(f"{call.kernel.name}(&{calls[id(call)]}, {', '.join((*operands, last))});")
        lines.append(f"TRACE({index}, {self._place(Operand(node.name))}, {node.type.nbytes});")
        return _Lines(comment(text), lines)

    def _place(self, operand: Operand) -> str:
        """Where an operand's elements lie: in the arena, or, for a constant, in flash."""
        value = self.graph.types[operand.value]
        assert value.quant is not None
        assert not (value.packed and operand.offset)
        kind, width = ("S4", 0) if value.packed else ("S8", 1) if value.quant.bits <= 8 else ("S16", 2)
        if operand.value in self.plan.offsets:
            return f"{kind}({self.plan.offsets[operand.value] + operand.offset * width})"
        arrays, _, _, _ = self._named
        node = self.graph.by_name[operand.value]
        while node.inputs:
            node = self.graph.by_name[node.inputs[0]]
        step = next(step for step in self.program.steps if step.node == node.name)
        assert step.constant is not None
        return arrays[step.constant] + (f" + {operand.offset}" if operand.offset else "")

    def selftest(self, vectors: Vectors) -> str:
        inputs, outputs = self.tensors
        arrays = [
            _Stored(f"{tensor.what}_{tensor.member}", tensor.c_type, tensor.count, values)
            for tensors, codes in ((inputs, vectors.inputs), (outputs, vectors.outputs))
            for tensor, values in zip(tensors, codes.values(), strict=True)
        ]
        return self._render("selftest.c.j2", count=vectors.count, arrays=arrays)
