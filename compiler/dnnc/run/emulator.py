"""The artefact cross-compiled and run on an emulated core, its instructions counted."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dnnc.artefact import Artefact
from dnnc.cost.instructions import Kind
from dnnc.cost.target import Target
from dnnc.errors import VerificationError
from dnnc.run import blocks, toolchain
from dnnc.run.bare_metal import build_image, c_files
from dnnc.run.base import Array, Execution, memory_notes
from dnnc.run.cycles import find_model
from dnnc.run.image import Image
from dnnc.run.layers import Layers
from dnnc.run.machine import Count, Counts, EmulationFault, Machine
from dnnc.run.profile import Profile, make_profile


@dataclass(frozen=True)
class Traced:
    """One call of dnnc_trace: the step and the bytes of its value."""

    step: int
    data: bytes


@dataclass(frozen=True)
class Counted:
    """What a call of NAME_run cost; calls: (address, executions before it) of each call that it made, in turn."""

    count: Count
    calls: tuple[tuple[int, Counts], ...]


@dataclass(frozen=True)
class EmulatorRunner:
    """Runs on unicorn. The first sample is counted; the others run at full speed. level: of the C compiler."""

    artefact: Artefact
    target: Target
    compiler: toolchain.Compiler
    level: str = "-O2"
    _images: dict[bool, Image] = field(default_factory=dict, repr=False, compare=False)

    def run(self, inputs: Mapping[str, Array], trace: bool = False) -> Execution:
        graph = self.artefact.integer_graph
        codes = blocks.pack_inputs(graph, inputs)
        outputs, counted = self._run_plain(codes)
        layers = self._run_traced(codes) if trace else {}
        flash, ram = self.image.flash(), self.image.ram(counted.count.stack_bytes if counted else 0)
        profile = self._profile(counted) if counted else None
        notes = memory_notes(flash, ram, self.target.flash_bytes, self.target.ram_bytes)
        return Execution(
            outputs=blocks.unpack_outputs(graph, outputs),
            instructions_per_inference=counted.count.instructions if counted else None,
            flash=flash,
            ram=ram,
            compiler=self.compiler.version,
            layers=layers,
            profile=profile,
            notes=(*notes, *(profile.notes if profile else ())),
        )

    @property
    def image(self) -> Image:
        """The program as it is measured."""
        return self._image(trace=False)

    def _profile(self, counted: Counted) -> Profile:
        name = self.artefact.name
        nodes = [node.name for node in self.artefact.integer_graph.nodes]
        layers = Layers.read(self.image, name, self.artefact.files[f"c/{name}.c"].decode(), nodes)
        executions = layers.executions(counted.count, counted.calls)
        return make_profile(self.image, counted.count, executions, find_model(self.target))

    def _image(self, trace: bool) -> Image:
        if trace not in self._images:
            files = c_files(self.artefact.files)
            self._images[trace] = build_image(
                files, [self.artefact.name], self.target, self.compiler, trace=trace, optimise=self.level
            )
        return self._images[trace]

    @cached_property
    def _sizes(self) -> int:
        return blocks.output_bytes(self.artefact.integer_graph)

    def _run_plain(self, codes: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Counted | None]:
        made: list[bytes] = []
        counted: Counted | None = None
        try:
            for index, block in enumerate(codes):
                if index < 2:  # the counted core, then one without the hook for all others
                    model = Model(Machine(self.image, self.target), self.artefact.name)
                if index == 0:
                    data, counted = model.run_counted(block.tobytes(), self._sizes)
                else:
                    data = model.run(block.tobytes(), self._sizes)
                made.append(data)
        except EmulationFault as fault:
            raise EmulationFault(f"{fault}; sample {len(made)}, {self._faulting_step(codes[len(made)])}") from fault
        return np.frombuffer(b"".join(made), np.uint8).reshape(len(codes), self._sizes), counted

    def _run_traced(self, codes: NDArray[np.uint8]) -> dict[str, Array]:
        """Values of all samples by node name."""
        graph = self.artefact.integer_graph
        seen: list[list[Traced]] = []
        for block in codes:
            steps: list[Traced] = []
            model = Model(Machine(self._image(trace=True), self.target), self.artefact.name)
            model.run_traced(block.tobytes(), self._sizes, steps.append)
            if [t.step for t in steps] != list(range(-1, len(graph.nodes))):
                raise VerificationError(f"the program reports the steps {[t.step for t in steps]}, not one per node")
            seen.append(steps)
        layers: dict[str, Array] = {}
        for index, node in enumerate(graph.nodes):
            data = b"".join(steps[index + 1].data for steps in seen)
            layers[node.name] = blocks.unpack_value(
                node.type, np.frombuffer(data, np.uint8).reshape(len(seen), node.type.nbytes)
            )
        return layers

    def _faulting_step(self, block: NDArray[np.uint8]) -> str:
        """Which step a program that faults was in, from a traced run."""
        steps: list[Traced] = []
        model = Model(Machine(self._image(trace=True), self.target), self.artefact.name)
        try:
            model.run_traced(block.tobytes(), self._sizes, steps.append)
        except EmulationFault:
            nodes = self.artefact.integer_graph.nodes
            step = steps[-1].step + 1 if steps else -1
            name = f" ('{nodes[step].name}')" if 0 <= step < len(nodes) else ""
            return f"in step {step}{name}"
        return "not reproduced by the traced build"


@dataclass(frozen=True)
class Model:
    """A model inside an emulated program, by the name that its functions carry."""

    machine: Machine
    name: str

    def run(self, block: bytes, output_size: int) -> bytes:
        """The output block of an input block. Raises VerificationError where NAME_run reports an error."""
        source, sink = self._place(block)
        self._check(self.machine.call(f"{self.name}_run", source, sink))
        return self.machine.read(sink, output_size)

    def run_counted(self, block: bytes, output_size: int) -> tuple[bytes, Counted]:
        """`run`, and what it cost."""
        source, sink = self._place(block)
        calls: list[tuple[int, Counts]] = []

        def reached(address: int) -> None:
            if self.machine.image.decode(address).kind is Kind.CALL:
                calls.append((address, self.machine.executions_so_far()))

        with self.machine.watching(f"{self.name}_run", reached):
            code, count = self.machine.call_counted(f"{self.name}_run", source, sink)
        self._check(code)
        return self.machine.read(sink, output_size), Counted(count, tuple(calls))

    def run_traced(self, block: bytes, output_size: int, seen: Callable[[Traced], None]) -> bytes:
        """`run` of a program built with trace=True; `seen` is told every step."""

        def step(number: int, address: int, size: int) -> None:
            signed: int = struct.unpack("<i", struct.pack("<I", number))[0]
            seen(Traced(signed, self.machine.read(address, size)))

        self.machine.watch(self.machine.image.symbols["dnnc_trace"].address, step)
        return self.run(block, output_size)

    def _place(self, block: bytes) -> tuple[int, int]:
        source = self.machine.call(f"{self.name}_input") & 0xFFFFFFFF
        sink = self.machine.call(f"{self.name}_output") & 0xFFFFFFFF
        self.machine.write(source, block)
        return source, sink

    def _check(self, code: int) -> None:
        if code != 0:
            raise VerificationError(f"{self.name}_run returned {code} instead of 0")
