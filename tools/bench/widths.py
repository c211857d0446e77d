"""What widths by sensitivity save against one width for all, at equal accuracy.

usage: tools/bench/run widths [--drop 0.5] [--samples 4000] [--target cortex-m7] [NAME ...]

The narrowest uniform width whose accuracy drops by at most --drop points is found, and the network of least flash
that keeps to the same drop and takes no more cycles (fisher{group=channel,max_drop,cycles}); both are compiled and run
on the emulated core. On the bit-serial array the fewest cycles at that drop stand beside those of 8 bits. Calibrated on
training images; what drops too far is decided on the last test images, DECIDED of them, and the drop shown is that on
the first --samples, which decide nothing. No weight is trained.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import models
from dnnc import build, foresight, frontend
from dnnc.backends.c import lower
from dnnc.cost.families import model_of
from dnnc.cost.loader import load_hardware, load_target
from dnnc.cost.target import Target
from dnnc.errors import DnncError
from dnnc.ir.graph import Graph
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.bits import parse_policy
from dnnc.quantise.bits.costing import LayerModel, Source
from dnnc.quantise.bits.uniform import Uniform
from dnnc.quantise.calibrate import Calibration, calibrate
from dnnc.quantise.data import load_data
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.integer import quantise
from dnnc.quantise.measure import correct_percent, float_outputs, integer_outputs
from dnnc.report.markdown import table

NAMES = ("resnet8_cifar10_jpeg", "vgg_small_cifar10")
ARRAY = "bitserial-16x16"
DECIDED, TEST = 2000, 10_000
HEADINGS = ("network", "on", "bits", "widths", "drop", "flash", "cycles", "flash, share", "cycles, share")


@dataclass(frozen=True, eq=False)
class Case:
    """A calibrated network; deciding: samples to choose by, unseen: to measure."""

    calibration: Calibration
    target: Target
    deciding: Dataset
    unseen: Dataset

    def integer(self, allocation: Allocation) -> Graph:
        return quantise(self.calibration.graph, self.calibration, allocation, self.target)

    def drop(self, allocation: Allocation, data: Dataset) -> float:
        """Points of accuracy."""
        name = self.calibration.graph.outputs[0].model_name
        assert data.labels is not None
        before = correct_percent(float_outputs(self.calibration.graph, data)[name], data.labels)
        return before - correct_percent(integer_outputs(self.integer(allocation), data)[name], data.labels)

    def taken(self, allocation: Allocation) -> tuple[int, int]:
        """(flash, cycles) of the compiled program."""
        integer = foresight.finish(self.integer(allocation), self.target)
        vectors = build.make_vectors(integer, self.calibration.dataset, 0)
        cost = build.cost(integer, lower(integer, self.target), self.target, vectors, "auto", None)
        return cost.flash_bytes, cost.cycles


@dataclass(frozen=True, eq=False)
class Array:
    """Stands for a target's programs where there are none."""

    source: Source

    def arena(self, allocation: Allocation) -> int:
        raise TypeError("no one asked for RAM")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--drop", type=float, default=0.5, help="points")
    parser.add_argument("--samples", type=int, default=4000, help="test images that the drop is measured on")
    parser.add_argument("--target", default="cortex-m7")
    options = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    for name in options.names or NAMES:
        try:
            case = made(name, options.samples, load_target(options.target))
            found = [*on_target(name, case, options.drop), *on_array(name, case, options.drop)]
        except (DnncError, FileNotFoundError, ImportError) as error:
            print(f"{name}: skipped: {error}", file=sys.stderr)
            continue
        rows += found
    print(table(HEADINGS, rows, ("network", "on", "bits", "widths")))
    return 0


def made(name: str, samples: int, target: Target) -> Case:
    graph = frontend.read(models.model_file(name))
    network = models.find(name)
    assert network.data is not None
    seen, unseen = network.data(TEST)
    data = load_data(unseen, graph)
    unseen_part = data.first(min(samples, TEST - DECIDED))
    deciding = load_data((unseen[0][-DECIDED:], unseen[1][-DECIDED:]), graph)
    return Case(calibrate(graph, load_data(seen, graph), target), target, deciding, unseen_part)


def on_target(name: str, case: Case, limit: float) -> list[tuple[str, ...]]:
    """The width before the best uniform one, which drops too far; the best; and the best mixed ones."""
    uniform: dict[str, Allocation] = {}
    for bits in sorted(set(case.target.weight_bits) - {1, 7}):
        best = uniform[f"uniform {bits}"] = Uniform(weights=bits).allocate(case.calibration, case.target)
        if case.drop(best, case.deciding) <= limit:
            break
    else:
        raise DnncError(f"no uniform width keeps to {limit:g} points")
    flash, cycles = case.taken(best)
    programs = build.Programs(case.calibration, case.target)
    source = programs.source
    assert source is not None
    foreseen = source.network(dict(best.weight_bits), dict(best.activation_bits)).cycles
    text = f"fisher{{group=channel,max_drop={limit:g},cycles={foreseen:.0f}}}"
    mixed = parse_policy(text).allocate(case.calibration, case.target, case.deciding, programs=programs)
    rows = []
    for what, allocation in (*list(uniform.items())[-2:], ("fisher{group=channel}", mixed)):
        taken = case.taken(allocation)
        rows.append(
            (
                name,
                case.target.name,
                what,
                widths_of(allocation),
                f"{case.drop(allocation, case.unseen):.2f}",
                f"{taken[0]:,}",
                f"{taken[1]:,}",
                f"{taken[0] / flash:.3f}",
                f"{taken[1] / cycles:.3f}",
            )
        )
    return rows


def on_array(name: str, case: Case, limit: float) -> list[tuple[str, ...]]:
    """8 bits and the widths of fewest cycles on the bit-serial array."""
    model = LayerModel(case.calibration.graph, model_of(load_hardware(ARRAY)))
    rows: list[tuple[str, ...]] = []
    first: tuple[float, float] | None = None
    for text in ("int8", f"fisher{{max_drop={limit:g},minimise=cycles}}"):
        found = parse_policy(text).allocate(case.calibration, case.target, case.deciding, programs=Array(model))
        network = model.network(dict(found.weight_bits), dict(found.activation_bits))
        first = first or (network.flash_bytes, network.cycles)
        rows.append(
            (
                name,
                ARRAY,
                text.split("{")[0],
                widths_of(found),
                f"{case.drop(found, case.unseen):.2f}",
                f"{network.flash_bytes:,}",
                f"{network.cycles:,.0f}",
                f"{network.flash_bytes / first[0]:.3f}",
                f"{network.cycles / first[1]:.3f}",
            )
        )
    return rows


def widths_of(allocation: Allocation) -> str:
    """Of every layer its widths, and how many channels have each where they differ."""
    found = []
    for bits in allocation.weight_bits.values():
        widths = sorted(set(bits.tolist()), reverse=True)
        found.append("+".join(str(w) if len(widths) == 1 else f"{(bits == w).sum()}x{w}" for w in widths))
    return " ".join(found)


if __name__ == "__main__":
    sys.exit(main())
