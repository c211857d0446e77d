"""What every bit policy is, and how its text on the command line derives from its fields."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from dnnc import options
from dnnc.cost.target import Target
from dnnc.errors import OptionError
from dnnc.progress import Progress, silent
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.calibrate import Calibration
from dnnc.quantise.dataset import Dataset

if TYPE_CHECKING:
    from dnnc.quantise.bits.costing import Source


class Programs(Protocol):
    """The programs that allocations would become; for policies with budgets of the target."""

    @property
    def source(self) -> Source | None:
        """What they take, None where no one knows."""

    def arena(self, allocation: Allocation) -> int:
        """Bytes of RAM that the memory planner gives the values."""


@dataclass(frozen=True)
class Policy(ABC):
    """Decides how many bits every tensor gets."""

    name: ClassVar[str]

    @property
    def flash_budget_bytes(self) -> int | None:
        """The most bytes of weights and tables (and of code, where it is known what kernels take) that the allocation
        keeps to; None where it has no such budget.
        """
        return None

    @abstractmethod
    def allocate(
        self,
        calibration: Calibration,
        target: Target,
        held_out: Dataset | None = None,
        seed: int = 0,
        progress: Progress = silent,
        programs: Programs | None = None,
    ) -> Allocation:
        """Widths for every tensor of `calibration.graph`.

        held_out: labelled samples that calibration has not seen, for policies that measure accuracy. programs: for
        those with budgets of the target. Raises OptionError where the target lacks a width, BudgetError where a budget
        cannot be met.
        """

    def __str__(self) -> str:
        """The text that `parse_policy` reads back; options at their defaults are left out."""
        return options.show(self)


def parse(text: str, policies: Mapping[str, type[Policy]]) -> Policy:
    """A policy from `name` or `name{option=value,...}`."""
    return options.parse(text, policies, "bit policy", "--bits")


def require_width(kind: str, bits: int, target: Target) -> None:
    """Raise OptionError where a target lacks a width of "weight" or "activation"."""
    listed = target.weight_bits if kind == "weight" else target.activation_bits
    if bits not in listed:
        raise OptionError(
            f"target '{target.name}' has no {bits}-bit {kind}s; it has {', '.join(map(str, listed))} bits"
        )
