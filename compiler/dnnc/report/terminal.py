"""The report as rich tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dnnc.cost.accelerator import Accelerator
from dnnc.cost.target import Target
from dnnc.report import words
from dnnc.report.data import Compressed, Report
from dnnc.run.base import Array, Execution
from dnnc.run.profile import Profile
from dnnc.verify import Verification

if TYPE_CHECKING:  # these import torch, which most reports do without
    from dnnc.accuracy import Comparison
    from dnnc.inspection import Inspection

#: Longer layer names are cut; the files have them whole.
NAME_WIDTH = 28


def print_report(report: Report, console: Console) -> None:
    """Layers, then totals, then warnings."""
    rows = [(_tail(name), *rest) for name, *rest in map(words.layer_row, report.layers)]
    console.print(grid(words.LAYER_HEADINGS, rows, words.TEXT_HEADINGS))
    console.print(pairs(words.totals(report)))
    for note in report.compressed.notes if report.compressed is not None else ():
        console.print(f"note: {escape(note)}", soft_wrap=True, highlight=False)
    for warning in report.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)


def print_compressed(found: Compressed, console: Console) -> None:
    """Layers before and after, totals, notes."""
    rows = [(_tail(name), *rest) for name, *rest in words.change_rows(found)]
    console.print(grid(words.CHANGE_HEADINGS, rows, words.TEXT_HEADINGS))
    console.print(pairs(words.change_totals(found)))
    for note in found.notes:
        console.print(f"note: {escape(note)}", soft_wrap=True, highlight=False)


def print_execution(execution: Execution, outputs: Mapping[str, Array], on: str, console: Console) -> None:
    """What a run gave and cost. outputs: real numbers [N, ...] by model name."""
    rows = [("ran on", on)]
    for name, value in outputs.items():
        rows.append((f"output {name}", f"{words.shape(value.shape)}, {value.min():.6g} to {value.max():.6g}"))
    if execution.instructions_per_inference is not None:
        rows.append(("instructions per inference", words.count(execution.instructions_per_inference)))
    if execution.profile is not None and execution.profile.model is not None:
        rows.append(("modelled cycles", words.modelled(execution.profile.total.cycles, execution.profile.model)))
    if execution.flash is not None:
        rows.append(("flash", words.flash(execution.flash)))
    if execution.ram is not None:
        rows.append(("RAM", words.ram(execution.ram)))
    if execution.compiler is not None:
        rows.append(("compiler", execution.compiler))
    console.print(pairs(rows))


def print_profile(profile: Profile, console: Console) -> None:
    """By layer and work, then the hottest blocks; cycles where they are modelled, else instructions."""
    for heading, rows in words.profile_tables(profile):
        text = ("layer", "block", "work")
        console.print(grid(heading, [(_tail(name), *rest) for name, *rest in rows], text))
        console.print()
    for note in words.profile_notes(profile):
        console.print(escape(note), soft_wrap=True, highlight=False)


def print_verification(result: Verification, edited: Sequence[str], console: Console) -> None:
    """One line when all agree; a difference is an error, which the caller tells."""
    for path in edited:
        console.print(f"[yellow]note:[/] {escape(path)} is not as the compiler wrote it", soft_wrap=True)
    if result.equal:
        names = ", ".join(result.executions)
        console.print(
            f"[green]equal[/]: {escape(names)} agree on every bit ({words.count(result.samples)} samples, "
            f"{words.count(result.values)} output values)",
            soft_wrap=True,
            highlight=False,
        )


def print_comparison(result: Comparison, on: str, console: Console) -> None:
    """Accuracies and agreement."""
    rows = [("samples", words.count(result.samples)), ("integer program ran on", on)]
    for name, value in (
        ("accuracy, float", result.float_percent),
        ("accuracy, integer", result.integer_percent),
        ("same class", result.agreement_percent),
    ):
        if value is not None:
            rows.append((name, f"{value:.2f} %"))
    rows += [(f"SQNR of {name}", "exact" if v is None else f"{v:.1f} dB") for name, v in result.sqnr_db.items()]
    console.print(pairs(rows))


def print_inspection(found: Inspection, console: Console) -> None:
    """The model's layers, or what is unsupported in it."""
    operators = ", ".join(f"{name} {count}" for name, count in found.op_counts.items())
    console.print(f"{found.name}: {operators}", markup=False, highlight=False, soft_wrap=True)
    if found.unsupported:
        rows = [(u.op, u.node, u.reason) for u in found.unsupported]
        console.print(grid(("unsupported", "node", "reason"), rows, ("unsupported", "node", "reason")))
        return
    layers = [
        (_tail(x.name), x.op, words.shape(x.shape), words.count(x.macs), words.count(x.weights), x.attributes)
        for x in found.layers
    ]
    text = ("layer", "op", "output", "attributes")
    console.print(grid(("layer", "op", "output", "MACs", "weights", "attributes"), layers, text))
    totals = [(f"input {name}", words.shape(shape)) for name, shape in found.inputs.items()]
    totals += [(f"output {name}", words.shape(shape)) for name, shape in found.outputs.items()]
    totals += [("multiply-accumulates", words.count(found.macs)), ("weights", words.count(found.weights))]
    if found.fit is not None:
        fit = found.fit
        totals.append(
            (
                f"flash of {fit.target.name}",
                f"{words.of(fit.weight_bytes, fit.target.flash_bytes)} for weights at 8 bits",
            )
        )
        totals.append(
            (f"RAM of {fit.target.name}", f"{words.of(fit.activation_bytes, fit.target.ram_bytes)} for activations")
        )
    console.print(pairs(totals))
    for note in found.notes:
        console.print(f"note: {escape(note)}", soft_wrap=True)


