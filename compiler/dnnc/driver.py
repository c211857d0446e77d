"""The compiler, top to bottom: a model in, an artefact out.

(Not called compile.py: a module of that name would take the place of the function `dnnc.compile` once imported.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dnnc import build, foresight, frontend
from dnnc.accuracy import compare, layer_sqnr_db
from dnnc.artefact import FLOAT_GRAPH, INTEGER_GRAPH, VECTORS, Artefact, Vectors
from dnnc.backends.c.interface import interface
from dnnc.backends.c.optimise import GOALS
from dnnc.compress import METHODS, parse_method, parse_policy
from dnnc.compress.augment import augmentation
from dnnc.compress.grid import TrainedPolicy
from dnnc.compress.method import Method, Setting
from dnnc.compress.pipeline import Compression
from dnnc.compress.pipeline import compress as run_pipeline
from dnnc.compress.presets import preset as find_preset
from dnnc.cost.loader import load_target
from dnnc.cost.target import Target
from dnnc.errors import BudgetError, OptionError, ToolchainError
from dnnc.generate import Backend, C
from dnnc.ir.graph import Graph
from dnnc.ir.serial import dump_graph
from dnnc.naming import check_network_name, network_name
from dnnc.passes.simplify import removed
from dnnc.progress import Progress, silent
from dnnc.quantise.bits import Policy
from dnnc.quantise.calibrate import calibrate
from dnnc.quantise.data import Source
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.integer import quantise
from dnnc.quantise.reasons import reasons
from dnnc.report import data as report_data
from dnnc.report.data import Accuracy, Report
from dnnc.report.files import report_files
from dnnc.report.manifest import manifest_values
from dnnc.run import make_runner
from dnnc.samples import Samples, gather
from dnnc.simulate import quantise_inputs, simulate_batches

DEFAULT_BITS = "int8"
#: Samples that SQNR is measured on.
SQNR_SAMPLES = 16


def compile(
    model: Any,
    *,
    target: str | Path = "cortex-m7",
    bits: str | None = None,
    data: Source | Iterable[Any] | None = None,
    held_out: Source | None = None,
    prune: Sequence[str | Method] = (),
    finetune: int = 0,
    preset: str | None = None,
    augment: str = "none",
    device: str = "cpu",
    checkpoint: str | Path | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    seed: int = 0,
    name: str | None = None,
    optimise: str = "balanced",
    backend: str = "c",
    batch: int = 1,
    tune: int = 0,
    tune_database: str | Path | None = None,
    progress: Progress = silent,
) -> Artefact:
    """Compile a model for a target.

    model: a path to .onnx or .pt2, an onnx.ModelProto, a torch.nn.Module or a torch.export.ExportedProgram.
    bits: a policy such as "int8", "uniform{weights=4}" or "fisher{average=4}". data: samples in the model's own layout:
    a path or arrays (see dnnc.quantise.data.load_data), or a torch DataLoader of x or (x, y); made up where there are
    none. held_out: samples to measure accuracy on, kept out of `data` where not given. prune: compression methods, such
    as "squeeze{size=4.9}", in the order in which they are applied; finetune: epochs of training after them; preset:
    "small", "fast" or "balanced" instead of both. augment: of the samples trained on, such as "shift,flip". device: of
    torch. checkpoint: a folder in which training keeps its state. name: of the network in C. optimise: "balanced";
    "speed" or "size" try kernels out on the emulated target (see dnnc.backends.c.optimise), with the C compiler that is
    found. backend: "c", or "tvm" for a library that takes up to `batch` samples a call, or, for microcontrollers, for C
    whose kernels TVM wrote. tune: ways to arrange the library's kernels to try out here; tune_database: the folder
    where what was measured is kept, and found again. Otherwise the same arguments give the same bytes. Raises
    subclasses of dnnc.errors.DnncError.
    """
    training = Training(tuple(prune), finetune, preset, augment, device, checkpoint)
    return compile_with_report(
        model, target=target, bits=bits, data=data, held_out=held_out, training=training, input_shapes=input_shapes,
        seed=seed, name=name, optimise=optimise, progress=progress,
        backend=Backend(backend, batch, tune, Path(tune_database) if tune_database else None),
    )[0]  # fmt: skip


@dataclass(frozen=True)
class Training:
    """How a network is compressed and trained: the arguments of that name of `compile`."""

    prune: tuple[str | Method, ...] = ()
    finetune: int = 0
    preset: str | None = None
    augment: str = "none"
    device: str = "cpu"
    checkpoint: str | Path | None = None


def compile_with_report(
    model: Any,
    *,
    target: str | Path = "cortex-m7",
    bits: str | None = None,
    data: Source | Iterable[Any] | None = None,
    held_out: Source | None = None,
    training: Training = Training(),
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    seed: int = 0,
    name: str | None = None,
    optimise: str = "balanced",
    backend: Backend = C,
    compiler: str = "auto",
    progress: Progress = silent,
) -> tuple[Artefact, Report]:
    """`compile`, and its report. compiler: the C compiler that measures code, "auto", "gcc" or "zig".

    Raises BudgetError where a compression method misses its budget.
    """
    hardware = load_target(target)
    if name is not None:
        check_network_name(name)
    _check_goal(optimise, hardware)
    backend.check(hardware, optimise)
    # What is misspelt is told before a large model is read.
    trains = _plan(training, bits, hardware, labelled=True).trains

    progress("reading the model", 0, 0)
    real = frontend.read(model, input_shapes)
    read = real = replace(real, name=name or network_name(real.name))
    samples = gather(
        real, data, training=trains, held_out=held_out, augment=augmentation(training.augment, real),
        seed=seed, progress=progress,
    )  # fmt: skip
    plan = _plan(training, bits, hardware, samples.train.labelled)
    policy = plan.policy
    setting = _setting(samples, hardware, training, compiler, seed, progress)
    compression = None
    if plan.methods or plan.finetune:
        compression = run_pipeline(real, plan.methods, plan.finetune, setting)
        if compression.missed:
            raise BudgetError("; ".join(compression.missed))
        real = compression.graph
    notes: tuple[str, ...] = ()
    untrained = real
    if isinstance(policy, TrainedPolicy):
        prepared = policy.prepare(real, replace(setting, original=read))
        if prepared.missed is not None:
            raise BudgetError(f"{policy}: {prepared.missed}")
        real, notes = prepared.graph.verify(), prepared.notes
    calibration = calibrate(real, samples.calibration, hardware, seed, progress)
    programs = build.Programs(calibration, hardware)
    allocation = policy.allocate(calibration, hardware, samples.measured_on, seed, progress, programs)
    quantised = quantise(real, calibration, allocation, hardware)
    integer = foresight.finish(quantised, hardware, backend.packs)

    vectors = build.make_vectors(integer, samples.calibration, seed)
    budget = policy.flash_budget_bytes
    generated = backend.generate(integer, hardware, optimise, vectors, compiler, budget, progress)
    files = {
        **generated.files,
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
            generated.costs,
            allocation.sensitivity,
            # Of all channels: those that are left hold the same codes.
            layer_sqnr_db(calibration.graph, quantised, samples.calibration.first(SQNR_SAMPLES)),
        ),
        arena_bytes=generated.arena_bytes,
        arena_lower_bound_bytes=generated.arena_lower_bound_bytes,
        flash_budget_bytes=hardware.flash_bytes,
        ram_budget_bytes=hardware.ram_bytes,
        # A policy that trains has put the graph's weights on a grid: "float" is the network as it came to it.
        accuracy=_accuracy(calibration.graph if untrained is real else untrained, integer, samples.measured_on),
        measured=None,
        warnings=(*real.notes, *samples.calibration.warnings, *calibration.notes, *notes, *allocation.notes),
        simplified=removed(quantised, integer),
        optimise=optimise,
        compressed=None if compression is None else report_data.compressed(compression),
        reasons=reasons(calibration.graph, allocation, programs.source),
    )
    _check_fit(report)
    if generated.is_c:
        report = _measured(report, _seal(report, integer, files), hardware, vectors, compiler)
        _check_fit(report)
    return _seal(report, integer, files, generated.manifest), report


def compress(
    model: Any,
    *,
    prune: Sequence[str | Method] = (),
    finetune: int = 0,
    target: str | Path = "cortex-m7",
    data: Source | Iterable[Any] | None = None,
    held_out: Source | None = None,
    augment: str = "none",
    device: str = "cpu",
    checkpoint: str | Path | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    seed: int = 0,
    compiler: str = "auto",
    progress: Progress = silent,
) -> Compression:
    """Compress a model without compiling it; the arguments are those of `compile`.

    A budget that cannot be met is no error: the result is the best found, and says what is missed.
    """
    hardware = load_target(target)
    methods = _methods(prune)
    if not methods and not finetune:
        raise OptionError(f"nothing to do: name compression methods ({', '.join(METHODS)}) or epochs of fine-tuning")
    training = Training(methods, finetune, None, augment, device, checkpoint)
    progress("reading the model", 0, 0)
    real = frontend.read(model, input_shapes)
    samples = gather(
        real, data, training=True, held_out=held_out, augment=augmentation(augment, real), seed=seed, progress=progress
    )
    return run_pipeline(real, methods, finetune, _setting(samples, hardware, training, compiler, seed, progress))


@dataclass(frozen=True)
class _Plan:
    methods: tuple[Method, ...]
    finetune: int
    policy: Policy

    @property
    def trains(self) -> bool:
        return bool(self.methods or self.finetune or isinstance(self.policy, TrainedPolicy))


def _plan(training: Training, bits: str | None, target: Target, labelled: bool) -> _Plan:
    """What is to be done, from what was asked for or from a preset."""
    if training.preset is None:
        return _Plan(_methods(training.prune), training.finetune, parse_policy(bits or DEFAULT_BITS))
    if training.prune or training.finetune:
        raise OptionError(f"preset '{training.preset}' chooses the compression methods and their fine-tuning itself")
    chosen = find_preset(training.preset, target, labelled)
    return _Plan(_methods(chosen.prune), chosen.finetune, parse_policy(bits or chosen.bits))


def _methods(given: Sequence[str | Method]) -> tuple[Method, ...]:
    if isinstance(given, (str, Method)):
        given = (given,)
    return tuple(parse_method(method) if isinstance(method, str) else method for method in given)


def _setting(
    samples: Samples, target: Target, training: Training, compiler: str, seed: int, progress: Progress
) -> Setting:
    """What compression methods work with."""
    measurable = target.emulation.unicorn is not None
    return Setting(
        train=samples.train,
        sample=samples.statistics,
        held_out=samples.held_out,
        target=target,
        measure=(lambda graph: build.usage(graph, samples.calibration, target, compiler, seed)) if measurable else None,
        seed=seed,
        device=training.device,
        progress=progress,
        checkpoint=None if training.checkpoint is None else Path(training.checkpoint),
    )


def _check_goal(goal: str, target: Target) -> None:
    """Raise OptionError for a goal that is not known, or that the target cannot measure."""
    if goal not in GOALS:
        raise OptionError(f"cannot optimise for '{goal}'; known: {', '.join(GOALS)}")
    if goal != "balanced" and target.emulation.unicorn is None:
        raise OptionError(
            f"to optimise for {goal}, kernels are measured on an emulated core, and target '{target.name}' has none; "
            f"balanced needs none"
        )


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


def _seal(
    report: Report, graph: Graph, files: Mapping[str, bytes], more: Mapping[str, Any] = MappingProxyType({})
) -> Artefact:
    """The artefact of an integer graph with all that tells of it. more: what the manifest says besides."""
    inputs, outputs = interface(graph, report.name)
    manifest = {**manifest_values(graph, [t.member for t in inputs], [t.member for t in outputs], report), **more}
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
