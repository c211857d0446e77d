"""Compiles real networks with both back ends for a microcontroller and prints, as a markdown table, what they take on
its emulated core: dnnc's own kernels, and those that TVM writes.

usage: tools/bench/run tvm-c [--target cortex-m7] [--bits int8 --bits uniform{weights=4}] [NAME ...]

The networks lie in ../shared beside the repository. They are calibrated on made-up inputs: what a program takes hardly
depends on the values. Flash, RAM and instructions are of the linked program, measured on the first stored vector, whose
output is compared with the simulator's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from dnnc.artefact import Artefact
from dnnc.driver import compile as compile_model
from dnnc.report.markdown import table
from dnnc.report.words import count
from dnnc.run import make_runner
from dnnc.run.base import Execution

MODELS = Path(__file__).resolve().parents[3] / "shared" / "models"
NETWORKS = ("resnet8_cifar10", "kws_dscnn", "vww_mobilenetv1_025", "ad_autoencoder")
HEADINGS = ("network", "bits", "flash, dnnc", "flash, TVM", "RAM, dnnc", "RAM, TVM", "instructions, dnnc",
            "instructions, TVM", "ratio", "cycles (model), dnnc", "cycles (model), TVM")  # fmt: skip


def measured(artefact: Artefact) -> Execution:
    """Raises SystemExit where the core does not compute what the simulator does."""
    first = artefact.vectors.take((0,))
    execution = make_runner(artefact, "emulator").run(first.inputs)
    for name, codes in first.outputs.items():
        if not np.array_equal(execution.outputs[name], codes):
            raise SystemExit(f"'{artefact.name}' computes something else than the simulator")
    return execution


def row(name: str, bits: str, target: str) -> tuple[str, ...]:
    model = MODELS / f"{name}.onnx"
    own, tvm = (measured(compile_model(model, target=target, bits=bits, backend=b)) for b in ("c", "tvm"))
    pairs = []
    for value in (
        lambda e: e.flash.total,
        lambda e: e.ram.total,
        lambda e: e.instructions_per_inference,
        lambda e: e.profile.total.cycles,
    ):
        pairs.append((value(own), value(tvm)))
    flash, ram, instructions, cycles = ([count(v) for v in pair] for pair in pairs)
    return (name, bits, *flash, *ram, *instructions, f"{pairs[2][1] / pairs[2][0]:.2f}", *cycles)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[], metavar="NAME", help=", ".join(NETWORKS))
    parser.add_argument("--target", default="cortex-m7")
    parser.add_argument("--bits", action="append", help="policies [default: int8, uniform of 4 and 2 bits]")
    options = parser.parse_args()
    policies = options.bits or ["int8", "uniform{weights=4}", "uniform{weights=2}"]
    rows = []
    for name in options.names or NETWORKS:
        if not (MODELS / f"{name}.onnx").is_file():
            print(f"skipped: there is no '{MODELS / name}.onnx'", file=sys.stderr)
            continue
        rows += [row(name, bits, options.target) for bits in policies]
    print(table(HEADINGS, rows, {"network", "bits"}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
