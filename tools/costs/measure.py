"""Instructions and modelled cycles of single layers on an emulated core: many layers side by side in one program."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from design import Set
from elftools.elf.elffile import ELFFile

from dnnc.artefact import INTEGER_GRAPH, Artefact
from dnnc.backends.c import emit, lower
from dnnc.backends.c.banded import rows_are_words, takes_packed
from dnnc.backends.c.foresee import program_calls
from dnnc.cost.kernels.call import KernelCall
from dnnc.cost.target import Target
from dnnc.foresight import layout
from dnnc.ir.graph import Graph
from dnnc.ir.serial import dump_graph
from dnnc.passes.pack import pack_activations
from dnnc.run import make_runner, toolchain
from dnnc.run.bare_metal import c_files
from dnnc.run.layers import OUTSIDE
from dnnc.verify import random_codes


@dataclass(frozen=True)
class Layer:
    """A layer, what it calls, and what it took."""

    node: str
    calls: tuple[KernelCall, ...]
    instructions: int
    cycles: int


@dataclass(frozen=True)
class Program:
    """A set that was run. outside: instructions and cycles of no layer. code_bytes: by C file; other_bytes: of code in
    none of the kernels' files."""

    name: str
    layers: tuple[Layer, ...]
    outside: tuple[int, int]
    compiler: str
    cycle_model: str
    code_bytes: Mapping[str, int]
    other_bytes: int


def measure(made: Set, target: Target, compiler: str, known: Mapping[str, int]) -> Program:
    """Every layer of a set that calls a kernel; and the program as a whole. known: code bytes of files that need not be
    compiled for that again. Raises ToolchainError."""
    graph = _graph(made, target)
    program = lower(graph, target, made.selection)
    files = emit(graph, program, layout(graph, program), target)
    artefact = Artefact.create(graph.name, target.name, {**files, INTEGER_GRAPH: dump_graph(graph)}, {})
    execution = make_runner(artefact, on="emulator", compiler=compiler, target=target).run(random_codes(graph, 1, 0))
    profile, flash = execution.profile, execution.flash
    assert profile is not None and flash is not None and execution.compiler is not None
    costs, calls = profile.layers, program_calls(graph, program)
    code = _code_bytes(c_files(files), graph.name, target, compiler, known)
    layers = (Layer(n, c, costs[n].instructions, costs[n].cycles or 0) for n, c in calls.items() if c)
    outside = costs[OUTSIDE]
    return Program(
        made.name, tuple(layers), (outside.instructions, outside.cycles or 0), execution.compiler,
        profile.model or "none", code, flash.code - sum(code.values()),
    )  # fmt: skip


def _graph(made: Set, target: Target) -> Graph:
    graph = made.graph(target.requantise == "shift")
    if made.name != "packed":
        return graph
    return pack_activations(graph, takes_packed, rows_are_words, lambda g: sum(t.nbytes for t in g.types.values()))


def _code_bytes(
    files: Mapping[str, bytes], name: str, target: Target, compiler: str, known: Mapping[str, int]
) -> dict[str, int]:
    """Of each kernel's C file, by itself."""
    found = toolchain.find_compiler(target, compiler)
    stems = sorted(PurePosixPath(f).stem for f in files if f.endswith(".c") and not f.startswith(name))
    kernels = [f"{stem}.c" for stem in stems if stem not in known]
    with toolchain.temporary_folder() as work:
        folder = Path(work)
        toolchain.write_files(folder, files)
        objects = toolchain.compile_objects(found, folder, kernels, ())
        sizes = {PurePosixPath(made).stem: _text_bytes((folder / made).read_bytes()) for made in objects}
    return {stem: sizes[stem] if stem in sizes else known[stem] for stem in stems}


def _text_bytes(data: bytes) -> int:
    """Code and its constants."""
    sections = ELFFile(io.BytesIO(data)).iter_sections()
    names = (".text", ".rodata")
    return sum(s["sh_size"] for s in sections if s["sh_flags"] & 2 and s.name.startswith(names))
