"""Methods one after another, then fine-tuning: what `--prune ... --finetune N` asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dnnc.compress.budget import accuracy
from dnnc.compress.changes import Change, changes
from dnnc.compress.constants import fold_constants
from dnnc.compress.finetune import finetune
from dnnc.compress.method import Compressed, Method, Setting
from dnnc.errors import OptionError
from dnnc.ir.graph import Graph


@dataclass(frozen=True, eq=False)
class Compression:
    """What became of a network. percent: accuracy before and after on held-out labelled samples, None without.

    missed: budgets that are not met, each with what the best found reaches.
    """

    steps: tuple[str, ...]
    original: Graph
    graph: Graph
    changes: tuple[Change, ...]
    percent: tuple[float, float] | None
    notes: tuple[str, ...]
    missed: tuple[str, ...]


def compress(graph: Graph, methods: Sequence[Method], epochs: int, setting: Setting) -> Compression:
    """Apply `methods` in order, then fine-tune for `epochs`; every result is verified."""
    if epochs < 0:
        raise OptionError(f"fine-tuning takes a number of epochs >= 0, found {epochs}")
    current, notes, missed = graph, [], []
    for place, method in enumerate(methods):
        setting.progress(str(method), 0, 0)
        found = method.apply(current, _at(setting, f"{place}-{method.name}"))
        # What a mask left without inputs or readers goes, exactly: neither training nor the next method needs it.
        current = fold_constants(found.graph).verify()
        notes += [_under(method.name, note) for note in found.notes]
        missed += [] if found.missed is None else [f"{method}: {found.missed}"]
    if epochs:
        setting.progress("fine-tuning", 0, epochs)
        tuned: Compressed = finetune(current, graph, _at(setting, f"{len(methods)}-finetune"), epochs)
        current = tuned.graph.verify()
        notes += [_under("fine-tuning", note) for note in tuned.notes]
    judges = setting.judges
    percent = None if judges is None else (accuracy(graph, judges), accuracy(current, judges))
    steps = (*map(str, methods), *([f"finetune {epochs}"] if epochs else []))
    return Compression(steps, graph, current, changes(graph, current), percent, tuple(notes), tuple(missed))


def _under(name: str, note: str) -> str:
    """The note, and who says it."""
    return note if note.startswith(f"{name}:") else f"{name}: {note}"


def _at(setting: Setting, step: str) -> Setting:
    """The setting with a checkpoint of the step's own."""
    return setting if setting.checkpoint is None else replace(setting, checkpoint=setting.checkpoint / step)
