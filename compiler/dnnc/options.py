"""Texts such as `fisher{average=4,group=channel}`: a frozen dataclass by name, its fields as options."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from dnnc.errors import OptionError

_TEXT = re.compile(r"\s*([^\s{}]*)\s*(?:\{(.*)\})?\s*", re.DOTALL)
T = TypeVar("T")


def parse(text: str, kinds: Mapping[str, type[T]], what: str, switch: str) -> T:
    """An instance of one of `kinds` from `name` or `name{option=value,...}`.

    what: "bit policy"; switch: "--bits", for messages. Raises OptionError naming what is allowed, and what is nearest
    to a misspelt name.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise OptionError(f"{switch} expects name or name{{option=value,...}}, found '{text}'")
    name, body = match.groups()
    if name not in kinds:
        raise OptionError(f"unknown {what} '{name}'{nearest(name, list(kinds))}; allowed: {', '.join(kinds)}")
    kind: Any = kinds[name]
    hints = {f.name: get_type_hints(kind)[f.name] for f in fields(kind)}
    options: dict[str, Any] = {}
    for part in filter(None, (p.strip() for p in (body or "").split(","))):
        key, equals, value = (p.strip() for p in part.partition("="))
        if key not in hints:
            allowed = ", ".join(hints) or "none"
            raise OptionError(f"{what} '{name}' has no option '{key}'{nearest(key, list(hints))}; allowed: {allowed}")
        if not equals:
            raise OptionError(f"{what} '{name}': option '{key}' needs a value, as in {key}=...")
        if key in options:
            raise OptionError(f"{what} '{name}': option '{key}' is given twice")
        options[key] = _value(f"{what} '{name}': option '{key}'", value, hints[key])
    made: T = kind(**options)
    return made


def show(value: Any) -> str:
    """The text that `parse` reads back, of a dataclass with a `name`; options at their defaults are left out."""
    shown = [
        f"{f.name}={getattr(value, f.name):g}"
        if isinstance(getattr(value, f.name), float)
        else f"{f.name}={getattr(value, f.name)}"
        for f in fields(value)
        if getattr(value, f.name) != f.default
    ]
    return f"{value.name}{{{','.join(shown)}}}" if shown else str(value.name)


def nearest(word: str, known: Sequence[str]) -> str:
    """ ", did you mean '...'?" or nothing."""
    close = get_close_matches(word, known, 1, 0.5)
    return f", did you mean '{close[0]}'?" if close else ""


def _value(what: str, text: str, hint: Any) -> Any:
    """`text` as the type of a field: int, float, bool, one of a Literal's words, or any of these or None."""
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (h for h in get_args(hint) if h is not NoneType)
    if hint is bool:
        hint = Literal["yes", "no"]
        return _value(what, text, hint) == "yes"
    if get_origin(hint) is Literal:
        if text not in get_args(hint):
            allowed = ", ".join(get_args(hint))
            raise OptionError(f"{what} expects one of {allowed}, found '{text}'{nearest(text, get_args(hint))}")
        return text
    try:
        return int(text) if hint is int else float(text)
    except ValueError:
        raise OptionError(f"{what} expects {'a whole number' if hint is int else 'a number'}, found '{text}'") from None
