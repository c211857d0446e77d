"""Which kernels a network gets where flash or time counts for more: alternatives are tried out and measured.

The order of the kernel table is that of speed, a width at a time (`balanced`). What it cannot know is the network: that
a fast kernel's code serves one small layer, or that weights of 6 bits are worth the flash of 8 to be faster, or that a
layer with zeros in it is better stored without them, or with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import log

from dnnc.backends.c.program import Program
from dnnc.backends.c.table import IN_ORDER, STORED_WIDTHS, Selection
from dnnc.progress import Progress, silent

GOALS = ("balanced", "speed", "size")
#: How many per cent more cycles (flash) a per cent of flash (cycles) may cost where size (speed) is the goal.
WORTH = 10
#: Widths as which narrower weights may be stored: those of the fastest loops.
WIDER = (4, 8)


@dataclass(frozen=True)
class Cost:
    """Of the linked program: bytes of flash; modelled cycles of one inference, or instructions without a model.

    fits: whether the program keeps to all budgets.
    """

    flash_bytes: int
    cycles: int
    fits: bool = True

    def rank(self, goal: str) -> tuple[bool, float]:
        """What is compared: less is better. A per cent of what the goal is about is worth `WORTH` of the other."""
        first, second = (self.flash_bytes, self.cycles) if goal == "size" else (self.cycles, self.flash_bytes)
        return not self.fits, WORTH * log(first) + log(second)


def select(
    goal: str,
    program_of: Callable[[Selection], Program],
    measure: Callable[[Program], Cost],
    progress: Progress = silent,
) -> Program:
    """The best program for "speed" or for "size" (`Cost.rank`) that single changes lead to.

    A change is kept when it makes the program better; then the next ones are tried, until none does. The same
    measurements lead to the same program. For "size", no program is larger than that of all weights, zeros included.
    """
    selection, program = IN_ORDER, program_of(IN_ORDER)
    if goal == "balanced":
        return program
    limit = None
    if goal == "size" and "dense" in _formats(program):
        limit = measure(program_of(_written(program, selection, "dense"))).flash_bytes

    def measured(other: Program) -> Cost:
        cost = measure(other)
        return replace(cost, fits=cost.fits and (limit is None or cost.flash_bytes <= limit))

    best = measured(program)
    tried = {_names(program)}
    changes = _changes(program, selection)
    while (candidate := next(changes, None)) is not None:
        other = program_of(candidate)
        names = _names(other)
        if names in tried:
            continue
        tried.add(names)
        progress("choosing kernels", len(tried), 0)
        cost = measured(other)
        if cost.rank(goal) < best.rank(goal):
            selection, program, best = candidate, other, cost
            changes = _changes(program, selection)
    return program


def _names(program: Program) -> tuple[str, ...]:
    """What is the same for the same program: the kernel of every call."""
    return tuple(call.kernel.name for step in program.steps for call in step.calls)


def _changes(program: Program, selection: Selection) -> Iterator[Selection]:
    """One kernel fewer, for its next best; one width of weights stored as a wider one; one layer in another format, or
    all that can be, for one format fewer is a kernel fewer.
    """
    used = {instance.name: instance.inner or instance for instance in program.kernels}
    for instance in used.values():
        if (instance.kernel, instance.bits) not in selection.avoided and not instance.values:
            yield selection.avoid(instance.kernel, instance.bits)
    widths = {instance.bits for instance in used.values()}
    for bits in STORED_WIDTHS:
        for wider in WIDER:
            if bits in widths and bits < wider:
                yield selection.store(bits, wider)
    for name in _formats(program):
        yield _written(program, selection, name)
    for step in program.steps:
        for name in step.formats[1:]:
            yield selection.write(step.node, name)


def _formats(program: Program) -> tuple[str, ...]:
    """Those that layers with a choice could have."""
    return tuple(dict.fromkeys(name for step in program.steps if len(step.formats) > 1 for name in step.formats))


def _written(program: Program, selection: Selection, name: str) -> Selection:
    """With every layer in a format that can be."""
    for step in program.steps:
        if name in step.formats:
            selection = selection.write(step.node, name)
    return selection
