"""What every compression method is: options in a frozen dataclass, and a float graph in, a float graph out.

A method may take channels out (see `surgery`), set weights to exactly 0 (a mask: later stages keep such zeros), or put
weights on a grid. It never sees test data: `Setting` holds what it may look at.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from dnnc import options
from dnnc.compress.feed import Feed
from dnnc.cost.target import Target
from dnnc.errors import OptionError
from dnnc.ir.graph import Graph
from dnnc.progress import Progress, silent
from dnnc.quantise.dataset import Dataset


@dataclass(frozen=True)
class Usage:
    """What a network takes on the target when compiled at 8 bits: measured, not predicted.

    cycles: modelled, or instructions where the target has no model. layer_cycles: by node name.
    """

    flash_bytes: int
    ram_bytes: int
    cycles: int
    layer_cycles: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Setting:
    """What a method works with, besides the graph and its own options.

    train: samples to train on. sample: some of these as arrays, for statistics. held_out: labelled samples that nothing
    is trained on, for accuracy bounds; None without labels. measure: compiles a graph at 8 bits for the target and runs
    it on the emulated core (seconds); None where the target cannot be emulated. device: of torch. checkpoint: where
    training may store its state, so that it goes on after an interruption; None: nowhere. original: the network before
    any method changed it, where that is not the graph at hand.
    """

    train: Feed
    sample: Dataset
    held_out: Dataset | None
    target: Target
    measure: Callable[[Graph], Usage] | None = None
    seed: int = 0
    device: str = "cpu"
    progress: Progress = silent
    checkpoint: Path | None = None
    original: Graph | None = None

    def teacher(self, graph: Graph) -> Graph:
        """The network whose answers are learned: `original`, or else the graph as it is."""
        return graph if self.original is None else self.original

    @property
    def judges(self) -> Dataset | None:
        """The held-out samples, where they have labels."""
        return self.held_out if self.held_out is not None and self.held_out.labels is not None else None

    def labelled(self, method: str) -> Dataset:
        """`judges`; raises OptionError where there are none."""
        if self.judges is None:
            raise OptionError(f"{method} needs labels: give data with 'y'")
        return self.judges


@dataclass(frozen=True, eq=False)
class Compressed:
    """A method's result. notes: for the report. missed: why a budget is not met, with what the best found reaches; the
    graph is that best one. None where all is met.
    """

    graph: Graph
    notes: tuple[str, ...] = field(default=())
    missed: str | None = None


@dataclass(frozen=True)
class Method(ABC):
    """Takes from a network what it can do without. Fields are options, checked in __post_init__ (OptionError)."""

    name: ClassVar[str]

    @abstractmethod
    def apply(self, graph: Graph, setting: Setting) -> Compressed:
        """The compressed graph: same inputs and outputs, node names kept, verified."""

    def __str__(self) -> str:
        """The text on the command line; options at their defaults are left out."""
        return options.show(self)
