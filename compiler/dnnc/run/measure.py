"""What a network costs in flash and RAM, from its objects alone: nothing is executed."""

from __future__ import annotations

import io
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from dnnc.artefact import Artefact
from dnnc.cost.target import Target
from dnnc.errors import ToolchainError
from dnnc.run import toolchain
from dnnc.run.bare_metal import build_image, c_files
from dnnc.run.base import Flash, Ram

_WEIGHTS = ".rodata.dnnc_weights"
_TABLES = ".rodata.dnnc_tables"
_ARENA = ".bss.dnnc_arena"
_ALLOCATED, _WRITABLE = 2, 1


def measure_flash(artefact: Artefact, target: Target, compiler: str = "auto") -> tuple[Flash, Ram]:
    """The network's share of the linked program, self-test left out; the stack counts as 0, for nothing has run.

    A target without a link script (the host) is measured by its objects: unused functions count, helper routines do
    not. Raises ToolchainError, also where this computer's objects are not ELF.
    """
    found = toolchain.find_compiler(target, compiler)
    files = c_files(artefact.files)
    if target.emulation.link_script is not None:
        image = build_image(files, [artefact.name], target, found)
        return image.flash(), image.ram(0)
    with toolchain.temporary_folder() as work:
        folder = Path(work)
        toolchain.write_files(folder, files)
        sources = sorted(n for n in files if n.endswith(".c") and n != f"{artefact.name}_selftest.c")
        objects = toolchain.compile_objects(found, folder, sources, ())
        sizes = [_object_sizes((folder / name).read_bytes()) for name in objects]
    flash, ram = zip(*sizes, strict=True)
    return (
        Flash(sum(f.weights for f in flash), sum(f.tables for f in flash), sum(f.code for f in flash)),
        Ram(sum(r.arena for r in ram), sum(r.static for r in ram), 0),
    )


def _object_sizes(data: bytes) -> tuple[Flash, Ram]:
    try:
        sections = list(ELFFile(io.BytesIO(data)).iter_sections())
    except ELFError as error:
        raise ToolchainError("the objects of this computer's compiler are not ELF, so flash is not measured") from error
    weights = tables = code = arena = static = 0
    for section in sections:
        size, flags = section["sh_size"], section["sh_flags"]
        if not flags & _ALLOCATED or section.name.startswith(".note"):
            continue
        if section.name.startswith(_WEIGHTS):
            weights += size
        elif section.name.startswith(_TABLES):
            tables += size
        elif section.name.startswith(_ARENA):
            arena += size
        elif flags & _WRITABLE:
            static += size
        else:
            code += size
    return Flash(weights, tables, code), Ram(arena, static, 0)
