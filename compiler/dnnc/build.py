"""From a calibrated network and its widths to a program: the half of the pipeline that asks the user nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dnnc.artefact import INTEGER_GRAPH, Artefact, Vectors
from dnnc.backends.c import emit, lower
from dnnc.backends.c.costs import ProgramCosts
from dnnc.backends.c.optimise import Cost
from dnnc.backends.c.program import Program
from dnnc.compress.method import Usage
from dnnc.cost.families import has_model, model_of
from dnnc.cost.kernels.table import load_costs
from dnnc.cost.target import Target
from dnnc.errors import TargetError
from dnnc.foresight import finish, foresee, layout
from dnnc.ir.graph import Graph
from dnnc.ir.serial import dump_graph
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.bits.costing import LayerModel, Source
from dnnc.quantise.bits.int8 import Int8
from dnnc.quantise.calibrate import Calibration, calibrate
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.integer import quantise
from dnnc.run import make_runner
from dnnc.run.base import Execution
from dnnc.simulate import quantise_inputs, simulate_batches
from dnnc.verify import random_codes

#: Stored test vectors: real inputs, and inputs of random codes, which saturate what real ones may not.
REAL_VECTORS, RANDOM_VECTORS = 4, 2
#: Samples that a network is calibrated on for measuring what it takes: the values of its codes hardly matter for that.
_USAGE_SAMPLES = 32


@dataclass(frozen=True, eq=False)
class Programs:
    """The programs that allocations of a calibrated network would become on a target (see `bits.policy.Programs`)."""

    calibration: Calibration
    target: Target

    @cached_property
    def source(self) -> Source | None:
        """What the target's kernels are known to take; else its cost model, where it has one."""
        graph, target = self.calibration.graph, self.target
        try:
            costs = load_costs(*target.folders)
        except TargetError:
            return LayerModel(graph, model_of(target)) if has_model(target) else None
        return ProgramCosts(graph, target, costs, lambda integer: foresee(finish(integer, target), target))

    def arena(self, allocation: Allocation) -> int:
        integer = finish(quantise(self.calibration.graph, self.calibration, allocation, self.target), self.target)
        return layout(integer, lower(integer, self.target)).arena_bytes


def knows_code(target: Target) -> bool:
    """Whether the kernels of a target were measured, code and all."""
    try:
        load_costs(*target.folders)
    except TargetError:
        return False
    return True


def make_vectors(graph: Graph, samples: Dataset, seed: int) -> Vectors:
    """Stored test vectors of an integer graph."""
    real = quantise_inputs(graph, samples.first(REAL_VECTORS).inputs)
    noise = random_codes(graph, RANDOM_VECTORS, seed)
    inputs = {name: np.concatenate([codes, noise[name]]) for name, codes in real.items()}
    return Vectors(inputs, simulate_batches(graph, inputs))


def execute(graph: Graph, program: Program, target: Target, vectors: Vectors, compiler: str) -> Execution:
    """The program, linked and run on the first vector on the emulated target. Raises ToolchainError."""
    files = emit(graph, program, layout(graph, program), target)
    artefact = Artefact.create(graph.name, target.name, {**files, INTEGER_GRAPH: dump_graph(graph)}, {})
    return make_runner(artefact, on="emulator", compiler=compiler, target=target).run(vectors.take((0,)).inputs)


def cost(
    graph: Graph, program: Program, target: Target, vectors: Vectors, compiler: str, budget_bytes: int | None
) -> Cost:
    """Of a program on the emulated target. budget_bytes: of weights and tables, and of code where bit policies know
    what kernels take (see `Programs.source`). Raises ToolchainError.
    """
    execution = execute(graph, program, target, vectors, compiler)
    flash, ram, profile = execution.flash, execution.ram, execution.profile
    assert flash is not None and ram is not None and profile is not None
    fits = flash.total <= target.flash_bytes and ram.total <= target.ram_bytes
    if budget_bytes is not None:
        constants = flash.weights + flash.tables
        fits = fits and (flash.total if knows_code(target) else constants) <= budget_bytes
    return Cost(flash.total, profile.total.cycles or profile.total.instructions, fits)


def usage(real: Graph, samples: Dataset, target: Target, compiler: str = "auto", seed: int = 0) -> Usage:
    """What a float graph takes on the emulated target at 8 bits; it need not fit. Raises ToolchainError."""
    part = samples.spread(_USAGE_SAMPLES)
    calibration = calibrate(real, part, target, seed)
    allocation = Int8().allocate(calibration, target, None, seed)
    integer = finish(quantise(real, calibration, allocation, target), target)
    execution = execute(integer, lower(integer, target), target, make_vectors(integer, part, seed), compiler)
    flash, ram, profile = execution.flash, execution.ram, execution.profile
    assert flash is not None and ram is not None and profile is not None
    layers = {name: found.cycles or found.instructions for name, found in profile.layers.items()}
    return Usage(flash.total, ram.total, profile.total.cycles or profile.total.instructions, layers)
