"""Numbers as lines of C."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc.backends.c.program import Array, Value

WIDTH = 116


def number(value: int) -> str:
    """An integer literal; the most negative int32 has none of its own."""
    return "(-2147483647 - 1)" if value == -(2**31) else str(value)


def array_lines(values: NDArray[Any], c_type: str) -> list[str]:
    """The elements: words in hexadecimal, eight a line; other numbers in decimal, as many as fit."""
    flat = np.asarray(values).reshape(-1).tolist()
    if c_type == "uint32_t":
        words = [f"0x{value:08x}," for value in flat]
        return [" ".join(words[i : i + 8]) for i in range(0, len(words), 8)]
    return textwrap.wrap(" ".join(f"{number(value)}," for value in flat), WIDTH)


def struct_lines(fields: Mapping[str, Value], names: Mapping[Array, str]) -> list[str]:
    """Designated initialisers; `names` says what each array is called."""
    return textwrap.wrap(_members(fields, names) + ",", WIDTH, break_long_words=False)


def _members(fields: Mapping[str, Value], names: Mapping[Array, str]) -> str:
    return ", ".join(f".{name} = {_value(value, names)}" for name, value in fields.items())


def _value(value: Value, names: Mapping[Array, str]) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, Array):
        return names[value]
    if isinstance(value, tuple):
        return "{" + ", ".join(number(v) for v in value) + "}"
    if isinstance(value, Mapping):
        return "{" + _members(value, names) + "}"
    return number(value)
