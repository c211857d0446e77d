"""report.md: the report for people who read files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dnnc.report import words
from dnnc.report.data import Report

_LEGEND = """\
Bytes are the constants of a layer (packed weights, biases, multipliers, tables). SQNR is the power of the float
model's values over that of the integer program's error, on samples of the calibration data. Instructions are
counted exactly on an emulated core. Cycles are modelled, without wait states of memories, by the model named above."""


_REASONS = """\
Predicted loss: by how much the layer's widths are expected to raise the loss (nats for a classifier, else half the
relative squared error of the outputs), now and at the next narrower width. Saved: against 8 bits for this layer alone,
bytes of weights and tables, and cycles where the target has a cost model; less than 0 where it takes more."""


def report_markdown(report: Report) -> str:
    """Totals, layers, warnings; ends with a newline."""
    parts = [
        f"# {report.name} on {report.target}",
        table(("", ""), words.totals(report), {""}),
        "## Layers",
        table(words.LAYER_HEADINGS, map(words.layer_row, report.layers), words.TEXT_HEADINGS),
        _LEGEND,
    ]
    if report.reasons:
        rows = words.reason_rows(report.reasons)
        parts += ["## Why these bits", table(words.REASON_HEADINGS, rows, words.TEXT_HEADINGS), _REASONS]
    if report.compressed is not None:
        rows = words.change_rows(report.compressed)
        parts += ["## Compression", table(words.CHANGE_HEADINGS, rows, words.TEXT_HEADINGS)]
        parts += ["\n".join(f"- {note}" for note in report.compressed.notes)] if report.compressed.notes else []
    if report.warnings:
        parts += ["## Warnings", "\n".join(f"- {warning}" for warning in report.warnings)]
    return "\n\n".join(parts) + "\n"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], text: Iterable[str]) -> str:
    """A markdown table; columns whose heading is in `text` stand to the left, the others to the right."""
    left = set(text)
    lines = [_line(headings), _line([":--" if h in left else "--:" for h in headings])]
    lines += [_line([cell.replace("|", "\\|").replace("\n", " ") for cell in row]) for row in rows]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
