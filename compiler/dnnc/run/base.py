"""What every way of executing an artefact has in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

if TYPE_CHECKING:
    from dnnc.run.profile import Profile

Array = NDArray[Any]


@dataclass(frozen=True)
class Flash:
    """Bytes of read-only memory, from the linked program, test harness excluded."""

    weights: int
    tables: int
    code: int

    @property
    def total(self) -> int:
        return self.weights + self.tables + self.code


@dataclass(frozen=True)
class Ram:
    """Bytes of memory: the arena (activations, scratch, inputs, outputs), other statics, and the deepest stack."""

    arena: int
    static: int
    stack: int

    @property
    def total(self) -> int:
        return self.arena + self.static + self.stack


@dataclass(frozen=True)
class Execution:
    """What one run gave. Outputs are codes int32 [N, *shape] by model name; None: this runner cannot know it.

    layers: codes of every value by node name, when the run was traced. profile: of one inference, where it was
    counted. notes: what a reader of the figures should know.
    """

    outputs: Mapping[str, Array]
    instructions_per_inference: int | None = None
    flash: Flash | None = None
    ram: Ram | None = None
    compiler: str | None = None
    layers: Mapping[str, Array] = field(default_factory=dict)
    profile: Profile | None = None
    notes: tuple[str, ...] = ()


class Runner(Protocol):
    """Executes an artefact. Input codes int32 [N, *shape] by graph input name."""

    def run(self, inputs: Mapping[str, Array], trace: bool = False) -> Execution: ...


def memory_notes(flash: Flash, ram: Ram, flash_bytes: int, ram_bytes: int) -> tuple[str, ...]:
    """A note for each memory of a target that is smaller than what the program was given for the run."""
    figures = (("flash", flash.total, flash_bytes), ("RAM", ram.total, ram_bytes))
    return tuple(
        f"run with more {name} than the target has: {used} bytes are used, {there} are there"
        for name, used, there in figures
        if used > there
    )
