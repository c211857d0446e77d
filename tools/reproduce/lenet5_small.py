"""LeNet-5 on a Cortex-M7 in 6 kB of flash: weights, tables and code of the whole program, bit-exact on the emulated
core.

OLMP prunes ../shared/models/lenet5, with whole channels preferred, so that most of the network is gone; what is left
is compiled with the fewest bits a weight that held-out images allow. --from-weights takes the network that lies in
weights/ instead of training one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import common
import images
from olmp import HELD_OUT, batches, dataset

from dnnc import ops
from dnnc.artefact import Artefact
from dnnc.compress.budget import weight_count
from dnnc.compress.olmp import Olmp
from dnnc.compress.olmp_run import Run
from dnnc.cost.loader import load_target
from dnnc.driver import compile_with_report
from dnnc.frontend.onnx.export import to_onnx
from dnnc.ir.graph import Graph
from dnnc.ir.layout import to_model
from dnnc.ir.serial import dump_graph, load_graph
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.measure import correct_percent, integer_outputs
from dnnc.run.base import Execution
from dnnc.run.emulator import EmulatorRunner
from dnnc.run.toolchain import find_compiler
from dnnc.simulate import quantise_inputs
from dnnc.verify import verify

STORED = Path(__file__).parent / "weights" / "lenet5_small.npz"
GOAL, FLASH, ERROR = 1900, 6000, 0.95
#: Held-out images decide with a margin: the pruned network came from one that was trained on them.
HELD_ERROR = 0.85
METHOD = Olmp(epochs=8, rounds=0, tune=16, searches=0, scores="magnitude", rate=0.01, structure=0.5)
#: From small to large; the first that keeps the held-out error is taken.
WIDTHS = ("uniform{weights=4}", "uniform{weights=5}", "uniform{weights=6}", "int8")
CALIBRATION = 500


@dataclass(frozen=True, eq=False)
class Built:
    """A program and what it is like: error of held-out images in per cent; execution on the emulated core at -Os."""

    artefact: Artefact
    bits: str
    held: float
    execution: Execution

    @property
    def flash(self) -> int:
        assert self.execution.flash is not None
        return self.execution.flash.total


def error(artefact: Artefact, data: Dataset) -> float:
    """Per cent of samples that the integer program classifies wrongly."""
    found = integer_outputs(artefact.integer_graph, data)
    assert data.labels is not None
    return 100 - correct_percent(next(iter(found.values())), data.labels)


def build(graph: Graph, bits: str, seen: Dataset, held_out: Dataset, checked: int = 8) -> Built:
    """Compiled for size; the emulated core's answers to stored vectors and held-out samples equal the simulator's.

    Raises SystemExit where they differ.
    """
    pair = (to_model(seen.inputs[graph.inputs[0].name], graph.inputs[0].layout), seen.labels)
    artefact, _ = compile_with_report(to_onnx(graph), target="cortex-m7", bits=bits, data=pair, optimise="size")
    target = load_target("cortex-m7")
    runner = EmulatorRunner(artefact, target, find_compiler(target), level="-Os")
    inputs = quantise_inputs(artefact.integer_graph, held_out.first(checked).inputs)
    result = verify(artefact, {"emulator": runner}, inputs)
    if result.difference is not None:
        raise SystemExit(f"{bits}: the emulated core differs from the simulator: {result.difference}")
    return Built(artefact, bits, error(artefact, held_out), result.measured["emulator"])


def smallest(graph: Graph, widths: Sequence[str], seen: Dataset, held_out: Dataset, bound: float) -> Built:
    """The first of the widths whose held-out error is within the bound, else the one with the least error."""
    tried = []
    for bits in widths:
        made = build(graph, bits, seen, held_out)
        print(f"{bits}: {made.flash:,} bytes of flash, {made.held:.2f} % held-out error", flush=True)
        if made.held <= bound:
            return made
        tried.append(made)
    return min(tried, key=lambda made: made.held)


def small(graph: Graph, train: images.Images, seed: int) -> Graph:
    """Pruned to GOAL parameters."""
    lots = batches(graph, train, METHOD.batch, seed, 1 / 255)
    run = Run(METHOD, lots, len(train) // METHOD.batch, seed, progress=common.Told())
    return run.compress(graph, GOAL, None, None)[0]


def smoke(options: common.Options) -> None:
    graph, data = common.digits()
    found = Olmp(max_drop=2.0, epochs=4, tune=3, searches=0, structure=0.5).apply(graph, common.setting(data)).graph
    report(options, graph, build(found, "int8", data.sample, data.held_out, 2), data.test, found)


def report(options: common.Options, before: Graph, made: Built, test: Dataset, pruned: Graph) -> None:
    """The table; the test samples are looked at here and nowhere else."""
    table = common.Table("LeNet-5, everything together, on the emulated Cortex-M7", options)
    wrong, float_wrong, first_wrong = (
        error(made.artefact, test),
        *(100 - common.accuracy(g, test) for g in (pruned, before)),
    )
    flash, ram = made.execution.flash, made.execution.ram
    assert flash is not None and ram is not None
    table.goal("flash of the whole program, bytes", f"<= {FLASH:,}", f"{flash.total:,}", flash.total <= FLASH)
    table.goal("test error of the integer program, %", f"<= {ERROR}", f"{wrong:.2f}", wrong <= ERROR)
    table.goal("answers equal to the simulator's, bit for bit", "all", "all", True)
    table.goal("weights, tables, code: bytes", "", f"{flash.weights:,}, {flash.tables:,}, {flash.code:,}", None)
    table.goal("RAM with stack, bytes", "", f"{ram.total:,}", None)
    table.goal("instructions an inference", "", f"{made.execution.instructions_per_inference:,}", None)
    table.goal("parameters that are not zero", "", f"{weight_count(pruned):,} of {weight_count(before):,}", None)
    table.goal("test error before, and pruned in floats, %", "", f"{first_wrong:.2f}, {float_wrong:.2f}", None)
    shapes = "; ".join("x".join(map(str, n.params["weight"].shape)) for n in pruned.nodes if "weight" in n.params)
    table.finish(
        f"bits: {made.bits}, the fewest whose error on {HELD_OUT:,} held-out training images ({made.held:.2f} %) is "
        f"within the goal; layers left: {shapes}",
        f"code by {made.execution.compiler}, -Os, without start-up code and library; test images were measured once, "
        "at the end",
    )


def main() -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--from-weights", action="store_true", help="take the network of weights/, train nothing")

    options = common.arguments(__doc__, 1, add)
    if options.smoke:
        return smoke(options)
    before, whole = common.shared_model("lenet5"), images.mnist("train")
    train, rest = whole.take(slice(0, -HELD_OUT)), whole.take(slice(-HELD_OUT, None))
    if options.rest.from_weights or options.quick:
        pruned = load_graph(STORED.read_bytes(), ops.BY_KIND)
    else:
        pruned = small(before, train, seed=0)
        STORED.write_bytes(dump_graph(pruned))
    seen, held_out = (dataset(before, part, 1 / 255) for part in (train.take(slice(0, CALIBRATION)), rest))
    made = smallest(pruned, WIDTHS, seen, held_out, HELD_ERROR)
    return report(options, before, made, dataset(before, images.mnist("test"), 1 / 255), pruned)


if __name__ == "__main__":
    main()
