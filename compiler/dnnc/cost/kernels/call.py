"""One call of a C kernel, as far as its loops depend on it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import lcm
from typing import Any

from dnnc.errors import DnncError
from dnnc.fixed import PACKINGS

_SYMBOL = re.compile(
    r"dnnc_(?P<elements>(?:s4|s8|s16)+)_(?P<op>[a-z]+)(?:_w(?P<bits>\d))?(?:_(?P<variant>\w+?))?__(?P<family>\w+)"
)


@dataclass(frozen=True)
class Symbol:
    """What the name of a kernel says (see dnnc.backends.c.table): element types of inputs and output, operation, stored
    width of the weights (0: none), variant, family of cores."""

    name: str
    elements: tuple[str, ...]
    op: str
    bits: int
    variant: str
    family: str

    @property
    def frame(self) -> str:
        """The name without the width: the code around the products, which is nearly the same for all of them."""
        return self.name.replace(f"_w{self.bits}", "", 1)

    @property
    def bytes_in(self) -> int:
        """Of an element of the first input; packed ones count as bytes."""
        return 2 if self.elements[0] == "s16" else 1

    @property
    def pixels(self) -> int:
        """That a portable kernel makes at a time."""
        return 2 if self.variant.startswith("2x4") else 1


@lru_cache(maxsize=512)
def symbol_of(name: str) -> Symbol:
    """The parts of a kernel's name. Raises DnncError where it is none."""
    found = _SYMBOL.fullmatch(name)
    if found is None:
        raise DnncError(f"'{name}' is not the name of a kernel: dnnc_<elements>_<op>[_w<bits>][_<variant>]__<family>")
    elements = tuple(re.findall(r"s16|s8|s4", found["elements"]))
    return Symbol(name, elements, found["op"], int(found["bits"] or 0), found["variant"] or "", found["family"])


@dataclass(frozen=True, eq=False)
class KernelCall:
    """kernel: its name. inner: the one that it calls for bands or chunks of the layer, or None.

    numbers: the members of its C struct that are numbers, tuples of them, or structs of them (as mappings). Of any
    call that clamps `clamped`, whether to less than its storage; of linear ones `scattered` (channels of several
    widths), `wide` (tables of 32 bits), `offset` (bytes into the input); of sparse ones what `portable.sparse` says.
    """

    kernel: str
    numbers: Mapping[str, Any]
    inner: str | None = None


def block_k(bits: int) -> int:
    """Values of k in the smallest run of whole words that holds whole pairs of four channels (fixed.PACKINGS)."""
    return 2 * lcm(4, PACKINGS[bits].pairs) // 4
