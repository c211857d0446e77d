"""SYMOG (Enderich et al., Neurocomputing 2020): two-bit weights in all layers, first and last included.

LeNet-5 and vgg_small, as in the paper (forward=float) and with rounded weights in the loss; beside them learned steps
(LSQ), and what two bits cost without training: rounded to nearest, and with error feedback. All figures but those
marked "float" are of the integer program, on the bit-accurate simulator.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import common
import networks
import numpy as np

from dnnc.compress.grid import on_grid
from dnnc.compress.lsq import Lsq
from dnnc.compress.symog import Symog
from dnnc.cost.loader import load_target
from dnnc.ir.graph import Graph
from dnnc.quantise.bits import Policy, Uniform
from dnnc.quantise.bytes import linear_nodes
from dnnc.quantise.calibrate import calibrate
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.integer import quantise
from dnnc.quantise.measure import correct_percent, integer_outputs
from dnnc.quantise.weights import quantise_weights

BITS = 2
TARGET = "cortex-m7"


@dataclass(frozen=True)
class Case:
    """A network. points: of accuracy that SYMOG may lose. policies: with the epochs that each trains for."""

    name: str
    points: float
    policies: tuple[Symog | Lsq, ...]


def percent(graph: Graph, policy: Policy, data: common.Data) -> float:
    """Test accuracy of the integer program."""
    target = load_target(TARGET)
    calibration = calibrate(graph, data.sample, target)
    integer = quantise(graph, calibration, policy.allocate(calibration, target), target)
    assert data.test.labels is not None
    return correct_percent(integer_outputs(integer, data.test)[integer.outputs[0].model_name], data.test.labels)


def rounded_to_nearest(graph: Graph, sample: Dataset) -> Graph:
    """Each channel with the scale of least squared error, no feedback of errors."""
    found = {n.name: quantise_weights(n.params["weight"], [BITS], None)[BITS] for n in linear_nodes(graph.nodes)}
    return on_grid(
        graph,
        {k: v.codes for k, v in found.items()},
        {k: v.scale for k, v in found.items()},
        {k: v.bits for k, v in found.items()},
    )


def stored(case: str, policy: Symog | Lsq) -> Path:
    rounded = "_rounded" if isinstance(policy, Symog) and policy.forward == "rounded" else ""
    return networks.WEIGHTS / f"{policy.name}{rounded}_{case}.npz"


def store(path: Path, graph: Graph) -> None:
    """Codes, scales and biases of all layers."""
    arrays = {}
    for node in linear_nodes(graph.nodes):
        scale = node.params["weight_scale"]
        codes = np.round(node.params["weight"] / scale.reshape(-1, *(1,) * (node.params["weight"].ndim - 1)))
        arrays |= {f"{node.name}:codes": codes.astype(np.int8), f"{node.name}:scale": scale}
        arrays |= {f"{node.name}:bias": node.params["bias"], f"{node.name}:bits": node.params["weight_bits"]}
    np.savez_compressed(path, **arrays)


def restore(path: Path, graph: Graph) -> Graph:
    """The graph with what `store` wrote."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    names = [n.name for n in linear_nodes(graph.nodes)]
    made = on_grid(graph, *({n: arrays[f"{n}:{key}"] for n in names} for key in ("codes", "scale", "bits")))
    nodes = []
    for node in made.nodes:
        if node.name in names:
            params = {**node.params, "bias": arrays[f"{node.name}:bias"]}
            node = type(node)(node.name, node.op, node.inputs, params, node.type)
        nodes.append(node)
    return made.with_nodes(nodes).verify()


def run(case: Case, graph: Graph, data: common.Data, options: common.Options, table: common.Table) -> None:
    reference = common.accuracy(graph, data.test)
    table.goal(f"{case.name}: float network", "", f"{reference:.2f} %", None)
    nearest = percent(rounded_to_nearest(graph, data.sample), Uniform(weights=BITS), data)
    table.goal(f"{case.name}: {BITS} bits, rounded to nearest", "", f"{nearest:.2f} %", None)
    feedback = percent(graph, Uniform(weights=BITS), data)
    table.goal(f"{case.name}: {BITS} bits, error feedback", "", f"{feedback:.2f} %", None)
    setting = common.setting(data, 0, TARGET, checkpoint=options.rest.checkpoint)
    for policy in case.policies:
        path = stored(case.name, policy)
        known = options.rest.from_weights or (options.rest.missing and path.is_file())
        if known:
            if not path.is_file():
                table.note(f"{case.name}: no stored weights of {policy.name}")
                continue
            trained = restore(path, graph)
        elif isinstance(policy, Symog):
            pull, trained = policy.learn(graph, setting)
            before, after = (common.accuracy(g, data.test) for g in (pull.unrounded(), trained))
            moved = 100 * max(pull.distances().values())
            what = f"{case.name}: {policy}, final rounding, float arithmetic"
            table.goal(what, "0.00 points", f"{before:.2f} % to {after:.2f} %", abs(before - after) < 0.005)
            table.goal(
                f"{case.name}: {policy}, distance to the grid, worst layer",
                "< 1 % of a step",
                f"{moved:.2g} %",
                moved < 1,
            )
        else:
            trained = policy.prepare(graph, setting).graph
        if options.rest.store and not known:
            store(path, trained)
        found = percent(trained, policy, data)
        what = f"{case.name}: {policy}, {policy.epochs} epochs"
        goal = f">= {reference - case.points:.2f} %" if isinstance(policy, Symog) else ""
        met = found >= reference - case.points - 1e-9 if isinstance(policy, Symog) else None
        table.goal(what, goal, f"{found:.2f} % ({found - reference:+.2f})", met)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from-weights", action="store_true", help="measure the stored weights, do not train")
    parser.add_argument("--missing", action="store_true", help="train only what has no stored weights")
    parser.add_argument("--store", action="store_true", help="keep the trained weights in weights/")
    parser.add_argument("--only", choices=("lenet5", "vgg_small_cifar10"), help="one of the networks")
    parser.add_argument("--checkpoint", type=Path, help="a folder: training goes on from there after an interruption")


def main() -> None:
    options = common.arguments(__doc__, seeds=1, add=add_options)
    if options.rest.checkpoint is not None:
        options.rest.checkpoint.mkdir(parents=True, exist_ok=True)
    table = common.Table(f"SYMOG: weights of {BITS} bits in all layers", options)
    if options.smoke:
        paper, ours = Symog(weights=BITS, epochs=4, forward="float"), Symog(weights=BITS, epochs=4)
        case = Case("digits", 5.0, (paper, ours, Lsq(weights=BITS, epochs=2, rate=0.005)))
        run(case, *common.digits(), options, table)
    else:
        long, short = options.pick((8, 3), (3, 1), None)
        paper = Symog(weights=BITS, epochs=long, forward="float")
        case = Case("lenet5", 0.2, (paper, Lsq(weights=BITS, epochs=short)))
        if options.rest.only in (None, case.name):
            run(case, *common.lenet(case.name), options, table)
        # An epoch takes two minutes of CPU time: a quick run measures the stored weights.
        paper, ours = Symog(weights=BITS, forward="float"), Symog(weights=BITS, epochs=10)
        case = Case("vgg_small_cifar10", 1.5, (paper, ours, Lsq(weights=BITS, epochs=3)))
        options.rest.from_weights |= options.quick
        if options.rest.only in (None, case.name):
            run(case, *common.cifar(case.name), options, table)
    table.finish("nothing was decided by accuracy: the recipe is the policies' default; test images were measured once")


if __name__ == "__main__":
    main()
