"""One candidate, compiled and measured, on whatever machine: everything that it takes travels as bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc import build, foresight, ops
from dnnc.accuracy import compare
from dnnc.artefact import Vectors
from dnnc.backends.c import lower
from dnnc.cost.loader import load_target
from dnnc.cost.target import Target
from dnnc.errors import ToolchainError
from dnnc.ir.graph import Graph
from dnnc.ir.serial import dump_arrays, dump_graph, load_arrays, load_graph
from dnnc.quantise.calibrate import Calibration, calibrate
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.integer import quantise
from dnnc.run.base import Execution
from dnnc.simulate import quantise_inputs, simulate_batches
from dnnc.sweep.candidates import Candidate
from dnnc.sweep.front import Point

_LABELS = "labels"


@dataclass(frozen=True)
class Payload:
    """graph: float, as `dump_graph` writes it; learnt, measured: samples to calibrate on and to measure on, as npz."""

    graph: bytes
    learnt: bytes
    measured: bytes
    target: str
    compiler: str
    seed: int

    @property
    def digest(self) -> str:
        """The same for the same network, samples and target."""
        parts = (self.graph, self.learnt, self.measured, f"{self.target} {self.compiler} {self.seed}".encode())
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def pack(graph: Graph, learnt: Dataset, measured: Dataset, target: str, compiler: str, seed: int) -> Payload:
    """What workers need."""
    return Payload(dump_graph(graph), _dump(learnt), _dump(measured), target, compiler, seed)


def _dump(samples: Dataset) -> bytes:
    arrays: dict[str, NDArray[Any]] = {f"x {name}": values for name, values in samples.inputs.items()}
    return dump_arrays(arrays | ({} if samples.labels is None else {_LABELS: samples.labels}))


def _load(data: bytes) -> Dataset:
    arrays = load_arrays(data)
    return Dataset({name[2:]: values for name, values in arrays.items() if name != _LABELS}, arrays.get(_LABELS))


@dataclass(frozen=True, eq=False)
class Prepared:
    """What all candidates share."""

    calibration: Calibration
    target: Target
    measured: Dataset


@lru_cache(maxsize=2)
def prepared(payload: Payload) -> Prepared:
    """Made once in a process; the same everywhere, as calibration computes on one thread."""
    target = load_target(payload.target)
    calibration = calibrate(load_graph(payload.graph, ops.BY_KIND), _load(payload.learnt), target, payload.seed)
    return Prepared(calibration, target, _load(payload.measured))


def evaluate(payload: Payload, candidate: Candidate) -> Point:
    """Quantises, lowers, links, emulates one inference, and measures accuracy with the bit-accurate simulator.

    Without a toolchain or an emulator flash are the constants, RAM the arena, and cycles are not known.
    """
    shared = prepared(payload)
    graph, target, samples = shared.calibration.graph, shared.target, shared.measured
    integer = foresight.finish(quantise(graph, shared.calibration, candidate.allocation(), target), target)
    program = lower(integer, target)
    codes = simulate_batches(integer, quantise_inputs(integer, samples.inputs))
    found = compare(graph, integer, samples, codes)
    sizes = {name: graph.by_name[name].params["weight"][0].size for name in candidate.weight_bits}
    elements = {name: graph.types[name].size for name in candidate.activation_bits}
    execution = _executed(payload, shared, integer, program)
    flash, ram = (None, None) if execution is None else (execution.flash, execution.ram)
    cycles = None if execution is None or execution.profile is None else execution.profile.total.cycles
    active = target.energy
    constants = sum(step.weight_bytes + step.table_bytes for step in program.steps)
    return Point(
        key=candidate.key,
        origin=candidate.origin,
        weight_bits=candidate.allocation().average_bits(sizes),
        layer_bits={name: float(np.mean(bits)) for name, bits in candidate.weight_bits.items()},
        activation_bits=sum(candidate.activation_bits[v] * n for v, n in elements.items()) / sum(elements.values()),
        accuracy_percent=found.integer_percent,
        agreement_percent=found.agreement_percent,
        sqnr_db=next(iter(found.sqnr_db.values()), None),
        flash_bytes=constants if flash is None else flash.total,
        ram_bytes=foresight.layout(integer, program).arena_bytes if ram is None else ram.total,
        cycles=cycles,
        energy_uj=None if cycles is None or active is None else cycles * active.pj_per_cycle * 1e-6,
    )


def _executed(payload: Payload, shared: Prepared, integer: Graph, program: Any) -> Execution | None:
    if shared.target.emulation.unicorn is None:
        return None
    inputs = quantise_inputs(integer, shared.measured.first(1).inputs)
    vectors = Vectors(inputs, simulate_batches(integer, inputs))
    try:
        return build.execute(integer, program, shared.target, vectors, payload.compiler)
    except ToolchainError:
        return None
