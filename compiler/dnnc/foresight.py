"""From an integer graph to its place in memory and what it will take: nothing is run, nothing needs samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dnnc.backends.c import lower, simplification
from dnnc.backends.c.banded import rows_are_words, takes_packed
from dnnc.backends.c.foresee import program_cost
from dnnc.backends.c.program import Program
from dnnc.cost.estimate import NetworkCost
from dnnc.cost.target import Target
from dnnc.ir.graph import Graph
from dnnc.passes.pack import pack_activations
from dnnc.passes.plan import Plan, plan
from dnnc.passes.simplify import simplify
from dnnc.quantise.sketch import sketch


def finish(quantised: Graph, hardware: Target, packs: bool = True) -> Graph:
    """The exact rewrites of an integer graph: what changes nothing is taken out, 4-bit values are packed.

    packs: whether the back end can pack them.
    """
    integer = simplify(quantised, simplification(hardware))
    if packs and 4 in hardware.activation_bits:
        return pack_activations(
            integer, takes_packed, rows_are_words, lambda graph: layout(graph, lower(graph, hardware)).arena_bytes
        )
    return integer


def layout(graph: Graph, program: Program) -> Plan:
    """Where everything lies in the arena."""
    return plan(graph, program.scratch, program.overwrites)


def foresee(graph: Graph, hardware: Target) -> NetworkCost:
    """What an inference of an integer graph takes; nothing is compiled. Raises TargetError where the target's kernels
    have not been measured."""
    program = lower(graph, hardware)
    return program_cost(graph, program, hardware, layout(graph, program).arena_bytes)


def foresee_model(
    real: Graph,
    weight_bits: Mapping[str, Sequence[int]] | int,
    activation_bits: Mapping[str, int] | int,
    hardware: Target,
) -> NetworkCost:
    """Likewise of a float graph with these widths (see `quantise.sketch`), which is not even calibrated."""
    return foresee(finish(sketch(real, weight_bits, activation_bits), hardware), hardware)
