"""What every bit policy is, and how its text on the command line derives from its fields."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from dnnc import options
from dnnc.cost.target import Target
from dnnc.errors import OptionError
from dnnc.progress import Progress, silent
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.calibrate import Calibration
from dnnc.quantise.dataset import Dataset


@dataclass(frozen=True)
class Policy(ABC):
    """Decides how many bits every tensor gets."""

    name: ClassVar[str]

    @property
    def flash_budget_bytes(self) -> int | None:
        """The most bytes of weights and tables that the allocation keeps to; None where it has no such budget."""
        return None

    @abstractmethod
    def allocate(
        self,
        calibration: Calibration,
        target: Target,
        held_out: Dataset | None = None,
        seed: int = 0,
        progress: Progress = silent,
        arena: Callable[[Allocation], int] | None = None,
    ) -> Allocation:
        """Widths for every tensor of `calibration.graph`.

        held_out: labelled samples that calibration has not seen, for policies that measure accuracy. arena: bytes of
        RAM that the memory planner gives the values of an allocation, for policies with such a budget. Raises
        OptionError where the target lacks a width, BudgetError where a budget cannot be met.
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
