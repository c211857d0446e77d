"""The report as plain JSON values: report.json, `--json`, and the figures in the manifest. Units are in the keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dnnc.cost.accelerator import Accelerator
from dnnc.cost.target import Target
from dnnc.report.data import Accuracy, Compressed, Layer, Measured, Report
from dnnc.run.base import Array, Execution, Flash, Ram
from dnnc.run.profile import Cost, Profile
from dnnc.verify import Verification

if TYPE_CHECKING:  # these import torch, which most reports do without
    from dnnc.accuracy import Comparison
    from dnnc.inspection import Inspection


def flash_values(flash: Flash) -> dict[str, int]:
    return {"weights": flash.weights, "tables": flash.tables, "code": flash.code, "total": flash.total}


def ram_values(ram: Ram) -> dict[str, int]:
    return {"arena": ram.arena, "static": ram.static, "stack": ram.stack, "total": ram.total}


def execution_values(execution: Execution) -> dict[str, Any]:
    """What a run cost; null is what this runner cannot know."""
    profile = execution.profile
    return {
        "instructions_per_inference": execution.instructions_per_inference,
        "cycles_modelled": None if profile is None else profile.total.cycles,
        "cycle_model": None if profile is None else profile.model,
        "flash_bytes": None if execution.flash is None else flash_values(execution.flash),
        "ram_bytes": None if execution.ram is None else ram_values(execution.ram),
        "compiler": execution.compiler,
    }


def profile_values(profile: Profile) -> dict[str, Any]:
    """Costs by layer and work, which add up to the total, and of every block, hottest first."""

    def cost(value: Cost) -> dict[str, int | None]:
        return {"instructions": value.instructions, "cycles_modelled": value.cycles}

    return {
        "cycle_model": profile.model,
        "extrapolated": profile.extrapolated,
        "total": cost(profile.total),
        "works": {work.value: cost(value) for work, value in profile.works.items()},
        "layers": [
            {
                "name": name,
                **cost(value),
                "works": {work.value: cost(c) for (layer, work), c in profile.cells.items() if layer == name},
            }
            for name, value in profile.layers.items()
        ],
        "blocks": [
            {
                "address": block.block.address,
                "place": block.place,
                "work": block.work.value,
                "length": block.length,
                "executions": block.executions,
                "cycles_each": block.cycles_each,
                **cost(block.cost),
            }
            for block in profile.blocks
        ],
    }


def layer_values(layer: Layer) -> dict[str, Any]:
    """One layer. weight_bits: null without weights, a number where all channels agree, else one number a channel."""
    widths = sorted(set(layer.weight_bits))
    mixed = list(layer.weight_bits)
    return {
        "name": layer.name,
        "op": layer.op,
        "shape": list(layer.shape),
        "macs": layer.macs,
        "weights": layer.weights,
        "weight_bits": None if not widths else widths[0] if len(widths) == 1 else mixed,
        "activation_bits": layer.activation_bits,
        "weight_bytes": layer.cost.weight_bytes,
        "table_bytes": layer.cost.table_bytes,
        "kernel": layer.cost.kernel,
        "sensitivity": layer.sensitivity,
        "sqnr_db": layer.sqnr_db,
        "instructions": layer.instructions,
        "cycles_modelled": layer.cycles,
    }


def accuracy_values(accuracy: Accuracy | None) -> dict[str, Any] | None:
    """Top-1 in per cent, or null without labels."""
    if accuracy is None:
        return None
    return {"float": accuracy.float_percent, "integer": accuracy.integer_percent, "samples": accuracy.samples}


def compressed_values(found: Compressed) -> dict[str, Any]:
    """What compression took out; pairs are before and after. accuracy: float, in per cent, null without labels."""
    return {
        "steps": list(found.steps),
        "weights": list(found.weights),
        "macs": list(found.macs),
        "accuracy": None if found.percent is None else list(found.percent),
        "layers": [
            {
                "name": c.layer,
                "op": c.kind,
                "outputs": list(c.outputs),
                "weights": list(c.weights),
                "macs": list(c.macs),
            }
            for c in found.changes
        ],
        "notes": list(found.notes),
    }


def report_values(report: Report) -> dict[str, Any]:
    """The whole report."""
    return {
        "name": report.name,
        "target": report.target,
        "bits": report.bits,
        "optimise": report.optimise,
        **_measured_values(report.measured),
        "weight_bytes": report.weight_bytes,
        "table_bytes": report.table_bytes,
        "arena_bytes": report.arena_bytes,
        "arena_lower_bound_bytes": report.arena_lower_bound_bytes,
        "flash_budget_bytes": report.flash_budget_bytes,
        "ram_budget_bytes": report.ram_budget_bytes,
        "macs": report.macs,
        "weights": report.weights,
        "mean_weight_bits": report.mean_weight_bits,
        "simplified": None if report.simplified is None else asdict(report.simplified),
        "compressed": None if report.compressed is None else compressed_values(report.compressed),
        "accuracy": accuracy_values(report.accuracy),
        "layers": [layer_values(layer) for layer in report.layers],
        "reasons": [asdict(reason) for reason in report.reasons],
        "warnings": list(report.warnings),
    }


def _measured_values(measured: Measured | None) -> dict[str, Any]:
    if measured is None:
        return execution_values(Execution({}))
    run = Execution({}, measured.instructions, flash=measured.flash, ram=measured.ram, compiler=measured.compiler)
    cycles = {"cycles_modelled": measured.cycles, "cycle_model": measured.cycle_model}
    return {**execution_values(run), **cycles}


def output_values(outputs: Mapping[str, Array]) -> dict[str, Any]:
    """Shape and range of every output, real numbers [N, ...] by model name."""
    return {
        name: {"shape": list(value.shape), "min": float(value.min()), "max": float(value.max())}
        for name, value in outputs.items()
    }


def verification_values(result: Verification, edited: Sequence[str]) -> dict[str, Any]:
    """equal, and the first difference or null. `edited`: files that are not as the compiler wrote them."""
    d = result.difference
    return {
        "equal": result.equal,
        "executions": list(result.executions),
        "samples": result.samples,
        "values": result.values,
        "first_difference": d
        and {
            "execution": d.execution,
            "sample": d.sample,
            "layer": d.layer,
            "op": d.op,
            "index": list(d.index),
            "expected": d.expected,
            "found": d.found,
        },
        "edited_files": list(edited),
        "runs": {name: execution_values(run) for name, run in result.measured.items()},
    }


def comparison_values(result: Comparison) -> dict[str, Any]:
    """accuracy in per cent, null without labels."""
    return {
        "samples": result.samples,
        "accuracy": {"float": result.float_percent, "integer": result.integer_percent},
        "agreement": result.agreement_percent,
        "sqnr_db": dict(result.sqnr_db),
    }


def inspection_values(found: Inspection) -> dict[str, Any]:
    """Layers of the model and what is unsupported in it."""
    fit = found.fit
    return {
        "name": found.name,
        "supported": not found.unsupported,
        "unsupported": [{"node": u.node, "op": u.op, "reason": u.reason} for u in found.unsupported],
        "inputs": {name: list(shape) for name, shape in found.inputs.items()},
        "outputs": {name: list(shape) for name, shape in found.outputs.items()},
        "operators": dict(found.op_counts),
        "macs": found.macs,
        "weights": found.weights,
        "layers": [
            {"name": x.name, "op": x.op, "shape": list(x.shape), "macs": x.macs, "weights": x.weights}
            for x in found.layers
        ],
        "notes": list(found.notes),
        "fit": fit
        and {
            "target": fit.target.name,
            "weight_bytes": fit.weight_bytes,
            "flash_bytes": fit.target.flash_bytes,
            "activation_bytes": fit.activation_bytes,
            "ram_bytes": fit.target.ram_bytes,
        },
    }


def target_values(target: Target | Accelerator) -> dict[str, Any]:
    """Of hardware that is only estimated there are no kernels and emulators, and its memory is the one on the chip."""
    if isinstance(target, Accelerator):
        return {
            "name": target.name,
            "description": target.description,
            "family": target.family,
            "quality": target.quality,
            "weight_bits": list(target.weight_bits),
            "activation_bits": list(target.activation_bits),
            "sram_bytes": target.memory.sram_bytes,
            "clock_hz": target.clock_hz,
        }
    return {
        "name": target.name,
        "description": target.description,
        "family": target.family,
        "kernels": list(target.kernels),
        "requantise": target.requantise,
        "weight_bits": list(target.weight_bits),
        "activation_bits": list(target.activation_bits),
        "flash_bytes": target.flash_bytes,
        "ram_bytes": target.ram_bytes,
        "clock_hz": target.clock_hz,
        "emulators": [name for name in ("unicorn", "qemu") if getattr(target.emulation, name)],
    }
