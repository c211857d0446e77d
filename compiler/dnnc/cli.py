"""The command line: thin, and quick to start, because what is heavy is imported by the command that needs it.

stdout carries the result (tables, or exactly one JSON document with --json); everything else goes to stderr.
Exit codes: 0 done; 1 a check failed or a budget is not met; 2 bad input; 3 a fault of dnnc itself; 130 interrupted.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from dnnc import __version__
from dnnc.errors import DnncError, OptionError

if TYPE_CHECKING:
    from rich.console import Console

    from dnnc.artefact import Artefact
    from dnnc.progress import Progress
    from dnnc.quantise.dataset import Dataset
    from dnnc.run.base import Array, Runner

EXECUTIONS = ("simulator", "host", "emulator", "qemu", "tvm")
COMPILERS = ("auto", "gcc", "zig")
BACKENDS = ("c", "tvm")
GOALS = ("balanced", "speed", "size")
#: Samples of `verify --data` unless told otherwise: enough to differ where something differs, quick on an emulator.
DEFAULT_SAMPLES = 8
INTERNAL_ERROR, INTERRUPTED = 3, 130
F = TypeVar("F", bound=Callable[..., Any])


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="dnnc")
@click.option("--debug", is_flag=True, help="Show where in dnnc an error arose.")
def cli(debug: bool) -> None:
    """Compile a trained network into integer C for small hardware, and prove that it computes the same everywhere.

    \b
      dnnc compile model.onnx --target cortex-m7 --bits fisher --data calib.npz -o build/
      dnnc compress model.onnx --prune hfp{macs=0.5} --data train.npz -o smaller.onnx
      dnnc estimate model.onnx --target ethos-u55-128 --target bitserial-16x16
      dnnc verify build/

    Exit codes: 0 done, 1 a check failed or a budget is not met, 2 bad input, 3 a fault of dnnc, 130 interrupted.
    """


def _common(command: F) -> F:
    """--json and --quiet, which every command understands alike."""
    command = click.option("--quiet", is_flag=True, help="No progress and no tables.")(command)
    return click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")(command)


_data_file = click.Path(path_type=Path, dir_okay=False)
_folder = click.Path(path_type=Path, file_okay=False)
_compiler = click.option(
    "--compiler", type=click.Choice(COMPILERS), default="auto", show_default=True, help="C compiler to prefer."
)
_own_target = click.option(
    "--target", metavar="FILE", help="The target's file, where it is none of dnnc's own [default: the artefact's]."
)
_prune = click.option(
    "--prune",
    multiple=True,
    metavar="SPEC",
    help="fisher, mutual-information, squeeze{size=4}, hfp{macs=0.5}, olmp{max_drop=0.5}; repeatable, in order.",
)
_finetune = click.option(
    "--finetune", type=click.IntRange(0), default=0, metavar="EPOCHS", help="Train for so long after pruning."
)
_held_out = click.option(
    "--held-out", type=_data_file, help="Samples to measure accuracy on [default: some of --data]."
)
_augment = click.option(
    "--augment", default="none", metavar="LIST", help="Of samples trained on: shift, flip, mixup, noise; as shift,flip."
)
_device = click.option("--device", default="cpu", show_default=True, help="What torch trains on: cpu, cuda, mps.")
_checkpoint = click.option(
    "--checkpoint", type=_folder, help="Keep the state of training here, to go on after an interruption."
)
_shapes = click.option(
    "--input-shape", "input_shapes", multiple=True, metavar="NAME=1,3,32,32", help="Shape of an input; repeatable."
)


@cli.command()
@click.argument("model", type=_data_file)
@click.option("-o", "--output", type=_folder, help="Folder to write [default: ./<model>-<target>].")
@click.option("--target", default="cortex-m7", show_default=True, metavar="NAME", help="See `dnnc targets`.")
@click.option(
    "--bits",
    metavar="SPEC",
    help="int8, uniform{weights=4}, fisher{average=4}, symog{weights=2}, lsq{weights=3} [default: int8]",
)
@click.option("--data", type=_data_file, help="Samples: .npz with x [N, ...] and perhaps y [N], or .npy.")
@_held_out
@_prune
@_finetune
@click.option("--preset", metavar="NAME", help="small, fast or balanced: chooses --prune, --finetune and --bits.")
@_augment
@_device
@_checkpoint
@_shapes
@click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    default="c",
    show_default=True,
    help="tvm: TVM's kernels, as a library or as C.",
)
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Most samples a call; with tvm.")
@click.option("--tune", type=click.IntRange(0), default=0, metavar="TRIALS", help="Kernels to try out; with tvm.")
@click.option("--tune-database", type=_folder, help="Where they are kept [default with --tune: <output>.tuning].")
@click.option(
    "--optimise",
    type=click.Choice(GOALS),
    default="balanced",
    show_default=True,
    help="speed, size: try kernels out on the emulated target, for fewer cycles or less flash.",
)
@click.option("--name", help="Name of the network in C [default: from the file's name].")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything random.")
@click.option("--overwrite", is_flag=True, help="Replace the folder if it is an artefact.")
@_compiler
@_common
def compile(
    model: Path, output: Path | None, target: str, bits: str | None, data: Path | None, held_out: Path | None,
    prune: tuple[str, ...], finetune: int, preset: str | None, augment: str, device: str, checkpoint: Path | None,
    input_shapes: tuple[str, ...], backend: str, batch: int, tune: int, tune_database: Path | None, optimise: str,
    name: str | None, seed: int, overwrite: bool, compiler: str, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Compile MODEL (.onnx or .pt2) and write C, report and test vectors to a folder."""
    shapes = _parse_shapes(input_shapes)
    from dnnc.cost.loader import load_target

    folder = output or Path(f"{model.stem}-{load_target(target).name}")
    database = tune_database or (folder.with_name(f"{folder.name}.tuning") if tune else None)
    with _progress(quiet) as tell:
        tell("loading", 0, 0)
        from dnnc.artefact import check_destination
        from dnnc.driver import Training, compile_with_report
        from dnnc.generate import Backend

        check_destination(folder, overwrite)
        artefact, report = compile_with_report(
            model, target=target, bits=bits, data=data, held_out=held_out,
            training=Training(prune, finetune, preset, augment, device, checkpoint),
            input_shapes=shapes, seed=seed, name=name, optimise=optimise,
            backend=Backend(backend, batch, tune, database), compiler=compiler, progress=tell,
        )  # fmt: skip
        artefact.write(folder, overwrite)
    if as_json:
        from dnnc.report.machine import report_values

        _print_json({**report_values(report), "folder": str(folder), "manifest": dict(artefact.manifest)})
    elif not quiet:
        from dnnc.report.terminal import print_report

        console = _console()
        print_report(report, console)
        console.print(f"written to {folder}", markup=False, highlight=False)
    else:
        for warning in report.warnings:
            click.echo(f"warning: {warning}", err=True)


