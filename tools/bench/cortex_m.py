"""Prints, as markdown, what networks cost on Cortex-M cores beside TFLM with CMSIS-NN, and where their cycles go.

usage: tools/bench/run cortex-m [--target cortex-m7] [--bits int8] [--compiler auto|gcc|zig] [--profile] [NAME ...]

Targets are separated by commas, bits (policies of `dnnc compile --bits`) by semicolons. Instructions are counted,
cycles modelled (by what stands above the table), flash is weights, tables and code, RAM arena and statics, the stack
by itself; a MAC is one of the network as it was given. `others` are TFLM with CMSIS-NN on an emulated Cortex-M7 (QEMU
mps2-an500, arm-none-eabi-gcc 12.2.1), the better of its -Os/-O2 and -O3 builds; their cycles are of the same kind:
llvm-mca 19 over the executed blocks. Networks without such figures have none; the goals are ours, at int8. --profile
adds instructions and cycles by layer and by what they are for.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import models
from dnnc.artefact import Artefact
from dnnc.errors import DnncError
from dnnc.report import words
from dnnc.report.data import Report
from dnnc.report.markdown import table
from dnnc.run import make_runner
from models import Network

NAMES = ("resnet8", "vww", "kws", "ad")
MEASURED_ON = "cortex-m7"
HEADINGS = ("network", "bits", "figure", "dnnc", "others", "others / dnnc", "goal", "dnnc / goal")


@dataclass(frozen=True)
class Goal:
    """At int8 on a Cortex-M7: one inference, bytes of RAM (arena and statics), bytes of flash."""

    instructions: int
    cycles: int
    ram_bytes: int
    flash_bytes: int


GOALS = {
    "resnet8": Goal(14_000_000, 9_500_000, 36_000, 92_000),
    "vww": Goal(6_500_000, 4_600_000, 50_000, 125_000),
    "kws": Goal(3_600_000, 2_600_000, 10_000, 36_000),
    "ad": Goal(320_000, 270_000, 2_200, 276_000),
}
#: Cycles of a multiply-accumulate on other cores, everything counted.
CYCLES_PER_MAC_GOALS = {("cortex-m4", "resnet8"): 1.45}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {' '.join(NAMES)}; also: strww vgg ...")
    parser.add_argument("--target", default="cortex-m7", help="cortex-m7, cortex-m4, cortex-m33, ...")
    parser.add_argument("--bits", default="int8", help="policies, separated by semicolons")
    parser.add_argument("--compiler", default="auto", choices=("auto", "gcc", "zig"))
    parser.add_argument("--profile", action="store_true", help="also by layer and by what instructions are for")
    options = parser.parse_args()
    try:
        networks = [models.find(name) for name in options.names or NAMES]
    except KeyError as unknown:
        parser.error(f"unknown network {unknown}")
    for target in options.target.split(","):
        show(networks, target, options.bits.split(";"), options.compiler, options.profile)
    return 0


def show(networks: list[Network], target: str, policies: list[str], compiler: str, profile: bool) -> None:
    """The table of one target, and its profiles."""
    rows, profiles, built_by = [], [], ""
    for network in networks:
        for bits in policies:
            try:
                artefact, report = models.compile_network(network, target, bits, compiler)
            except (DnncError, FileNotFoundError) as error:
                print(f"{network.name} {bits}: skipped: {error}", file=sys.stderr)
                continue
            if report.measured is None:
                print(f"{network.name} {bits}: skipped: {'; '.join(report.warnings)}", file=sys.stderr)
                continue
            rows += figures(network, target, bits, report, multiply_accumulates(artefact))
            built_by = f"{report.measured.compiler}; cycles: {report.measured.cycle_model or 'not modelled'}"
            if profile:
                profiles.append(profile_text(artefact, target, compiler, f"{network.short or network.name} {bits}"))
    print(f"## {target}\n\n{built_by}\n\n{table(HEADINGS, rows, ('network', 'bits', 'figure'))}\n")
    print("\n".join(profiles), end="")


def multiply_accumulates(artefact: Artefact) -> int:
    """Of the network as it was given, whatever was taken out of it."""
    graph = artefact.float_graph
    return sum(n.op.work(graph.input_types(n), n.params, n.type).macs for n in graph.nodes)


def figures(network: Network, target: str, bits: str, report: Report, macs: int) -> list[tuple[str, ...]]:
    """One row a figure; macs: of the network as it was given. What was measured on another core, or is meant for other
    bits, is left out."""
    m, name = report.measured, network.short or network.name
    assert m is not None
    peer = network.peer if target == MEASURED_ON else None
    goal = GOALS.get(name) if target == MEASURED_ON and bits == "int8" else None
    per_mac = CYCLES_PER_MAC_GOALS.get((target, name)) if bits == "int8" else None
    cycles = None if m.cycles is None else m.cycles / macs
    rows: list[tuple[str, float | None, float | None, float | None]] = [
        ("instructions", m.instructions, peer and peer.instructions, goal and goal.instructions),
        ("instructions a MAC", (m.instructions or 0) / macs, peer and peer.instructions / macs, None),
        ("cycles, modelled", m.cycles, peer and peer.cycles, goal and goal.cycles),
        ("cycles a MAC, modelled", cycles, peer and peer.cycles / macs, per_mac),
        ("RAM: arena, statics", m.ram.arena + m.ram.static, peer and peer.arena_bytes + peer.static_bytes,
         goal and goal.ram_bytes),
        ("RAM: stack", m.ram.stack, peer and peer.stack_bytes, None),
        ("flash", m.flash.total, peer and peer.flash_bytes, goal and goal.flash_bytes),
    ]  # fmt: skip
    return [
        (name, bits, what, number(ours), number(theirs), ratio(theirs, ours), number(goal), ratio(ours, goal))
        for what, ours, theirs, goal in rows
    ]


def number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}"


def ratio(value: float | None, to: float | None) -> str:
    return f"{value / to:.2f}" if value is not None and to else ""


def profile_text(artefact: Artefact, target: str, compiler: str, title: str) -> str:
    """Tables by layer and by what instructions are for, of the first stored test vector."""
    inputs = artefact.vectors.take((0,)).inputs
    profile = make_runner(artefact, on="emulator", compiler=compiler).run(inputs).profile
    assert profile is not None
    parts = [f"### {title} on {target}", *words.profile_notes(profile)]
    parts += [table(headings, rows, ("layer", "block", "work")) for headings, rows in words.profile_tables(profile)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(main())
