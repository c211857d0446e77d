"""The program as data: which kernels are called, with which structs, arrays and operands. emit.py makes it text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

from numpy.typing import NDArray

from dnnc.backends.c.structs import STRUCTS, struct_bytes
from dnnc.backends.c.table import ELEMENT_BYTES, Instance
from dnnc.backends.c.walk import Visit, distances
from dnnc.passes.lifetime import Distance


class Refusal(Exception):
    """A reason for which a node cannot be lowered; `lower` collects them into one UnsupportedError."""


CType = Literal["uint32_t", "int32_t", "uint16_t", "int16_t", "uint8_t", "int8_t"]


@dataclass(frozen=True, eq=False)
class Array:
    """Read-only data. `role` names it within its node; `section` says what it counts as; values [n] or any shape."""

    role: str
    c_type: CType
    section: Literal["weights", "tables"]
    values: NDArray[Any]

    @property
    def nbytes(self) -> int:
        return int(self.values.size) * int(self.c_type.strip("uint_")) // 8


#: A member of a struct: a number, NULL, an array's address, an array of numbers, or a struct.
Value: TypeAlias = "int | Array | tuple[int, ...] | Mapping[str, Value] | None"


@dataclass(frozen=True)
class Operand:
    """A value of the graph from its element `offset` on."""

    value: str
    offset: int = 0


@dataclass(frozen=True, eq=False)
class Call:
    """kernel(&struct, operands..., scratch). operands: the inputs, then the output. Refuses values that do not fit."""

    kernel: Instance
    fields: Mapping[str, Value]
    operands: tuple[Operand, ...]

    def __post_init__(self) -> None:
        _check(self.kernel.kernel.struct, self.fields)

    @property
    def visit(self) -> Visit | None:
        """The order of its reads and writes, where its kernel promises one."""
        walker = self.kernel.kernel.walk
        widths = [ELEMENT_BYTES[element] for element in self.kernel.elements]
        walk = walker(self.fields, widths) if walker else None
        if walk is None:
            return None
        starts = [operand.offset * width for operand, width in zip(self.operands, widths, strict=True)]
        return Visit(walk, tuple(operand.value for operand in self.operands[:-1]), tuple(starts[:-1]), starts[-1])

    @property
    def arrays(self) -> Iterator[Array]:
        return (value for value in self.fields.values() if isinstance(value, Array))


def _check(struct: str, fields: Mapping[str, Value]) -> None:
    """Every member is given, and every number fits its C type."""
    if [f.name for f in STRUCTS[struct]] != list(fields):
        raise TypeError(f"{struct} has the members {[f.name for f in STRUCTS[struct]]}, but {list(fields)} are given")
    for field in STRUCTS[struct]:
        value = fields[field.name]
        if isinstance(value, Mapping):
            _check(field.type, value)
        elif isinstance(value, int | tuple):
            lo, hi = field.range
            for number in value if isinstance(value, tuple) else (value,):
                if not lo <= number <= hi:
                    raise Refusal(f"{field.name} = {number} is outside {lo}..{hi}")


@dataclass(frozen=True, eq=False)
class Step:
    """What one node becomes.

    constant: the elements of a Constant, which are read where they lie in flash; such a node makes no calls.
    formats: of a layer's weights (formats.py), this one and then those that would serve as well. code_bytes: about how
    much flash the code takes that is made for it alone.
    """

    node: str
    calls: tuple[Call, ...] = ()
    scratch_bytes: int = 0
    constant: Array | None = None
    formats: tuple[str, ...] = ()
    code_bytes: int = 0

    @property
    def arrays(self) -> tuple[Array, ...]:
        own = (self.constant,) if self.constant is not None else ()
        return (*own, *(array for call in self.calls for array in call.arrays))

    @property
    def overwrites(self) -> dict[str, Distance]:
        """The inputs that its output may overlap, and how far it must stay behind them."""
        visits = [call.visit for call in self.calls]
        known = [visit for visit in visits if visit is not None]
        return distances(known) if len(known) == len(visits) else {}

    @property
    def kernel(self) -> str:
        """The names of the kernels that it calls, for reports; empty for a node that costs nothing."""
        return ", ".join(dict.fromkeys(call.kernel.name for call in self.calls))

    @property
    def weight_bytes(self) -> int:
        """Flash of its weights."""
        return sum(array.nbytes for array in self.arrays if array.section == "weights")

    @property
    def table_bytes(self) -> int:
        """Flash of its biases, multipliers, lookup tables and structs on a 32-bit core; equal ones count each time."""
        arrays = sum(array.nbytes for array in self.arrays if array.section == "tables")
        return arrays + sum(struct_bytes(call.kernel.kernel.struct) for call in self.calls)


@dataclass(frozen=True, eq=False)
class Program:
    """One step a node, in the order of the graph's nodes."""

    steps: tuple[Step, ...]

    @cached_property
    def kernels(self) -> tuple[Instance, ...]:
        """The kernels that are called, by the program or by each other, each once, by name."""
        called = [call.kernel for step in self.steps for call in step.calls]
        inner = [instance.inner for instance in called if instance.inner]
        found = {instance.name: instance for instance in (*called, *inner)}
        return tuple(found[name] for name in sorted(found))

    @property
    def scratch(self) -> dict[str, int]:
        """node -> bytes, for the planner."""
        return {step.node: step.scratch_bytes for step in self.steps if step.scratch_bytes}

    @cached_property
    def overwrites(self) -> dict[str, dict[str, Distance]]:
        """node -> the inputs that its output may overlap, and how far it must stay behind them, for the planner."""
        return {step.node: found for step in self.steps if (found := step.overwrites)}
