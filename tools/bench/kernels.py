"""Prints, as a markdown table, what single layers cost on an emulated core, beside what other libraries take for them.

usage: tools/bench/run kernels [--target cortex-m7] [--compiler auto|gcc|zig] [--bits 8,4,2]

Instructions of one inference, everything counted (the network's entry and the copy of its input too), and their number
per multiply-accumulate; the cycles that LLVM's model of the core gives for them, or the target's table; bits of flash
per weight, padding included. The others' figures are of the same layers on an emulated Cortex-M7 (QEMU mps2-an500,
exact instruction counts, the better of their -O2 and -O3 builds by arm-none-eabi-gcc 12.2.1): CMSIS-NN 4ab83cc3,
CMix-NN a97415fd, TinyEngine 47bb283c. CMix-NN's depthwise results were not checked by anyone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from armv7em_layers import Linear, make_files, make_graph, make_inputs  # noqa: E402
from dnnc.backends.c import lower  # noqa: E402
from dnnc.backends.c.program import Array, Program  # noqa: E402
from dnnc.cost.loader import load_target  # noqa: E402
from dnnc.report.markdown import table  # noqa: E402
from emulated import Network, emulate  # noqa: E402


@dataclass(frozen=True)
class Shape:
    """A layer, and the instructions that others take for it: weight width -> library -> count."""

    layer: Linear
    peers: Mapping[int, Mapping[str, int]]


SAME = (1, 1, 1, 1)
SHAPES = (
    Shape(
        Linear("conv1x1_16x16x32_32", (16, 16, 32), 32),
        {
            8: {"CMSIS-NN": 698_697, "CMix-NN": 737_133, "TinyEngine": 680_643},
            4: {"CMSIS-NN": 1_158_938, "CMix-NN": 775_841},
            2: {"CMix-NN": 818_849},
        },
    ),
    Shape(
        Linear("conv3x3_16x16x32_32", (16, 16, 32), 32, (3, 3), padding=SAME),
        {
            8: {"CMSIS-NN": 4_546_900, "CMix-NN": 5_251_862, "TinyEngine": 5_162_584},
            4: {"CMSIS-NN": 8_693_894, "CMix-NN": 5_552_551},
            2: {"CMix-NN": 5_792_031},
        },
    ),
    Shape(
        Linear("conv3x3_8x8x64_64", (8, 8, 64), 64, (3, 3), padding=SAME),
        {8: {"CMSIS-NN": 4_156_524, "TinyEngine": 4_855_473}, 4: {"CMSIS-NN": 8_292_486}},
    ),
    Shape(
        Linear("depthwise3x3_24x24x64", (24, 24, 64), 64, (3, 3), padding=SAME, groups=64),
        {
            8: {"CMSIS-NN": 2_668_874, "CMix-NN": 4_144_062, "TinyEngine": 2_122_196},
            4: {"CMSIS-NN": 5_256_086, "CMix-NN": 4_795_604},
            2: {"CMix-NN": 4_776_687},
        },
    ),
    Shape(Linear("dense_640_128", (640,), 128, None), {8: {"CMSIS-NN": 160_077}, 4: {"CMSIS-NN": 405_766}}),
    # Shapes of real networks at which the work around the inner loop counts; nobody measured them elsewhere.
    Shape(Linear("conv3x3_32x32x3_16", (32, 32, 3), 16, (3, 3), padding=SAME), {}),
    Shape(Linear("depthwise3x3_6x6x128", (6, 6, 128), 128, (3, 3), padding=SAME, groups=128), {}),
    Shape(Linear("depthwise3x3_25x5x64", (25, 5, 64), 64, (3, 3), padding=SAME, groups=64), {}),
    Shape(Linear("depthwise3x3_s2_24x24x16", (24, 24, 16), 16, (3, 3), (2, 2), (0, 0, 1, 1), groups=16), {}),
)


def _weight_bytes(program: Program) -> int:
    members = [value for step in program.steps for call in step.calls for value in call.fields.values()]
    return sum(value.nbytes for value in members if isinstance(value, Array) and value.section == "weights")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="cortex-m7")
    parser.add_argument("--compiler", default="auto", choices=("auto", "gcc", "zig"))
    parser.add_argument("--bits", default="8,6,5,4,3,2,1", help="weight widths")
    options = parser.parse_args()
    widths = [int(b) for b in options.bits.split(",")]
    networks, kernels, stored = [], [], []
    for shape in SHAPES:
        for bits in widths:
            layer = replace(shape.layer, name=f"{shape.layer.name}_w{bits}", bits=(bits,))
            graph = make_graph(layer)
            files = make_files(graph, options.target)
            program = lower(graph, load_target(options.target))
            stored.append(_weight_bytes(program))
            kernels.append(next(Path(name).stem for name in files if "__" in name))
            networks.append(Network(layer.name, files, graph, make_inputs(layer, 1)))
    counted = emulate(networks, options.target, compiler=options.compiler, cycles=True)
    rows = []
    for index, (one, network) in enumerate(zip(counted, networks, strict=True)):
        shape, bits = SHAPES[index // len(widths)], widths[index % len(widths)]
        node = network.graph.nodes[0]
        macs = node.op.work(network.graph.input_types(node), node.params, node.type).macs
        peers = [f"{name} {count / macs:.2f}" for name, count in shape.peers.get(bits, {}).items()]
        rows.append(
            (shape.layer.name, str(bits), kernels[index], f"{macs:,}", f"{one.instructions:,}",
             f"{one.instructions / macs:.2f}", "-" if one.cycles is None else f"{one.cycles / macs:.2f}",
             f"{stored[index] * 8 / node.params['weight'].size:.2f}", ", ".join(peers))
        )  # fmt: skip
    headings = (
        "layer",
        "bits",
        "kernel",
        "MACs",
        "instructions",
        "per MAC",
        "cycles per MAC",
        "bits stored",
        "others per MAC",
    )
    print(table(headings, rows, ("layer", "kernel", "others per MAC")))


if __name__ == "__main__":
    main()
