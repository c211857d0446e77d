"""Prints how long the exact allocation of bits takes, by itself.

usage: tools/bench/run allocate [--layers 60] [--widths 7] [--budgets 3] [--instances 12]

Made-up networks: sizes and work of layers over three orders of magnitude, losses that fall fourfold a bit, costs of
each width that follow no rule, budgets at 30 to 80 % of what the widest take beyond the least. CPU seconds of one
thread, and how far the solution's loss may be from the best (the solver leaves no gap).
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from dnnc.quantise.programme import Item, Problem, solve
from dnnc.report.markdown import table

HEADINGS = ("instance", "budgets at", "found", "CPU s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=60)
    parser.add_argument("--widths", type=int, default=7)
    parser.add_argument("--budgets", type=int, default=3)
    parser.add_argument("--instances", type=int, default=12)
    options = parser.parse_args()
    rows, seconds = [], []
    for seed in range(options.instances):
        problem = instance(seed, options.layers, options.widths, options.budgets)
        share = (0.3, 0.55, 0.8)[seed % 3]
        low = sum(item.costs.min(axis=0) for item in problem.items)
        high = sum(item.costs.max(axis=0) for item in problem.items)
        most = low + share * (high - low)
        started = time.process_time()
        found = solve(problem, dict(zip(problem.resources, most.tolist(), strict=True)))
        seconds.append(time.process_time() - started)
        rows.append((str(seed), f"{100 * share:.0f} %", "no" if found is None else "yes", f"{seconds[-1]:.2f}"))
    print(table(HEADINGS, rows, ("instance", "found")))
    print(f"\nmedian {np.median(seconds):.2f} s, longest {max(seconds):.2f} s")
    return 0


def instance(seed: int, layers: int, widths: int, budgets: int) -> Problem:
    """A network of so many layers, widths from 2 bits on, and budgets: the first of bytes, the others of work."""
    rng = np.random.default_rng(seed)
    bits = np.arange(2, 2 + widths)
    items = []
    for index in range(layers):
        size = 10 ** rng.uniform(2, 5)
        work = size * 10 ** rng.uniform(0, 3)
        losses = 10 ** rng.uniform(-3, 1) * size * 4.0**-bits * np.exp(rng.normal(0, 0.2, widths))
        costs = [np.ceil(size * bits / 8) + 64]
        for _ in range(budgets - 1):
            costs.append(np.floor(work * rng.uniform(0.5, 1.5, widths) + 5000))
        items.append(
            Item(str(index), losses, np.column_stack(costs[:budgets]), ({},) * widths, (frozenset[str](),) * widths)
        )
    names = tuple(f"resource {i}" for i in range(budgets))
    return Problem(names, tuple(items), {}, {}, np.zeros(budgets))


if __name__ == "__main__":
    sys.exit(main())
