"""Measured candidates, those of them that no other one beats, and how they are written: CSV, JSON, a plot."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_COLUMNS = (
    "accuracy_percent", "agreement_percent", "sqnr_db", "flash_bytes", "ram_bytes", "cycles", "energy_uj",
)  # fmt: skip
#: What a candidate is judged by, and whether more is better.
OBJECTIVES = {
    "quality": True,
    "flash_bytes": False,
    "ram_bytes": False,
    "cycles": False,
    "energy_uj": False,
}


@dataclass(frozen=True)
class Point:
    """A candidate and what it measured. key: tells it from all others. origin: what proposed it. weight_bits: the mean
    of all weights; layer_bits: by layer. accuracy_percent: of labelled held-out samples, None without labels;
    agreement_percent: samples whose answer is the float model's, None where outputs are no classes; sqnr_db: of the
    first output, None where it is exact. flash, RAM: as linked, else constants and arena.
    cycles: modelled; energy_uj: None where nothing is known of it.
    """

    key: str
    origin: str
    weight_bits: float
    layer_bits: Mapping[str, float]
    activation_bits: float
    accuracy_percent: float | None
    agreement_percent: float | None
    sqnr_db: float | None
    flash_bytes: int
    ram_bytes: int
    cycles: int | None
    energy_uj: float | None

    @property
    def quality(self) -> float:
        """Accuracy where there are labels, else agreement, else SQNR."""
        if self.accuracy_percent is not None:
            return self.accuracy_percent
        if self.agreement_percent is not None:
            return self.agreement_percent
        return float("inf") if self.sqnr_db is None else self.sqnr_db


def beats(a: Point, b: Point) -> bool:
    """Whether `a` is as good as `b` in everything that both know, and better in something."""
    better = False
    for name, more in OBJECTIVES.items():
        x, y = getattr(a, name), getattr(b, name)
        if x is None or y is None:
            continue
        if x != y and (x > y) != more:
            return False
        better = better or x != y
    return better


def pareto(points: Sequence[Point]) -> tuple[Point, ...]:
    """Those that none beats, the smallest flash first; of equals the first."""
    seen: dict[tuple[Any, ...], Point] = {}
    for point in sorted(points, key=lambda p: (p.flash_bytes, p.key)):
        seen.setdefault(tuple(getattr(point, name) for name in OBJECTIVES), point)
    return tuple(p for p in seen.values() if not any(beats(q, p) for q in points))


def to_csv(points: Sequence[Point], front: Sequence[Point]) -> str:
    """A row a point, the smallest flash first."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["key", "origin", "weight_bits", "activation_bits", *_COLUMNS, "front"])
    on_front = {point.key for point in front}
    for p in sorted(points, key=lambda p: (p.flash_bytes, p.key)):
        figures = ["" if (v := getattr(p, name)) is None else _number(v) for name in _COLUMNS]
        row = [p.key, p.origin, f"{p.weight_bits:.4g}", f"{p.activation_bits:.4g}", *figures]
        writer.writerow([*row, "yes" if p.key in on_front else "no"])
    return stream.getvalue()


def to_json(settings: Mapping[str, Any], points: Sequence[Point], front: Sequence[Point]) -> str:
    """Everything: {"settings", "front": [keys], "points": [...]}."""
    ordered = sorted(points, key=lambda p: (p.flash_bytes, p.key))
    document = {"settings": settings, "front": [p.key for p in front], "points": [asdict(p) for p in ordered]}
    return json.dumps(document, indent=1) + "\n"


def plot(points: Sequence[Point], front: Sequence[Point], path: Path) -> bool:
    """Accuracy over flash, coloured by cycles where they are known; False where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([p.flash_bytes / 1024 for p in points], [p.quality for p in points], ".", color="0.7", label="beaten")
    known = all(p.cycles is not None for p in front)
    shown = axes.scatter(
        [p.flash_bytes / 1024 for p in front],
        [p.quality for p in front],
        c=[(p.cycles or 0) / 1e6 for p in front] if known and front else None,
        label="front",
    )
    if known and front:
        figure.colorbar(shown, label="million cycles (modelled)")
    axes.set_xlabel("flash, KiB")
    axes.set_ylabel(_quality_of(points))
    axes.legend()
    figure.savefig(path, dpi=120, metadata={"Software": None})
    return True


def _quality_of(points: Sequence[Point]) -> str:
    if any(p.accuracy_percent is not None for p in points):
        return "accuracy, %"
    return "answers as the float model's, %" if any(p.agreement_percent is not None for p in points) else "SQNR, dB"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"
