"""How anything that may take longer than two seconds tells what it is doing."""

from __future__ import annotations

from collections.abc import Callable

#: progress(stage, done, total): called now and then; total 0 where the end is not known.
Progress = Callable[[str, int, int], None]


def silent(stage: str, done: int, total: int) -> None:
    """The progress of who does not want to know."""
