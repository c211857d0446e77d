"""The compiler, top to bottom: a model in, an artefact out.

(Not called compile.py: a module of that name would take the place of the function `dnnc.compile` once imported.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dnnc import frontend
from dnnc.accuracy import compare, layer_sqnr_db
from dnnc.artefact import FLOAT_GRAPH, INTEGER_GRAPH, VECTORS, Artefact, Vectors
from dnnc.backends.c import emit, lower, simplification
from dnnc.backends.c.banded import rows_are_words, takes_packed
from dnnc.backends.c.interface import interface
from dnnc.backends.c.optimise import GOALS, Cost, select
from dnnc.backends.c.program import Program
from dnnc.cost.loader import load_target
from dnnc.cost.target import Target
from dnnc.errors import BudgetError, OptionError, ToolchainError
from dnnc.ir.graph import Graph
from dnnc.ir.serial import dump_graph
from dnnc.naming import check_network_name, network_name
from dnnc.passes.pack import pack_activations
from dnnc.passes.plan import Plan, plan
from dnnc.passes.simplify import removed, simplify
from dnnc.progress import Progress, silent
from dnnc.quantise import quantise
from dnnc.quantise.bits import parse_policy
from dnnc.quantise.calibrate import MINIMUM_SAMPLES, calibrate
from dnnc.quantise.data import Source, load_data, synthesise
from dnnc.quantise.dataset import Dataset
from dnnc.report import data as report_data
from dnnc.report.data import Accuracy, LayerCost, Report
from dnnc.report.files import report_files
from dnnc.report.manifest import manifest_values
from dnnc.run import make_runner
from dnnc.simulate import quantise_inputs, simulate_batches
from dnnc.verify import random_codes

DEFAULT_BITS = "int8"
#: Made up where the user gives no data.
SYNTHETIC_SAMPLES = 64
#: Accuracy is measured on no more: its standard error is below a point by then, and simulation takes its time.
HELD_OUT_SAMPLES = 2000
#: Samples that SQNR is measured on.
SQNR_SAMPLES = 16
#: Stored test vectors: real inputs, and inputs of random codes, which saturate what real ones may not.
REAL_VECTORS, RANDOM_VECTORS = 4, 2
#: Of these, the ones that go into the C: flash is dear.
SELFTEST_VECTORS = (0, REAL_VECTORS)


def compile(
    model: Any,
    *,
    target: str | Path = "cortex-m7",
    bits: str | None = None,
    data: Source | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    seed: int = 0,
    name: str | None = None,
    optimise: str = "balanced",
    progress: Progress = silent,
) -> Artefact:
    """Compile a model for a target.

    model: a path to .onnx or .pt2, an onnx.ModelProto, a torch.nn.Module or a torch.export.ExportedProgram.
    bits: a policy such as "int8", "uniform{weights=4}" or "fisher{average=4}". data: calibration samples in the model's
    own layout, a path or arrays (see dnnc.quantise.data.load_data); made up where there are none. name: of the network
    in C. optimise: "balanced"; "speed" or "size" try kernels out on the emulated target (see dnnc.backends.c.optimise),
    with the C compiler that is found. Otherwise the same arguments give the same bytes. Raises subclasses of
    dnnc.errors.DnncError.
    """
    return compile_with_report(
        model, target=target, bits=bits, data=data, input_shapes=input_shapes, seed=seed, name=name,
        optimise=optimise, progress=progress,
    )[0]  # fmt: skip


def compile_with_report(
    model: Any,
    *,
    target: str | Path = "cortex-m7",
    bits: str | None = None,
    data: Source | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    seed: int = 0,
    name: str | None = None,
    optimise: str = "balanced",
    compiler: str = "auto",
    progress: Progress = silent,
) -> tuple[Artefact, Report]:
    """`compile`, and its report. compiler: the C compiler that measures code, "auto", "gcc" or "zig"."""
    hardware = load_target(target)
    policy = parse_policy(bits or DEFAULT_BITS)
    if name is not None:
        check_network_name(name)
    _check_goal(optimise, hardware)

    progress("reading the model", 0, 0)
    real = frontend.read(model, input_shapes)
    real = replace(real, name=name or network_name(real.name))
    samples = _samples(real, data, seed, progress)
    calibration = calibrate(real, samples.calibration, hardware, seed, progress)
    allocation = policy.allocate(calibration, hardware, samples.held_out, seed, progress)
    quantised = quantise(real, calibration, allocation, hardware)
    integer = simplify(quantised, simplification(hardware))
    if 4 in hardware.activation_bits:
        integer = pack_activations(
            integer, takes_packed, rows_are_words, lambda graph: _plan(graph, lower(graph, hardware)).arena_bytes
        )

    vectors = _vectors(integer, samples.calibration, seed)
    program = select(
        optimise,
        lambda tried: lower(integer, hardware, tried),
        lambda tried: _cost(integer, tried, hardware, vectors, compiler, policy.flash_budget_bytes),
        progress,
    )
    progress("generating C", 0, 0)
    layout = _plan(integer, program)
    files = emit(integer, program, layout, hardware, vectors.take(SELFTEST_VECTORS))
    files |= {
        FLOAT_GRAPH: dump_graph(calibration.graph),
        INTEGER_GRAPH: dump_graph(integer),
        VECTORS: vectors.dump(),
    }

    progress("measuring", 0, 0)
    report = Report(
        name=real.name,
        target=hardware.name,
        target_description=hardware.description,
        bits=str(policy),
        layers=report_data.layers(
            integer,
            {step.node: LayerCost(step.kernel, step.weight_bytes, step.table_bytes) for step in program.steps},
            allocation.sensitivity,
            # Of all channels: those that are left hold the same codes.
            layer_sqnr_db(calibration.graph, quantised, samples.calibration.first(SQNR_SAMPLES)),
        ),
        arena_bytes=layout.arena_bytes,
        arena_lower_bound_bytes=layout.lower_bound_bytes,
        flash_budget_bytes=hardware.flash_bytes,
        ram_budget_bytes=hardware.ram_bytes,
        accuracy=_accuracy(calibration.graph, integer, samples.held_out),
        measured=None,
        warnings=(*real.notes, *samples.calibration.warnings, *calibration.notes, *allocation.notes),
        simplified=removed(quantised, integer),
        optimise=optimise,
    )
    _check_fit(report)
    report = _measured(report, _seal(report, integer, files), hardware, vectors, compiler)
    _check_fit(report)
    return _seal(report, integer, files), report


def _plan(graph: Graph, program: Program) -> Plan:
    return plan(graph, program.scratch, program.overwrites)


def _check_goal(goal: str, target: Target) -> None:
    """Raise OptionError for a goal that is not known, or that the target cannot measure."""
    if goal not in GOALS:
        raise OptionError(f"cannot optimise for '{goal}'; known: {', '.join(GOALS)}")
    if goal != "balanced" and target.emulation.unicorn is None:
        raise OptionError(
            f"to optimise for {goal}, kernels are measured on an emulated core, and target '{target.name}' has none; "
            f"balanced needs none"
        )


def _cost(
    graph: Graph, program: Program, target: Target, vectors: Vectors, compiler: str, budget_bytes: int | None
) -> Cost:
    """Of a program, linked and run on the emulated target. Raises ToolchainError.

    budget_bytes: of weights and tables.
    """
    files = emit(graph, program, _plan(graph, program), target)
    artefact = Artefact.create(graph.name, target.name, {**files, INTEGER_GRAPH: dump_graph(graph)}, {})
    execution = make_runner(artefact, on="emulator", compiler=compiler, target=target).run(vectors.take((0,)).inputs)
    flash, ram, profile = execution.flash, execution.ram, execution.profile
    assert flash is not None and ram is not None and profile is not None
    fits = flash.total <= target.flash_bytes and ram.total <= target.ram_bytes
    if budget_bytes is not None:
        fits = fits and flash.weights + flash.tables <= budget_bytes
    return Cost(flash.total, profile.total.cycles or profile.total.instructions, fits)


@dataclass(frozen=True)
class _Samples:
    """What is learnt from, and, where labels were given, what accuracy is measured on."""

    calibration: Dataset
    held_out: Dataset | None


def _samples(graph: Graph, data: Source | None, seed: int, progress: Progress) -> _Samples:
    if data is None:
        return _Samples(synthesise(graph, SYNTHETIC_SAMPLES, seed, progress), None)
    given = load_data(data, graph)
    if given.labels is None:
        return _Samples(given, None)
    if len(given) < 2 * MINIMUM_SAMPLES:
        warning = "too few samples to keep half of them apart: accuracy is measured on those that were calibrated on"
        return _Samples(replace(given, warnings=(*given.warnings, warning)), given)
    calibration, held_out = given.halves(seed)
    if len(held_out) > HELD_OUT_SAMPLES:
        picked = np.random.default_rng(seed).permutation(len(held_out))[:HELD_OUT_SAMPLES]
        held_out = held_out.take(np.sort(picked))
    return _Samples(calibration, held_out)


def _vectors(graph: Graph, samples: Dataset, seed: int) -> Vectors:
    """Stored test vectors of an integer graph."""
    real = quantise_inputs(graph, samples.first(REAL_VECTORS).inputs)
    noise = random_codes(graph, RANDOM_VECTORS, seed)
    inputs = {name: np.concatenate([codes, noise[name]]) for name, codes in real.items()}
    return Vectors(inputs, simulate_batches(graph, inputs))


def _accuracy(real: Graph, integer: Graph, held_out: Dataset | None) -> Accuracy | None:
    """Of the float model and of the simulated integer program, on samples that nothing was learnt from."""
    if held_out is None:
        return None
    codes = simulate_batches(integer, quantise_inputs(integer, held_out.inputs))
    found = compare(real, integer, held_out, codes)
    if found.float_percent is None or found.integer_percent is None:
        return None
    return Accuracy(found.float_percent, found.integer_percent, found.samples)


def _measured(report: Report, artefact: Artefact, target: Target, vectors: Vectors, compiler: str) -> Report:
    """The report with what linking the program and emulating one inference tell; a warning where nothing can."""
    if target.emulation.unicorn is None:
        return report
    try:
        runner = make_runner(artefact, on="emulator", compiler=compiler, target=target)
    except ToolchainError as error:
        return replace(report, warnings=(*report.warnings, f"code, stack and instructions are not measured: {error}"))
    execution = runner.run(vectors.take((0,)).inputs)
    return report_data.with_measured(report, execution)


def _seal(report: Report, graph: Graph, files: Mapping[str, bytes]) -> Artefact:
    """The artefact of an integer graph with all that tells of it."""
    inputs, outputs = interface(graph, report.name)
    manifest = manifest_values(graph, [t.member for t in inputs], [t.member for t in outputs], report)
    return Artefact.create(report.name, report.target, {**files, **report_files(report, manifest, files)}, manifest)


def _check_fit(report: Report) -> None:
    """Raise BudgetError where the target's memories are too small for what is known so far."""
    for memory, used, available in (
        ("flash", report.flash_bytes, report.flash_budget_bytes),
        ("RAM", report.ram_bytes, report.ram_budget_bytes),
    ):
        if used > available:
            raise BudgetError(
                f"'{report.name}' does not fit {report.target}: it needs {used:,} bytes of {memory}, "
                f"{available:,} are there"
            )
