"""What dnnc foresees of networks on microcontrollers, beside what the emulated core then counts: a part of `cost`.

Networks are not those that costs were fitted to. `foreseen` is of the compiled program; `of the model` of the ONNX file
alone, before anything is calibrated or quantised, which is what `dnnc estimate model.onnx` prints.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import models
from dnnc import foresight, frontend
from dnnc.compress import parse_policy
from dnnc.cost.estimate import NetworkCost
from dnnc.cost.loader import load_target
from dnnc.errors import DnncError
from dnnc.quantise.bits.uniform import Uniform
from dnnc.report.data import Report
from dnnc.report.markdown import table

NAMES = ("resnet8", "vww", "kws", "ad", "resnet8_cifar10_jpeg", "vgg", "lenet5", "lenet300", "strww")
BITS = ("int8", "uniform{weights=4}")
#: A layer below this share of the network's instructions is too small to matter by itself.
SMALL = 0.001
HEADINGS = (
    "network", "bits", "instructions", "foreseen", "of the model", "worst layer", "cycles", "foreseen", "of the model",
    "worst layer", "flash", "foreseen", "RAM", "foreseen",
)  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """A network: what it takes, what was foreseen of the program and of the model, the worst layer (name, error)."""

    network: str
    bits: str
    report: Report
    program: NetworkCost
    model: NetworkCost
    worst: tuple[tuple[str, float], tuple[str, float]]

    def row(self) -> tuple[str, ...]:
        m = self.report.measured
        assert m is not None and m.instructions is not None
        cells = [self.network, self.bits]
        for index, (found, ours, theirs) in enumerate(
            ((m.instructions, self.program.instructions, self.model.instructions),
             (m.cycles or 0, self.program.cycles, self.model.cycles))
        ):  # fmt: skip
            layer, error = self.worst[index]
            cells += [f"{found:,}", percent(ours, found), percent(theirs, found), f"{layer} {100 * error:+.1f} %"]
        ram = m.ram.arena + m.ram.static
        cells += [f"{m.flash.total:,}", percent(self.program.flash_bytes, m.flash.total)]
        cells += [f"{ram:,}", percent(self.program.ram_bytes, ram)]
        return tuple(cells)


def percent(foreseen: float | None, found: float) -> str:
    return "" if foreseen is None or not found else f"{100 * (foreseen / found - 1):+.2f} %"


def compare(name: str, target: str, bits: str, compiler: str = "auto") -> Compared:
    """Compiles and runs it. Raises DnncError, FileNotFoundError."""
    network, hardware = models.find(name), load_target(target)
    artefact, report = models.compile_network(network, target, bits, compiler)
    program = foresight.foresee(artefact.integer_graph, hardware)
    policy = parse_policy(bits)
    weights = policy.weights if isinstance(policy, Uniform) else 8
    model = foresight.foresee_model(frontend.read(models.model_file(network.name)), weights, 8, hardware)
    measured = {layer.name: layer for layer in report.layers}
    floor = SMALL * (report.measured.instructions or 0) if report.measured else 0
    pairs = [
        (layer, measured[layer.name]) for layer in program.layers if (measured[layer.name].instructions or 0) > floor
    ]
    of_instructions = [(p.name, (p.instructions or 0) / (m.instructions or 1) - 1) for p, m in pairs]
    of_cycles = [(p.name, p.cycles / (m.cycles or 1) - 1) for p, m in pairs]
    worst = tuple(max(errors, key=lambda e: abs(e[1])) for errors in (of_instructions, of_cycles))
    return Compared(name, bits, report, program, model, worst)  # type: ignore[arg-type]


def tried(name: str, target: str, bits: str, compiler: str) -> Compared | None:
    """None, and said, where the network is not there or cannot be compiled."""
    try:
        return compare(name, target, bits, compiler)
    except (DnncError, FileNotFoundError) as error:
        print(f"{target} {name} {bits}: skipped: {error}", file=sys.stderr)
        return None


def show(names: Sequence[str], target: str, policies: Sequence[str], compiler: str = "auto") -> None:
    """Prints the table of one target."""
    compared = [tried(name, target, bits, compiler) for name in names for bits in policies]
    found = [one for one in compared if one is not None]
    if found:
        m = found[0].report.measured
        assert m is not None
        print(f"## {target}: {m.compiler}; cycles: {m.cycle_model}\n")
        print(table(HEADINGS, [one.row() for one in found], ("network", "bits")), flush=True)
