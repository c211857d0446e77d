"""Execution of an artefact: `make_runner` gives one interface to the simulator, this computer and emulated targets."""

from __future__ import annotations

from pathlib import Path

from dnnc.artefact import Artefact
from dnnc.backends.tvm import require
from dnnc.cost.loader import load_target
from dnnc.cost.target import Target
from dnnc.errors import OptionError
from dnnc.run.base import Runner
from dnnc.run.emulator import EmulatorRunner
from dnnc.run.host import HostRunner
from dnnc.run.measure import measure_flash
from dnnc.run.qemu import QemuRunner
from dnnc.run.simulator import SimulatorRunner
from dnnc.run.toolchain import find_compiler
from dnnc.run.tvm import TvmRunner

PLACES = ("simulator", "host", "emulator", "qemu", "tvm")

__all__ = ["PLACES", "make_runner", "measure_flash"]


def make_runner(
    artefact: Artefact | str | Path,
    on: str = "simulator",
    *,
    compiler: str = "auto",
    target: Target | None = None,
    sanitize: bool = False,
) -> Runner:
    """The runner of an artefact (or of the folder that holds one).

    on: simulator | host | emulator | qemu | tvm. compiler: auto | zig | gcc. target: instead of the artefact's own, for
    one that is not known by name. sanitize: on the host, with AddressSanitizer and UndefinedBehaviorSanitizer.
    Raises OptionError, ArtefactError, TargetError, ToolchainError.
    """
    if not isinstance(artefact, Artefact):
        artefact = Artefact.load(artefact)
    if on not in PLACES:
        raise OptionError(f"cannot run on '{on}'; known: {', '.join(PLACES)}")
    if sanitize and on != "host":
        raise OptionError(f"the sanitizers run on the host only, not on '{on}'")
    if on == "simulator":
        return SimulatorRunner(artefact)
    if on == "tvm":
        require()
        return TvmRunner(artefact)
    if on == "host":
        return HostRunner(artefact, find_compiler(load_target("host"), compiler), sanitize)
    target = target or load_target(artefact.target)
    if on == "emulator":
        if target.emulation.unicorn is None:
            raise OptionError(f"target '{target.name}' has no emulator; run it on simulator or host")
        return EmulatorRunner(artefact, target, find_compiler(target, compiler))
    return QemuRunner(artefact, target, find_compiler(target, compiler))
