"""Fits the [cycles.table] of targets whose cycles llvm-mca models, for computers without llvm-mca, and says how well.

usage: tools/bench/run calibrate-cycles [--target cortex-m7,cortex-m4,cortex-m33] [NAME ...]

The executed blocks of real networks, at 8 and 4 bits and by both compilers, are priced by llvm-mca; the table's costs
are the least squares fit over them, not negative, each network with the same weight. The error of a network is that of
its total when it is fitted with the others (`in`) and when the others alone are (`out`). What hardly occurs is drawn to
one cycle.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

import models
from dnnc.cost.target import CycleTable
from dnnc.report.markdown import table
from dnnc.run import make_runner
from dnnc.run.cycles import uses

NAMES = ("resnet8", "vww", "kws", "ad", "lenet5", "strww")
BITS = ("int8", "uniform{weights=4}")
COSTS = tuple(f.name for f in fields(CycleTable) if f.name != "source")
#: llvm-mca does not tell a branch that is taken from one that is not.
SAME = {"branch_taken": "branch"}
FITTED = tuple(name for name in COSTS if name not in SAME)
PRIOR_WEIGHT = 0.02
Array = NDArray[np.float64]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {' '.join(NAMES)}")
    parser.add_argument("--target", default="cortex-m7,cortex-m4,cortex-m33")
    options = parser.parse_args()
    for target in options.target.split(","):
        calibrate(target, options.names or NAMES)
    return 0


def calibrate(target: str, names: tuple[str, ...]) -> None:
    """Prints the fit of one target."""
    samples: dict[str, tuple[Array, Array, Array]] = {}
    model = None
    for name in names:
        for bits in BITS:
            artefact, _ = models.compile_network(models.find(name), target, bits)
            inputs = artefact.vectors.take((0,)).inputs
            for compiler in ("auto", "zig"):
                profile = make_runner(artefact, on="emulator", compiler=compiler).run(inputs).profile
                assert profile is not None
                if profile.model is None or not profile.model.startswith("llvm-mca"):
                    sys.exit(f"{target}: llvm-mca does not model it here")
                model = profile.model
                rows = [[float(u.get(c, 0)) for c in COSTS] for u in (uses(b.block, b.left) for b in profile.blocks)]
                cycles = [b.cycles_each for b in profile.blocks]
                executions = [b.executions for b in profile.blocks]
                samples[f"{name} {bits} {compiler}"] = (
                    merged(np.array(rows)), np.array(cycles, float), np.array(executions, float)
                )  # fmt: skip
    costs = fit(list(samples.values()))
    print(f"## {target}: fitted to {model}\n")
    errors = []
    for name, sample in samples.items():
        others = fit([s for key, s in samples.items() if key.split()[0] != name.split()[0]])
        errors.append((name, f"{error(sample, costs):+.1f} %", f"{error(sample, others):+.1f} %"))
    print(table(("network", "in", "out"), errors, ("network",)))
    print('\n[cycles.table]\nsource = "fitted to LLVM\'s model"')
    found = dict(zip(FITTED, costs, strict=True))
    for name in COSTS:
        print(f"{name} = {found[SAME.get(name, name)]:.2f}")
    print()


def merged(rows: Array) -> Array:
    """Uses of all costs -> of those that are fitted."""
    found = {name: rows[:, COSTS.index(name)].copy() for name in FITTED}
    for name, as_name in SAME.items():
        found[as_name] += rows[:, COSTS.index(name)]
    return np.stack([found[name] for name in FITTED], axis=1)


def fit(samples: list[tuple[Array, Array, Array]]) -> Array:
    """Costs that minimise the squared errors of blocks, weighted by the cycles that a network spends in them."""
    rows, values = [np.eye(len(FITTED)) * PRIOR_WEIGHT], [np.full(len(FITTED), PRIOR_WEIGHT)]
    for uses_, cycles, executions in samples:
        share = executions / (executions @ cycles)
        weight = np.sqrt(share / np.maximum(cycles, 1.0))
        rows.append(uses_ * weight[:, None])
        values.append(cycles * weight)
    found: Array = nnls(np.concatenate(rows), np.concatenate(values))[0]
    return found


def error(sample: tuple[Array, Array, Array], costs: Array) -> float:
    """Of a network's total, in per cent."""
    uses_, cycles, executions = sample
    total = float(executions @ cycles)
    return 100.0 * (float(executions @ (uses_ @ costs)) - total) / total


if __name__ == "__main__":
    sys.exit(main())
