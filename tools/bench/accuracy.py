"""Prints, as a markdown table, the accuracy of real networks under bit policies, without any retraining.

usage: tools/bench/run accuracy [--quick] [--target cortex-m7] [--policies P;P;...] [NAME ...]

Calibration, Fisher information and the search of max_drop see 1000 training images (half of them to learn from, half
held out), accuracy is that of the bit-accurate simulator on the whole test set (--quick: on its first 2000 images).
Bits are the mean width of a weight, bytes those of the packed weights. The networks lie in ../shared beside the
repository; what is missing is skipped and said.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import models
from dnnc import frontend
from dnnc.cost.loader import load_target
from dnnc.errors import DnncError
from dnnc.ir.graph import Graph
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.bits import parse_policy
from dnnc.quantise.bytes import linear_nodes, weight_bytes
from dnnc.quantise.calibrate import calibrate
from dnnc.quantise.data import load_data
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.integer import quantise
from dnnc.quantise.measure import correct_percent, float_outputs, integer_outputs
from dnnc.report.markdown import table

NAMES = ("lenet300", "lenet5", "resnet8_cifar10_jpeg", "vgg_small_cifar10")
POLICIES = (
    "int8", "uniform{weights=4}", "fisher{average=4}", "fisher{average=4,group=channel}", "uniform{weights=3}",
    "fisher{average=3}", "fisher{average=3,group=channel}", "uniform{weights=2}", "fisher{average=2.5}", "fisher",
)  # fmt: skip
HEADINGS = ("network", "policy", "bits", "bytes", "float", "integer", "change", "seconds")
QUICK_SAMPLES = 2000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help=f"measure on {QUICK_SAMPLES} test images")
    parser.add_argument("--target", default="cortex-m7")
    parser.add_argument("--policies", default=";".join(POLICIES), help="separated by semicolons")
    options = parser.parse_args()
    known = {network.name: network for network in models.NETWORKS}
    rows: list[tuple[str, ...]] = []
    for name in options.names or NAMES:
        load: Any = known[name].data if name in known else None
        if load is None:
            parser.error(f"there are no labelled data for '{name}'")
        try:
            graph = frontend.read(models.model_file(name))
            seen, unseen = (load_data(pair, graph) for pair in load(QUICK_SAMPLES if options.quick else 10_000))
        except (DnncError, FileNotFoundError) as error:
            print(f"{name}: skipped: {error}", file=sys.stderr)
            continue
        rows += measure(name, graph, seen, unseen, options.target, options.policies.split(";"))
    print(table(HEADINGS, rows, ("network", "policy")))
    return 0


def measure(
    name: str, graph: Graph, seen: Dataset, unseen: Dataset, target_name: str, policies: list[str]
) -> list[tuple[str, ...]]:
    """One row a policy; seconds are those of calibration, allocation and quantisation."""
    target = load_target(target_name)
    real = accuracy(float_outputs(graph, unseen), unseen)
    rows = []
    for text in policies:
        policy = parse_policy(text)
        started = time.perf_counter()
        learnt, held_out = seen.halves()
        calibration = calibrate(graph, learnt, target)
        allocation = policy.allocate(calibration, target, held_out)
        integer = quantise(graph, calibration, allocation, target)
        seconds = time.perf_counter() - started
        found = accuracy(integer_outputs(integer, unseen), unseen)
        bits, size = average_bits(graph, allocation), packed_bytes(graph, allocation)
        accuracies = f"{real:.2f} %", f"{found:.2f} %", f"{found - real:+.2f}"
        rows.append((name, text, f"{bits:.2f}", f"{size:,}", *accuracies, f"{seconds:.1f}"))
        print(" ".join(rows[-1]), file=sys.stderr, flush=True)
    return rows


def accuracy(outputs: Any, dataset: Dataset) -> float:
    if dataset.labels is None:
        raise ValueError("accuracy needs labels")
    return correct_percent(next(iter(outputs.values())), dataset.labels)


def average_bits(graph: Graph, allocation: Allocation) -> float:
    return allocation.average_bits({n.name: n.params["weight"][0].size for n in linear_nodes(graph.nodes)})


def packed_bytes(graph: Graph, allocation: Allocation) -> int:
    return sum(weight_bytes(n, allocation.weight_bits[n.name]) for n in linear_nodes(graph.nodes))


if __name__ == "__main__":
    sys.exit(main())
