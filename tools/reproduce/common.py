"""What the scripts of this folder share: their options, their tables, networks with their data, and CPU time.

A script in outline:

    options = common.arguments(__doc__, seeds=3)
    network, data = common.digits() if options.smoke else common.lenet("lenet5")
    ...
    table = common.Table("OLMP, LeNet-5", options)
    table.goal("compression, best of 5 seeds", ">= 298", f"{best:.1f}", best >= 298)
    table.finish(f"{len(data.held_out)} held-out training images decided; test images were measured once")
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import images
import networks
import numpy as np
import torch
from numpy.typing import NDArray

from dnnc import frontend
from dnnc.compress.augment import augmentation
from dnnc.compress.budget import accuracy
from dnnc.compress.feed import ArrayFeed, Batch, Feed
from dnnc.compress.method import Setting
from dnnc.compress.train import Recipe, train
from dnnc.cost.loader import load_target
from dnnc.ir.graph import Graph, Input, Node, Output, make_node
from dnnc.ir.layout import from_model
from dnnc.ir.types import Layout, TensorType
from dnnc.ops.activation import Clamp
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.movement import Reshape
from dnnc.quantise.dataset import Dataset
from dnnc.report.markdown import table as markdown_table

__all__ = ["Data", "Options", "Table", "accuracy", "arguments", "cifar", "digits", "lenet", "plot", "setting", "spent"]

Array = NDArray[Any]
RESULTS = Path(__file__).parent / "results"
#: The last training images decide; nothing is trained on them (`train_networks.py` keeps the same ones back).
HELD_OUT = 2000
#: Training images for statistics.
SAMPLE = 1024


@dataclass(frozen=True)
class Options:
    """quick: within ten minutes of CPU time; smoke: seconds, on data that need no download; seeds: how many; output:
    the folder that the table goes to; rest: what the script itself asked for.
    """

    name: str
    quick: bool
    smoke: bool
    seeds: int
    output: Path
    rest: argparse.Namespace

    @property
    def mode(self) -> str:
        return "smoke" if self.smoke else "quick" if self.quick else "full"

    def pick(self, full: Any, quick: Any, smoke: Any) -> Any:
        """One of three, by mode."""
        return {"full": full, "quick": quick, "smoke": smoke}[self.mode]


def arguments(text: str | None, seeds: int = 1, add: Callable[[argparse.ArgumentParser], Any] | None = None) -> Options:
    """The command line of a script; `text` is its docstring, `add` adds options of its own. Torch gets one thread."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of everything: at most ten minutes of CPU time")
    parser.add_argument(
        "--smoke", action="store_true", help="seconds, on handwritten digits of scikit-learn: no figures"
    )
    parser.add_argument("--seeds", type=int, help=f"how many seeds (default: {seeds}; 1 with --quick and --smoke)")
    parser.add_argument("--output", type=Path, help="folder for the table as Markdown (default: results/ beside this)")
    if add is not None:
        add(parser)
    found = parser.parse_args()
    if found.seeds is not None and found.seeds < 1:
        parser.error(f"--seeds expects a whole number >= 1, found {found.seeds}")
    torch.set_num_threads(1)
    chosen = found.seeds or (1 if found.quick or found.smoke else seeds)
    if found.output is None and (found.quick or found.smoke):
        output = RESULTS / ("smoke" if found.smoke else "quick")
    else:
        output = found.output or RESULTS
    return Options(Path(sys.argv[0]).stem, found.quick, found.smoke, chosen, output, found)


