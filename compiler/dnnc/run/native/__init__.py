"""C that runs on this computer inside emulators: built once, kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import tempfile
from importlib import resources
from pathlib import Path

from dnnc.cost.loader import load_target
from dnnc.errors import ToolchainError
from dnnc.run import toolchain


def cache_folder() -> Path:
    """Where this platform keeps files that may be deleted at any time."""
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "dnnc"


def shared_library(source: str, cache: Path | None = None) -> Path:
    """The shared library of one C file of this folder, named after what went into it. Raises ToolchainError."""
    text = resources.files(__package__).joinpath(source).read_bytes()
    compiler = toolchain.find_compiler(load_target("host"))
    what = "\n".join((*compiler.command[-1:], compiler.version, platform.machine(), sys.platform)).encode()
    digest = hashlib.sha256(text + what).hexdigest()[:24]
    name = f"{Path(source).stem}-{digest}.so"
    folder = cache_folder() if cache is None else cache
    if (folder / name).is_file():
        return folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolchainError(f"the cache folder '{folder}' cannot be made: {error}") from error
    with toolchain.temporary_folder() as work:
        (Path(work) / source).write_bytes(text)
        # unresolved names are the emulator's own, found when it loads the library
        undefined = ("-Wl,-undefined,dynamic_lookup",) if sys.platform == "darwin" else ()
        command = (*compiler.command, "-std=c99", "-O2", "-fPIC", "-shared", *undefined, source, "-o", "made.so")
        toolchain.run_tool(command, Path(work))
        _publish((Path(work) / "made.so").read_bytes(), folder / name)
    return folder / name


def _publish(data: bytes, path: Path) -> None:
    """Whole or not at all: another process may be building the same file."""
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
