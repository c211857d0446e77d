"""The report's figures as short texts, the same on the terminal and in markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dnnc.report.data import Compressed, Layer, Report
from dnnc.run.base import Flash, Ram
from dnnc.run.profile import Profile

if TYPE_CHECKING:
    from dnnc.quantise.reasons import Reason

LAYER_HEADINGS = (
    "layer", "op", "output", "MACs", "weight bits", "act. bits", "bytes", "sensitivity", "SQNR dB", "instructions",
    "cycles (model)",
)  # fmt: skip
#: Headings whose column is text; the others are figures and stand to the right.
TEXT_HEADINGS = frozenset({"layer", "op", "output"})
CHANGE_HEADINGS = ("layer", "op", "outputs", "weights", "MACs", "weights left")
REASON_HEADINGS = (
    "layer", "weight bits", "predicted loss", "a width narrower", "bytes saved", "cycles saved (model)",
)  # fmt: skip
ABSENT = "-"
HOTTEST_BLOCKS = 12
_Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


def count(value: int | None) -> str:
    """An integer in groups of three: 29,937,594."""
    return ABSENT if value is None else f"{value:,}"


def shape(value: Iterable[int]) -> str:
    return "x".join(map(str, value)) or "scalar"


def weight_bits(layer: Layer) -> str:
    """`8`, or for mixed channels their range and mean, `2-6 (3.9)`."""
    mean = layer.mean_weight_bits
    if mean is None:
        return ABSENT
    lowest, highest = min(layer.weight_bits), max(layer.weight_bits)
    return str(lowest) if lowest == highest else f"{lowest}-{highest} ({mean:.1f})"


def layer_row(layer: Layer) -> tuple[str, ...]:
    """One cell for each of LAYER_HEADINGS."""
    return (
        layer.name,
        layer.op,
        shape(layer.shape),
        count(layer.macs) if layer.macs else ABSENT,
        weight_bits(layer),
        str(layer.activation_bits),
        count(layer.flash_bytes) if layer.flash_bytes else ABSENT,
        ABSENT if layer.sensitivity is None else f"{layer.sensitivity:.3g}",
        ABSENT if layer.sqnr_db is None else f"{layer.sqnr_db:.1f}",
        count(layer.instructions),
        count(layer.cycles),
    )


def reason_rows(reasons: Iterable[Reason]) -> list[tuple[str, ...]]:
    """One cell for each of REASON_HEADINGS, a row a layer."""
    return [
        (
            r.layer,
            f"{r.bits:.3g}",
            f"{r.loss:.3g}",
            ABSENT if r.narrower_loss is None else f"{r.narrower_loss:.3g}",
            count(r.bytes_saved),
            count(r.cycles_saved),
        )
        for r in reasons
    ]


def change_rows(compressed: Compressed) -> list[tuple[str, ...]]:
    """One cell for each of CHANGE_HEADINGS, a row a layer."""
    return [
        (c.layer, c.kind, _change(c.outputs), _change(c.weights), _change(c.macs), _left(c.weights))
        for c in compressed.changes
    ]


def change_totals(compressed: Compressed) -> tuple[tuple[str, str], ...]:
    """What was done, and what came of it."""
    weights = compressed.weights
    ratio = f", {weights[0] / weights[1]:.1f} times fewer" if weights[1] else ""
    rows = [
        ("compressed by", ", ".join(compressed.steps)),
        ("weights that are not zero", f"{_change(weights)}{ratio}"),
        ("dense multiply-accumulates", _change(compressed.macs)),
    ]
    if compressed.percent is not None:
        before, after = compressed.percent
        rows.append(("accuracy, held-out, float", f"{before:.2f} % to {after:.2f} %"))
    return tuple(rows)


def _change(numbers: tuple[int, int]) -> str:
    before, after = numbers
    return count(before) if before == after else f"{count(before)} to {count(after)}"


def _left(numbers: tuple[int, int]) -> str:
    before, after = numbers
    return f"{100 * after / before:.1f} %" if before else ABSENT


def totals(report: Report) -> tuple[tuple[str, str], ...]:
    """Name and figure of everything that is said of the whole network."""
    rows = [
        ("target", f"{report.target} ({report.target_description})"),
        ("bits", report.bits),
        ("multiply-accumulates", count(report.macs)),
        ("weights", f"{count(report.weights)}, {report.mean_weight_bits:.2f} bits each"),
        ("flash", _flash(report)),
        ("RAM", _ram(report)),
    ]
    if report.optimise != "balanced":
        rows.append(("optimised for", report.optimise))
    if report.compressed is not None:
        rows += change_totals(report.compressed)
    if report.simplified is not None:
        s = report.simplified
        macs = f"{count(s.macs_before)} to {count(s.macs_after)} multiply-accumulates"
        rows.append(
            ("simplified, exactly", f"{macs}, {count(s.channels_before)} to {count(s.channels_after)} channels")
        )
    if report.measured is not None:
        rows.append(("instructions per inference", count(report.measured.instructions)))
        if report.measured.cycles is not None:
            rows.append(("modelled cycles", modelled(report.measured.cycles, report.measured.cycle_model)))
        rows.append(("compiler", report.measured.compiler))
    if report.accuracy is not None:
        a = report.accuracy
        rows.append(("accuracy, float", f"{a.float_percent:.2f} % of {count(a.samples)} samples"))
        rows.append(("accuracy, integer", f"{a.integer_percent:.2f} %"))
    return tuple(rows)


def modelled(cycles: int | None, model: str | None) -> str:
    return f"{count(cycles)} ({model})"


def profile_tables(profile: Profile) -> list[_Table]:
    """Headings and rows: instructions by layer and work, the same of modelled cycles where there are any, blocks."""
    works = profile.works
    tables: list[_Table] = []
    for what in ("instructions", "cycles") if profile.model else ("instructions",):
        rows = [
            (
                name,
                *(_part(getattr(profile.cells.get((name, work)), what, 0)) for work in works),
                count(getattr(c, what)),
            )
            for name, c in profile.layers.items()
        ]
        sums = tuple(count(getattr(cost, what)) for cost in works.values())
        rows.append(("all", *sums, count(getattr(profile.total, what))))
        tables.append((("layer", *(work.value for work in works), what), rows))
    hottest: list[tuple[str, ...]] = [
        (
            block.place,
            block.work.value,
            count(block.length),
            count(block.executions),
            ABSENT if block.cycles_each is None else f"{block.cycles_each:.1f}",
            count(block.cost.instructions),
            count(block.cost.cycles),
        )
        for block in profile.blocks[:HOTTEST_BLOCKS]
    ]
    headings = ("block", "work", "length", "executions", "cycles each", "instructions", "cycles")
    return [*tables, (headings, hottest)]


def profile_notes(profile: Profile) -> tuple[str, ...]:
    """What to know of the figures."""
    if profile.model is None:
        return profile.notes or ("cycles are not modelled for this target",)
    extrapolated = f"; {profile.extrapolated:.2%} of the instructions extrapolated" if profile.extrapolated else ""
    return (f"cycles: {profile.model}, no wait states{extrapolated}", *profile.notes)


def _part(value: int) -> str:
    return count(value) if value else ABSENT


def of(used: int, available: int) -> str:
    return f"{count(used)} of {count(available)} bytes"


def flash(value: Flash) -> str:
    return (
        f"{count(value.total)} bytes (weights {count(value.weights)}, tables {count(value.tables)}, "
        f"code {count(value.code)})"
    )


def ram(value: Ram) -> str:
    return (
        f"{count(value.total)} bytes (arena {count(value.arena)}, static {count(value.static)}, "
        f"stack {count(value.stack)})"
    )


def _flash(report: Report) -> str:
    if report.measured is None:
        parts = f"(weights {count(report.weight_bytes)}, tables {count(report.table_bytes)}; code not measured)"
        return f"{of(report.flash_bytes, report.flash_budget_bytes)} {parts}"
    return f"{flash(report.measured.flash)} of {count(report.flash_budget_bytes)}"


def _ram(report: Report) -> str:
    bound = f"arena lower bound {count(report.arena_lower_bound_bytes)}"
    if report.measured is None:
        return f"{of(report.ram_bytes, report.ram_budget_bytes)} (arena; stack not measured; {bound})"
    return f"{ram(report.measured.ram)} of {count(report.ram_budget_bytes)}; {bound}"
