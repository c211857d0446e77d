"""What every bit policy is, and how its text on the command line derives from its fields."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from dnnc.cost.target import Target
from dnnc.errors import OptionError
from dnnc.progress import Progress, silent
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.calibrate import Calibration
from dnnc.quantise.dataset import Dataset

_TEXT = re.compile(r"\s*([^\s{}]*)\s*(?:\{(.*)\})?\s*", re.DOTALL)


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
    ) -> Allocation:
        """Widths for every tensor of `calibration.graph`.

        held_out: labelled samples that calibration has not seen, for policies that measure accuracy. Raises OptionError
        where the target lacks a width, BudgetError where a budget cannot be met.
        """

    def __str__(self) -> str:
        """The text that `parse_policy` reads back; options at their defaults are left out."""
        shown = [
            f"{f.name}={getattr(self, f.name):g}"
            if isinstance(getattr(self, f.name), float)
            else f"{f.name}={getattr(self, f.name)}"
            for f in fields(self)
            if getattr(self, f.name) != f.default
        ]
        return f"{self.name}{{{','.join(shown)}}}" if shown else self.name


def parse(text: str, policies: Mapping[str, type[Policy]]) -> Policy:
    """A policy from `name` or `name{option=value,...}`."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise OptionError(f"--bits expects name or name{{option=value,...}}, found '{text}'")
    name, body = match.groups()
    if name not in policies:
        raise OptionError(
            f"unknown bit policy '{name}'{_nearest(name, list(policies))}; allowed: {', '.join(policies)}"
        )
    kind = policies[name]
    hints = {f.name: get_type_hints(kind)[f.name] for f in fields(kind)}
    options: dict[str, Any] = {}
    for part in filter(None, (p.strip() for p in (body or "").split(","))):
        key, equals, value = (p.strip() for p in part.partition("="))
        if key not in hints:
            allowed = ", ".join(hints) or "none"
            raise OptionError(
                f"bit policy '{name}' has no option '{key}'{_nearest(key, list(hints))}; allowed: {allowed}"
            )
        if not equals:
            raise OptionError(f"bit policy '{name}': option '{key}' needs a value, as in {key}=...")
        if key in options:
            raise OptionError(f"bit policy '{name}': option '{key}' is given twice")
        options[key] = _value(f"bit policy '{name}': option '{key}'", value, hints[key])
    return kind(**options)


def _nearest(word: str, known: Sequence[str]) -> str:
    close = get_close_matches(word, known, 1, 0.5)
    return f", did you mean '{close[0]}'?" if close else ""


def _value(what: str, text: str, hint: Any) -> Any:
    """`text` as the type of a field: int, float, one of a Literal's words, or any of these or None."""
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (h for h in get_args(hint) if h is not NoneType)
    if get_origin(hint) is Literal:
        if text not in get_args(hint):
            allowed = ", ".join(get_args(hint))
            raise OptionError(f"{what} expects one of {allowed}, found '{text}'{_nearest(text, get_args(hint))}")
        return text
    try:
        return int(text) if hint is int else float(text)
    except ValueError:
        raise OptionError(f"{what} expects {'a whole number' if hint is int else 'a number'}, found '{text}'") from None


def require_width(kind: str, bits: int, target: Target) -> None:
    """Raise OptionError where a target lacks a width of "weight" or "activation"."""
    listed = target.weight_bits if kind == "weight" else target.activation_bits
    if bits not in listed:
        raise OptionError(
            f"target '{target.name}' has no {bits}-bit {kind}s; it has {', '.join(map(str, listed))} bits"
        )
