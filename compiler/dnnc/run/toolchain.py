"""Compilers: which one builds for a target, and how it is called. Everything is built in a folder that goes away."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from dnnc import resources
from dnnc.cost.target import Target
from dnnc.errors import OptionError, ToolchainError

CHOICES = ("auto", "zig", "gcc")
#: Generated code has no warning to hide.
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror")
SECTIONS = ("-ffunction-sections", "-fdata-sections", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables")
# zig adds undefined-behaviour traps, frame pointers and (for bare metal) -ffreestanding, which would turn every small
# memcpy into a call
_ZIG = ("-fno-sanitize=undefined", "-fomit-frame-pointer")
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")
_FIRST_LINES = 8


@dataclass(frozen=True)
class Compiler:
    """A C compiler for one target: `kind` is "zig" or "gcc", `command` the words before the arguments of a build.

    `version` is what a report says, such as "arm-none-eabi-gcc 12.2.1" or "zig 0.17.0".
    """

    kind: str
    command: tuple[str, ...]
    version: str


def find_compiler(target: Target, choice: str = "auto") -> Compiler:
    """The compiler for a target: its gcc when that is installed (or demanded), else zig, which pip installs.

    Raises OptionError for an unknown choice, ToolchainError where the demanded compiler is missing.
    """
    if choice not in CHOICES:
        raise OptionError(f"compiler must be one of {', '.join(CHOICES)}, but is '{choice}'")
    if choice != "zig":
        lacking = _gcc_lacks(target)
        gcc = target.toolchain.gcc
        if gcc is not None and lacking is None:
            return Compiler("gcc", (gcc, *target.toolchain.gcc_flags), f"{gcc} {_gcc_version(gcc)}")
        if choice == "gcc":
            raise ToolchainError(f"target '{target.name}' cannot be built with gcc: {lacking}")
    zig = (_zig(),)
    flags: tuple[str, ...] = ()
    if target.toolchain.zig_target != "native":
        flags = ("-target", target.toolchain.zig_target, f"-mcpu={target.toolchain.zig_cpu}")
    hosted = ("-fhosted",) if "freestanding" in target.toolchain.zig_target else ()
    return Compiler("zig", (*zig, "cc", *flags, *hosted, *_ZIG), f"zig {_output((*zig, 'version'))}")


def _zig() -> str:
    """The program inside the ziglang package; `python -m ziglang` would start an interpreter each time."""
    spec = importlib.util.find_spec("ziglang")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    program = folder / ("zig.exe" if sys.platform == "win32" else "zig")
    if not program.is_file():
        raise ToolchainError("the Python package 'ziglang', which holds a C compiler, is not installed")
    return str(program)


def _gcc_lacks(target: Target) -> str | None:
    """What is missing to build for a target with its gcc; None where nothing is."""
    gcc = target.toolchain.gcc
    if gcc is None:
        return "its target file names none"
    if shutil.which(gcc) is None:
        return f"'{gcc}' is not installed"
    bare_metal = target.emulation.link_script is not None
    # headers and memory functions; distributions pack them apart from the compiler. gcc echoes the bare name if absent
    if bare_metal and os.sep not in _output((gcc, *target.toolchain.gcc_flags, "-print-file-name=libc.a")):
        return f"'{gcc}' has no C library beside it (newlib)"
    return None


@lru_cache(maxsize=32)
def _output(command: tuple[str, ...]) -> str:
    return run_tool(command, Path.cwd()).strip()


def _gcc_version(command: str) -> str:
    """Its number; `cc` may be clang, which says so."""
    first = _output((command, "--version")).splitlines()[0]
    number = _output((command, "-dumpfullversion" if "clang" not in first.lower() else "-dumpversion"))
    return f"(clang) {number}" if "clang" in first.lower() else number


def run_tool(command: Sequence[str | Path], folder: Path) -> str:
    """The standard output of a command; ToolchainError with the first lines of what it said where it fails."""
    try:
        done = subprocess.run([str(c) for c in command], cwd=folder, capture_output=True, check=False)
    except OSError as error:
        raise ToolchainError(f"'{command[0]}' cannot be started: {error}") from error
    if done.returncode != 0:
        said = (done.stderr + done.stdout).decode(errors="replace").strip().splitlines()
        telling = [line for line in said if "error" in line.lower()] or said
        shown = "\n  ".join(line.replace(str(folder) + os.sep, "") for line in telling[:_FIRST_LINES])
        raise ToolchainError(f"{_tool_name(command)} failed with code {done.returncode}:\n  {shown}")
    return done.stdout.decode(errors="replace")


def _tool_name(command: Sequence[str | Path]) -> str:
    name = Path(command[0]).stem
    return "zig cc" if name == "zig" else name


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Every file under the folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that is removed on leaving the `with` block, also after Ctrl-C."""
    return tempfile.TemporaryDirectory(prefix="dnnc-", ignore_cleanup_errors=True)


def compile_objects(
    compiler: Compiler, folder: Path, sources: Sequence[str], flags: Sequence[str], optimise: str = "-O2"
) -> list[str]:
    """Each C file of the folder to an object beside it; the objects' names, in order."""

    def one(source: str) -> str:
        made = str(Path(source).with_suffix(".o"))
        run_tool((*compiler.command, *STRICT, optimise, *SECTIONS, *flags, "-c", source, "-o", made), folder)
        return made

    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(one, sources))


def link_bare_metal(
    compiler: Compiler, folder: Path, objects: Sequence[str], script: str, keep: Sequence[str], optimise: str = "-O2"
) -> bytes:
    """A bare-metal program (ELF) from objects, with the compiler's helper routines and without what nobody calls.

    keep: symbols that stay though nothing calls them.
    """
    roots = [f"-Wl,-u,{symbol}" for symbol in keep]
    if compiler.kind == "gcc":
        libraries = ["-nostdlib", "-lc", "-lgcc", "-Wl,--no-warn-rwx-segments"]
    else:
        libraries = ["-nostartfiles"]
    options = ("-L", ".", "-T", script, "-Wl,--gc-sections", "-static", *roots)
    run_tool((*compiler.command, optimise, *options, *objects, *libraries, "-o", "program.elf"), folder)
    return (folder / "program.elf").read_bytes()


def shared_file(target: Target, name: str) -> Path:
    """A link script or start-up file: the target's own, or the shared one."""
    own = target.folder / name
    common = resources.targets() / "common" / name
    if own.is_file():
        return own
    if common.is_file():
        return common
    raise ToolchainError(f"target '{target.name}' names '{name}', which is neither in '{own.parent}' nor shared")
