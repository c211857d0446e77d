"""Prints what straight-line code takes on an emulated core, in bytes of flash and in instructions: for a weight that is
not zero, for a magnitude of a channel (other than 1, which multiplies nothing), for a channel, for a layer; and what
the kernel of records takes. compiler/dnnc/backends/c/straight.py counts on it.

usage: tools/bench/run straight [--target cortex-m7] [--compiler auto|gcc|zig] [--level -O2]

Fully connected layers of 200 features, whose weights differ in number and magnitudes, are compiled and run; the figures
are the least squares' fit to what they take, the kernels' own code included.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from cases import Maker  # noqa: E402
from dnnc import foresight  # noqa: E402
from dnnc.artefact import INTEGER_GRAPH, Artefact  # noqa: E402
from dnnc.backends.c import emit, lower  # noqa: E402
from dnnc.backends.c.table import IN_ORDER  # noqa: E402
from dnnc.cost.loader import load_target  # noqa: E402
from dnnc.ir.serial import dump_graph  # noqa: E402
from dnnc.ops.dense import Dense  # noqa: E402
from dnnc.report.markdown import table  # noqa: E402
from dnnc.run.emulator import EmulatorRunner  # noqa: E402
from dnnc.run.toolchain import find_compiler  # noqa: E402
from dnnc.verify import random_codes  # noqa: E402

FEATURES = 200
#: The magnitudes that the weights of a channel take in turn.
CLASSES = ([1], [16], [2, 4, 8, 16, 32, 64], [37], [3, 5, 7, 11, 13, 19, 23, 37, 41, 53, 59, 67, 71, 83, 97, 101, 113],
           [1, 1, 1, 2, 2, 3])  # fmt: skip
#: (weights of a channel, channels)
SIZES = ((4, 4), (12, 4), (24, 4), (8, 12), (16, 8))
PARTS = ("weight", "power of two", "other magnitude", "channel", "layer")


def layer(weights: int, channels: int, magnitudes: list[int]) -> NDArray[np.int64]:
    """Weights [channels, FEATURES] of random places and signs."""
    rng = np.random.default_rng(weights + channels)
    found = np.zeros((channels, FEATURES), np.int64)
    for row in found:
        places = rng.choice(FEATURES, weights, replace=False)
        row[places] = np.resize(magnitudes, weights) * rng.choice([-1, 1], weights)
    return found


def parts(weight: NDArray[np.int64]) -> list[int]:
    """How many there are of PARTS."""
    magnitudes = [set(np.abs(row[row != 0]).tolist()) - {1} for row in weight]
    powers = sum(not m & (m - 1) for found in magnitudes for m in found)
    others = sum(len(found) for found in magnitudes) - powers
    return [np.count_nonzero(weight), powers, others, len(weight), 1]


def cost(weight: NDArray[np.int64], kind: str, options: argparse.Namespace) -> NDArray[np.int64]:
    """[bytes of flash, instructions] of a network of one layer."""
    hardware, make = load_target(options.target), Maker("one_layer")
    x = make.input(FEATURES)
    params = {"weight": weight, "weight_bits": np.full(len(weight), 8, np.uint8),
              "weight_scale": np.full(len(weight), 2.0**-8), "bias": np.zeros(len(weight))}  # fmt: skip
    graph = make.graph(make.add(Dense(), [x], params))
    program = lower(graph, hardware, IN_ORDER.write(graph.nodes[0].name, kind))
    inputs = random_codes(graph, 1, 0)
    files = emit(graph, program, foresight.layout(graph, program), hardware)
    artefact = Artefact.create(graph.name, hardware.name, {**files, INTEGER_GRAPH: dump_graph(graph)}, {})
    runner = EmulatorRunner(artefact, hardware, find_compiler(hardware, options.compiler), level=options.level)
    execution = runner.run(inputs)
    assert execution.flash is not None and execution.instructions_per_inference is not None
    return np.array([execution.flash.total, execution.instructions_per_inference])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="cortex-m7")
    parser.add_argument("--compiler", default="auto", choices=("auto", "gcc", "zig"))
    parser.add_argument("--level", default="-O2", help="of the C compiler")
    options = parser.parse_args()
    weights = [layer(*size, magnitudes) for size in SIZES for magnitudes in CLASSES]
    counts = np.array([parts(weight) for weight in weights], np.float64)
    taken = np.array([cost(weight, "straight", options) for weight in weights], np.float64)
    fitted = np.linalg.lstsq(counts, taken, rcond=None)[0]
    error = np.abs(counts @ fitted / taken - 1).max(axis=0)
    few, many = (cost(layer(n, 4, CLASSES[4]), "delta", options) for n in (12, 24))
    each = (many - few) / 48
    rows = [(f"code, per {part}", *(f"{v:.1f}" for v in pair)) for part, pair in zip(PARTS, fitted, strict=True)]
    rows.append(("the largest error of the sum", *(f"{100 * e:.0f} %" for e in error)))
    rows.append(("records, a weight", *(f"{v:.1f}" for v in each)))
    rows.append(("records, 4 channels without weights", *(f"{v:.0f}" for v in few - 48 * each)))
    print(table(("what", "bytes", "instructions"), rows, ("what",)))


if __name__ == "__main__":
    main()
