"""What a network would cost on hardware, from its layers alone; or did cost, from a folder that was compiled."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dnnc import frontend, options
from dnnc.artefact import Artefact
from dnnc.cost.accelerator import Accelerator
from dnnc.cost.comparison import Comparison, TargetCost
from dnnc.cost.estimate import LayerCost, NetworkCost
from dnnc.cost.families import model_of, peak_macs_per_cycle
from dnnc.cost.layer import LayerWork, layers_of
from dnnc.cost.loader import load_hardware, load_target
from dnnc.cost.target import Target
from dnnc.errors import ArtefactError, OptionError, TargetError, UnsupportedError
from dnnc.ir.graph import Graph
from dnnc.ir.types import Shape
from dnnc.naming import network_name
from dnnc.progress import Progress, silent

if TYPE_CHECKING:
    from dnnc.quantise.allocation import Allocation
    from dnnc.quantise.data import Source

#: Where the user names no target.
DEFAULT_TARGETS = ("cortex-m7", "ethos-u55-128", "systolic-16x16", "bitserial-16x16")
#: Bit policies that look at samples allocate for a target; what they are for says little of its widths.
ALLOCATED_FOR = "cortex-m7"
_REPORT = "report.json"


@dataclass(frozen=True)
class Assumed:
    """Widths that need no samples: the bit policies int8 and uniform. Inputs and outputs keep at least 8 bits."""

    weights: int = 8
    activations: int = 8


def estimate(
    model: Any,
    *,
    targets: Sequence[str | Path] = (),
    bits: str | None = None,
    data: Source | Iterable[Any] | None = None,
    input_shapes: Mapping[str, Shape] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Comparison:
    """Costs of a model (whatever `dnnc.compile` takes) on each target.

    bits: a bit policy, 8 bits unless told otherwise. The policies int8 and uniform are taken at their word; others
    look at `data`, or at made-up samples, as `dnnc.compile` does. A target whose costs are measured and not modelled
    is left out with a note; where nothing is left, that is a TargetError. Raises ModelError, DataError, OptionError.
    """
    hardware = [load_hardware(name) for name in targets or DEFAULT_TARGETS]
    assumed = _assumed(bits or "int8")
    progress("reading the model", 0, 0)
    graph = frontend.read(model, input_shapes)
    if assumed is not None:
        weights, activations = assumed.weights, _widths(graph, assumed.activations)
        works = layers_of(graph, weights, activations)
        said = f"{bits or 'int8'}, assumed"
        program = partial(_of_model, graph, weights, activations)
    else:
        graph, found, said = _allocated(graph, str(bits), data, seed, progress)
        widths = {name: tuple(int(b) for b in each) for name, each in found.weight_bits.items()}
        works = layers_of(graph, widths, found.activation_bits)
        program = partial(_of_model, graph, widths, found.activation_bits)
    return _compared(network_name(graph.name), said, works, hardware, program, ())


def measured(folder: Path, targets: Sequence[str | Path] = ()) -> Comparison:
    """What compiling a folder has measured, and what its integer network would cost on other targets.

    Raises ArtefactError where the folder is none, or nothing has been measured.
    """
    artefact = Artefact.load(folder)
    report = json.loads(artefact.files[_REPORT])
    others = [load_hardware(name) for name in targets if str(name) != artefact.target]
    own = TargetCost(_own_target(artefact.target), _measured(report, folder, artefact.target))
    graph = artefact.integer_graph
    foreseen = _cost(own.hardware, (), partial(_of_program, graph))
    known = (own, *((foreseen,) if isinstance(foreseen, TargetCost) else ()))
    notes = (foreseen,) if isinstance(foreseen, str) else ()
    rest = _compared(artefact.name, report["bits"], layers_of(graph), others, partial(_of_program, graph), known)
    return replace(rest, notes=(*notes, *rest.notes))


def _compared(
    network: str,
    bits: str,
    works: Sequence[LayerWork],
    hardware: Sequence[Target | Accelerator],
    program: Callable[[Target], NetworkCost],
    known: tuple[TargetCost, ...],
) -> Comparison:
    costs = [_cost(one, works, program) for one in hardware]
    found = (*known, *(cost for cost in costs if isinstance(cost, TargetCost)))
    notes = tuple(cost for cost in costs if isinstance(cost, str))
    if not found:
        raise TargetError("; ".join(notes))
    return Comparison(network, bits, found, notes)


def _cost(
    hardware: Target | Accelerator, works: Sequence[LayerWork], program: Callable[[Target], NetworkCost]
) -> TargetCost | str:
    """What it costs there, or why no one can say. program: the cost of what dnnc would compile for a Target."""
    try:
        if isinstance(hardware, Target):
            return TargetCost(hardware, program(hardware))
        return TargetCost(hardware, model_of(hardware).network(works), peak_macs_per_cycle(hardware))
    except (TargetError, UnsupportedError) as error:
        return f"'{hardware.name}': {error}"


def _of_model(
    graph: Graph, weights: Mapping[str, Sequence[int]] | int, activations: Mapping[str, int] | int, target: Target
) -> NetworkCost:
    from dnnc.foresight import foresee_model  # only where a program is foreseen

    return foresee_model(graph, weights, activations, target)


def _of_program(graph: Graph, target: Target) -> NetworkCost:
    from dnnc.foresight import foresee

    return foresee(graph, target)


def _assumed(bits: str) -> Assumed | None:
    """The widths of a policy that needs no samples; None for the others."""
    if bits.partition("{")[0].strip() not in ("int8", "uniform"):
        return None
    found = options.parse(bits, {"int8": Assumed, "uniform": Assumed}, "bit policy", "--bits")
    if bits.partition("{")[0].strip() == "int8" and found != Assumed():
        raise OptionError("bit policy 'int8' has no options")
    for what, width, allowed in (
        ("weights", found.weights, range(1, 9)),
        ("activations", found.activations, (*range(2, 9), 16)),
    ):
        if width not in allowed:
            raise OptionError(f"bit policy '{bits}': {what} expects one of {', '.join(map(str, allowed))}")
    return found


def _widths(graph: Graph, bits: int) -> dict[str, int]:
    """`bits` for every value but the network's inputs and outputs, and what only moves their codes."""
    widths = dict.fromkeys(graph.types, bits)
    ends = {source.name for source in graph.inputs} | {output.value for output in graph.outputs}
    for node in (*graph.nodes, *reversed(graph.nodes)):
        group = {node.name, *node.inputs} if node.op.keeps_quant else set()
        if group & ends:
            ends |= group
    return {**widths, **dict.fromkeys(ends, max(bits, 8))}


