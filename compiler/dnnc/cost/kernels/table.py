"""What each thing that a kernel does costs on one target: the file cost.json beside its target.toml.

tools/calibrate_cost writes it, from layers that ran on the emulated core.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from dnnc.cost.kernels.call import KernelCall
from dnnc.cost.kernels.counts import Key
from dnnc.cost.kernels.loops import counts
from dnnc.errors import TargetError

FILE_NAME = "cost.json"


@dataclass(frozen=True)
class Taken:
    """Instructions, and cycles of the scheduling model."""

    instructions: float
    cycles: float

    def __add__(self, other: Taken) -> Taken:
        return Taken(self.instructions + other.instructions, self.cycles + other.cycles)

    def __mul__(self, times: float) -> Taken:
        return Taken(self.instructions * times, self.cycles * times)


@dataclass(frozen=True)
class Error:
    """Of layers that nothing was fitted to, in per cent: means of the absolute errors, and the largest."""

    layers: int
    instructions_mean: float
    instructions_largest: float
    cycles_mean: float
    cycles_largest: float


@dataclass(frozen=True, eq=False)
class KernelCosts:
    """target, compiler, cycle_model: what it was measured with. layers: how many. error: on others than these. outside:
    what an inference takes before its first layer and after its last. code_bytes: by C file, without its suffix.
    program_bytes: (code of a program besides its kernels, code of a call). costs: by piece of code and thing done.
    """

    target: str
    compiler: str
    cycle_model: str
    layers: int
    error: Error
    outside: Taken
    code_bytes: Mapping[str, int]
    program_bytes: tuple[int, int]
    costs: Mapping[Key, Taken]

    def of(self, call: KernelCall) -> Taken:
        """Raises TargetError where the call's kernel was not measured."""
        total = Taken(0.0, 0.0)
        for key, count in counts(call).items():
            found = self.costs.get(key)
            if found is None and key[0] not in self.parts:
                raise TargetError(
                    f"'{self.target}' has no measured costs of '{key[0]}', which the kernel '{call.kernel}' runs; "
                    f"`tools/calibrate_cost {self.target}` measures the kernels that there are"
                )
            if found is not None:
                total = total + found * count
        return total

    @property
    def parts(self) -> frozenset[str]:
        """The pieces of code that were measured."""
        return frozenset(part for part, _ in self.costs)

    def dump(self) -> bytes:
        """The file."""
        nested: dict[str, dict[str, list[float]]] = {}
        for (part, name), taken in sorted(self.costs.items()):
            nested.setdefault(part, {})[name] = [_short(taken.instructions), _short(taken.cycles)]
        tree = {
            "target": self.target,
            "compiler": self.compiler,
            "cycle_model": self.cycle_model,
            "layers": self.layers,
            "error_percent": {f.name: _short(getattr(self.error, f.name)) for f in fields(Error)},
            "outside": [_short(self.outside.instructions), _short(self.outside.cycles)],
            "program_bytes": list(self.program_bytes),
            "code_bytes": dict(sorted(self.code_bytes.items())),
            "costs": nested,
        }
        return _lines(tree).encode()


def load_costs(*folders: Path) -> KernelCosts:
    """Of a target: from its folder, or that of the nearest one that it inherits (`Target.folders`). Raises TargetError
    where there is no file, or it is not as it must be."""
    for folder in folders:
        path = folder / FILE_NAME
        if path.is_file():
            return _read(path, path.stat().st_mtime_ns)
    raise TargetError(
        f"what kernels cost on the target in '{folders[0]}' is not known: '{FILE_NAME}' is not there; "
        f"`tools/calibrate_cost` measures it"
    )


@lru_cache(maxsize=32)
def _read(path: Path, _changed: int) -> KernelCosts:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise TargetError(f"'{path}' cannot be read: {error}") from error
    wanted = ("target", "compiler", "cycle_model", "layers", "error_percent", "outside", "program_bytes",
              "code_bytes", "costs")  # fmt: skip
    if not isinstance(tree, dict) or sorted(tree) != sorted(wanted):
        raise TargetError(f"'{path}' must have the keys {', '.join(wanted)}, and no others")
    try:
        costs = {(p, n): Taken(*map(_number, pair)) for p, names in tree["costs"].items() for n, pair in names.items()}
        call, program = (int(_number(n)) for n in tree["program_bytes"])
        return KernelCosts(
            target=_text(tree["target"]),
            compiler=_text(tree["compiler"]),
            cycle_model=_text(tree["cycle_model"]),
            layers=int(_number(tree["layers"])),
            error=Error(**{name: _number(value) for name, value in tree["error_percent"].items()}),  # type: ignore[arg-type]
            outside=Taken(*map(_number, tree["outside"])),
            code_bytes={name: int(_number(size)) for name, size in tree["code_bytes"].items()},
            program_bytes=(call, program),
            costs=costs,
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise TargetError(f"'{path}' is not a table of costs: {error}") from error


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"a number, not negative, was expected, but found {value!r}")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a text was expected, but found {value!r}")
    return value


def _short(value: float) -> float:
    """Five digits, which is more than they mean."""
    return float(f"{value:.5g}")


def _lines(tree: Mapping[str, Any]) -> str:
    """JSON with a line a piece of code."""
    parts = []
    for name, value in tree.items():
        if name == "costs":
            inner = ",\n".join(f"    {json.dumps(part)}: {json.dumps(names)}" for part, names in value.items())
            parts.append(f'  "costs": {{\n{inner}\n  }}')
        else:
            parts.append(f"  {json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"