def print_targets(hardware: Sequence[Target | Accelerator], console: Console) -> None:
    """One line a target; those that are only estimated by themselves."""
    targets = [t for t in hardware if isinstance(t, Target)]
    headings = ("target", "description", "flash", "RAM", "clock", "weight bits", "act. bits")
    rows = [
        (
            t.name,
            t.description,
            f"{t.flash_bytes // 1024} KiB",
            f"{t.ram_bytes // 1024} KiB",
            f"{t.clock_hz / 1e6:g} MHz" if t.clock_hz else words.ABSENT,
            ",".join(map(str, t.weight_bits)),
            ",".join(map(str, t.activation_bits)),
        )
        for t in targets
    ]
    console.print(grid(headings, rows, ("target", "description")))
    rows = [
        (
            a.name,
            a.description,
            a.family,
            f"{a.memory.sram_bytes // 1024} KiB",
            f"{a.clock_hz / 1e6:g} MHz",
            ",".join(map(str, a.weight_bits)),
            ",".join(map(str, a.activation_bits)),
        )
        for a in hardware
        if isinstance(a, Accelerator)
    ]
    headings = ("only estimated", "description", "family", "SRAM", "clock", "weight bits", "act. bits")
    console.print()
    console.print(grid(headings, rows, ("only estimated", "description", "family")))


def grid(headings: Sequence[str], rows: Iterable[Sequence[str]], text: Iterable[str]) -> Table:
    """A table; columns whose heading is in `text` stand to the left, the others to the right and are never broken."""
    left = set(text)
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        if heading in left:
            shown.add_column(heading, overflow="fold")
        else:
            shown.add_column(heading.replace(" ", "\n"), justify="right", no_wrap=True)
    for row in rows:
        shown.add_row(*map(escape, row))
    return shown


def _tail(name: str) -> str:
    """The end of a long layer name: exporters put the path of the module in front."""
    return name if len(name) <= NAME_WIDTH else "…" + name[1 - NAME_WIDTH :]


def pairs(rows: Iterable[Sequence[str]]) -> Table:
    """Names and their figures, without a heading."""
    shown = Table(box=None, pad_edge=False, show_header=False)
    shown.add_column(style="bold")
    shown.add_column(overflow="fold")
    for name, value in rows:
        shown.add_row(escape(name), escape(value))
    return shown
