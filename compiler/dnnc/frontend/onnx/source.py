"""What the frontend needs of an ONNX model, as plain typed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dnnc.errors import ModelError

Array = NDArray[Any]
Dim = int | str
T = TypeVar("T")

#: No tensor may have more elements: beyond it nothing fits any target, and sizes stop fitting 32 bits.
MAX_ELEMENTS = 2**31


class NotSupported(Exception):
    """A handler's way to say why it cannot translate its node; the reader collects them all."""


@dataclass(frozen=True)
class Subgraph:
    """Stands for an attribute that holds a graph."""


@dataclass(frozen=True)
class SourceNode:
    """One ONNX node. `inputs` and `outputs` may hold "" for what is left out."""

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int

    def attribute(self, name: str, default: T) -> T:
        """An attribute's value (ints and floats as tuples, strings as str), or the default.

        Raises ModelError where the value is of another type than the default.
        """
        value: Any = self.attributes.get(name, default)
        if isinstance(default, float) and isinstance(value, int):
            value = float(value)
        fits = isinstance(value, type(default)) and not (isinstance(value, float) and not isfinite(value))
        if isinstance(value, tuple) and isinstance(default, tuple):
            kind = type(default[0]) if default else int
            fits = all(isinstance(v, kind) for v in value)
        if not fits:
            raise ModelError(f"its attribute '{name}' is {str(value)[:80]}, which is no {type(default).__name__}")
        result: T = value
        return result

    def ints(self, name: str) -> tuple[int, ...]:
        """An attribute that is a list of integers, () where it is left out."""
        return self.attribute(name, ())

    def input(self, index: int) -> str:
        """The name of an input, "" where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""


@dataclass(frozen=True)
class SourceInput:
    """A graph input; a symbolic size is a string."""

    name: str
    shape: tuple[Dim, ...]


@dataclass(frozen=True)
class SourceModel:
    """A checked model: nodes in topological order, every name known, all weights finite and in memory."""

    name: str
    inputs: tuple[SourceInput, ...]
    outputs: tuple[str, ...]
    nodes: tuple[SourceNode, ...]
    constants: Mapping[str, Array]

    def op_counts(self) -> dict[str, int]:
        """How often each operator occurs, by name."""
        counts: dict[str, int] = {}
        for node in self.nodes:
            counts[node.op] = counts.get(node.op, 0) + 1
        return dict(sorted(counts.items()))


@dataclass(frozen=True)
class Const:
    """A tensor known at compile time. For dequantised weights `scale` is their scale: [] or, along `axis`, [n]."""

    array: Array
    scale: Array | None = None
    axis: int = 0

    def scale_of(self, axis: int) -> Array | None:
        """The scales [n] along `axis`, or None where the tensor has none or has them along another axis."""
        if self.scale is None or (self.scale.ndim and self.axis != axis % self.array.ndim):
            return None
        return np.broadcast_to(self.scale, (self.array.shape[axis],)).astype(np.float64)
