"""target.toml -> Target or Accelerator, strictly: a wrong key or value is an error that names place and remedy."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dnnc import resources
from dnnc.cost.accelerator import Accelerator
from dnnc.cost.families import FAMILIES
from dnnc.cost.strict import nearest, read
from dnnc.cost.target import MICROCONTROLLER, Target
from dnnc.errors import TargetError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE_NAME = "target.toml"
_REQUANTISE = ("multiply", "shift")
_EXTERNAL = ("dram", "flash")
#: What a target does not have from the one that it inherits.
_OWN = ("name", "description")


def list_targets() -> tuple[str, ...]:
    """The names of the targets that come with dnnc and that it compiles for, sorted."""
    return tuple(name for name in list_hardware() if isinstance(load_hardware(name), Target))


def list_hardware() -> tuple[str, ...]:
    """The names of all hardware that comes with dnnc, with what only `dnnc estimate` knows, sorted."""
    return tuple(sorted(path.parent.name for path in resources.targets().glob(f"*/{FILE_NAME}")))


def load_target(name_or_path: str | Path) -> Target:
    """The target of that name, or the one that a user's own target.toml (or the folder that holds it) describes.

    Raises TargetError: an unknown name (with the known ones), an unreadable file, a wrong key or value, hardware that
    dnnc writes no programs for.
    """
    found = load_hardware(name_or_path)
    if isinstance(found, Accelerator):
        raise TargetError(
            f"dnnc writes no programs for '{found.name}' ({found.family}): it only says what a network would cost "
            f"there, with `dnnc estimate --target {name_or_path}`"
        )
    return found


def load_hardware(name_or_path: str | Path) -> Target | Accelerator:
    """As `load_target`, of any hardware that costs are known of."""
    return _made(_path(name_or_path))


def _path(name_or_path: str | Path) -> Path:
    """The file of a target. Raises TargetError where there is none."""
    name = str(name_or_path)
    path = Path(name_or_path)
    shipped = resources.targets() / name / FILE_NAME
    if path.name == name and shipped.is_file():
        return shipped
    if path.is_dir():
        path = path / FILE_NAME
    if path.is_file():
        return path
    known = list_hardware()
    if path.suffix == ".toml" or path.name != name:
        raise TargetError(f"there is no target file '{path}'; targets known by name: {', '.join(known)}")
    raise TargetError(f"unknown target '{name}'{nearest(name, known)}; known: {', '.join(known)}")


def _made(path: Path) -> Target | Accelerator:
    where, folder = str(path), path.resolve().parent
    tree = _tree(path, ())
    family = tree.get("family", MICROCONTROLLER)
    if family == MICROCONTROLLER:
        target = read(Target, tree, where, folder=folder, inherited=_inherited(path))
        _check_target(target, where)
        return target
    if family not in FAMILIES:
        known = (MICROCONTROLLER, *FAMILIES)
        raise TargetError(
            f"{where}: unknown family '{family}'{nearest(str(family), known)}; known families: {', '.join(known)}"
        )
    return _accelerator(tree, family, where, folder)


def _tree(path: Path, heirs: tuple[Path, ...]) -> dict[str, Any]:
    """A file's tables over those of the target that it inherits."""
    tree = _parsed(path)
    named = tree.pop("inherits", None)
    parent = _parent(path, named)
    if parent is None:
        return tree
    chain = (*heirs, path.resolve())
    if parent.resolve() in chain:
        raise TargetError(f"{path}: it inherits '{named}', which inherits it")
    inherited = {key: value for key, value in _tree(parent, chain).items() if key not in _OWN}
    return _merged(inherited, tree)


def _inherited(path: Path) -> tuple[Path, ...]:
    """The folders of the targets that a file inherits, one after another; `_tree` has found that they end."""
    parent = _parent(path, _parsed(path).get("inherits"))
    return () if parent is None else (parent.resolve().parent, *_inherited(parent))


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TargetError(f"target file '{path}' cannot be read: {error}") from error


def _parent(path: Path, name: Any) -> Path | None:
    """The file of the target that is named."""
    if name is None:
        return None
    if not isinstance(name, str):
        raise TargetError(f"{path}: 'inherits' must be the name of a target or a path, but is {name!r}")
    beside = path.parent / name
    return _path(beside if "/" in name and beside.exists() else name)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _accelerator(tree: Mapping[str, Any], name: str, where: str, folder: Path) -> Accelerator:
    family = FAMILIES[name]
    others = {key: value for key, value in tree.items() if key != name}
    table = tree.get(name)
    known = [f.name for f in dataclasses.fields(Accelerator) if f.name not in ("folder", "array")] + [name]
    for key in others:
        if key not in known:
            raise TargetError(f"{where}: unknown key '{key}'{nearest(key, known)}; valid keys: {', '.join(known)}")
    if not isinstance(table, dict):
        raise TargetError(f"{where}: family '{name}' needs a table [{name}] of its figures")
    array: Any = read(family.array, table, f"{where}: '{name}'")
    found = read(Accelerator, others, where, folder=folder, array=array)
    for field, allowed in family.allowed.items():
        value = getattr(array, field)
        if value not in allowed:
            raise TargetError(
                f"{where}: '{name}': '{field}' must be one of {', '.join(map(str, allowed))}, but is {value!r}"
                + nearest(str(value), [str(a) for a in allowed])
            )
    if found.memory.external not in _EXTERNAL:
        raise TargetError(f"{where}: 'external' must be one of {_EXTERNAL}, but is '{found.memory.external}'")
    for kind, widths in (("weight_bits", found.weight_bits), ("activation_bits", found.activation_bits)):
        if not widths or not set(widths) <= set(range(1, 17)):
            raise TargetError(f"{where}: '{kind}' must list numbers from 1 to 16, but is {list(widths)}")
    for section in (found, found.memory, array):
        _check_positive(section, where)
    return found


def _check_positive(section: Any, where: str) -> None:
    """Numbers that things are divided by; those that may be left out may be 0."""
    for field in dataclasses.fields(section):
        if getattr(section, field.name) == 0 and field.default is dataclasses.MISSING:
            raise TargetError(f"{where}: '{field.name}' must be more than 0")


def _check_target(target: Target, where: str) -> None:
    """What types cannot say: allowed values and ranges."""
    families = tuple(p.name for p in sorted(resources.kernels().iterdir()) if p.is_dir() and p.name != "templates")
    for family in target.kernels:
        if family not in families:
            raise TargetError(f"{where}: unknown kernel family '{family}'{nearest(family, families)}; {families}")
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
