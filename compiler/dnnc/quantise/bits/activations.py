"""Widths of activations: one for all, or those that lose least within an average."""

from __future__ import annotations

from collections.abc import Sequence

from dnnc.cost.target import Target
from dnnc.errors import BudgetError
from dnnc.ops.softmax import Softmax
from dnnc.quantise.calibrate import Calibration
from dnnc.quantise.fisher import Fisher
from dnnc.quantise.knapsack import choose


def activation_widths(calibration: Calibration, bits: int) -> dict[str, int]:
    """`bits` for every value, within `width_limits`. Values that are tied share one width."""
    found: dict[str, int] = {}
    for group, members in calibration.ties.members().items():
        least, most = width_limits(calibration, group, members)
        found.update(dict.fromkeys(members, min(max(bits, least), most)))
    return found


def width_limits(calibration: Calibration, group: str, members: Sequence[str]) -> tuple[int, int]:
    """The least and the most bits that tied values may have: prescribed ones have theirs, the network's inputs and
    outputs at least 8, and what a Softmax reads at most 8.
    """
    graph = calibration.graph
    if group in calibration.ties.prescribed:
        bits = calibration.ties.prescribed[group].bits
        return bits, bits
    ends = {i.name for i in graph.inputs} | {o.value for o in graph.outputs}
    least = 8 if ends & set(members) else 2
    return least, 8 if any(isinstance(n.op, Softmax) for v in members for n in graph.consumers[v]) else 16


def choose_activations(calibration: Calibration, target: Target, fisher: Fisher, average: float) -> dict[str, int]:
    """By value: the target's widths that lose least with at most `average` bits an element. Raises BudgetError."""
    graph, members = calibration.graph, calibration.ties.members()
    widths, costs, losses = [], [], []
    for group, values in members.items():
        least, most = width_limits(calibration, group, values)
        widths.append([b for b in target.activation_bits if least <= b <= most] or [least])
        # A value that is only moved has the codes of the value it is moved from, and adds no error of its own.
        made = [v for v in values if v not in graph.by_name or not graph.by_name[v].op.keeps_quant]
        size = sum(graph.types[v].size for v in values)
        costs.append([b * size for b in widths[-1]])
        losses.append([sum(fisher.activations[v].get(b, 0.0) for v in made) for b in widths[-1]])
    elements = sum(t.size for t in graph.types.values())
    choice = choose(costs, losses, int(average * elements + 1e-6))
    if choice is None:
        least_average = sum(min(c) for c in costs) / elements
        raise BudgetError(
            f"an average of {average:g} bits an activation cannot be met: the least is {least_average:.2f}"
        )
    picked = [w[o] for w, o in zip(widths, choice.options, strict=True)]
    return {v: b for values, b in zip(members.values(), picked, strict=True) for v in values}