@dataclass
class Table:
    """Rows of texts under `columns`, shown and written at the end."""

    title: str
    options: Options
    columns: Sequence[str] = ("figure", "goal", "measured", "verdict")
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def row(self, *cells: object) -> None:
        if len(cells) != len(self.columns):
            raise ValueError(f"{len(self.columns)} cells are expected, found {len(cells)}")
        self.rows.append(tuple(map(str, cells)))

    def goal(self, figure: str, goal: str, measured: str, met: bool | None) -> None:
        """A row with its verdict; None where there is no goal. A smoke run's figures are not judged."""
        verdict = "" if met is None or self.options.smoke else "met" if met else "missed"
        self.row(figure, goal, measured, verdict)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def markdown(self) -> str:
        options = self.options
        spent = (
            f"{options.mode} run, {options.seeds} seed(s), {time.process_time() / 60:.1f} min of CPU since its start"
        )
        parts = [f"## {self.title}", markdown_table(self.columns, self.rows, self.columns[:1])]
        parts += ["\n".join(f"- {note}" for note in [*self.notes, spent, versions()])]
        return "\n\n".join(parts) + "\n"

    def finish(self, *notes: str, append: bool = False) -> None:
        """Prints the table and writes it to `<output>/<script>.md`; append: after what is there of this run."""
        from rich.console import Console
        from rich.table import Table as Shown

        self.notes += notes
        shown = Shown(title=self.title, title_justify="left")
        for index, column in enumerate(self.columns):
            shown.add_column(column, justify="left" if index == 0 else "right")
        for cells in self.rows:
            shown.add_row(*cells)
        console = Console(width=None if sys.stdout.isatty() else 140)
        console.print(shown, *self.notes, versions(), sep="\n", highlight=False, markup=False)
        self.options.output.mkdir(parents=True, exist_ok=True)
        path = self.options.output / f"{self.options.name}.md"
        before = path.read_text() + "\n" if append and path.is_file() else ""
        path.write_text(before + self.markdown())