def _allocated(
    graph: Graph, bits: str, data: Source | Iterable[Any] | None, seed: int, progress: Progress
) -> tuple[Graph, Allocation, str]:
    """The graph and the widths that a policy chooses for it from samples, and the policy in words."""
    from dnnc.compress import parse_policy
    from dnnc.compress.grid import TrainedPolicy
    from dnnc.quantise.calibrate import calibrate
    from dnnc.samples import gather

    policy = parse_policy(bits)
    if isinstance(policy, TrainedPolicy):
        raise OptionError(f"bit policy '{bits}' trains: compile with it, and estimate the folder that this writes")
    target = load_target(ALLOCATED_FOR)
    samples = gather(graph, data, seed=seed, progress=progress)
    calibration = calibrate(graph, samples.calibration, target, seed, progress)
    found = policy.allocate(calibration, target, samples.measured_on, seed, progress)
    return calibration.graph, found, str(policy)


def _own_target(name: str) -> Target:
    try:
        return load_target(name)
    except TargetError as error:
        raise TargetError(f"the artefact is for a target that is not dnnc's own: {error}") from error


def _measured(report: Mapping[str, Any], folder: Path, target: str) -> NetworkCost:
    flash, ram = report["flash_bytes"], report["ram_bytes"]
    instructions, cycles = report["instructions_per_inference"], report["cycles_modelled"]
    if flash is None or ram is None or instructions is None:
        raise ArtefactError(f"'{folder}' has no measured figures: compile it where '{target}' can be emulated")
    active = load_target(target).energy
    layers = []
    for layer in report["layers"]:
        spent = layer["cycles_modelled"] or 0
        layers.append(
            LayerCost(
                name=layer["name"],
                op=layer["op"],
                cycles=spent,
                instructions=layer["instructions"],
                energy_pj={} if active is None else {"board": spent * active.pj_per_cycle},
                flash_bytes=layer["weight_bytes"] + layer["table_bytes"],
                bound="measured",
                macs=layer["macs"],
            )
        )
    known = sum(layer.instructions or 0 for layer in layers)
    between = (cycles or 0) - sum(layer.cycles for layer in layers)
    return NetworkCost(
        layers=tuple(layers),
        clock_hz=load_target(target).clock_hz,
        note=f"instructions counted on the emulated core, cycles by {report['cycle_model'] or 'no model'}",
        other_cycles=between,
        other_energy_pj={} if active is None else {"board": between * active.pj_per_cycle},
        other_instructions=instructions - known,
        other_flash_bytes=flash["total"] - sum(layer.flash_bytes for layer in layers),
        other_ram_bytes=ram["total"],
    )
