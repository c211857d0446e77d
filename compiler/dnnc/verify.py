"""Proof that all executions of an artefact agree on every bit, or the first place where they do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc.artefact import Artefact, Vectors
from dnnc.ir.graph import Graph
from dnnc.progress import Progress, silent
from dnnc.run.base import Execution, Runner
from dnnc.simulate import simulate, simulate_batches

Array = NDArray[Any]

#: Stands for the outputs that the compiler stored beside its test vectors.
STORED = "stored vectors"
SIMULATOR = "simulator"


@dataclass(frozen=True)
class Difference:
    """The first value that differs: in `sample`, at `index` of what node `layer` makes (layout of the graph).

    expected: the simulator's code; found: the code of `execution`.
    """

    execution: str
    sample: int
    layer: str
    op: str
    index: tuple[int, ...]
    expected: int
    found: int

    def __str__(self) -> str:
        place = ", ".join(map(str, self.index))
        return (
            f"{self.execution} differs from the simulator first in layer '{self.layer}' ({self.op}), "
            f"sample {self.sample}, index [{place}]: expected {self.expected}, found {self.found}"
        )


@dataclass(frozen=True)
class Verification:
    """What was compared: `samples` inputs, `values` output codes an execution; `difference` is None when all agree."""

    executions: tuple[str, ...]
    samples: int
    values: int
    difference: Difference | None
    measured: Mapping[str, Execution]

    @property
    def equal(self) -> bool:
        return self.difference is None


def random_codes(graph: Graph, count: int, seed: int = 0) -> dict[str, Array]:
    """`count` inputs of an integer graph, uniformly random: they reach saturation, which real data may not."""
    rng = np.random.default_rng(seed)
    found = {}
    for source in graph.inputs:
        quant = source.type.quant
        if quant is None:
            raise TypeError("codes belong to an integer graph")
        found[source.name] = rng.integers(quant.lo, quant.hi + 1, (count, *source.type.shape), dtype=np.int32)
    return found


def verify(
    artefact: Artefact,
    runners: Mapping[str, Runner],
    inputs: Mapping[str, Array] | None = None,
    progress: Progress = silent,
) -> Verification:
    """Compare every runner, and the outputs stored at compile time, with the simulator.

    inputs: codes int32 [N, *shape] by graph input name, compared after the stored vectors. Stops at the first runner
    that differs and says where.
    """
    graph, stored = artefact.integer_graph, artefact.vectors
    progress("simulating", 0, 0)
    samples = _joined(stored, inputs)
    expected = simulate_batches(graph, samples)
    count = len(next(iter(samples.values())))
    values = sum(v.size for v in expected.values())
    difference = _in_outputs(graph, STORED, expected, stored.outputs, stored.count)
    measured: dict[str, Execution] = {}
    for name, runner in runners.items():
        if difference is not None:
            break
        progress(f"running {count} sample(s) on {name}", 0, 0)
        measured[name] = runner.run(samples)
        difference = _in_outputs(graph, name, expected, measured[name].outputs, count)
        if difference is not None:
            progress(f"looking for the first layer that differs on {name}", 0, 0)
            one = {k: v[difference.sample : difference.sample + 1] for k, v in samples.items()}
            difference = _in_layers(graph, difference, one, runner.run(one, trace=True).layers) or difference
    return Verification((SIMULATOR, *(n for n in runners if n != SIMULATOR)), count, values, difference, measured)


def _joined(stored: Vectors, inputs: Mapping[str, Array] | None) -> dict[str, Array]:
    if inputs is None:
        return dict(stored.inputs)
    return {name: np.concatenate([codes, inputs[name]]) for name, codes in stored.inputs.items()}


def _in_outputs(
    graph: Graph, execution: str, expected: Mapping[str, Array], found: Mapping[str, Array], count: int
) -> Difference | None:
    for output in graph.outputs:
        name, node = output.value, graph.by_name.get(output.value)
        kind = "input" if node is None else node.op.kind
        wrong = _first(expected[output.model_name][:count], found[output.model_name])
        if wrong is not None:
            return Difference(execution, wrong[0][0], name, kind, wrong[0][1:], *wrong[1])
    return None


def _in_layers(
    graph: Graph, difference: Difference, one: Mapping[str, Array], traced: Mapping[str, Array]
) -> Difference | None:
    """The first node, in the order of execution, whose codes differ for the one sample `one`."""
    expected: dict[str, Array] = {}
    simulate(graph, one, watch=expected.__setitem__)
    for node in graph.nodes:
        if node.name not in traced:
            continue
        wrong = _first(expected[node.name], traced[node.name])
        if wrong is not None:
            where = wrong[0][1:]
            return Difference(difference.execution, difference.sample, node.name, node.op.kind, where, *wrong[1])
    return None


def _first(expected: Array, found: Array) -> tuple[tuple[int, ...], tuple[int, int]] | None:
    """Index and values of the first difference of two arrays of one shape."""
    where = np.argwhere(expected != found)
    if not len(where):
        return None
    index = tuple(int(i) for i in where[0])
    return index, (int(expected[index]), int(found[index]))
