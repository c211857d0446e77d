"""A comparison of targets as tables, as JSON values and as a roofline plot."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dnnc.cost.accelerator import Accelerator
from dnnc.cost.comparison import Comparison, TargetCost
from dnnc.cost.estimate import LayerCost, NetworkCost
from dnnc.errors import OptionError

if TYPE_CHECKING:
    from rich.console import Console

HEADINGS = ("target", "cycles", "ms", "MACs a cycle", "instructions", "energy uJ", "flash", "RAM", "bound by")
LAYER_HEADINGS = ("layer", "op", "MACs", "cycles", "bound by", "instructions", "energy uJ", "flash", "RAM", "traffic")
_TEXT = ("target", "layer", "op", "bound by", "traffic")
_ABSENT = "-"


def comparison_values(found: Comparison) -> dict[str, Any]:
    """The document of `dnnc estimate --json`; null is what is not known. Units are in the keys."""
    return {
        "name": found.network,
        "bits": found.bits,
        "targets": [
            {
                "target": one.hardware.name,
                "family": one.hardware.family,
                "instructions": one.cost.instructions,
                "cycles": one.cost.cycles,
                "seconds": one.cost.seconds,
                "energy_uj": one.cost.energy_uj,
                "flash_bytes": one.cost.flash_bytes,
                "ram_bytes": one.cost.ram_bytes,
                "traffic_bytes": one.cost.traffic_bytes,
                "note": one.cost.note,
                "layers": [_layer_values(layer) for layer in one.cost.layers],
            }
            for one in found.targets
        ],
        "notes": list(found.notes),
    }


def _layer_values(layer: LayerCost) -> dict[str, Any]:
    return {
        "name": layer.name,
        "op": layer.op,
        "macs": layer.macs,
        "cycles": layer.cycles,
        "bound": layer.bound,
        "instructions": layer.instructions,
        "energy_pj": dict(layer.energy_pj),
        "traffic_bytes": dict(layer.traffic_bytes),
        "flash_bytes": layer.flash_bytes,
        "ram_bytes": layer.ram_bytes,
    }


def print_comparison(found: Comparison, console: Console) -> None:
    """One line a target; the layers, too, where there is one target; what the figures are worth."""
    from dnnc.report.terminal import grid

    if len(found.targets) == 1:
        rows = [_layer_row(layer) for layer in found.targets[0].cost.layers]
        console.print(grid(LAYER_HEADINGS, rows, _TEXT))
    console.print(f"{found.network}, {found.bits}", markup=False, highlight=False)
    console.print(grid(HEADINGS, [_row(one) for one in found.targets], _TEXT))
    for one in found.targets:
        console.print(f"{one.hardware.name}: {one.cost.note}", markup=False, highlight=False, soft_wrap=True)
    for note in found.notes:
        console.print(f"left out: {note}", markup=False, highlight=False, soft_wrap=True)


def _row(one: TargetCost) -> tuple[str, ...]:
    cost = one.cost
    return (
        one.hardware.name,
        f"{cost.cycles:,}",
        _ABSENT if cost.seconds is None else f"{1e3 * cost.seconds:,.3g}",
        f"{cost.macs / max(cost.cycles, 1):.3g}",
        _ABSENT if cost.instructions is None else f"{cost.instructions:,}",
        _energy(cost.energy_uj),
        f"{cost.flash_bytes:,}",
        f"{cost.ram_bytes:,}",
        bounds(cost),
    )


def _layer_row(layer: LayerCost) -> tuple[str, ...]:
    return (
        layer.name,
        layer.op,
        f"{layer.macs:,}" if layer.macs else _ABSENT,
        f"{layer.cycles:,}",
        layer.bound,
        _ABSENT if layer.instructions is None else f"{layer.instructions:,}",
        _energy(sum(layer.energy_pj.values()) * 1e-6 if layer.energy_pj else None),
        f"{layer.flash_bytes:,}" if layer.flash_bytes else _ABSENT,
        f"{layer.ram_bytes:,}" if layer.ram_bytes else _ABSENT,
        ", ".join(f"{memory} {count:,}" for memory, count in layer.traffic_bytes.items()) or _ABSENT,
    )


def _energy(value: float | None) -> str:
    return _ABSENT if value is None else f"{value:,.3g}"


def bounds(cost: NetworkCost) -> str:
    """Shares of the cycles by what bounds them: "compute 80 %, flash 20 %"."""
    shares: dict[str, int] = {}
    for layer in cost.layers:
        shares[layer.bound] = shares.get(layer.bound, 0) + layer.cycles
    total = max(sum(shares.values()), 1)
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {100 * cycles / total:.0f} %" for name, cycles in ordered if cycles * 200 > total)


def check_plot(path: Path) -> None:
    """Raise OptionError, before any work, where `plot_roofline` could not write."""
    if importlib.util.find_spec("matplotlib") is None:
        raise OptionError("--plot needs matplotlib, which is not installed: pip install matplotlib")
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise OptionError(f"--plot expects a file that ends in .png, .svg or .pdf, found '{path}'")
    if not path.parent.is_dir():
        raise OptionError(f"the folder '{path.parent}' of --plot does not exist")


def plot_roofline(found: Comparison, path: Path) -> None:
    """Products a second over products a byte from the memory behind the chip, a point a layer, a roof a target."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 6))
    for index, one in enumerate(found.targets):
        colour = f"C{index}"
        points = _points(one)
        if not points:
            continue
        xs, ys = zip(*points, strict=True)
        axes.scatter(xs, ys, color=colour, s=14, label=one.hardware.name)
        roof = _roof(one, xs)
        if roof:
            axes.plot([x for x, _ in roof], [y for _, y in roof], color=colour, linewidth=1)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="MACs a byte of external memory",
        ylabel="GMAC/s",
        title=f"{found.network}, {found.bits}; roofs are at 8 bits",
    )
    axes.legend()
    axes.grid(visible=True, which="both", alpha=0.2)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def _points(one: TargetCost) -> list[tuple[float, float]]:
    found = []
    for layer in one.cost.layers:
        moved = _external_bytes(layer.traffic_bytes)
        if layer.macs and layer.cycles:
            found.append((layer.macs / max(moved, 1), layer.macs / layer.cycles * one.cost.clock_hz / 1e9))
    return found


def _external_bytes(traffic: Mapping[str, int]) -> int:
    return sum(count for memory, count in traffic.items() if memory != "sram")


def _roof(one: TargetCost, xs: Sequence[float]) -> list[tuple[float, float]]:
    """The roof over these points; empty where the peak is unknown."""
    if not isinstance(one.hardware, Accelerator) or one.peak_macs_per_cycle is None:
        return []
    peak = one.peak_macs_per_cycle * one.cost.clock_hz / 1e9
    slope = one.hardware.memory.external_bits_per_cycle / 8 * one.cost.clock_hz / 1e9
    ridge, low, high = peak / slope, min(xs) / 2, max(xs) * 2
    inner = [ridge] if low < ridge < high else []
    return [(x, min(peak, slope * x)) for x in (low, *inner, high)]
