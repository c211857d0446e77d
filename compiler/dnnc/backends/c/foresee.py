"""What the calls of a program are to the cost model: their kernels, and the numbers that their loops depend on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath as Path
from typing import Any

import numpy as np

from dnnc.backends.c.program import Array, Call, Program, Step
from dnnc.backends.c.table import ELEMENT_BYTES
from dnnc.cost.estimate import LayerCost, NetworkCost
from dnnc.cost.kernels.call import KernelCall
from dnnc.cost.kernels.table import Taken, load_costs
from dnnc.cost.target import Target
from dnnc.ir.graph import Graph, Node


def program_calls(graph: Graph, program: Program) -> dict[str, tuple[KernelCall, ...]]:
    """By node, in the order of the program."""
    nodes = {node.name: node for node in graph.nodes}
    return {step.node: step_calls(step, nodes[step.node]) for step in program.steps}


def step_calls(step: Step, node: Node) -> tuple[KernelCall, ...]:
    """The calls that one node becomes."""
    return tuple(_call(call, node) for call in step.calls)


def _call(call: Call, node: Node) -> KernelCall:
    kernel = call.kernel
    numbers = _numbers(call.fields)
    if "lo" in numbers and "hi" in numbers:
        limit = 1 << 15 if kernel.elements[-1] == "s16" else 1 << 7
        numbers["clamped"] = numbers["lo"] > -limit or numbers["hi"] < limit - 1
    if kernel.kernel.struct == "dnnc_linear_t":
        numbers["scattered"] = call.fields["channels"] is not None
        numbers["wide"] = kernel.kernel.records and not numbers["scales"]
        numbers["offset"] = call.operands[0].offset * ELEMENT_BYTES[kernel.elements[0]]
    elif kernel.kernel.struct == "dnnc_sparse_t":
        numbers |= _records(numbers, kernel.kernel.op, node)
    elif kernel.kernel.struct == "dnnc_straight_t":
        numbers |= _terms(dict(kernel.values), node)
    return KernelCall(kernel.name, numbers, kernel.inner.name if kernel.inner else None)


def _numbers(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without arrays and NULL."""
    kept = {name: value for name, value in fields.items() if not isinstance(value, Array) and value is not None}
    return {name: _numbers(value) if isinstance(value, Mapping) else value for name, value in kept.items()}


def _records(numbers: Mapping[str, Any], op: str, node: Node) -> dict[str, Any]:
    """Of each tap the weights that are not zero, and the output channels that have any; and the places of a bitmap that
    hold none."""
    weight = node.params["weight"]
    taps = weight.reshape(len(weight), numbers["kernel_h"] * numbers["kernel_w"], numbers["in_c"]) != 0
    records = taps.sum(axis=(0, 2))
    active = taps.any(axis=2).sum(axis=0) if op == "sparse" else np.full(taps.shape[1], len(weight))
    return {
        "tap_records": tuple(int(n) for n in records),
        "tap_outputs": tuple(int(n) for n in active),
        "passed": int(taps.size - records.sum()) if op == "bitmap" else 0,
    }


def _terms(made: Mapping[str, Any], node: Node) -> dict[str, Any]:
    """Of a layer that is code: its pixels, the copy of its input, its weights and those of them that multiply."""
    weight = np.abs(node.params["weight"].astype(np.int64))
    magnitudes = [np.unique(row) for row in weight.reshape(len(weight), -1)]
    image = made["image"]
    return {
        "rows": made["rows"],
        "columns": made["columns"],
        "outputs": made["outputs"],
        "border": image.size if image else 0,
        "copied": image.rows * image.count if image else 0,
        "copied_rows": image.rows if image else 0,
        "weights": int(np.count_nonzero(weight)),
        "products": sum(int(np.count_nonzero(row > 1)) for row in magnitudes),
    }


def code_files(program: Program) -> dict[str, int]:
    """The C files of its kernels, without their suffix, and how many steps call them."""
    found: dict[str, int] = {}
    for instance in program.kernels:
        for name in (instance.name, *(Path(path).stem for path in instance.kernel.support)):
            found[name] = found.get(name, 0) + 1
    return found


def program_cost(graph: Graph, program: Program, target: Target, arena_bytes: int) -> NetworkCost:
    """What an inference of a program takes, foreseen; nothing is compiled. arena_bytes: as the planner says.

    Of the RAM of a layer its inputs, its output and its scratch are known; that of the network is exact.

    Raises TargetError where the target's kernels have not been measured.
    """
    costs = load_costs(*target.folders)
    active = target.energy.pj_per_cycle if target.energy else None
    calls = program_calls(graph, program)
    works = {node.name: graph.work(node).macs for node in graph.nodes}
    layers = []
    for step, node in zip(program.steps, graph.nodes, strict=True):
        taken = sum((costs.of(call) for call in calls[node.name]), Taken(0.0, 0.0))
        layers.append(
            LayerCost(
                name=node.name,
                op=node.op.kind,
                cycles=round(taken.cycles),
                instructions=round(taken.instructions),
                energy_pj={} if active is None else {"board": taken.cycles * active},
                flash_bytes=step.weight_bytes + step.table_bytes,
                ram_bytes=min(_held(graph, node) + step.scratch_bytes, arena_bytes),
                bound="compute" if step.calls else "none",
                macs=works[node.name],
            )
        )
    code = sum(costs.code_bytes.get(name, 0) for name in code_files(program))
    code += sum(step.code_bytes for step in program.steps)
    base, each = costs.program_bytes
    return NetworkCost(
        tuple(layers),
        target.clock_hz,
        note=f"foreseen from kernels measured with {costs.compiler}; cycles: {costs.cycle_model}",
        other_cycles=round(costs.outside.cycles),
        other_instructions=round(costs.outside.instructions),
        other_energy_pj={} if active is None else {"board": costs.outside.cycles * active},
        other_flash_bytes=code + base + each * sum(len(step.calls) for step in program.steps),
        other_ram_bytes=arena_bytes - max((layer.ram_bytes for layer in layers), default=0),
    )


def _held(graph: Graph, node: Node) -> int:
    """Bytes of a node's inputs and output."""
    return node.type.nbytes + sum(graph.types[value].nbytes for value in dict.fromkeys(node.inputs))