@cli.command(short_help="Prune, squeeze and fine-tune MODEL, and write it as ONNX again.")
@click.argument("model", type=_data_file)
@click.option("-o", "--output", type=_data_file, required=True, help="ONNX file to write.")
@_prune
@_finetune
@click.option("--target", default="cortex-m7", show_default=True, metavar="NAME", help="That budgets are measured on.")
@click.option("--data", type=_data_file, help="Samples to train on: .npz with x [N, ...] and perhaps y [N], or .npy.")
@_held_out
@_augment
@_device
@_checkpoint
@_shapes
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything random.")
@click.option("--overwrite", is_flag=True, help="Replace the file if it is there.")
@_compiler
@_common
def compress(
    model: Path, output: Path, prune: tuple[str, ...], finetune: int, target: str, data: Path | None,
    held_out: Path | None, augment: str, device: str, checkpoint: Path | None, input_shapes: tuple[str, ...],
    seed: int, overwrite: bool, compiler: str, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Prune, squeeze and fine-tune MODEL, and write it as ONNX again.

    Where a budget is missed, the best found is written and the exit code is 1.
    """
    shapes = _parse_shapes(input_shapes)
    if output.suffix != ".onnx":
        raise OptionError(f"--output expects a file that ends in .onnx, found '{output}'")
    if output.exists() and not overwrite:
        raise OptionError(f"'{output}' exists: name another file, or give --overwrite")
    if not output.parent.is_dir():
        raise OptionError(f"the folder '{output.parent}' of --output does not exist")
    with _progress(quiet) as tell:
        tell("loading", 0, 0)
        from dnnc.driver import compress as compress_model
        from dnnc.frontend.onnx.export import save_onnx
        from dnnc.report.data import compressed

        result = compress_model(
            model, prune=prune, finetune=finetune, target=target, data=data, held_out=held_out, augment=augment,
            device=device, checkpoint=checkpoint, input_shapes=shapes, seed=seed, compiler=compiler, progress=tell,
        )  # fmt: skip
        save_onnx(result.graph, output)
    if as_json:
        from dnnc.report.machine import compressed_values

        _print_json({**compressed_values(compressed(result)), "missed": list(result.missed), "file": str(output)})
    elif not quiet:
        from dnnc.report.terminal import print_compressed

        console = _console()
        print_compressed(compressed(result), console)
        console.print(f"written to {output}", markup=False, highlight=False)
    if result.missed:
        click.echo(f"error: {'; '.join(result.missed)}", err=True)
        raise SystemExit(1)


@cli.command(short_help="Try many allocations of bits, and write the front of what they trade.")
@click.argument("model", type=_data_file)
@click.option("-o", "--output", type=_folder, required=True, help="Folder of results; an interrupted sweep goes on.")
@click.option("--flash", required=True, metavar="32k..96k", help="Least and most bytes of flash; k is 1024 bytes.")
@click.option("--target", default="cortex-m7", show_default=True, metavar="NAME", help="See `dnnc targets`.")
@click.option("--data", type=_data_file, help="Samples: .npz with x [N, ...] and perhaps y [N], or .npy.")
@_held_out
@click.option("--points", type=click.IntRange(1), default=30, show_default=True, help="Candidates to measure.")
@click.option("--group", type=click.Choice(("layer", "channel")), default="layer", show_default=True)
@click.option("--samples", type=click.IntRange(1), default=500, show_default=True, help="To measure accuracy on.")
@click.option(
    "--executor", "executor_name", default="process", show_default=True, help="process, thread or dask://host:port"
)
@click.option("--workers", type=click.IntRange(1), help="Candidates at a time [default: one a core].")
@_shapes
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything random.")
@_compiler
@_common
def sweep(
    model: Path, output: Path, flash: str, target: str, data: Path | None, held_out: Path | None, points: int,
    group: str, samples: int, executor_name: str, workers: int | None, input_shapes: tuple[str, ...], seed: int,
    compiler: str, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Compile MODEL with many allocations of bits, measure each, and write their Pareto front of accuracy, flash, RAM,
    cycles and energy to a folder: sweep.csv, sweep.json, sweep.png.
    """
    shapes = _parse_shapes(input_shapes)
    room = _parse_range(flash)
    with _progress(quiet) as tell:
        tell("loading", 0, 0)
        from dnnc.sweep import sweep as run_sweep

        found = run_sweep(
            model, folder=output, flash_bytes=room, target=target, data=data, held_out=held_out, points=points,
            group=group, samples=samples, executor_name=executor_name, workers=workers, input_shapes=shapes,
            compiler=compiler, seed=seed, progress=tell,
        )  # fmt: skip
    if as_json:
        click.echo((output / "sweep.json").read_text(encoding="utf-8"), nl=False)
    elif not quiet:
        from dnnc.report.terminal import grid

        console = _console()
        console.print(grid(found.headings, found.rows(), frozenset({"bits from"})))
        console.print(f"written to {output}: {', '.join(found.files)}", markup=False, highlight=False)
        for note in found.notes:
            console.print(f"note: {note}", markup=False, highlight=False)


@cli.command()
@click.argument("model", type=_data_file)
@click.option("--target", metavar="NAME", help="Also say what of the target the model would take at 8 bits.")
@_shapes
@_common
def inspect(model: Path, target: str | None, input_shapes: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Show the layers of MODEL, their work, and what is not supported."""
    shapes = _parse_shapes(input_shapes)
    with _progress(quiet) as tell:
        tell("reading the model", 0, 0)
        from dnnc.inspection import inspect_model

        inspection = inspect_model(model, shapes, target)
    if as_json:
        from dnnc.report.machine import inspection_values

        _print_json(inspection_values(inspection))
    elif not quiet:
        from dnnc.report.terminal import print_inspection

        print_inspection(inspection, _console())
    if inspection.unsupported:
        raise SystemExit(2)


@cli.command(short_help="Say what MODEL costs on hardware, without compiling it.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--target",
    "targets_",
    multiple=True,
    metavar="NAME",
    help="Repeatable; see `dnnc targets` [default: cortex-m7, ethos-u55-128, systolic-16x16, bitserial-16x16].",
)
@click.option("--bits", metavar="SPEC", help="int8, uniform{weights=4}, fisher{average=4} [default: int8]")
@click.option("--data", type=_data_file, help="Samples for bits that depend on them: .npz with x [N, ...], or .npy.")
@click.option("--plot", type=_data_file, metavar="FILE", help="Draw a roofline: .png, .svg or .pdf.")
@_shapes
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything random.")
@_common
def estimate(
    model: Path, targets_: tuple[str, ...], bits: str | None, data: Path | None, plot: Path | None,
    input_shapes: tuple[str, ...], seed: int, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Say what MODEL (.onnx, .pt2) costs on hardware: cycles, energy, traffic, flash, RAM, layer by layer.

    MODEL may be a folder that `dnnc compile` wrote: then what was measured is shown, and other targets beside it.
    """
    shapes = _parse_shapes(input_shapes)
    from dnnc.report.comparison import check_plot, comparison_values, plot_roofline, print_comparison

    if plot is not None:
        check_plot(plot)
    with _progress(quiet) as tell:
        tell("loading", 0, 0)
        from dnnc import estimation

        if model.is_dir():
            if bits is not None or data is not None or shapes:
                raise OptionError(f"'{model}' is compiled: --bits, --data and --input-shape are settled")
            found = estimation.measured(model, targets_)
        else:
            found = estimation.estimate(
                model, targets=targets_, bits=bits, data=data, input_shapes=shapes, seed=seed, progress=tell
            )
    if plot is not None:
        plot_roofline(found, plot)
    if as_json:
        _print_json(comparison_values(found))
    elif not quiet:
        print_comparison(found, _console())


@cli.command(short_help="Run the artefact in FOLDER on real inputs.")
@click.argument("folder", type=_folder)
@click.option(
    "--input",
    "input_file",
    type=_data_file,
    help="Samples in the model's own layout [default with --profile: a stored test vector].",
)
@click.option(
    "--on", type=click.Choice(EXECUTIONS), help="[default: simulator; with --profile: emulator, which alone can]"
)
@click.option("--output", type=_data_file, help="Write the outputs here (.npy, or .npz for several).")
@click.option("--profile", is_flag=True, help="Instructions and modelled cycles by layer and by what they are for.")
@_own_target
@_compiler
@_common
def run(
    folder: Path,
    input_file: Path | None,
    on: str | None,
    output: Path | None,
    profile: bool,
    target: str | None,
    compiler: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run the artefact in FOLDER on real inputs; count instructions and memory where the execution can."""
    on = on or ("emulator" if profile else "simulator")
    if profile and on != "emulator":
        raise OptionError(f"--profile needs --on emulator, which counts each instruction, not --on {on}")
    if input_file is None and not profile:
        raise OptionError("dnnc run needs --input, samples in the model's own layout")
    with _progress(quiet) as tell:
        if input_file is not None:
            artefact, codes, _ = _open(folder, input_file, None, tell)
        else:
            artefact, codes = _open_stored(folder, tell)
        tell(f"running on {on}", 0, 0)
        execution = _runner(artefact, on, compiler, target).run(codes)
        from dnnc.outputs import model_outputs, save_outputs

        outputs = model_outputs(artefact.integer_graph, execution.outputs)
        if output is not None:
            save_outputs(output, outputs)
    if as_json:
        from dnnc.report.machine import execution_values, output_values, profile_values

        values = {**execution_values(execution), "on": on, "outputs": output_values(outputs)}
        if profile and execution.profile is not None:
            values["profile"] = profile_values(execution.profile)
        _print_json(values)
    elif not quiet:
        from dnnc.report.terminal import print_execution, print_profile

        console = _console()
        if profile and execution.profile is not None:
            print_profile(execution.profile, console)
        print_execution(execution, outputs, on, console)


@cli.command(short_help="Prove that all executions of FOLDER agree on every bit.")
@click.argument("folder", type=_folder)
@click.option("--on", metavar="LIST", help="Executions to compare [default: simulator,host,emulator].")
@click.option("--data", type=_data_file, help="Compare on these samples, too.")
@click.option("--samples", type=click.IntRange(1), help="How many samples of --data, or random ones without it.")
@_own_target
@_compiler
@_common
def verify(
    folder: Path,
    on: str | None,
    data: Path | None,
    samples: int | None,
    target: str | None,
    compiler: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Prove that all executions of FOLDER agree on every bit; exit code 1 and the first difference if they do not."""
    chosen = None if on is None else _parse_executions(on)
    with _progress(quiet) as tell:
        tell("loading", 0, 0)
        from dnnc.artefact import Artefact
        from dnnc.verify import SIMULATOR, random_codes
        from dnnc.verify import verify as compare

        codes = None
        if data is not None:
            artefact, codes, _ = _open(folder, data, samples or DEFAULT_SAMPLES, tell)
        else:
            artefact = Artefact.load(folder)
            if samples is not None:
                codes = random_codes(artefact.integer_graph, samples)
        names = chosen or _executions_of(target or artefact.target)
        runners = {name: _runner(artefact, name, compiler, target) for name in names if name != SIMULATOR}
        result = compare(artefact, runners, codes, tell)
    if as_json:
        from dnnc.report.machine import verification_values

        _print_json(verification_values(result, artefact.edited))
    elif not quiet:
        from dnnc.report.terminal import print_verification

        print_verification(result, artefact.edited, _console())
    if result.difference is not None:
        click.echo(f"error: {result.difference}", err=True)
        raise SystemExit(1)


@cli.command(name="eval", short_help="Measure accuracy, float and integer, and how often they agree.")
@click.argument("folder", type=_folder)
@click.option(
    "--data", type=_data_file, required=True, help="Samples x and perhaps labels y, in the model's own layout."
)
@click.option("--on", type=click.Choice(EXECUTIONS), default="simulator", show_default=True)
@click.option("--samples", type=click.IntRange(1), help="Only the first N samples.")
@_own_target
@_compiler
@_common
def evaluate(
    folder: Path,
    data: Path,
    on: str,
    samples: int | None,
    target: str | None,
    compiler: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure the accuracy of the float model and of the integer program, and how often they agree."""
    with _progress(quiet) as tell:
        artefact, codes, dataset = _open(folder, data, samples, tell)
        tell(f"running {len(dataset)} sample(s) on {on}", 0, 0)
        from dnnc.accuracy import compare

        result = compare(
            artefact.float_graph,
            artefact.integer_graph,
            dataset,
            _runner(artefact, on, compiler, target).run(codes).outputs,
        )
    if as_json:
        from dnnc.report.machine import comparison_values

        _print_json({**comparison_values(result), "on": on})
    elif not quiet:
        from dnnc.report.terminal import print_comparison

        print_comparison(result, on, _console())


@cli.command()
@_common
def targets(as_json: bool, quiet: bool) -> None:
    """List the targets."""
    from dnnc.cost.loader import list_hardware, load_hardware

    found = [load_hardware(name) for name in list_hardware()]
    if as_json:
        from dnnc.report.machine import target_values

        _print_json([target_values(target) for target in found])
    elif not quiet:
        from dnnc.report.terminal import print_targets

        print_targets(found, _console())


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point of `dnnc`: runs one command and exits; no traceback reaches a user."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    # A terminated process cleans up after itself like an interrupted one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        cli.main(arguments, prog_name="dnnc", standalone_mode=False)
    except DnncError as error:
        _fail(str(error), error.exit_code, arguments)
    except click.UsageError as error:
        if not arguments:  # what click says then is the help text
            error.show()
            sys.exit(error.exit_code)
        command = "dnnc" if error.ctx is None else error.ctx.command_path
        _fail(f"{error.format_message().rstrip('.')} (see `{command} --help`)", error.exit_code, arguments)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code, arguments)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", INTERRUPTED, arguments)
    except MemoryError:
        _fail("there is not enough memory for this model", 1, arguments)
    except Exception as error:
        _fail(
            f"internal error: {type(error).__name__}: {error}. This is a fault of dnnc; please report it with the "
            f"command, the model and the output of --debug",
            INTERNAL_ERROR,
            arguments,
        )
    sys.exit(0)


def _fail(message: str, code: int, arguments: Sequence[str]) -> NoReturn:
    """One sentence on stderr; called while the exception is handled, which --debug shows."""
    if "--debug" in arguments:
        import traceback

        traceback.print_exc()
    click.echo(message if code == INTERRUPTED else f"error: {message}", err=True)
    sys.exit(code)


def _parse_range(text: str) -> tuple[int, int]:
    """Bytes from `32k..96k` or `32768..98304`."""
    match = re.fullmatch(r"\s*(\d+)\s*(k?)\s*\.\.\s*(\d+)\s*(k?)\s*", text, re.IGNORECASE)
    if match is None:
        raise OptionError(f"--flash expects two sizes such as 32k..96k, found '{text}'")
    low, high = (int(match[i]) * (1024 if match[i + 1] else 1) for i in (1, 3))
    return low, high


def _open(folder: Path, data: Path, samples: int | None, tell: Progress) -> tuple[Artefact, dict[str, Array], Dataset]:
    """The artefact, the input codes of (the first `samples` of) a data file, and the data."""
    tell("loading", 0, 0)
    from dnnc.artefact import Artefact
    from dnnc.quantise.data import load_data
    from dnnc.simulate import quantise_inputs

    artefact = Artefact.load(folder)
    dataset = load_data(data, artefact.float_graph)
    if samples is not None:
        dataset = dataset.first(samples)
    return artefact, quantise_inputs(artefact.integer_graph, dataset.inputs), dataset


def _open_stored(folder: Path, tell: Progress) -> tuple[Artefact, dict[str, Array]]:
    """The artefact and the first of its stored test vectors."""
    tell("loading", 0, 0)
    from dnnc.artefact import Artefact

    artefact = Artefact.load(folder)
    return artefact, dict(artefact.vectors.take((0,)).inputs)


def _runner(artefact: Artefact, on: str, compiler: str, target: str | None) -> Runner:
    from dnnc.cost.loader import load_target
    from dnnc.run import make_runner

    return make_runner(artefact, on=on, compiler=compiler, target=None if target is None else load_target(target))


def _parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, equals, numbers = text.rpartition("=")
        sizes = numbers.split(",")
        if not equals or not name or not all(size.strip().isdecimal() and int(size) > 0 for size in sizes):
            raise OptionError(
                f"--input-shape '{text}' is not NAME=SIZES: write the input's name and positive sizes, as x=1,3,32,32"
            )
        shapes[name] = tuple(int(size) for size in sizes)
    return shapes


def _parse_executions(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [name for name in names if name not in EXECUTIONS]
    if unknown or not names:
        raise OptionError(f"--on '{text}' names no execution: allowed are {', '.join(EXECUTIONS)}, with commas between")
    return names


def _executions_of(target: str) -> tuple[str, ...]:
    """The simulator, this computer, and an emulator where the target has one."""
    from dnnc.cost.loader import load_target

    return EXECUTIONS[:3] if load_target(target).emulation.unicorn else EXECUTIONS[:2]


def _print_json(values: Any) -> None:
    click.echo(json.dumps(values, indent=1, allow_nan=False))


def _console() -> Console:
    """Where tables go. A file or a pipe gets lines as long as they need to be."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=200)


@contextmanager
def _progress(quiet: bool) -> Iterator[Progress]:
    """Says on stderr what is being done and how far it is, where a person is watching."""
    if quiet or not sys.stderr.isatty():
        yield lambda stage, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        # A stage that does not know its end gets a moving bar.
        yield lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total or None)
