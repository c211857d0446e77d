"""A planned program to C files. Python decides names and numbers here, the templates lay them out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dnnc import resources
from dnnc.artefact import Vectors
from dnnc.backends.c.frame import API, Data, Frame, Lines, environment
from dnnc.backends.c.identifiers import Names, comment, identifier
from dnnc.backends.c.program import Array, Operand, Program, Step
from dnnc.backends.c.table import Instance
from dnnc.backends.c.text import struct_lines
from dnnc.cost.target import Target
from dnnc.ir.graph import Graph
from dnnc.passes.plan import Plan

#: How weights.c describes the words that it holds.
PACKED = """
 *
 * Packed weights: tiles of four output channels; in a tile, for each pair of k and each channel, the pair's two weights
 * lie at the same bit of the two halves of a word."""


def emit(
    graph: Graph, program: Program, plan: Plan, target: Target, vectors: Vectors | None = None
) -> dict[str, bytes]:
    """The files of the artefact's c/ folder, by path ("c/..."). The model's C name is `identifier(graph.name)`.

    vectors: what NAME_selftest() runs; None leaves the self-test out. The same arguments give the same bytes.
    """
    frame = Frame(graph, plan, target)
    writer = _Writer(frame, program)
    name = frame.name
    files = {f"{name}.h": frame.header(writer.title), f"{name}.c": writer.model(), f"{name}_layers.h": writer.layers()}
    files[f"{name}_weights.c"] = writer.weights()
    if vectors is not None:
        files[f"{name}_selftest.c"] = frame.selftest(vectors)
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
        source = environment().get_template(path.name).render(dict(instance.values))
    defines = "".join(f"#define {macro} {value}\n" for macro, value in instance.defines)
    return defines + "\n" + source


@dataclass(frozen=True)
class _Struct:
    name: str
    type: str
    lines: list[str]


@dataclass(frozen=True, eq=False)
class _Writer:
    frame: Frame
    program: Program

    @cached_property
    def _named(self) -> tuple[dict[Array, str], tuple[Data, ...], dict[int, str], tuple[_Struct, ...]]:
        """Names of all arrays (equal ones share one), the distinct arrays, names of all calls' structs, the structs."""
        model = self.frame.name
        names = Names(*(f"{model}_{word}" for word in API))
        arrays: dict[Array, str] = {}
        distinct: dict[tuple[str, str, bytes], Data] = {}
        calls: dict[int, str] = {}
        structs: list[_Struct] = []
        for step in self.program.steps:
            own = f"{model}_{identifier(step.node)}"
            for array in step.arrays:
                key = (array.c_type, array.section, np.asarray(array.values, array.c_type.removesuffix("_t")).tobytes())
                if key not in distinct:
                    attribute = "DNNC_WEIGHTS" if array.section == "weights" else "DNNC_TABLES"
                    note = comment(f"{step.node}: {array.role.replace('_', ' ')}")
                    called = names.take(f"{own}_{array.role}")
                    distinct[key] = Data(called, array.c_type, array.values.size, attribute, note, array.values)
                arrays[array] = distinct[key].name
            for call in step.calls:
                calls[id(call)] = names.take(own)
                lines = struct_lines(call.fields, arrays)
                structs.append(_Struct(calls[id(call)], call.kernel.kernel.struct, lines))
        return arrays, tuple(distinct.values()), calls, tuple(structs)

    @cached_property
    def title(self) -> str:
        _, data, _, _ = self._named
        return self.frame.title(sum(4 * d.count for d in data if d.attribute == "DNNC_WEIGHTS"))

    def layers(self) -> str:
        _, arrays, _, structs = self._named
        prototypes = [instance.prototype for instance in self.program.kernels]
        return self.frame.render("layers.h.j2", prototypes=prototypes, arrays=arrays, structs=structs)

    def weights(self) -> str:
        _, arrays, _, structs = self._named
        return self.frame.render("weights.c.j2", note=PACKED, arrays=arrays, structs=structs)

    def model(self) -> str:
        steps = [self._step(index, step) for index, step in enumerate(self.program.steps)]
        return self.frame.model(self.title, steps, lambda value: self._place(Operand(value)))

    def _step(self, index: int, step: Step) -> Lines:
        frame = self.frame
        _, _, calls, _ = self._named
        scratch = frame.plan.scratch_offsets.get(step.node)
        lines = []
        for call in step.calls:
            operands = [self._place(operand) for operand in call.operands]
            last = "NULL" if scratch is None else f"SCRATCH({scratch})"
            lines.append(f"{call.kernel.name}(&{calls[id(call)]}, {', '.join((*operands, last))});")
        return frame.step(index, frame.graph.by_name[step.node], lines, lambda value: self._place(Operand(value)))

    def _place(self, operand: Operand) -> str:
        """Where an operand's elements lie: in the arena, or, for a constant, in flash."""
        if operand.value in self.frame.plan.offsets:
            return self.frame.in_arena(operand.value, operand.offset)
        arrays, _, _, _ = self._named
        node = self.frame.graph.by_name[operand.value]
        while node.inputs:
            node = self.frame.graph.by_name[node.inputs[0]]
        step = next(step for step in self.program.steps if step.node == node.name)
        assert step.constant is not None
        return arrays[step.constant] + (f" + {operand.offset}" if operand.offset else "")
