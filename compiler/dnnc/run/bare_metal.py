"""Models and the test harness, cross-compiled and linked into one program without an operating system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dnnc import resources
from dnnc.cost.target import Target
from dnnc.errors import ToolchainError
from dnnc.run import toolchain
from dnnc.run.image import Image, read_image

STACK_BYTES = 0x10000
# An emulator has all the memory that is asked for: whether a network fits its target is for the compiler to say.
UNLIMITED_BYTES = 0x08000000


@dataclass(frozen=True)
class Harness:
    """What is linked around the models. sources: files of targets/common; extra: further files, by name, with text."""

    sources: tuple[str, ...] = ("idle.c",)
    extra: tuple[tuple[str, bytes], ...] = ()
    memory_bytes: int = UNLIMITED_BYTES
    flags: tuple[str, ...] = ()


def c_files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of an artefact's c/ folder, by their names in it."""
    return {str(PurePosixPath(n).relative_to("c")): data for n, data in files.items() if n.startswith("c/")}


def build_image(
    files: Mapping[str, bytes],
    names: Sequence[str],
    target: Target,
    compiler: toolchain.Compiler,
    *,
    trace: bool = False,
    harness: Harness | None = None,
    optimise: str = "-O2",
) -> Image:
    """The program of one or more models (`names`) whose C files are `files` (see `c_files`).

    Raises ToolchainError with what the compiler said.
    """
    script, startup = target.emulation.link_script, target.emulation.startup
    if script is None or startup is None:
        raise ToolchainError(f"target '{target.name}' has no link script: it cannot be emulated")
    harness = harness or Harness()
    common = resources.targets() / "common"
    parts = {f"harness_{Path(startup).name}": toolchain.shared_file(target, startup).read_bytes()}
    for name in (*harness.sources, *(("trace.c",) if trace and "driver.c" not in harness.sources else ())):
        parts[f"harness_{name}"] = (common / name).read_bytes()
    support = {"harness_board.h": (common / "harness_board.h").read_bytes()}
    support["memory.ld"] = _memory(target, harness).encode()
    support[Path(script).name] = toolchain.shared_file(target, script).read_bytes()
    models = [name for name in sorted(files) if name.endswith(".c")]
    keep = ["board_call", *(f"{name}_{function}" for name in names for function in ("run", "input", "output"))]
    with toolchain.temporary_folder() as work:
        folder = Path(work)
        toolchain.write_files(folder, {**files, **support, **dict(harness.extra), **parts})
        # -g1: which line each instruction comes from; the code is the same
        flags = (*harness.flags, "-g1", *(("-DDNNC_TRACE",) if trace else ()))
        objects = toolchain.compile_objects(compiler, folder, [*sorted(parts), *models], flags, optimise)
        level = "-O2" if optimise in ("-Os", "-Oz") else optimise  # zig takes the symbols out of what it links at -Os
        elf = toolchain.link_bare_metal(compiler, folder, objects, Path(script).name, keep, level)
    return read_image(elf)


def _memory(target: Target, harness: Harness) -> str:
    emulation = target.emulation
    return f"""MEMORY
{{
  FLASH (rx) : ORIGIN = 0x{emulation.flash_origin:08x} , LENGTH = 0x{harness.memory_bytes:x}
  RAM (rwx) : ORIGIN = 0x{emulation.ram_origin:08x} , LENGTH = 0x{harness.memory_bytes:x}
}}
__stack_bytes = 0x{STACK_BYTES:x} ;
"""
