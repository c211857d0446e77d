"""Compression methods and bit policies that train: frozen dataclasses whose fields are their options.

Adding one: its file, its row in METHODS or TRAINED_POLICIES.
"""

from __future__ import annotations

from dnnc import options
from dnnc.compress.fisher import Fisher
from dnnc.compress.grid import TrainedPolicy
from dnnc.compress.hfp import Hfp
from dnnc.compress.lsq import Lsq
from dnnc.compress.method import Compressed, Method, Setting, Usage
from dnnc.compress.mutual_information import MutualInformation
from dnnc.compress.olmp import Olmp
from dnnc.compress.squeeze import Squeeze
from dnnc.compress.symog import Symog
from dnnc.quantise.bits import POLICIES, Policy
from dnnc.quantise.bits.policy import parse

__all__ = [
    "METHODS",
    "TRAINED_POLICIES",
    "Compressed",
    "Method",
    "Setting",
    "Usage",
    "parse_method",
    "parse_policy",
]

#: By the name on the command line.
METHODS: dict[str, type[Method]] = {method.name: method for method in (Fisher, Hfp, MutualInformation, Olmp, Squeeze)}

#: Bit policies that train, by the name on the command line.
TRAINED_POLICIES: dict[str, type[TrainedPolicy]] = {policy.name: policy for policy in (Symog, Lsq)}


def parse_method(text: str) -> Method:
    """A method from e.g. "squeeze{size=4.9}".

    Raises OptionError naming what is allowed, and what is nearest to a misspelt name.
    """
    return options.parse(text, METHODS, "compression method", "--prune")


def parse_policy(text: str) -> Policy:
    """A bit policy, also one that trains, from e.g. "symog{weights=2}". Raises OptionError like `parse_method`."""
    return parse(text, {**POLICIES, **TRAINED_POLICIES})
