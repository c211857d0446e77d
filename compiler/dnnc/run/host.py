"""The artefact's C, compiled for this computer and run as a program of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dnnc import resources
from dnnc.artefact import Artefact
from dnnc.cost.loader import load_target
from dnnc.errors import OptionError, VerificationError
from dnnc.run import blocks, driver, toolchain
from dnnc.run.bare_metal import c_files
from dnnc.run.base import Array, Execution

_SAID_LINES = 12


@dataclass(frozen=True)
class HostRunner:
    """sanitize: with AddressSanitizer and UndefinedBehaviorSanitizer, any report of which is an error."""

    artefact: Artefact
    compiler: toolchain.Compiler
    sanitize: bool = False
    _programs: dict[bool, bytes] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.sanitize and self.compiler.kind == "zig":
            raise OptionError("zig brings no AddressSanitizer: the sanitizers need a host compiler called 'cc'")

    def run(self, inputs: Mapping[str, Array], trace: bool = False) -> Execution:
        graph = self.artefact.integer_graph
        codes = blocks.pack_inputs(graph, inputs)
        with toolchain.temporary_folder() as work:
            folder = Path(work)
            program = folder / "program.exe"
            program.write_bytes(self._program(trace))
            program.chmod(0o700)
            driver.write_input(folder, codes)
            _execute(program, folder)
            driven = driver.read_results(folder, graph, len(codes), trace)
        return Execution(driven.outputs, compiler=self.compiler.version, layers=driven.layers)

    def _program(self, trace: bool) -> bytes:
        if trace not in self._programs:
            self._programs[trace] = self._build(trace)
        return self._programs[trace]

    def _build(self, trace: bool) -> bytes:
        common = resources.targets() / "common"
        harness = {
            "harness_driver.c": (common / "driver.c").read_bytes(),
            "harness_board.h": (common / "harness_board.h").read_bytes(),
            "harness_host.c": (load_target("host").folder / "host.c").read_bytes(),
            "harness_model.h": driver.model_header(self.artefact.name),
        }
        files = c_files(self.artefact.files)
        with toolchain.temporary_folder() as work:
            folder = Path(work)
            toolchain.write_files(folder, {**files, **harness})
            sources = sorted(n for n in (*files, *harness) if n.endswith(".c"))
            flags = ["-DDRIVER_COPIES", *(["-DDNNC_TRACE"] if trace else [])]
            flags += toolchain.SANITIZE if self.sanitize else ()
            objects = toolchain.compile_objects(self.compiler, folder, sources, flags)
            command = (*self.compiler.command, *(toolchain.SANITIZE if self.sanitize else ()), *objects)
            toolchain.run_tool((*command, "-o", "program.exe"), folder)
            return (folder / "program.exe").read_bytes()


def _execute(program: Path, folder: Path) -> None:
    done = subprocess.run([str(program)], cwd=folder, capture_output=True, check=False)
    if done.returncode != 0 or done.stderr:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        telling = next((i for i, line in enumerate(said) if "ERROR" in line or "runtime error" in line), 0)
        shown = "".join(f"\n  {line}" for line in said[telling : telling + _SAID_LINES])
        raise VerificationError(f"the program on this computer failed with code {done.returncode}{shown}")