def versions() -> str:
    """What the figures were made with."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("dnnc", "torch", "numpy"))
    return f"Python {platform.python_version()}, {packages}; {_processor()}"


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@dataclass(frozen=True, eq=False)
class Data:
    """train: to train on. sample: some of it, for statistics. held_out: decides. load_test: reads the test images, what
    nothing but the end of a script should do.
    """

    train: Feed
    sample: Dataset
    held_out: Dataset
    load_test: Callable[[], Dataset]

    @cached_property
    def test(self) -> Dataset:
        return self.load_test()


def setting(data: Data, seed: int = 0, target: str = "cortex-m7", **others: Any) -> Setting:
    """What methods work with; `others` are fields of Setting."""
    told = {"progress": Told()} | others
    return Setting(data.train, data.sample, data.held_out, load_target(target), seed=seed, **told)


def lenet(name: str, augment: str = "none") -> tuple[Graph, Data]:
    """lenet300 or lenet5 of ../shared/models, and MNIST in 0..1."""
    graph = shared_model(name)
    source = graph.inputs[0]

    def dataset(part: images.Images, scaled: bool = True) -> Dataset:
        x = from_model(part.x.reshape(-1, *source.layout.sample_shape).numpy(), source.layout)
        return Dataset({source.name: x / np.float32(255) if scaled else x}, part.y.numpy())

    whole = images.mnist("train")
    kept = whole.take(slice(0, -HELD_OUT))
    return graph, Data(
        ArrayFeed(dataset(kept), augmentation(augment, graph)),
        dataset(kept).spread(SAMPLE),
        dataset(whole.take(slice(-HELD_OUT, None))),
        lambda: dataset(images.mnist("test")),
    )


def cifar(name: str, augment: str = "shift,flip", limit: int | None = None) -> tuple[Graph, Data]:
    """A CIFAR-10 network by name (of `networks.py`, or of ../shared/models) with this project's copy of the images.

    Pixels are stored as bytes and scaled when they are used, after augmentation. limit: the first training images only.
    """
    if name in networks.NETWORKS:
        graph, scaled = frontend.read(networks.load(name), {"x": (1, 3, 32, 32)}, name), True
    else:
        graph, scaled = shared_model(name), name.startswith("vgg")
    source = graph.inputs[0]
    mean, deviation = (np.array(v, np.float32) for v in (images.CIFAR_MEAN, images.CIFAR_DEVIATION))

    def dataset(part: images.Images, finished: bool = True) -> Dataset:
        x = part.x.permute(0, 2, 3, 1).contiguous().numpy()
        if finished:
            x = (x - mean) / deviation if scaled else x.astype(np.float32)
        if source.layout.sample_shape == (3, 32, 32):
            x = x.transpose(0, 3, 1, 2)
        return Dataset({source.name: from_model(x, source.layout)}, part.y.numpy())

    change = augmentation(augment, graph)

    def prepare(batch: Batch, generator: torch.Generator) -> Batch:
        batch = batch if change is None else change(batch, generator)
        x = batch.inputs[source.name]
        if scaled:
            x = (x - torch.from_numpy(mean)) / torch.from_numpy(deviation)
        return Batch({source.name: x}, batch.labels)

    whole = images.cifar10("train", None if limit is None else limit + HELD_OUT)
    kept = whole.take(slice(0, -HELD_OUT))
    return graph, Data(
        ArrayFeed(dataset(kept, finished=False), prepare),
        dataset(kept.take(slice(0, SAMPLE))),
        dataset(whole.take(slice(-HELD_OUT, None))),
        lambda: dataset(images.cifar10("test")),
    )


def shared_model(name: str) -> Graph:
    """A network of ../shared/models; ends the script with a message where it is missing."""
    path = images.SHARED / "models" / f"{name}.onnx"
    if not path.is_file():
        raise SystemExit(f"the network {name}.onnx is expected in ../shared/models beside the repository")
    return frontend.read(path)


def _untrained() -> Graph:
    """Three convolutions and two dense layers over [8, 8, 1]."""
    rng = np.random.default_rng(0)
    types = {"x": TensorType((8, 8, 1))}
    nodes: list[Node] = []
    for name, op, shape in (
        ("conv1", Conv2D(padding=(1, 1, 1, 1), clamp=Clamp(0.0)), (12, 3, 3, 1)),
        ("conv2", Conv2D(stride=(2, 2), padding=(1, 1, 1, 1), clamp=Clamp(0.0)), (16, 3, 3, 12)),
        ("conv3", Conv2D(stride=(2, 2), padding=(1, 1, 1, 1), clamp=Clamp(0.0)), (24, 3, 3, 16)),
        ("flat", Reshape((96,)), None),
        ("hidden", Dense(clamp=Clamp(0.0)), (24, 96)),
        ("scores", Dense(), (10, 24)),
    ):
        params = {}
        if shape is not None:
            weight = rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
            params = {"weight": weight.astype(np.float32), "bias": np.zeros(shape[0], np.float32)}
        nodes.append(make_node(name, op, [nodes[-1].name if nodes else "x"], types, params))
        types[name] = nodes[-1].type
    source = Input("x", types["x"], "x", Layout((1, 8, 8, 1), 0, (0, 1, 2)))
    return Graph("digits", (source,), tuple(nodes), (Output("scores", "scores", Layout((1, 10), 0, (0,))),)).verify()


def digits(epochs: int = 8) -> tuple[Graph, Data]:
    """A convolutional network of 10,000 weights, trained on scikit-learn's handwritten digits: for smoke runs."""
    if importlib.util.find_spec("sklearn") is None:
        raise SystemExit("--smoke needs scikit-learn (the extra 'demo')")
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = (x[order].reshape(-1, 8, 8, 1) / 16).astype(np.float32), y[order].astype(np.int64)
    parts = [Dataset({"x": x[a:b]}, y[a:b]) for a, b in ((0, 1200), (1200, 1500), (1500, None))]
    graph = train(_untrained(), ArrayFeed(parts[0]), Recipe(epochs, 64, rate=0.2, autocast=False))
    return graph, Data(ArrayFeed(parts[0]), parts[0].first(256), parts[1], lambda: parts[2])


class Told:
    """Progress for people, on stderr: what is being done, every few seconds."""

    def __init__(self, seconds: float = 10.0) -> None:
        self.seconds, self.last = seconds, time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if time.monotonic() - self.last >= self.seconds:
            self.last = time.monotonic()
            print(f"  {stage}" + (f" ({100 * done // total} %)" if total else ""), file=sys.stderr, flush=True)


class spent:
    """`with spent() as t: ...`; t.seconds is the CPU time that it took, of this process."""

    def __enter__(self) -> spent:
        self.start, self.seconds = time.process_time(), 0.0
        return self

    def __exit__(self, *of: object) -> None:
        self.seconds = time.process_time() - self.start


def plot(
    options: Options,
    curves: Mapping[str, Sequence[tuple[float, float]]],
    across: str,
    up: str,
    log: bool = False,
) -> None:
    """Lines by name, to `<output>/<script>.png`; without matplotlib, a message."""
    if importlib.util.find_spec("matplotlib") is None:
        print("no plot is drawn: matplotlib is missing", file=sys.stderr)
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1, label=name)
    if log:
        axes.set_xscale("log")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.tight_layout()
    options.output.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output / f"{options.name}.png", dpi=90)
    pyplot.close(figure)
