"""What `--preset small|fast|balanced` makes of a network, beside int8 and the plain Fisher bits, on the Cortex-M7.

Each row is a whole compilation as a user would start it: labelled images, no options. On scikit-learn's digits (the
network of the demo), and on LeNet-5 with the first 10,000 images of MNIST.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common
import images
import numpy as np
from numpy.typing import NDArray

from dnnc import ops
from dnnc.artefact import INTEGER_GRAPH
from dnnc.compress.presets import LABELLED
from dnnc.driver import Training, compile_with_report
from dnnc.ir.layout import from_model
from dnnc.ir.serial import load_graph
from dnnc.quantise.measure import correct_percent
from dnnc.simulate import quantise_inputs, simulate_batches

PLAIN = ("int8", "fisher")
#: The images of LeNet-5 that are trained on.
IMAGES = 10000
Arrays = tuple[NDArray[np.float32], NDArray[np.int64]]


def digits(folder: Path) -> tuple[Path, Arrays, Arrays]:
    """The demo's network with its training and its test images."""
    script = Path(__file__).resolve().parents[1] / "demo_model.py"
    subprocess.run([sys.executable, str(script), str(folder)], check=True, stdout=subprocess.DEVNULL)
    parts = []
    for name in ("digits", "digits_test"):
        with np.load(folder / f"{name}.npz") as archive:
            parts.append((archive["x"], archive["y"]))
    return folder / "digits.onnx", parts[0], parts[1]


def lenet5() -> tuple[Path, Arrays, Arrays]:
    path = images.SHARED / "models" / "lenet5.onnx"
    if not path.is_file():
        raise SystemExit("the network lenet5.onnx is expected in ../shared/models beside the repository")

    def arrays(part: images.Images) -> Arrays:
        return part.x.reshape(-1, 1, 28, 28).numpy().astype(np.float32) / np.float32(255), part.y.numpy()

    return path, arrays(images.mnist("train").take(slice(0, IMAGES))), arrays(images.mnist("test"))


def measure(table: common.Table, what: str, model: Path, seen: Arrays, unseen: Arrays, folder: Path) -> None:
    data = folder / "seen.npz"
    np.savez(data, x=seen[0], y=seen[1])
    for way in (*PLAIN, *LABELLED):
        start = time.process_time()
        bits, preset = (None, way) if way in LABELLED else (way, None)
        artefact, report = compile_with_report(
            model, bits=bits, data=data, training=Training(preset=preset), progress=common.Told()
        )
        minutes = (time.process_time() - start) / 60
        graph = load_graph(artefact.files[INTEGER_GRAPH], ops.BY_KIND)
        x = {graph.inputs[0].name: from_model(unseen[0], graph.inputs[0].layout)}
        codes = simulate_batches(graph, quantise_inputs(graph, x))
        percent = correct_percent(next(iter(codes.values())), unseen[1])
        measured = report.measured
        cycles = "" if measured is None else f"{measured.cycles or measured.instructions:,}"
        shown = f"preset {way}" if preset else way
        table.row(what, shown, f"{report.flash_bytes:,}", cycles, f"{percent:.2f}", f"{minutes:.1f}")


def main() -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--only", choices=("digits", "lenet5"), help="one network")

    options = common.arguments(__doc__, add=add)
    columns = ("network", "compiled with", "flash, bytes", "modelled cycles", "right, % of test images", "CPU min")
    table = common.Table("Presets on the Cortex-M7", options, columns)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.rest.only in (None, "digits"):
            measure(table, "digits", *digits(folder), folder)
        if options.rest.only in (None, "lenet5") and options.mode == "full":
            measure(table, "LeNet-5", *lenet5(), folder)
    table.finish("test images decided nothing", *(f"{name}: {' '.join(made.prune)}, {made.finetune} epochs of "
                 f"fine-tuning, {made.bits}" for name, made in LABELLED.items()))  # fmt: skip


if __name__ == "__main__":
    main()
