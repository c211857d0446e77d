"""TOML tables as frozen dataclasses, strictly: an unknown, missing or mistyped key is an error that says what is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from types import MappingProxyType, NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from dnnc.errors import TargetError

T = TypeVar("T")


def read(kind: type[T], tree: Mapping[str, Any], where: str, **known: Any) -> T:
    """An instance of a dataclass from a TOML table; `known`: fields that are not read from it. Raises TargetError."""
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name not in known}  # type: ignore[arg-type]
    for key in tree:
        if key not in fields:
            raise TargetError(f"{where}: unknown key '{key}'{nearest(key, fields)}; valid keys: {', '.join(fields)}")
    missing = [name for name, f in fields.items() if name not in tree and _required(f)]
    if missing:
        raise TargetError(f"{where}: missing key(s) {', '.join(missing)}")
    hints = get_type_hints(kind)
    values = {name: _value(hints[name], value, f"{where}: '{name}'") for name, value in tree.items()}
    return kind(**values, **known)


def nearest(word: str, known: Collection[str]) -> str:
    """What a misspelt word may have meant, in brackets, or nothing."""
    found = get_close_matches(word, list(known), 1, cutoff=0.5)
    return f" (did you mean '{found[0]}'?)" if found else ""


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _value(hint: Any, value: Any, where: str) -> Any:
    """A TOML value as the type that the dataclass field is annotated with."""
    if get_origin(hint) in (Union, UnionType):  # TOML has no null: what is given is not None
        (hint,) = (h for h in get_args(hint) if h is not NoneType)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise TargetError(f"{where} must be a table, but is {value!r}")
        return read(hint, value, where)  # type: ignore[arg-type]
    expected, valid, convert = _CHECKS[hint]
    if not valid(value):
        raise TargetError(f"{where} must be {expected}, but is {value!r}")
    return convert(value)


def _is(kind: Any) -> Callable[[Any], bool]:
    # bool is an int in Python, but `flash_bytes = true` is a mistake
    return lambda value: isinstance(value, kind) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return bool(_is((int, float))(value) and 0 <= value < float("inf"))


def _by_bits(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(k.isdecimal() and _number(v) for k, v in value.items())


_CHECKS: Mapping[Any, tuple[str, Callable[[Any], bool], Callable[[Any], Any]]] = {
    str: ("a string", _is(str), str),
    float: ("a number, not negative", _number, float),
    int: ("a whole number, not negative", lambda v: _is(int)(v) and v >= 0, int),
    tuple[str, ...]: ("a list of strings", lambda v: _is(list)(v) and all(map(_is(str), v)), tuple),
    tuple[int, ...]: ("a list of whole numbers", lambda v: _is(list)(v) and all(map(_is(int), v)), tuple),
    Mapping[int, float]: (
        "a table of numbers by bits, as { 8 = 1.5, 4 = 3 }",
        _by_bits,
        lambda v: MappingProxyType({int(bits): float(number) for bits, number in v.items()}),
    ),
}
