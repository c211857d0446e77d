"""Bit policies: frozen dataclasses whose fields are their options. Adding one: its file, its row in POLICIES."""

from __future__ import annotations

from dnnc.quantise.bits.fisher import Fisher
from dnnc.quantise.bits.int8 import Int8
from dnnc.quantise.bits.policy import Policy, parse
from dnnc.quantise.bits.uniform import Uniform

__all__ = ["POLICIES", "Fisher", "Int8", "Policy", "Uniform", "parse_policy"]

#: By the name on the command line.
POLICIES: dict[str, type[Policy]] = {"int8": Int8, "uniform": Uniform, "fisher": Fisher}


def parse_policy(text: str) -> Policy:
    """A policy from e.g. "int8", "uniform{weights=4}" or "fisher{average=4,group=channel}".

    Raises OptionError naming what is allowed, and what is nearest to a misspelt name.
    """
    return parse(text, POLICIES)
