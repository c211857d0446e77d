"""Every error that reaches a user: one sentence that says what was expected, what was found and where.

Exit codes are part of the command line's contract: 1 when a check or a budget failed, 2 when the input is bad.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class DnncError(Exception):
    """Base of all errors meant for users; the command line prints the message and exits with `exit_code`."""

    exit_code = 2


class ModelError(DnncError):
    """The model cannot be read, or says something that no network can mean."""


class DataError(DnncError):
    """Calibration or evaluation data do not fit the model."""


class TargetError(DnncError):
    """An unknown target, or a target file with a wrong key or value."""


class OptionError(DnncError):
    """A wrong option or a wrong combination of options."""


class ArtefactError(DnncError):
    """A folder that is no artefact, is damaged, or must not be overwritten."""


class ToolchainError(DnncError):
    """A compiler or an emulator is missing, or failed."""


class OverflowBoundError(DnncError):
    """An accumulator cannot be proven to fit 32 bits."""

    exit_code = 1


class BudgetError(DnncError):
    """A budget (flash, RAM, average bits, accuracy) cannot be met."""

    exit_code = 1


class VerificationError(DnncError):
    """Two executions of the same network differ."""

    exit_code = 1


@dataclass(frozen=True)
class Unsupported:
    """One thing that a model needs and dnnc lacks."""

    node: str
    op: str
    reason: str

    def __str__(self) -> str:
        return f"{self.op} '{self.node}': {self.reason}"


class UnsupportedError(ModelError):
    """Everything that a model needs and dnnc lacks, in one message."""

    def __init__(self, items: Sequence[Unsupported], what: str = "the model") -> None:
        self.items = tuple(items)
        lines = "".join(f"\n  {item}" for item in self.items)
        super().__init__(f"{what} needs {len(self.items)} thing(s) that dnnc does not support:{lines}")
