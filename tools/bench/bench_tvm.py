"""Times networks as TVM modules against onnxruntime's int8 of the same float model, and prints a markdown table.

usage: tools/bench/run tvm [--batch N] [--bits 8,4] [--tune TRIALS] [--rounds N] [--profile] [NAME ...]

One thread, one run: in every round each contestant is called for some milliseconds, one after the other, and the least
and the median of the rounds' means are told. onnxruntime has QDQ, per-channel weights, static ranges, unsigned inputs
and signed weights, and its inputs and outputs bound; ratios are of the least times. Calibration is on training data in
../shared where there are any. The goals are verdicts under the table; the exit code is 1 where one is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["TVM_NUM_THREADS"] = "1"  # read when TVM is loaded

import numpy as np
from numpy.typing import NDArray

import models
from dnnc.artefact import Artefact
from dnnc.driver import compile_with_report
from dnnc.errors import DnncError
from dnnc.generate import Backend
from dnnc.report.data import Report
from dnnc.report.markdown import table
from dnnc.verify import random_codes

Array = NDArray[Any]
Run = Callable[[], Any]

NAMES = ("resnet8", "vww", "kws", "ad", "vgg")
#: What a module may take beyond its packed weights: kernels, tables, and TVM's own.
OVERHEAD_BYTES = 200_000
UNTUNED, TUNED, COMPILE_SECONDS = 1.5, 1.0, 20.0
#: A block of calls of one contestant in one round.
BLOCK_SECONDS = 0.004
HEADINGS = (
    "network", "bits", "µs", "median", "onnxruntime µs", "median", "ratio", "compile s", "module bytes",
    "packed weights",
)  # fmt: skip


@dataclass(frozen=True)
class Times:
    """Seconds a call: the means of the rounds."""

    rounds: tuple[float, ...]

    @property
    def least(self) -> float:
        return min(self.rounds)

    @property
    def median(self) -> float:
        return float(np.median(self.rounds))


@dataclass(frozen=True)
class Made:
    artefact: Artefact
    report: Report
    seconds: float

    @property
    def library(self) -> bytes:
        return self.artefact.files[self.artefact.manifest["tvm"]["library"]]

    @property
    def weight_bytes(self) -> int:
        return sum(layer.cost.weight_bytes for layer in self.report.layers)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--batch", type=int, default=1, help="samples a call")
    parser.add_argument("--bits", default="8,4", help="of the weights")
    parser.add_argument("--tune", type=int, default=0, metavar="TRIALS", help="of each network and width; kept nowhere")
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--profile", action="store_true", help="also the time of every kernel")
    options = parser.parse_args()
    widths = [int(b) for b in options.bits.split(",")]
    rows, verdicts = [], []
    for name in options.names or NAMES:
        try:
            network = models.find(name)
            found, said = one(network, widths, options)
        except (DnncError, FileNotFoundError) as error:
            print(f"{name}: skipped: {error}", file=sys.stderr)
            continue
        rows += found
        verdicts += said
    print(table(HEADINGS, rows, {"network"}))
    print()
    for text, met in verdicts:
        print(f"- {'met' if met else 'MISSED'}: {text}")
    return 0 if all(met for _, met in verdicts) else 1


def one(network: models.Network, widths: Sequence[int], options: Any) -> tuple[list[Any], list[tuple[str, bool]]]:
    """Rows and verdicts of a network. Raises DnncError, and FileNotFoundError where its file is missing."""
    name, batch = network.short or network.name, options.batch
    file, seen = models.model_file(network.name), _calibration(network)
    made = {bits: compiled(file, bits, batch, seen, options.tune) for bits in widths}
    runs: dict[str, Run] = {f"tvm{bits}": _module(artefact, batch) for bits, artefact in made.items()}
    with onnxruntime_int8(file, batch, seen) as peer:
        times = interleaved({**runs, "peer": peer}, options.rounds)
    if options.profile:
        for bits, artefact in made.items():
            print(f"\n{name}, {bits} bits\n\n{profile(artefact, batch)}\n")
    reference = times["peer"]
    rows, verdicts = [], []
    for bits, artefact in made.items():
        own = times[f"tvm{bits}"]
        ratio = own.least / reference.least
        size, allowed = len(artefact.library), 1.1 * (artefact.weight_bytes + OVERHEAD_BYTES)
        rows.append(
            (name, str(bits), f"{own.least * 1e6:.1f}", f"{own.median * 1e6:.1f}", f"{reference.least * 1e6:.1f}",
             f"{reference.median * 1e6:.1f}", f"{ratio:.2f}", f"{artefact.seconds:.1f}", f"{size:,}",
             f"{artefact.weight_bytes:,}")
        )  # fmt: skip
        label = f"{name}, {bits} bits"
        goal, how = (TUNED, "tuned") if options.tune else (UNTUNED, "untuned")
        verdicts.append((f"{label}: {ratio:.2f} of onnxruntime's time, at most {goal} {how}", ratio <= goal))
        verdicts.append((f"{label}: a module of {size:,} bytes, at most {allowed:,.0f}", size <= allowed))
        if name == "resnet8" and not options.tune:
            fast = artefact.seconds < COMPILE_SECONDS
            verdicts.append((f"{label}: compiled in {artefact.seconds:.1f} s, under {COMPILE_SECONDS:.0f}", fast))
    if {8, 4} <= set(widths):
        share = times["tvm4"].least / times["tvm8"].least
        verdicts.append((f"{name}: 4 bits take {share:.2f} of the time of 8, at most 1.02 (noise)", share <= 1.02))
    return rows, verdicts


def compiled(file: Path, bits: int, batch: int, seen: Any, trials: int) -> Made:
    started = time.perf_counter()
    policy = "int8" if bits == 8 else f"uniform{{weights={bits}}}"
    artefact, report = compile_with_report(
        file, target="host", bits=policy, data=seen, backend=Backend("tvm", batch, trials)
    )  # fmt: skip
    return Made(artefact, report, time.perf_counter() - started)


def interleaved(runs: dict[str, Run], rounds: int) -> dict[str, Times]:
    calls = {}
    for name, run in runs.items():
        run()
        started = time.perf_counter()
        run()
        calls[name] = max(3, int(BLOCK_SECONDS / (time.perf_counter() - started)))
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            run()
            started = time.perf_counter()
            for _ in range(calls[name]):
                run()
            found[name].append((time.perf_counter() - started) / calls[name])
    return {name: Times(tuple(seconds)) for name, seconds in found.items()}


def _module(made: Made, batch: int) -> Run:
    from dnnc.backends.tvm import library

    main, tensors = library.load(made.artefact.integer_graph, made.library, batch).main, _tensors(made, batch)
    return lambda: main(*tensors)


def _tensors(made: Made, batch: int) -> list[Any]:
    import tvm

    from dnnc.backends.tvm.call import storage

    graph = made.artefact.integer_graph
    codes = random_codes(graph, batch)
    return [tvm.runtime.tensor(codes[i.name].astype(storage(i.type))) for i in graph.inputs]


def profile(made: Made, batch: int) -> str:
    """Microseconds of every kernel: the least of many calls of it, one after the other, with what a network gives it.
    Its memory is warmer than in the network; a call costs about a microsecond here."""
    import tvm
    from tvm import relax

    spent: dict[str, list[float]] = {}  # a kernel that serves several layers is called for each

    def instrument(function: Any, name: str, before: bool, _: Any, *arguments: Any) -> int:
        if before and not name.startswith("vm."):
            found = []
            for _ in range(50):
                started = time.perf_counter()
                function(*arguments)
                found.append(time.perf_counter() - started)
            spent.setdefault(name, []).append(min(found) * 1e6)
        return 0

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "library.so"
        path.write_bytes(made.library)
        virtual = relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())
        virtual.set_instrument(instrument)
        virtual["main"](*_tensors(made, batch))
    layers = {layer.cost.kernel: layer for layer in made.report.layers if layer.cost.kernel}
    rows = []
    for name, found in spent.items():
        layer = layers.get(name)
        macs = layer.macs * batch * len(found) if layer else 0
        rows.append(
            (name, f"{layer.name} {layer.shape}" if layer else "", str(len(found)), f"{sum(found):.1f}",
             f"{macs / sum(found) / 1e3:.1f}" if macs else "")
        )  # fmt: skip
    rows.append(("all", "", "", f"{sum(sum(found) for found in spent.values()):.1f}", ""))
    return table(("kernel", "layer", "calls", "µs", "GMAC/s"), rows, {"kernel", "layer"})


# --- onnxruntime ---------------------------------------------------------------------------------------------------


class onnxruntime_int8:
    """As a context: a function that runs the quantised model once; its files go when the context ends."""

    def __init__(self, file: Path, batch: int, seen: Any) -> None:
        self.file, self.batch, self.seen = file, batch, seen
        self.folder = tempfile.TemporaryDirectory()

    def __enter__(self) -> Run:
        import onnx
        import onnxruntime
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        onnxruntime.set_default_logger_severity(3)
        paths = [str(Path(self.folder.name) / name) for name in ("float.onnx", "clean.onnx", "int8.onnx")]
        onnx.save(with_batch(onnx.load(self.file), self.batch), paths[0])
        quant_pre_process(paths[0], paths[1], skip_symbolic_shape=True)
        graph = onnx.load(paths[1]).graph
        shape = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
        name, samples = graph.input[0].name, _float_samples(shape, self.seen)

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.left: Iterator[Array] = iter(samples)

            def get_next(self) -> dict[str, Array] | None:
                found = next(self.left, None)
                return None if found is None else {name: found}

        quantize_static(
            paths[1], paths[2], Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(paths[2], settings, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        binding.bind_cpu_input(name, samples[0])
        for output in session.get_outputs():
            binding.bind_output(output.name)
        return lambda: session.run_with_iobinding(binding)

    def __exit__(self, *_: object) -> None:
        self.folder.cleanup()


def with_batch(model: Any, batch: int) -> Any:
    """The model for so many samples: its first axes, and the reshapes that name it."""
    from onnx import numpy_helper

    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    del model.graph.value_info[:]
    shapes = {node.input[1] for node in model.graph.node if node.op_type == "Reshape"}
    for tensor in model.graph.initializer:
        if tensor.name in shapes:
            shape = numpy_helper.to_array(tensor).copy()
            shape[0] = batch if shape[0] == 1 else shape[0]
            tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))
    return model


def _float_samples(shape: Sequence[int], seen: Any) -> list[Array]:
    """Sixteen inputs: of the training data where there are any, else made up."""
    count = 16 * shape[0]
    if seen is None:
        return list(np.random.default_rng(0).normal(size=(16, *shape)).astype(np.float32))
    x = np.asarray(seen[0], np.float32)
    return list(np.resize(x, (count, *x.shape[1:])).reshape(16, *shape))


def _calibration(network: models.Network) -> Any:
    try:
        return network.data(1)[0] if network.data else None
    except (FileNotFoundError, ImportError) as error:
        print(f"{network.name}: calibrated on made-up samples: {error}", file=sys.stderr)
        return None


if __name__ == "__main__":
    sys.exit(main())
