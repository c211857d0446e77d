"""target.toml -> Target, strictly: an unknown, missing or mistyped key is an error that names place and remedy."""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dnnc import resources
from dnnc.cost.target import Cycles, CycleTable, Emulation, Target, Toolchain
from dnnc.errors import TargetError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE_NAME = "target.toml"
_REQUANTISE = ("multiply", "shift")
_SECTIONS = {
    "Toolchain": Toolchain,
    "Emulation": Emulation,
    "Cycles | None": Cycles,
    "CycleTable | None": CycleTable,
}


def list_targets() -> tuple[str, ...]:
    """The names of the targets that come with dnnc, sorted."""
    return tuple(sorted(path.parent.name for path in resources.targets().glob(f"*/{FILE_NAME}")))


def load_target(name_or_path: str | Path) -> Target:
    """The target of that name, or the one that a user's own target.toml (or the folder that holds it) describes.

    Raises TargetError: an unknown name (with the known ones), an unreadable file, a wrong key or value.
    """
    known = list_targets()
    if str(name_or_path) in known:
        return _read(resources.targets() / str(name_or_path) / FILE_NAME)
    path = Path(name_or_path)
    if path.is_dir():
        path = path / FILE_NAME
    if path.is_file():
        return _read(path)
    if path.suffix == ".toml" or path.name != str(name_or_path):
        raise TargetError(f"there is no target file '{path}'; targets known by name: {', '.join(known)}")
    raise TargetError(f"unknown target '{name_or_path}'{_nearest(str(name_or_path), known)}; known: {', '.join(known)}")


def _read(path: Path) -> Target:
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TargetError(f"target file '{path}' cannot be read: {error}") from error
    values = _section(Target, tree, str(path), skip=("folder",))
    target = Target(folder=path.resolve().parent, **values)
    _check(target, str(path))
    return target


def _section(kind: type[Any], tree: Mapping[str, Any], where: str, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of a dataclass from a TOML table, checked one by one."""
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name not in skip}
    for key in tree:
        if key not in fields:
            raise TargetError(f"{where}: unknown key '{key}'{_nearest(key, fields)}; valid keys: {', '.join(fields)}")
    missing = [n for n, f in fields.items() if n not in tree and f.default is dataclasses.MISSING]
    if missing:
        raise TargetError(f"{where}: missing key(s) {', '.join(missing)}")
    return {name: _value(str(fields[name].type), value, f"{where}: '{name}'") for name, value in tree.items()}


def _value(annotation: str, value: Any, where: str) -> Any:
    """A TOML value as the type that the dataclass field is annotated with."""
    if annotation in _SECTIONS:
        if not isinstance(value, dict):
            raise TargetError(f"{where} must be a table, but is {value!r}")
        return _SECTIONS[annotation](**_section(_SECTIONS[annotation], value, where))
    checks: dict[str, tuple[str, Callable[[Any], bool], Callable[[Any], Any]]] = {
        "str": ("a string", _is(str), str),
        "str | None": ("a string", _is(str), str),
        "float": ("a number, not negative", lambda v: isinstance(v, int | float) and v is not True and v >= 0, float),
        "int": ("a whole number, not negative", lambda v: _is(int)(v) and v >= 0, int),
        "tuple[str, ...]": ("a list of strings", lambda v: _is(list)(v) and all(map(_is(str), v)), tuple),
        "tuple[int, ...]": ("a list of whole numbers", lambda v: _is(list)(v) and all(map(_is(int), v)), tuple),
    }
    expected, valid, convert = checks[annotation]
    if not valid(value):
        raise TargetError(f"{where} must be {expected}, but is {value!r}")
    return convert(value)


def _is(kind: type[Any]) -> Callable[[Any], bool]:
    # bool is an int in Python, but `flash_bytes = true` is a mistake
    return lambda value: isinstance(value, kind) and not isinstance(value, bool)


def _check(target: Target, where: str) -> None:
    """What types cannot say: allowed values and ranges."""
    families = tuple(p.name for p in sorted(resources.kernels().iterdir()) if p.is_dir() and p.name != "templates")
    for family in target.kernels:
        if family not in families:
            raise TargetError(f"{where}: unknown kernel family '{family}'{_nearest(family, families)}; {families}")
    if target.kernels[-1:] != ("generic",):
        raise TargetError(f"{where}: 'kernels' must end with \"generic\", which every operation falls back to")
    if target.requantise not in _REQUANTISE:
        raise TargetError(f"{where}: 'requantise' must be one of {_REQUANTISE}, but is '{target.requantise}'")
    if not target.weight_bits or not set(target.weight_bits) <= set(range(1, 9)):
        raise TargetError(f"{where}: 'weight_bits' must list numbers from 1 to 8, but is {list(target.weight_bits)}")
    if not target.activation_bits or not set(target.activation_bits) <= {2, 3, 4, 5, 6, 7, 8, 16}:
        raise TargetError(
            f"{where}: 'activation_bits' must list numbers from 2 to 8, or 16, but is {list(target.activation_bits)}"
        )
    if bool(target.emulation.link_script) != bool(target.emulation.startup):
        raise TargetError(f"{where}: 'emulation' needs both link_script and startup, or neither")
    if target.emulation.qemu and not (target.emulation.link_script and target.emulation.qemu_systick_hz):
        raise TargetError(f"{where}: 'emulation' names a QEMU board, so it needs link_script and qemu_systick_hz")
    cycles = target.cycles
    if cycles and bool(cycles.mca_cpu) != bool(cycles.mca_triple):
        raise TargetError(f"{where}: 'cycles' needs both mca_triple and mca_cpu, or neither")
    if cycles and cycles.transfer_words not in (1, 2):
        raise TargetError(f"{where}: 'transfer_words' must be 1 or 2, but is {cycles.transfer_words}")
    if target.emulation.unicorn and not target.emulation.link_script:
        raise TargetError(f"{where}: 'emulation' names a unicorn core, so it needs link_script and startup")


def _nearest(word: str, known: Any) -> str:
    found = difflib.get_close_matches(word, list(known), 1, cutoff=0.5)
    return f" (did you mean '{found[0]}'?)" if found else ""
