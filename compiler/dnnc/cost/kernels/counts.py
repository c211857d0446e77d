"""Counts of what a kernel does, by piece of code and by thing done."""

from __future__ import annotations

from dataclasses import dataclass, field

#: (piece of code, what it does)
Key = tuple[str, str]


@dataclass
class Counter:
    """Adds up; part: the piece of code that the next counts are of. times: how often all of it happens."""

    part: str = ""
    times: float = 1.0
    found: dict[Key, float] = field(default_factory=dict)

    def add(self, name: str, count: float) -> None:
        """`count` more of `name`, times `times`."""
        if count:
            key = (self.part, name)
            self.found[key] = self.found.get(key, 0.0) + float(count) * self.times
