"""Compiles real networks and prints, as a markdown table, what they cost and whether all executions agree.

usage: tools/bench/run models [--target cortex-m7] [--bits int8] [--on simulator,host,emulator] [--samples N] [NAME ...]

The networks and data lie in ../shared beside the repository (digits: made by tools/demo_model.py); what is missing is
skipped and said. Calibration is on training data, accuracy on the first --samples of the test data. The peer's figures
are TFLM with CMSIS-NN on the same emulated core (QEMU mps2-an500), the better of its -Os/-O2 and -O3 builds; 1.2 kB of
its flash are the harness.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc.accuracy import compare
from dnnc.artefact import Artefact
from dnnc.driver import compile_with_report
from dnnc.errors import DnncError
from dnnc.quantise.data import load_data
from dnnc.report.data import Report
from dnnc.report.markdown import table
from dnnc.run import make_runner
from dnnc.simulate import quantise_inputs, simulate_batches
from dnnc.verify import SIMULATOR, verify

Array = NDArray[Any]
Pair = tuple[Array, Array]

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
CALIBRATION_SAMPLES = 1000


@dataclass(frozen=True)
class Peer:
    """TFLM with CMSIS-NN: instructions and modelled cycles (llvm-mca 19, cortex-m7) of one inference, memory in bytes;
    static: .data and .bss of the interpreter, without the C library's."""

    instructions: int
    cycles: int
    flash_bytes: int
    arena_bytes: int
    static_bytes: int
    stack_bytes: int

    @property
    def ram_bytes(self) -> int:
        """Arena and stack."""
        return self.arena_bytes + self.stack_bytes


@dataclass(frozen=True)
class Network:
    """`data` gives (calibration, test), each (x, y) in the model's own layout, for at most n test samples; or None.

    short: what it is called for short.
    """

    name: str
    data: Callable[[int], tuple[Pair, Pair]] | None = None
    peer: Peer | None = None
    short: str = ""


def mnist(count: int) -> tuple[Pair, Pair]:
    x, y, x_test, y_test = _shared_loader().mnist()
    picked = slice(0, CALIBRATION_SAMPLES)
    return (_pixels(x[picked]), y[picked]), (_pixels(x_test[:count]), y_test[:count])


def _pixels(x: Array) -> Array:
    return (x[:, None] / 255.0).astype(np.float32)


def cifar(count: int) -> tuple[Pair, Pair]:
    """Raw pixels, NCHW."""
    (x, y), (x_test, y_test) = cifar_nhwc(count)
    return (x.transpose(0, 3, 1, 2), y), (x_test.transpose(0, 3, 1, 2), y_test)


def cifar_nhwc(count: int) -> tuple[Pair, Pair]:
    load = _shared_loader().cifar10
    return load("train", CALIBRATION_SAMPLES), load("test", count)


def cifar_normalised(count: int) -> tuple[Pair, Pair]:
    mean, deviation = (np.array(v).reshape(3, 1, 1) for v in ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7)))
    seen, unseen = cifar(count)
    return tuple((((x - mean) / deviation).astype(np.float32), y) for x, y in (seen, unseen))  # type: ignore[return-value]


def wake_words(count: int) -> tuple[Pair, Pair]:
    """The only 45 samples there are serve for both."""
    with np.load(SHARED / "data" / "strww_samples.npz") as archive:
        pair = archive["x"], archive["y"]
    return pair, (pair[0][:count], pair[1][:count])


def handwritten(count: int) -> tuple[Pair, Pair]:
    folder = _demo_folder()
    pairs = []
    for name in ("digits.npz", "digits_test.npz"):
        with np.load(folder / name) as archive:
            pairs.append((archive["x"], archive["y"]))
    return pairs[0], (pairs[1][0][:count], pairs[1][1][:count])


NETWORKS = (
    Network("digits", handwritten),
    Network("lenet300", mnist),
    Network("lenet5", mnist),
    Network("resnet8_cifar10_jpeg", cifar),
    Network("vgg_small_cifar10", cifar_normalised, short="vgg"),
    Network("resnet8_cifar10", cifar_nhwc, Peer(29_937_594, 24_817_001, 148_363, 54_996, 460, 788), "resnet8"),
    Network("vww_mobilenetv1_025", None, Peer(24_025_157, 18_199_634, 385_125, 100_708, 460, 788), "vww"),
    Network("kws_dscnn", None, Peer(7_645_548, 5_723_752, 105_773, 22_820, 460, 788), "kws"),
    Network("ad_autoencoder_fused", None, Peer(582_540, 500_680, 302_785, 2_580, 280, 556), "ad"),
    Network("strww_streaming", wake_words, short="strww"),
)


def find(name: str) -> Network:
    """The network of that name, long or short. Raises KeyError."""
    return {key: network for network in NETWORKS for key in (network.name, network.short or network.name)}[name]


