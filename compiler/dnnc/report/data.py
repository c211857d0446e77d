"""What is reported of a compiled network, once, for every way of showing it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dnnc.ir.graph import Graph
from dnnc.passes.simplify import Removed
from dnnc.run.base import Execution, Flash, Ram

if TYPE_CHECKING:  # imports torch, which most reports do without
    from dnnc.compress.changes import Change
    from dnnc.compress.pipeline import Compression
    from dnnc.quantise.reasons import Reason


@dataclass(frozen=True)
class LayerCost:
    """What the back end made of one node: the kernel it calls and the bytes of constants that it needs."""

    kernel: str
    weight_bytes: int = 0
    table_bytes: int = 0


@dataclass(frozen=True)
class Layer:
    """One node. `weight_bits` has one entry an output channel, none without weights; None: not measured."""

    name: str
    op: str
    shape: tuple[int, ...]
    macs: int
    weights: int
    weight_bits: tuple[int, ...]
    activation_bits: int
    cost: LayerCost
    sensitivity: float | None
    sqnr_db: float | None
    instructions: int | None = None
    cycles: int | None = None

    @property
    def flash_bytes(self) -> int:
        """Constants of this layer: packed weights, biases, multipliers, tables."""
        return self.cost.weight_bytes + self.cost.table_bytes

    @property
    def mean_weight_bits(self) -> float | None:
        """Mean over the output channels, each of which has equally many weights."""
        return sum(self.weight_bits) / len(self.weight_bits) if self.weight_bits else None


@dataclass(frozen=True)
class Accuracy:
    """Top-1 in per cent of `samples` labelled samples, for the float model and for the integer program."""

    float_percent: float
    integer_percent: float
    samples: int


@dataclass(frozen=True)
class Measured:
    """What linking the program and emulating one inference gave; cycles are those of `cycle_model`, None without."""

    flash: Flash
    ram: Ram
    compiler: str
    instructions: int | None
    cycles: int | None = None
    cycle_model: str | None = None


@dataclass(frozen=True)
class Compressed:
    """What was taken from the network before it got its bits.

    steps: methods with their options, in order. percent: float accuracy before and after, on held-out samples; None
    without labels.
    """

    steps: tuple[str, ...]
    changes: tuple[Change, ...]
    percent: tuple[float, float] | None
    notes: tuple[str, ...]

    @property
    def weights(self) -> tuple[int, int]:
        """Weights that are not zero, before and after."""
        return sum(c.weights[0] for c in self.changes), sum(c.weights[1] for c in self.changes)

    @property
    def macs(self) -> tuple[int, int]:
        """Dense multiply-accumulates, before and after."""
        return sum(c.macs[0] for c in self.changes), sum(c.macs[1] for c in self.changes)


def compressed(compression: Compression) -> Compressed:
    """A compression without its graphs."""
    return Compressed(compression.steps, compression.changes, compression.percent, compression.notes)


@dataclass(frozen=True)
class Report:
    """A compiled network in figures. Budgets are the target's memories; `measured` is None without a toolchain.

    optimise: what the kernels were chosen for. simplified: what could be proven to change nothing, and was taken out;
    None where there was nothing. compressed: what was pruned and trained before, None where nothing was. reasons: why
    layers have their bits, where a bit policy weighed them.
    """

    name: str
    target: str
    target_description: str
    bits: str
    layers: tuple[Layer, ...]
    arena_bytes: int
    arena_lower_bound_bytes: int
    flash_budget_bytes: int
    ram_budget_bytes: int
    accuracy: Accuracy | None
    measured: Measured | None
    warnings: tuple[str, ...]
    simplified: Removed | None = None
    optimise: str = "balanced"
    compressed: Compressed | None = None
    reasons: tuple[Reason, ...] = ()

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def weights(self) -> int:
        return sum(layer.weights for layer in self.layers)

    @property
    def weight_bytes(self) -> int:
        return sum(layer.cost.weight_bytes for layer in self.layers)

    @property
    def table_bytes(self) -> int:
        return sum(layer.cost.table_bytes for layer in self.layers)

    @property
    def flash_bytes(self) -> int:
        """As linked; without a toolchain the constants alone."""
        return self.weight_bytes + self.table_bytes if self.measured is None else self.measured.flash.total

    @property
    def ram_bytes(self) -> int:
        """As linked and run; without a toolchain the arena alone."""
        return self.arena_bytes if self.measured is None else self.measured.ram.total

    @property
    def mean_weight_bits(self) -> float:
        """Mean over all weights."""
        total = sum(layer.weights * (layer.mean_weight_bits or 0.0) for layer in self.layers)
        return total / self.weights if self.weights else 0.0


def with_measured(report: Report, execution: Execution) -> Report:
    """The report with what an execution measured; as it is where the runner measures no memory."""
    if execution.flash is None or execution.ram is None or execution.compiler is None:
        return report
    profile = execution.profile
    costs = profile.layers if profile else {}
    layers = tuple(
        replace(layer, instructions=cost.instructions, cycles=cost.cycles) if (cost := costs.get(layer.name)) else layer
        for layer in report.layers
    )
    measured = Measured(
        execution.flash,
        execution.ram,
        execution.compiler,
        execution.instructions_per_inference,
        profile.total.cycles if profile else None,
        profile.model if profile else None,
    )
    return replace(report, layers=layers, measured=measured)


def layers(
    graph: Graph,
    costs: Mapping[str, LayerCost],
    sensitivity: Mapping[str, float],
    sqnr_db: Mapping[str, float | None],
) -> tuple[Layer, ...]:
    """One row a node of the integer graph, in its order; mappings are by node name and may lack nodes."""
    rows = []
    for node in graph.nodes:
        work = graph.work(node)
        quant = node.type.quant
        if quant is None:
            raise TypeError("a report is made of an integer graph")
        bits = node.params.get("weight_bits")
        rows.append(
            Layer(
                name=node.name,
                op=node.op.kind,
                shape=node.type.shape,
                macs=work.macs,
                weights=work.weights,
                weight_bits=() if bits is None else tuple(int(b) for b in bits),
                activation_bits=quant.bits,
                cost=costs[node.name],
                sensitivity=sensitivity.get(node.name),
                sqnr_db=sqnr_db.get(node.name),
            )
        )
    return tuple(rows)
