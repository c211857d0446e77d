"""The cost models against what simulators, compilers, RTL and silicon say of the same: the README's validation table.

    tools/bench/run cost [--layers] [--networks resnet8,kws] [--targets cortex-m7]

--networks: what is foreseen of these on microcontrollers, beside what the emulated core counts (minutes a network).

The anchors are tests/goldens/accelerators.json, the claims tests/test_cost_anchors.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dnnc.report.markdown import table

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

import cost_mcu

import cost_anchors as anchors

HEADINGS = ("model", "against", "points", "equal", "median error", "worst", "goal")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", action="store_true", help="every point, too")
    parser.add_argument("--networks", default="", metavar="NAME,...", help=", ".join(cost_mcu.NAMES))
    parser.add_argument("--targets", default="cortex-m7", metavar="NAME,...")
    options = parser.parse_args()
    layers = options.layers
    if options.networks:
        for target in options.targets.split(","):
            cost_mcu.show(options.networks.split(","), target, cost_mcu.BITS)
        return 0
    ethos = anchors.ethos_points()
    small = [point for point in ethos if not point.name.endswith("256")]
    groups: list[tuple[str, str, list[anchors.Point], str]] = [
        ("systolic", "SCALE-Sim 3.0.0, cycles", anchors.systolic_points(), "equal"),
        ("bit-serial", "RTL simulated, cycles", anchors.bit_serial_points(), "equal"),
        ("Ethos-U55 32, 64, 128", "Vela 5.2.0, all cycles", small, "<= 10 % a network"),
        ("Ethos-U55 256", "Vela 5.2.0, all cycles", [p for p in ethos if p not in small], "rank"),
        ("Ethos-U55, array alone", "Vela 5.2.0, NPU cycles", anchors.ethos_npu_points(), ""),
        ("Cortex-M cycles and a factor", "MLPerf Tiny, cycles", anchors.silicon_points(), "median <= 10 %"),
        ("energy", "Horowitz, ISSCC 2014, pJ", [anchors.Point(*row) for row in anchors.HOROWITZ], "equal"),
    ]
    rows = [(name, against, *_figures(points), goal) for name, against, points, goal in groups]
    print(table(HEADINGS, rows, ("model", "against", "goal")))
    if layers:
        for name, against, points, _ in groups:
            shown = [(p.name, f"{p.theirs:,.6g}", f"{p.ours:,.6g}", _percent(p.error)) for p in points]
            print(f"\n{name}, {against}\n")
            print(table(("point", "theirs", "ours", "error"), shown, ("point",)))
    return 0


def _figures(points: Sequence[anchors.Point]) -> tuple[str, str, str, str]:
    errors = np.array([point.error for point in points])
    worst = float(errors[np.argmax(np.abs(errors))])
    equal = int((np.abs(errors) < 1e-9).sum())
    return str(len(points)), str(equal), _percent(float(np.median(np.abs(errors)))), _percent(worst)


def _percent(error: float) -> str:
    return f"{100 * error:.1f} %"


if __name__ == "__main__":
    sys.exit(main())
