"""A network built by TVM: compiled in memory, exported as a library, loaded again, run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax, tirx

from dnnc.backends.tvm.network import lower, module
from dnnc.ir.graph import Graph
from dnnc.ops.common import quant_of

Array = NDArray[Any]


@dataclass(frozen=True)
class Loaded:
    """A module that runs here. batch: the samples that a call takes; at most as many where `variable`, else exactly."""

    graph: Graph
    batch: int
    variable: bool
    main: Callable[..., Any]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Codes int32 [N, *shape] by graph input name to codes int32 by model name, for any N."""
        count = len(next(iter(inputs.values())))
        found: list[list[Array]] = []
        for start in range(0, count, self.batch):
            used = min(self.batch, count - start)
            given = used if self.variable else self.batch
            tensors = []
            for source in self.graph.inputs:
                codes = np.zeros((given, *source.type.shape), quant_of(source.type).dtype)
                codes[:used] = inputs[source.name][start : start + used]
                tensors.append(tvm.runtime.tensor(codes))
            found.append([np.array(y.numpy()[:used], np.int32) for y in self.main(*tensors)])
        names = [output.model_name for output in self.graph.outputs]
        return {name: np.concatenate([part[i] for part in found]) for i, name in enumerate(names)}


def relax_module(graph: Graph, batch: int = 1) -> tvm.IRModule:
    """The network's IRModule: `main` takes exactly one sample, or any number up to `batch` where that is more."""
    if batch == 1:
        return module(lower(graph))
    samples = tirx.Var("samples", "int64")
    return module(lower(graph, batch=samples), samples, batch)


def jit(graph: Graph, batch: int = 1) -> Loaded:
    """The network compiled for this computer, in memory."""
    built = tvm.compile(relax_module(graph, batch), target=tvm.target.Target("llvm"))
    machine = relax.VirtualMachine(built, tvm.cpu())
    return Loaded(graph, batch, batch > 1, machine["main"])


def load(graph: Graph, library: Path, batch: int) -> Loaded:
    """A library that was exported for this computer. batch: what it was compiled for."""
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())
    return Loaded(graph, batch, batch > 1, machine["main"])
