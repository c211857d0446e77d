"""How far outputs stay behind the inputs that they overlap: promised, modelled, run, and no less possible."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import lcm
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cases import Case, Maker, all_cases, case_graph
from dnnc.backends.c import emit, lower
from dnnc.backends.c.lower import TABLE
from dnnc.backends.c.program import Program, Step
from dnnc.cost.loader import load_target
from dnnc.ir.graph import Graph, Node
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.pool import AvgPool2D, MaxPool2D
from dnnc.passes.lifetime import Distance, candidates, roots
from dnnc.passes.plan import Plan, _arrange, _finish, _merge, plan
from dnnc.simulate import simulate
from emulated import Network as Emulated
from emulated import emulate
from host_program import Network, run_on_host
from kernel_orders import ORDERS, by_column, clobbering
from test_plan import check

Array = NDArray[Any]
TARGETS = ("host", "cortex-m7", "cortex-m0plus", "rv32imc")


@dataclass(frozen=True, eq=False)
class Stage:
    """One node of a case, and its step."""

    case: Case
    graph: Graph
    program: Program
    index: int

    @property
    def node(self) -> Node:
        return self.graph.nodes[self.index]

    @property
    def step(self) -> Step:
        return self.program.steps[self.index]

    @property
    def source(self) -> str:
        """Of the kernel that it calls first."""
        return self.step.calls[0].kernel.kernel.source

    @property
    def taken(self) -> dict[str, Distance]:
        """The buffers that the output may overlap, since they are of no use after it."""
        return candidates(self.graph, self.program.overwrites).get(self.node.name, {})

    def at(self, value: str, distance: Distance) -> Plan | None:
        """A plan whose output lies exactly this far before one buffer.

        None where another value is in the way: the next member of the input struct, which must not be touched.
        """
        node = self.node.name
        allowed = {name: distance if roots(self.graph)[name] == value else other
                   for name, other in self.program.overwrites[node].items()}  # fmt: skip
        options = candidates(self.graph, {node: allowed})
        tied = _merge(_arrange(self.graph, self.program.scratch, options), self.graph, {node: value}, options)
        found = _finish(self.graph, tied, tied.placer.greedy(), 0)
        return found if found.offsets[value] - found.offsets[node] == distance.bytes else None


@cache
def stages(target: str) -> tuple[Stage, ...]:
    """Every node that calls kernels, of every case."""
    found = []
    for case in all_cases():
        graph = case_graph(case, target)
        program = lower(graph, load_target(target), case.selection(graph))
        found += [Stage(case, graph, program, i) for i, step in enumerate(program.steps) if step.calls]
    return tuple(found)


def assert_is_the_least(stage: Stage) -> None:
    """Every promise against the model of the kernel: it holds, and nothing less does."""
    node = stage.node
    size, unit = node.type.nbytes, 4
    lanes = stage.step.calls[0].kernel.kernel.op == "depthwise" and "banded" not in stage.source
    columns = lanes and by_column(stage.step.calls[0])
    exact = columns or (lanes and (node.type.shape[-1] > 4 or len(stage.step.calls) > 1))
    if exact:
        unit = lcm(4, size // node.type.shape[0] // (1 if columns else node.type.shape[1]))
    for value in dict.fromkeys(node.inputs):
        bad = clobbering(stage.step.calls, value)
        allowed = [d for d in range(0, size, unit) if d not in bad and (exact or not any(b >= d for b in bad))]
        distance = stage.step.overwrites.get(value)
        if distance is not None:
            assert distance.exact == exact
            assert distance.bytes == min(allowed)
        elif not lanes or pixels_agree(stage, value):
            assert not allowed


def pixels_agree(stage: Stage, value: str) -> bool:
    """Whether an element of the input takes as much as one of the output: else a depthwise kernel refuses."""
    source, made = stage.graph.types[value], stage.node.type
    return source.nbytes * made.size == made.nbytes * source.size


@pytest.mark.parametrize("target", TARGETS)
def test_every_case_promises_the_least_distance(target: str) -> None:
    overlapping = 0
    for stage in stages(target):
        try:
            assert_is_the_least(stage)
        except AssertionError as error:
            raise AssertionError(f"{stage.case.name}, {stage.node.name}: {error}") from error
        overlapping += bool(stage.step.overwrites)
    assert overlapping > 200


@pytest.mark.quick
def test_every_kernel_has_an_order() -> None:
    """A row without `walk` would be correct, but its layers would never share memory with their inputs."""
    assert not [f"{kernel.source} {kernel.variant}" for kernel in TABLE if kernel.walk is None]
    assert {kernel.source for kernel in TABLE} <= set(ORDERS)


@st.composite
def layers(draw: st.DrawFn) -> Graph:
    """One layer that reads windows, or rows, of a small image."""
    small = st.integers(1, 3)
    height, width, channels = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.sampled_from([1, 3, 4, 6, 8]))
    kernel = draw(small), draw(small)
    padding = tuple(draw(st.integers(0, 2)) for _ in range(4))
    dilation = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    span = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    padding = (padding[0], padding[1], max(padding[2], span[0] - height), max(padding[3], span[1] - width))
    stride = draw(small), draw(small)
    make = Maker(f"layer_{draw(st.integers(0, 3))}")
    kind = draw(st.sampled_from(["conv", "conv", "groups", "depthwise", "depthwise", "dense", "maxpool", "avgpool"]))
    bits = 8 if kind == "avgpool" else draw(st.sampled_from([8, 8, 16]))
    x = make.input(height, width, channels, bits=bits)
    widths = draw(st.sampled_from([(8,), (8,), (4, 8)] if bits == 8 else [(2,), (1, 2)]))  # or sums pass 32 bits
    outputs = draw(st.sampled_from([1, 4, 5, 9]))
    conv = Conv2D(stride, padding, dilation)
    if kind == "conv":
        y = make.linear(conv, x, (outputs, *kernel, channels), widths, bits)
    elif kind == "groups":
        groups = 2 if channels % 2 == 0 else channels
        y = make.linear(replace(conv, groups=groups), x, (2 * groups, *kernel, channels // groups), widths, bits)
    elif kind == "depthwise":
        y = make.linear(replace(conv, groups=channels), x, (channels, *kernel, 1), widths, bits)
    elif kind == "dense":
        op = Dense() if draw(st.booleans()) else Conv2D(stride)
        y = make.linear(op, x, (outputs, *((1, 1) if isinstance(op, Conv2D) else ()), channels), widths, bits)
    elif kind == "maxpool":
        y = make.add(MaxPool2D(kernel, stride, padding, dilation), [x], bits=bits)
    else:
        y = make.add(AvgPool2D((span[0], span[1]), stride, padding), [x], bits=bits)
    return make.graph(y)


@pytest.mark.parametrize("target", ["host", "cortex-m7", "rv32imc"])
@given(graph=layers())
@settings(max_examples=150)
def test_random_layers_promise_the_least_distance(target: str, graph: Graph) -> None:
    assert_is_the_least(Stage(all_cases()[0], graph, lower(graph, load_target(target)), 0))


# --- and run ---------------------------------------------------------------------------------------------------------


def tight(target: str) -> Iterator[tuple[Stage, Plan]]:
    """Every node of every case, for every buffer that its output may overlap, planned at exactly its distance."""
    for stage in stages(target):
        for value, distance in stage.taken.items():
            found = stage.at(value, distance)
            crowded = max(len(stage.node.inputs), len(stage.graph.inputs), len(stage.graph.outputs)) > 1
            assert found or crowded, f"{stage.case.name}: not planned {distance} behind {value}"
            if found:
                yield stage, found


@pytest.mark.parametrize("target", TARGETS)
def test_the_planner_uses_the_least_distance(target: str) -> None:
    """With all its permissions the output of every case of one node begins as near to an input as it may.

    So every test of the cases runs the kernels there.
    """
    for stage in stages(target):
        if len(stage.graph.nodes) == 1 and stage.taken:
            found = plan(stage.graph, stage.program.scratch, stage.program.overwrites)
            check(stage.graph, found, stage.program.scratch, stage.program.overwrites)
            behind = {i: found.offsets[i] - found.offsets[stage.node.name] for i in stage.taken}
            assert any(behind[i] == distance.bytes for i, distance in stage.taken.items()), stage.case.name


def network_of(stage: Stage, layout: Plan) -> Network:
    case, graph = stage.case, stage.graph
    return Network(graph, case.inputs(graph), False, layout, case.selection(graph))


def differing(networks: Sequence[Network], outputs: Sequence[Mapping[str, Array]]) -> list[int]:
    """The numbers of the networks whose outputs are not the simulator's."""
    return [
        number
        for number, (network, found) in enumerate(zip(networks, outputs, strict=True))
        if any(not np.array_equal(found[k], v) for k, v in simulate(network.graph, network.inputs).items())
    ]


