"""ResNet-8 (MLPerf Tiny) on a Cortex-M7, all of dnnc together, against what dnnc makes of it at 8 bits.

1. Holistic filter pruning with two budgets on the target, modelled cycles and flash.
2. Fine-tuning; half of the loss is the distance to the answers of a larger network (vgg_small).
3. Quantisation-aware training with learned steps: 4 bits in the layers with the most weights for their
   multiplications, as many as the flash budget asks for, 8 bits in the others.

--from-weights measures the network that is stored in weights/resnet8_small.npz; without it, a full run makes that file.
"""

from __future__ import annotations

import argparse
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import images
import numpy as np
import torch
from networks import WEIGHTS
from torch import nn

from dnnc import build, foresight, frontend, ops
from dnnc.backends.c import lower
from dnnc.compress.hfp import Hfp
from dnnc.compress.lsq import Lsq
from dnnc.compress.method import Setting
from dnnc.compress.train import Recipe, train
from dnnc.cost.loader import load_target
from dnnc.ir.graph import Graph
from dnnc.ir.serial import dump_graph, load_graph
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.bits.policy import Policy
from dnnc.quantise.bits.uniform import Uniform
from dnnc.quantise.bytes import linear_nodes
from dnnc.quantise.calibrate import calibrate
from dnnc.quantise.integer import quantise
from dnnc.quantise.measure import correct_percent
from dnnc.simulate import quantise_inputs, simulate_batches

FLASH, CYCLES, DROP = 0.4, 0.6, 0.5
#: What pruning aims at, at 8 bits: narrow weights take more cycles and less flash.
PRUNED_FLASH, PRUNED_CYCLES = 0.62, 0.56
STORED = WEIGHTS / "resnet8_small.npz"


@dataclass(frozen=True, eq=False)
class Program:
    """An integer network and what it takes on the emulated core."""

    integer: Graph
    flash: int
    cycles: int

    def accuracy(self, data: common.Data) -> float:
        """Per cent of the test images, bit for bit as the program computes."""
        labels = data.test.labels
        assert labels is not None
        codes = simulate_batches(self.integer, quantise_inputs(self.integer, data.test.inputs))
        return correct_percent(next(iter(codes.values())), labels)


def compiled(graph: Graph, policy: Policy, data: common.Data) -> Program:
    target = load_target("cortex-m7")
    calibration = calibrate(graph, data.sample, target)
    allocation = policy.allocate(calibration, target)
    integer = foresight.finish(quantise(calibration.graph, calibration, allocation, target), target)
    vectors = build.make_vectors(integer, data.sample, 0)
    cost = build.cost(integer, lower(integer, target), target, vectors, "auto", None)
    return Program(integer, cost.flash_bytes, cost.cycles)


def teacher() -> Graph:
    """vgg_small, of pixels 0..255."""
    path = images.SHARED / "models" / "torch_models.py"
    spec = importlib.util.spec_from_file_location("torch_models", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.VGGSmall()
    network.load_state_dict(torch.load(path.with_name("vgg_small_cifar10.pt"), weights_only=True))

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input: torch.Tensor) -> Any:
            return self.network(images.cifar_scaled(input))

    return frontend.read(Scaled().eval(), {"input": (1, 3, 32, 32)})


def widths(graph: Graph, bytes_to_save: float) -> dict[str, int]:
    """4 bits for the layers with the most weights for their multiplications until that much is saved, 8 for others."""
    found = {node.name: 8 for node in linear_nodes(graph.nodes)}
    for node in sorted(linear_nodes(graph.nodes), key=lambda n: n.type.size / n.params["weight"].shape[0]):
        if bytes_to_save <= 0:
            break
        found[node.name] = 4
        bytes_to_save -= node.params["weight"].size / 2
    return found


def made(graph: Graph, big: Graph, setting: Setting, before: Program, epochs: tuple[int, ...]) -> Graph:
    """The network on its grid, by the three steps; epochs of each."""
    limits = {"flash_bytes": int(PRUNED_FLASH * before.flash), "cycles": int(PRUNED_CYCLES * before.cycles)}
    pruned = Hfp(**limits, epochs=epochs[0], finetune=0, distil=0.0).apply(graph, setting)
    for note in (*pruned.notes, *([pruned.missed] if pruned.missed else [])):
        print(note, flush=True)
    recipe = Recipe(epochs=epochs[1], rate=0.05, distil=0.5, temperature=4.0)
    tuned = train(
        pruned.graph, setting.train, recipe, teacher=big, seed=setting.seed, progress=setting.progress,
        checkpoint=setting.checkpoint,
    )  # fmt: skip
    assert setting.measure is not None
    # records of 4 bits, and of 8 beside them, take a little more code
    wanted = setting.measure(tuned).flash_bytes - FLASH * before.flash + 0.01 * before.flash
    chosen = widths(tuned, wanted)
    calibration = calibrate(tuned, setting.sample, setting.target)
    allocation = Allocation(
        {n.name: np.full(len(n.params["weight"]), chosen[n.name], np.uint8) for n in linear_nodes(tuned.nodes)},
        Uniform().allocate(calibration, setting.target).activation_bits,
    )
    return Lsq(epochs=epochs[2]).at(tuned, calibration, allocation, setting).graph


def main() -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--from-weights", action="store_true", help=f"measure what is stored in {STORED.name}")
        parser.add_argument("--epochs", type=int, nargs=3, help="closing gates, fine-tuning, training on the grid")
        parser.add_argument("--checkpoint", type=Path, help="folder; an interrupted run goes on from there")

    options = common.arguments(__doc__, add=add)
    name = "resnet8_cifar10_jpeg"
    graph, data = common.digits() if options.smoke else common.cifar(name)
    before = compiled(graph, Uniform(), data)
    epochs = tuple(options.rest.epochs or options.pick((4, 60, 12), (1, 4, 2), (1, 1, 1)))
    if options.rest.from_weights:
        small = load_graph(STORED.read_bytes(), ops.BY_KIND)
    else:
        target = load_target("cortex-m7")
        setting = common.setting(
            data, measure=lambda g: build.usage(g, data.sample, target), checkpoint=options.rest.checkpoint
        )
        small = made(graph, graph if options.smoke else teacher(), setting, before, epochs)
        if options.mode == "full":
            STORED.write_bytes(dump_graph(small))
    after = compiled(small, Lsq(), data)
    of_before, of_after = before.accuracy(data), after.accuracy(data)
    table = common.Table(f"{'digits' if options.smoke else name}, Cortex-M7: all of dnnc against its own int8", options)
    for what, program, accuracy in (("int8", before, of_before), ("all together", after, of_after)):
        shown = f"{program.flash:,} bytes, {program.cycles:,}, {accuracy:.2f} %"
        table.goal(f"{what}: flash, modelled cycles, accuracy", "", shown, None)
    flash, cycles = after.flash / before.flash, after.cycles / before.cycles
    table.goal("flash", f"<= {FLASH:g}x", f"{flash:.3f}x", flash <= FLASH)
    table.goal("modelled cycles", f"<= {CYCLES:g}x", f"{cycles:.3f}x", cycles <= CYCLES)
    drop = of_before - of_after
    table.goal("accuracy lost", f"<= {DROP:g} points", f"{drop:.2f} points", drop <= DROP)
    how = "stored weights" if options.rest.from_weights else "epochs: {} closing gates, {} tuning, {} on the grid"
    table.finish(
        how.format(*epochs),
        f"{len(data.held_out)} held-out training images were not trained on and decided nothing; test images were "
        f"measured at the end, bit for bit as the program computes",
    )


if __name__ == "__main__":
    main()
