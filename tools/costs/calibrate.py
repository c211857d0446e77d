"""Measures what the kernels cost on the emulated cores of targets, fits their costs, writes targets/NAME/cost.json.

usage: tools/calibrate_cost [--compiler auto|gcc|zig] [--keep FOLDER] [--dry-run] TARGET ...

Designed layers of every kernel (tools/costs/design.py) run on the emulated core; instructions are counted, cycles are
those of the target's scheduling model. The costs of what the kernels' loops do are the least squares of the relative
errors, none negative. Layers of other sizes are not fitted to: the error printed is theirs. --keep: a folder for what
was measured; what is there is not measured again.
"""

from __future__ import annotations

import argparse
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from design import held_out, sets  # noqa: E402
from fit import fit  # noqa: E402
from measure import Program, measure  # noqa: E402

from dnnc.cost.kernels.counts import Key  # noqa: E402
from dnnc.cost.kernels.loops import counts  # noqa: E402
from dnnc.cost.kernels.table import FILE_NAME, Error, KernelCosts, Taken  # noqa: E402
from dnnc.cost.loader import load_target  # noqa: E402
from dnnc.cost.target import Target  # noqa: E402
from dnnc.errors import DnncError  # noqa: E402
from dnnc.report.markdown import table  # noqa: E402

WORST = 8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+", metavar="TARGET")
    parser.add_argument("--compiler", default="auto", choices=("auto", "gcc", "zig"))
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--dry-run", action="store_true", help="print the errors, write nothing")
    options = parser.parse_args()
    for name in options.targets:
        try:
            target = load_target(name)
            programs = measured(target, options.compiler, options.keep)
        except DnncError as error:
            sys.exit(f"{name}: {error}")
        costs = fitted(target, programs[:-1], programs[-1])
        report(costs, programs)
        if not options.dry_run:
            (target.folder / FILE_NAME).write_bytes(costs.dump())
    return 0


def measured(target: Target, compiler: str, keep: Path | None) -> list[Program]:
    """All sets, measured now or before; the held-out one last."""
    found: list[Program] = []
    known: dict[str, int] = {}
    for made in (*sets(target), held_out(target)):
        path = None if keep is None else keep / f"{target.name}-{compiler}-{made.name}.pickle"
        if path is not None and path.is_file():
            program: Program = pickle.loads(path.read_bytes())
        else:
            program = measure(made, target, compiler, known)
            print(f"{target.name}: {made.name}: {len(program.layers)} layers", file=sys.stderr)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pickle.dumps(program))
        known |= program.code_bytes
        found.append(program)
    return found


def fitted(target: Target, programs: Sequence[Program], unseen: Program) -> KernelCosts:
    """The table of a target."""
    layers = [layer for program in programs for layer in program.layers]
    rows = [sum_of(layer) for layer in layers]
    instructions = fit(rows, [layer.instructions for layer in layers])
    cycles = fit(rows, [layer.cycles for layer in layers])
    keys = {key for row in rows for key in row}
    costs = {key: Taken(instructions.get(key, 0.0), cycles.get(key, 0.0)) for key in keys}
    found = [(errors(layer, costs)) for layer in unseen.layers]
    absolute = 100.0 * np.abs(np.array(found))
    code: dict[str, int] = {}
    for program in (*programs, unseen):
        code |= program.code_bytes
    return KernelCosts(
        target=target.name,
        compiler=programs[0].compiler,
        cycle_model=programs[0].cycle_model,
        layers=len(layers),
        error=Error(
            len(found), absolute[:, 0].mean(), absolute[:, 0].max(), absolute[:, 1].mean(), absolute[:, 1].max()
        ),
        outside=Taken(*(float(np.mean([p.outside[i] for p in programs])) for i in (0, 1))),
        code_bytes=code,
        program_bytes=program_bytes(programs),
        costs=costs,
    )


def sum_of(layer) -> dict[Key, float]:  # type: ignore[no-untyped-def]
    """All that the calls of a layer do."""
    total: dict[Key, float] = {}
    for call in layer.calls:
        for key, count in counts(call).items():
            total[key] = total.get(key, 0.0) + count
    return total


def errors(layer, costs) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """Relative, of instructions and of cycles."""
    row = sum_of(layer)
    taken = sum((costs.get(key, Taken(0.0, 0.0)) * count for key, count in row.items()), Taken(0.0, 0.0))
    return taken.instructions / layer.instructions - 1, taken.cycles / layer.cycles - 1


def program_bytes(programs: Sequence[Program]) -> tuple[int, int]:
    """Code of a program besides its kernels, and of each call in it: the least squares over all programs."""
    calls = np.array([[1.0, sum(len(layer.calls) for layer in p.layers)] for p in programs])
    base, each = np.linalg.lstsq(calls, np.array([float(p.other_bytes) for p in programs]), rcond=None)[0]
    return max(round(base), 0), max(round(each), 0)


def report(costs: KernelCosts, programs: Sequence[Program]) -> None:
    """Prints the errors by set and the largest ones."""
    print(f"## {costs.target}: {costs.compiler}; {costs.cycle_model}\n")
    rows, worst = [], []
    for program in programs:
        found = [(errors(layer, costs.costs), layer) for layer in program.layers]
        values = 100.0 * np.abs(np.array([e for e, _ in found]))
        mean, most = values.mean(axis=0), values.max(axis=0)
        rows.append((program.name, str(len(found)), *(f"{v:.2f} %" for v in (mean[0], most[0], mean[1], most[1]))))
        worst += [(error, program.name, layer) for error, layer in found]
    print(table(("set", "layers", "instructions: mean", "largest", "cycles: mean", "largest"), rows, ("set",)))
    worst.sort(key=lambda found: -abs(found[0][0]))
    print("\nfurthest off:")
    for error, name, layer in worst[:WORST]:
        kernels = ", ".join(dict.fromkeys(call.kernel for call in layer.calls))
        print(f"  {100 * error[0]:+.1f} % of {layer.instructions:,}: {name}/{layer.node}: {kernels}")
    print()


if __name__ == "__main__":
    sys.exit(main())