@pytest.mark.parametrize("target", ["host", "cortex-m7"])
def test_every_kernel_runs_at_its_least_distance(target: str, tmp_path: Path) -> None:
    chosen = list(tight(target))
    networks = [network_of(stage, layout) for stage, layout in chosen]
    wrong = differing(networks, run_on_host(networks, target, tmp_path))
    assert [f"{chosen[i][0].case.name}, {chosen[i][0].node.name}" for i in wrong] == []
    assert len(networks) > 200


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cortex-m7", "cortex-m0plus", "rv32imc"])
def test_every_kernel_runs_at_its_least_distance_on_an_emulated_target(target: str) -> None:
    hardware = load_target(target)
    programs, networks = [], []
    for number, (stage, layout) in enumerate(tight(target)):
        widths = {t.quant.bits for t in stage.graph.types.values() if t.quant is not None}
        if all(width in hardware.activation_bits or width < 8 for width in widths):
            graph, inputs = replace(stage.graph, name=f"{stage.case.name}_{number}"), stage.case.inputs(stage.graph)
            programs.append(Emulated(graph.name, emit(graph, stage.program, layout, hardware), graph, inputs))
            networks.append(Network(graph, inputs, False))
    wrong = differing(networks, [found.outputs for found in emulate(programs, target)])
    assert [networks[i].graph.name for i in wrong] == []
    assert len(networks) > 150


#: One reads nothing; the other would look up codes outside its table (the models above cover it).
NOT_TO_BE_BROKEN = {"generic/fill.c", "generic/softmax.c"}


@pytest.mark.parametrize("target", ["host", "cortex-m7"])
def test_four_bytes_nearer_break_every_kernel(target: str, tmp_path: Path) -> None:
    """What the tests above would not notice: a distance that is too small."""
    networks, sources = [], []
    for stage in stages(target):
        # Codes that are wrong may lie outside tables for 4 bits.
        wide = all(t.quant is None or t.quant.bits >= 8 for t in stage.graph.types.values())
        for value, distance in stage.taken.items() if wide and stage.source not in NOT_TO_BE_BROKEN else ():
            layout = stage.at(value, replace(distance, bytes=distance.bytes - 4))
            if layout is not None:
                networks.append(network_of(stage, layout))
                sources.append(stage.source)
    broken = {sources[i] for i in differing(networks, run_on_host(networks, target, tmp_path))}
    family = {kernel.source for kernel in TABLE if kernel.family == load_target(target).kernels[0]}
    assert family - NOT_TO_BE_BROKEN <= broken