HEADINGS = (
    "network", "MACs", "instructions", "TFLM", "flash: weights", "tables", "code", "total", "TFLM", "RAM", "TFLM",
    "arena over lower bound", "float", "integer", "verified",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(network.name for network in NETWORKS))
    parser.add_argument("--target", default="cortex-m7")
    parser.add_argument("--bits", default="int8")
    parser.add_argument("--on", default="simulator,host,emulator", help="executions to verify; empty for none")
    parser.add_argument("--samples", type=int, default=1000, help="test samples for accuracy; 0 for none")
    options = parser.parse_args()
    unknown = set(options.names) - {network.name for network in NETWORKS}
    if unknown:
        parser.error(f"unknown network(s) {', '.join(sorted(unknown))}")
    rows = []
    for network in NETWORKS:
        if options.names and network.name not in options.names:
            continue
        started = time.perf_counter()
        try:
            rows.append(row(network, options.target, options.bits, options.on.split(","), options.samples))
        except (DnncError, FileNotFoundError, ImportError) as error:
            print(f"{network.name}: skipped: {error}", file=sys.stderr)
            continue
        print(f"{network.name}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    print(table(HEADINGS, rows, ("network", "verified")))
    return 0


def row(network: Network, target: str, bits: str, on: list[str], samples: int) -> tuple[str, ...]:
    """The cells of one network. Raises DnncError, and FileNotFoundError where its file is missing."""
    unseen = network.data(max(samples, 1))[1] if network.data else None
    artefact, report = compile_network(network, target, bits)
    accuracy = _accuracy(artefact, unseen) if unseen is not None and samples else ("", "")
    peer = network.peer if target == "cortex-m7" else None
    measured = report.measured
    if measured is None:
        raise DnncError("; ".join(report.warnings))
    return (
        network.name,
        f"{report.macs:,}",
        f"{measured.instructions:,}",
        f"{peer.instructions:,}" if peer else "",
        f"{measured.flash.weights:,}",
        f"{measured.flash.tables:,}",
        f"{measured.flash.code:,}",
        f"{measured.flash.total:,}",
        f"{peer.flash_bytes:,}" if peer else "",
        f"{measured.ram.total:,}",
        f"{peer.ram_bytes:,}" if peer else "",
        f"{_over_bound(report):.1f} %",
        *accuracy,
        _verified(artefact, on),
    )


def compile_network(network: Network, target: str, bits: str, compiler: str = "auto") -> tuple[Artefact, Report]:
    """Calibrated on its training data; where they cannot be read, which is said, on made-up samples: that changes
    accuracy, hardly costs. Raises DnncError, and FileNotFoundError where the network's file is missing."""
    seen = None
    try:
        seen = network.data(1)[0] if network.data else None
    except (FileNotFoundError, ImportError) as error:
        print(f"{network.name}: calibrated on made-up samples: {error}", file=sys.stderr)
    return compile_with_report(model_file(network.name), target=target, bits=bits, data=seen, compiler=compiler)


def _over_bound(report: Report) -> float:
    return 100.0 * (report.arena_bytes / report.arena_lower_bound_bytes - 1.0)


def _accuracy(artefact: Artefact, unseen: Pair) -> tuple[str, str]:
    dataset = load_data(unseen, artefact.float_graph)
    codes = simulate_batches(artefact.integer_graph, quantise_inputs(artefact.integer_graph, dataset.inputs))
    result = compare(artefact.float_graph, artefact.integer_graph, dataset, codes)
    return f"{result.float_percent:.2f} %", f"{result.integer_percent:.2f} %"


def _verified(artefact: Artefact, on: list[str]) -> str:
    names = [name for name in on if name]
    if not names:
        return ""
    result = verify(artefact, {name: make_runner(artefact, on=name) for name in names if name != SIMULATOR})
    return ", ".join(names) if result.difference is None else f"NO: {result.difference}"


def model_file(name: str) -> Path:
    """The ONNX file. Raises FileNotFoundError."""
    path = _demo_folder() / "digits.onnx" if name == "digits" else SHARED / "models" / f"{name}.onnx"
    if not path.is_file():
        raise FileNotFoundError(f"there is no '{path.name}' in '{path.parent}'")
    return path


def _demo_folder() -> Path:
    """Where the demo's network lies; trained now where tools/demo has not run."""
    folder = ROOT / "demo-build"
    if (folder / "digits_test.npz").is_file():
        return folder
    made = Path(tempfile.gettempdir()) / "dnnc-digits"
    if not (made / "digits_test.npz").is_file():
        _module(ROOT / "tools" / "demo_model.py").main(made)
    return made


def _shared_loader() -> Any:
    path = SHARED / "data" / "load_data.py"
    if not path.is_file():
        raise FileNotFoundError(f"there is no '{path}'")
    return _module(path)


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"'{path}' cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
