"""A network of TVM's kernels as C99 files with the interface that the C back end gives a network."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import tvm

from dnnc.artefact import Vectors
from dnnc.backends.c.frame import API, Data, Frame, Lines
from dnnc.backends.c.identifiers import Names, comment, identifier
from dnnc.backends.tvm.network import Program, lower
from dnnc.backends.tvm.plain import Kernel, kernel_of, overwrites
from dnnc.backends.tvm.plain_schedule import dot_of
from dnnc.cost.target import Target
from dnnc.ir.graph import Graph, Node
from dnnc.passes.plan import Plan, plan

_WIDTH = 118


@dataclass(frozen=True, eq=False)
class PlainNetwork:
    """A graph's kernels, one a step, and where everything lies. kernels: by node."""

    graph: Graph
    target: Target
    program: Program
    kernels: Mapping[str, Kernel]
    plan: Plan

    @property
    def text(self) -> bytes:
        """The IRModule of all kernels, as scheduled."""
        module = tvm.IRModule({kernel.name: kernel.arranged for kernel in self.kernels.values()})
        return str(module.script()).encode()


def build_plain(graph: Graph, target: Target) -> PlainNetwork:
    """Raises UnsupportedError where an op has no lowering, before anything is built."""
    program = lower(graph, dot_of)
    prefix = identifier(graph.name)
    kernels = tuple(kernel_of(step, prefix) for step in program.steps)
    scratch = {kernel.step.node.name: kernel.scratch_bytes for kernel in kernels if kernel.scratch_bytes}
    layout = plan(graph, scratch, overwrites(graph, kernels))
    return PlainNetwork(graph, target, program, {kernel.step.node.name: kernel for kernel in kernels}, layout)


def emit_plain(network: PlainNetwork, vectors: Vectors | None = None) -> dict[str, bytes]:
    """The files of the artefact's c/ folder, by path. vectors: what NAME_selftest() runs; None leaves it out."""
    writer = _Writer(network)
    name = writer.frame.name
    files = {
        f"{name}.h": writer.frame.header(writer.title),
        f"{name}.c": writer.model(),
        f"{name}_layers.h": writer.layers(),
        f"{name}_weights.c": writer.weights(),
        f"{name}_kernels.c": writer.kernels(),
    }
    if vectors is not None:
        files[f"{name}_selftest.c"] = writer.frame.selftest(vectors)
    return {f"c/{path}": text.encode("ascii") for path, text in sorted(files.items())}


@dataclass(frozen=True, eq=False)
class _Writer:
    network: PlainNetwork

    @cached_property
    def frame(self) -> Frame:
        return Frame(self.network.graph, self.network.plan, self.network.target)

    @cached_property
    def _arrays(self) -> tuple[Mapping[tuple[str, str], str], tuple[Data, ...]]:
        """The name of every constant, by (node, role), and the arrays: equal ones are one."""
        names = Names(*(f"{self.frame.name}_{word}" for word in (*API, "kernels")))
        named: dict[tuple[str, str], str] = {}
        distinct: dict[tuple[str, str, bytes], Data] = {}
        for node, role, value in self._constants():
            attribute = "DNNC_WEIGHTS" if "plane" in role else "DNNC_TABLES"
            key = (str(value.dtype), attribute, value.tobytes())
            if key not in distinct:
                note = comment(f"{node}: {role.replace('_', ' ')}")
                called = names.take(f"{self.frame.name}_{identifier(node)}_{identifier(role)}")
                distinct[key] = Data(called, f"{value.dtype}_t", value.size, attribute, note, value)
            named[node, role] = distinct[key].name
        return named, tuple(distinct.values())

    def _constants(self) -> Any:
        for node in self.network.graph.nodes:
            if node.name in self.network.program.constants:
                yield node.name, "value", self.network.program.constants[node.name]
            elif node.name in self.network.kernels:
                for role, value in self.network.kernels[node.name].step.constants:
                    yield node.name, role, value

    @cached_property
    def title(self) -> str:
        return self.frame.title(sum(kernel.step.weight_bytes for kernel in self.network.kernels.values()))

    def layers(self) -> str:
        _, arrays = self._arrays
        prototypes = [_wrapped(kernel.prototype) for kernel in self.network.kernels.values()]
        return self.frame.render("plain_layers.h.j2", prototypes=prototypes, arrays=arrays)

    def weights(self) -> str:
        _, arrays = self._arrays
        return self.frame.render("weights.c.j2", note="", arrays=arrays, structs=())

    def kernels(self) -> str:
        made = [f"{_wrapped(kernel.prototype)} {kernel.body}" for kernel in self.network.kernels.values()]
        return self.frame.render("plain_kernels.c.j2", tvm=tvm.__version__, kernels=made)

    def model(self) -> str:
        steps = [self._step(index, node) for index, node in enumerate(self.network.graph.nodes)]
        return self.frame.model(self.title, steps, self._place)

    def _step(self, index: int, node: Node) -> Lines:
        kernel = self.network.kernels.get(node.name)
        calls = []
        if kernel is not None:
            named, _ = self._arrays
            start = self.network.plan.scratch_offsets.get(node.name, 0)
            arguments = [self._place(value) for value in kernel.step.inputs]
            arguments += [named[node.name, role] for role, _ in kernel.step.constants]
            arguments += [self._place(node.name)]
            arguments += [f"SCRATCH({start + part.offset})" for part in kernel.scratch]
            calls = _wrapped(f"{kernel.name}({', '.join(arguments)});").splitlines()
        elif node.name in self.network.program.constants and node.name in self.network.plan.offsets:
            calls = [f"copy({self._place(node.name)}, {self._array(node.name)}, {node.type.nbytes});"]
        return self.frame.step(index, node, calls, self._place)

    def _place(self, value: str) -> str:
        return self.frame.in_arena(value) if value in self.network.plan.offsets else self._array(value)

    def _array(self, value: str) -> str:
        named, _ = self._arrays
        return named[value, "value"]


def _wrapped(text: str) -> str:
    """A declaration or a call in lines, broken between its arguments alone."""
    whole = text.replace(" ", "\0").replace(",\0", ", ")
    lines = textwrap.wrap(whole, _WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ")
