"""The artefact cross-compiled and run on a board that QEMU emulates, start-up code and all."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dnnc.artefact import Artefact
from dnnc.cost.target import Target
from dnnc.errors import OptionError, ToolchainError, VerificationError
from dnnc.run import blocks, driver, toolchain
from dnnc.run.bare_metal import Harness, build_image, c_files
from dnnc.run.base import Array, Execution, memory_notes
from dnnc.run.image import Image
from dnnc.run.native import shared_library

QEMU = "qemu-system-arm"
#: Each of the boards that the targets name has this much memory for code, and as much for data.
BOARD_MEMORY_BYTES = 0x400000
# with -icount shift=0 an instruction takes a nanosecond
_INSTRUCTIONS_PER_SECOND = 1_000_000_000
_TIMEOUT_SECONDS = 1800
_EXIT_CODES = {
    2: "the model's run function reported an error",
    3: "a file could not be read or written",
    4: "it faulted",
}


@dataclass(frozen=True)
class QemuRunner:
    """Runs on qemu-system-arm. Instructions are counted by a plug-in; where QEMU has none, by its instruction clock,
    to within one tick of the board's timer (40 or 50 instructions)."""

    artefact: Artefact
    target: Target
    compiler: toolchain.Compiler
    plugin: bool = True
    _images: dict[bool, Image] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.target.emulation.qemu is None:
            raise OptionError(f"target '{self.target.name}' names no QEMU board; run it on emulator")
        if shutil.which(QEMU) is None:
            raise ToolchainError(
                f"'{QEMU}' is not installed: install the package qemu-system-arm (Debian, Ubuntu) or qemu (Homebrew), "
                "or run on emulator"
            )

    def run(self, inputs: Mapping[str, Array], trace: bool = False) -> Execution:
        graph = self.artefact.integer_graph
        codes = blocks.pack_inputs(graph, inputs)
        with toolchain.temporary_folder() as work:
            folder = Path(work)
            driver.write_input(folder, codes)
            counted = self._execute(self._image(False), folder)
            driven = driver.read_results(folder, graph, len(codes), trace=False)
        layers = self._trace(inputs) if trace else {}
        if counted is None and driven.ticks is not None:
            counted = driven.ticks * (_INSTRUCTIONS_PER_SECOND // self.target.emulation.qemu_systick_hz)
        flash, ram = self._image(False).flash(), self._image(False).ram(driven.stack_bytes or 0)
        return Execution(
            outputs=driven.outputs,
            instructions_per_inference=counted,
            flash=flash,
            ram=ram,
            compiler=self.compiler.version,
            layers=layers,
            notes=memory_notes(flash, ram, self.target.flash_bytes, self.target.ram_bytes),
        )

    def _trace(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        graph = self.artefact.integer_graph
        codes = blocks.pack_inputs(graph, inputs)
        with toolchain.temporary_folder() as work:
            folder = Path(work)
            driver.write_input(folder, codes)
            self._execute(self._image(True), folder)
            return driver.read_results(folder, graph, len(codes), trace=True).layers

    def _image(self, trace: bool) -> Image:
        if trace not in self._images:
            header = (("harness_model.h", driver.model_header(self.artefact.name)),)
            harness = Harness(("driver.c",), header, BOARD_MEMORY_BYTES, ("-DBOARD_HAS_OWN_CALL",))
            self._images[trace] = build_image(
                c_files(self.artefact.files),
                [self.artefact.name],
                self.target,
                self.compiler,
                trace=trace,
                harness=harness,
            )
        return self._images[trace]

    def _execute(self, image: Image, folder: Path) -> int | None:
        """Runs the program in the folder; the instructions of the first inference, where the plug-in counted them."""
        (folder / "program.elf").write_bytes(image.elf)
        out = folder / "count.txt"
        if self.plugin and plugin_works(self.target.emulation.qemu or ""):
            start = image.symbols[f"{self.artefact.name}_run"].address
            end = image.symbols["board_returned"].address
            counter = ["-plugin", f"{shared_library('count_plugin.c')},from=0x{start:x},to=0x{end:x},out={out}"]
        else:
            counter = ["-icount", "shift=0"]
        done = _qemu(self.target.emulation.qemu or "", [*counter, "-kernel", "program.elf"], folder)
        if done.returncode != 0:
            why = _EXIT_CODES.get(
                done.returncode, done.stderr.decode(errors="replace").strip() or "for no stated reason"
            )
            raise VerificationError(f"the program on QEMU ended with code {done.returncode}: {why}")
        text = out.read_text() if out.is_file() else ""
        return int(text) if text else None


def plugin_works(machine: str) -> bool:
    """Whether this QEMU was built with plug-ins of the version that we speak."""
    version = re.search(r"version (\d+)", toolchain.run_tool([QEMU, "--version"], Path.cwd()))
    if version is None or int(version[1]) < 6:
        return False
    with toolchain.temporary_folder() as work:
        options = ["-plugin", f"{shared_library('count_plugin.c')},out=probe.txt", "-S", "-monitor", "stdio"]
        try:
            done = _qemu(machine, options, Path(work), b"quit\n")
        except VerificationError:
            return False
        return done.returncode == 0


def _qemu(machine: str, options: Sequence[str], folder: Path, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    monitor = () if "-monitor" in options else ("-monitor", "none")
    command = (QEMU, "-machine", machine, "-display", "none", "-serial", "none", *monitor)
    command += ("-semihosting-config", "enable=on,target=native", *options)
    try:
        return subprocess.run(
            command, cwd=folder, input=text, capture_output=True, check=False, timeout=_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise VerificationError(f"the program on QEMU did not end within {_TIMEOUT_SECONDS} s") from error
