"""What others say that layers and networks cost, and what dnnc says of the same: for tests and for the figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from statistics import fmean, median
from typing import Any

from dnnc.cost import energy
from dnnc.cost.bit_serial import BitSerial
from dnnc.cost.bit_serial import product_cycles as bit_serial_cycles
from dnnc.cost.ethos_u55 import elementwise_cycles, layer_cycles
from dnnc.cost.ethos_u55_blocks import CORES, blocks_of
from dnnc.cost.families import model_of
from dnnc.cost.layer import Gemm, LayerWork
from dnnc.cost.loader import load_hardware
from dnnc.cost.systolic import DATAFLOWS, product_cycles

ANCHORS: Mapping[str, Any] = json.loads((Path(__file__).parent / "goldens" / "accelerators.json").read_text())
NETWORKS = tuple(ANCHORS["vela"]["networks"])
ETHOS_SIZES = tuple(sorted(CORES))
#: Of integers and memories: (what, theirs, ours), pJ. The table's DRAM is 1300 to 2600 pJ of 64 bits.
HOROWITZ = (
    ("add 8 bits", 0.03, energy.add_pj(8)),
    ("add 32 bits", 0.1, energy.add_pj(32)),
    ("multiply 8 bits", 0.2, energy.multiply_pj(8, 8)),
    ("multiply 32 bits", 3.1, energy.multiply_pj(32, 32)),
    ("64 bits of 8 kB", 10.0, 64 * energy.sram_pj_per_bit(8 * 1024)),
    ("64 bits of 32 kB", 20.0, 64 * energy.sram_pj_per_bit(32 * 1024)),
    ("64 bits of 1 MB", 100.0, 64 * energy.sram_pj_per_bit(1024 * 1024)),
    ("64 bits of DRAM", 1300.0, 64 * energy.DRAM_PJ_PER_BIT),
)


def product_layer(name: str, rows: int, depth: int, columns: int, bits: int = 8) -> LayerWork:
    """A dense layer of that matrix product."""
    return LayerWork(
        name=name,
        op="Dense",
        kind="dense",
        inputs=((rows, 1, depth),),
        output=(rows, 1, columns),
        input_bits=(8,),
        output_bits=8,
        macs=rows * depth * columns,
        weights=depth * columns,
        channel_bits=((bits, columns),),
    )


@dataclass(frozen=True)
class Point:
    """One figure: what it is of, theirs, ours."""

    name: str
    theirs: float
    ours: float

    @property
    def error(self) -> float:
        return self.ours / self.theirs - 1


def systolic_points() -> list[Point]:
    """Every layer on every array and dataflow."""
    found = []
    dataflows = {name[0] + "s": name for name in DATAFLOWS}
    for key, cycles in ANCHORS["scale_sim"]["cycles"].items():
        size, short = key.split("_")
        rows, columns = map(int, size.split("x"))
        for (name, m, k, n), theirs in zip(ANCHORS["scale_sim"]["layers"], cycles, strict=True):
            found.append(Point(f"{name} {key}", theirs, product_cycles(Gemm(m, k, n), rows, columns, dataflows[short])))
    return found


def bit_serial_points() -> list[Point]:
    """The whole network at each width on each array."""
    found = []
    for size, widths in ANCHORS["bit_serial_rtl"]["cycles"].items():
        array = BitSerial(*map(int, size.split("x")), depth=1, serial="weights", elements_per_cycle=1)
        for bits, theirs in widths.items():
            layers = [product_layer(*layer, bits=int(bits)) for layer in ANCHORS["scale_sim"]["layers"]]
            ours = sum(bit_serial_cycles(work, array) for work in layers)
            found.append(Point(f"{size}, {bits} bits", theirs, ours))
    return found


def vela_layers(network: str) -> list[LayerWork]:
    """The layers of one of NETWORKS."""
    return [_vela_layer(index, layer) for index, layer in enumerate(ANCHORS["vela"]["networks"][network]["layers"])]


def ethos_npu_points() -> list[Point]:
    """Cycles of the array alone, by network and size."""
    found = []
    for network in NETWORKS:
        for macs in ETHOS_SIZES:
            core = CORES[macs]
            ours = sum(
                layer_cycles(work, core, blocks_of(work, core)) if work.kernel != (1, 1) or work.linear
                else elementwise_cycles(work, core)
                for work in vela_layers(network)
            )  # fmt: skip
            found.append(Point(f"{network} u55-{macs}", _vela(network, macs, "npu"), ours))
    return found


def ethos_points() -> list[Point]:
    """Cycles of everything, memories included."""
    found = []
    for network in NETWORKS:
        for macs in ETHOS_SIZES:
            ours = model_of(load_hardware(f"ethos-u55-{macs}")).network(vela_layers(network)).cycles
            found.append(Point(f"{network} u55-{macs}", _vela(network, macs, "total"), ours))
    return found


def silicon_points() -> list[Point]:
    """Each network on each board, from this repository's modelled cycles of the core and a factor for board and stack,
    the geometric mean of those of the other three networks.
    """
    found = []
    modelled = ANCHORS["silicon"]["modelled"]
    for row in ANCHORS["silicon"]["rows"]:
        ours = modelled["skips_dead" if row["skips_dead"] else "all_work"][row["core"]]
        for network, theirs in row["cycles"].items():
            factor = exp(fmean(log(row["cycles"][other] / ours[other]) for other in ours if other != network))
            found.append(Point(f"{row['round']} {row['system']} {network}", theirs, factor * ours[network]))
    return found


def median_error(points: list[Point]) -> float:
    return median(abs(point.error) for point in points)


def _vela(network: str, macs: int, what: str) -> float:
    cycles: float = ANCHORS["vela"]["networks"][network]["cycles"][str(macs)][what]
    return cycles


def _vela_layer(index: int, layer: Mapping[str, Any]) -> LayerWork:
    output = tuple(layer["output"])
    kernel = tuple(layer.get("kernel", (1, 1)))
    linear = "weights" in layer
    return LayerWork(
        name=f"{index} {layer['kind']}",
        op=layer["kind"],
        kind=layer["kind"],
        inputs=tuple(tuple(image) for image in layer["inputs"]),
        output=output,
        input_bits=(8,) * len(layer["inputs"]),
        output_bits=8,
        kernel=kernel,
        stride=tuple(layer.get("stride", (1, 1))),
        groups=layer.get("groups", 1),
        macs=layer.get("macs", 0),
        weights=layer.get("weights", 0),
        channel_bits=((8, output[2]),) if linear else (),
        entropy_bits=layer.get("entropy_bits", 0.0),
    )
