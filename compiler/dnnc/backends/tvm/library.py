"""A network built by TVM: compiled in memory, exported as a library, loaded again, run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax, tirx

from dnnc.backends.tvm.machine import Machine, machine
from dnnc.backends.tvm.network import Program, lower, module
from dnnc.backends.tvm.schedule import Chooser, first
from dnnc.ir.graph import Graph
from dnnc.ops.common import quant_of

Array = NDArray[Any]
#: (output file, objects) -> links a shared library.
Link = Callable[[str, Sequence[str]], None]


@dataclass(frozen=True)
class Loaded:
    """A module that runs here. batch: the most samples that a call takes."""

    graph: Graph
    batch: int
    main: Callable[..., Any]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Codes int32 [N, *shape] by graph input name to codes int32 by model name, for any N."""
        count = len(next(iter(inputs.values())))
        found: list[list[Array]] = []
        for start in range(0, count, self.batch):
            tensors = []
            for source in self.graph.inputs:
                codes = inputs[source.name][start : start + self.batch].astype(quant_of(source.type).dtype)
                tensors.append(tvm.runtime.tensor(np.ascontiguousarray(codes)))
            found.append([np.array(y.numpy(), np.int32) for y in self.main(*tensors)])
        names = [output.model_name for output in self.graph.outputs]
        return {name: np.concatenate([part[i] for part in found]) for i, name in enumerate(names)}


@dataclass(frozen=True)
class Network:
    """What was made of a graph for a machine. batch: `module` takes one sample, or any number up to that."""

    graph: Graph
    machine: Machine
    batch: int
    program: Program
    module: tvm.IRModule


def build(graph: Graph, made_for: Machine, batch: int = 1, choose: Chooser = first) -> Network:
    """Raises UnsupportedError where an op has no lowering."""
    samples = 1 if batch == 1 else tirx.Var("samples", "int64")
    program = lower(graph, made_for.dot, samples, choose)
    return Network(graph, made_for, batch, program, module(program, samples, batch))


def jit(graph: Graph, batch: int = 1) -> Loaded:
    """The network compiled for this computer, in memory."""
    network = build(graph, machine(), batch)
    virtual = relax.VirtualMachine(_compiled(network), tvm.cpu())
    return Loaded(graph, batch, virtual["main"])


def export(network: Network, link: Link) -> bytes:
    """The network as a shared library with its weights inside. `link` makes it of objects."""

    def fcompile(output: str, objects: Sequence[str], **_: Any) -> None:
        link(str(output), [str(name) for name in objects])

    with tempfile.TemporaryDirectory(prefix="dnnc-", ignore_cleanup_errors=True) as work:
        path = Path(work) / "library.so"
        _compiled(network).export_library(str(path), fcompile=fcompile)
        return path.read_bytes()


def load(graph: Graph, library: bytes, batch: int) -> Loaded:
    """A library that was exported for this computer. batch: what it was compiled for."""
    with tempfile.TemporaryDirectory(prefix="dnnc-", ignore_cleanup_errors=True) as work:
        path = Path(work) / "library.so"
        path.write_bytes(library)
        virtual = relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())
    return Loaded(graph, batch, virtual["main"])


def _compiled(network: Network) -> Any:
    # `main` checks what it is given; the kernels' own checks, which are most of a small kernel's code, see only what it
    # made.
    with unchecked():
        return tvm.compile(network.module, target=network.machine.target)


def unchecked() -> Any:
    """The context in which kernels are compiled that do not check their arguments."""
    return tvm.transform.PassContext(opt_level=3, config={"tirx.disable_assert": True})
