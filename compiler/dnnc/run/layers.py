"""Which layer of a network the instructions of an inference belong to."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dnnc.run.image import Image, Symbol
from dnnc.run.machine import Count, Counts

#: Stands for what is executed before the first layer and after the last.
OUTSIDE = "entry and exit"
#: Stands for all layers of a program that does not tell them apart.
ALL = "all layers"
# the last line of a step in NAME_run
_STEP = re.compile(r"^ *TRACE\((-?\d+),")


@dataclass(frozen=True)
class Layers:
    """The code of NAME_run by layer. names: in order; owners: by address, where the line of the source tells."""

    run: Symbol
    names: tuple[str, ...]
    owners: Mapping[int, str]

    @classmethod
    def read(cls, image: Image, network: str, source: str, nodes: Sequence[str]) -> Layers:
        """From the line table of the program and the network's C, in which a line closes each step."""
        function = f"{network}_run"
        steps = {int(m[1]): n for n, line in enumerate(source.splitlines(), 1) if (m := _STEP.match(line))}
        lines = image.lines(function, f"{network}.c")
        if not lines or sorted(steps) != list(range(-1, len(nodes))):
            return cls(image.symbols[function], (ALL,), {})
        ends = [steps[index] for index in range(-1, len(nodes))]
        # what is on a line up to the first end is entry, up to the second the first layer, ...
        names = (OUTSIDE, *nodes, OUTSIDE)
        owners = {address: names[bisect_left(ends, line)] for address, line in lines}
        return cls(image.symbols[function], (*nodes, OUTSIDE), owners)

    def executions(self, count: Count, calls: Sequence[tuple[int, Counts]]) -> dict[str, Counts]:
        """Executions in each layer, which add up to those of the count. calls: (address, executions before it) of each
        call that NAME_run made, in turn: what is executed until the next one belongs to the layer of the call, but
        for NAME_run itself, which goes by its lines."""
        found = {name: np.zeros_like(count.executions) for name in self.names}
        first, last = ((a - count.base) // 2 for a in (self.run.address, self.run.address + self.run.size))
        # before any call: nothing, or what NAME_run jumps to at its end
        stretches = [(self.names[-1], np.zeros_like(count.executions))]
        stretches += [(self._owner(address), before) for address, before in calls]
        ends = [executions for _, executions in calls] + [count.executions]
        for (owner, before), now in zip(stretches, ends, strict=True):
            found[owner][:first] += (now - before)[:first]
            found[owner][last:] += (now - before)[last:]
        owner = self.names[-1]
        for index in range(first, last):
            owner = self.owners.get(count.base + 2 * index, owner)
            found[owner][index] = count.executions[index]
        return found

    def _owner(self, address: int) -> str:
        """Of the line that the instruction at an address belongs to."""
        known = [a for a in self.owners if a <= address]
        return self.owners[max(known)] if known else self.names[-1]
