"""Nodes and tensors of an ONNX model under construction, and the axis orders in which every value is at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from dnnc.ir.graph import Graph
from dnnc.ir.types import Shape
from dnnc.ops.dense import Dense
from dnnc.ops.movement import Reshape

Array = NDArray[Any]
#: ONNX axis j + 1 of a tensor is axis order[j] of the value; ONNX axis 0 is the batch.
Order = tuple[int, ...]
#: [H, W, C] as ONNX's convolutions and pools want it: [N, C, H, W].
IMAGE: Order = (2, 0, 1)


def plain(rank: int) -> Order:
    """The value's own order, channels last."""
    return tuple(range(rank))


@dataclass(frozen=True)
class _Step:
    op: str
    inputs: tuple[str, ...]
    output: str
    name: str
    attributes: Mapping[str, Any]


class Builder:
    """Collects nodes. A value is asked for in an order; a Transpose is added where it is not at hand in that one."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.types = graph, graph.types
        self.forms: dict[str, dict[Order, str]] = {}
        #: Values that depend on no input, without a batch axis.
        self.constants: dict[str, Array] = {}
        #: The name of the dnnc node that is being written.
        self.scope = ""
        #: An input with a batch axis, whose size an expanded constant takes; None where the batch is 1.
        self.batched = _batched(graph)
        self._steps: list[_Step] = []
        self._initialisers: dict[str, Array] = {}
        self._tensors = {i.model_name for i in graph.inputs} | {o.model_name for o in graph.outputs}
        self._names: set[str] = set()
        self._renamed: dict[str, str] = {}

    # --- nodes -------------------------------------------------------------------------------------------------------

    def emit(self, op: str, inputs: Sequence[str], main: bool = False, **attributes: Any) -> str:
        """Append a node; returns its output. main: the node carries the name of the dnnc node that it stands for."""
        name = _unique(self.scope if main else f"{self.scope}/{op.lower()}", self._names)
        output = _unique(name, self._tensors)
        self._steps.append(_Step(op, tuple(inputs), output, name, attributes))
        return output

    def initialiser(self, value: Any, what: str, dtype: Any = np.float32) -> str:
        name = _unique(f"{self.scope}/{what}", self._tensors)
        self._initialisers[name] = np.array(value, dtype)
        return name

    def integers(self, values: Sequence[int], what: str) -> str:
        return self.initialiser(list(values), what, np.int64)

    # --- values ------------------------------------------------------------------------------------------------------

    def put(self, value: str, order: Order, tensor: str) -> None:
        """The tensor is this value in that order."""
        self.forms.setdefault(value, {})[order] = tensor

    def same(self, value: str, source: str) -> None:
        """A value that is another one."""
        self.forms[value] = dict(self.forms[source])

    def order(self, *values: str) -> Order:
        """The order in which the first of these values that is computed was made."""
        for value in values:
            if value in self.forms and value not in self.constants:
                return next(iter(self.forms[value]))
        return plain(len(self.types[values[0]].shape))

    def get(self, value: str, order: Order) -> str:
        """The tensor of a value in an order: [N, ...], of a constant [1, ...]."""
        forms = self.forms.setdefault(value, {})
        if order not in forms:
            if value in self.constants:
                forms[order] = self.initialiser(self.constants[value].transpose(order)[None], "value")
            else:
                have, tensor = next(iter(forms.items()))
                perm = [0, *(have.index(axis) + 1 for axis in order)]
                forms[order] = self.emit("Transpose", [tensor], perm=perm)
        return forms[order]

    def flattened(self, value: str) -> bool:
        """Whether a vector may be an image in disguise, its channels spread over it."""
        node = self.graph.by_name.get(value)
        if node is None or len(node.type.shape) != 1:
            return False
        return isinstance(node.op, Reshape) or (
            not isinstance(node.op, Dense) and any(self.flattened(source) for source in node.inputs)
        )

    def in_memory_order(self, value: str) -> str:
        """A tensor with a value's elements in its own order, whatever its axes of size 1 are."""
        shape = self.types[value].shape
        for order, tensor in self.forms.get(value, {}).items():
            solid = [axis for axis in order if shape[axis] > 1]
            if solid == sorted(solid):
                return tensor
        return self.get(value, plain(len(shape)))

    def whole(self, value: str, order: Order) -> str:
        """Like `get`, with the batch axis written out also of a constant."""
        tensor = self.get(value, order)
        if value not in self.constants or self.batched is None:
            return tensor
        count = self.emit("Shape", [self.batched], start=0, end=1)
        shape = self.types[value].shape
        sizes = self.integers([shape[axis] for axis in order], "sizes")
        return self.emit("Expand", [tensor, self.emit("Concat", [count, sizes], axis=0)])

    def spread(self, value: str, order: Order) -> str:
        """A value of a rank of at most len(order), with axes of size 1 in front, in an order."""
        rank, shape = len(order), self.types[value].shape
        missing = rank - len(shape)
        if not missing:
            return self.get(value, order)
        sizes = (1,) * missing + shape
        if value in self.constants:
            return self.initialiser(self.constants[value].reshape(sizes).transpose(order)[None], "value")
        solid = [axis for axis in order if sizes[axis] > 1]
        moved = plain(rank) if solid != sorted(solid) else order
        wanted = self.integers([0, *(sizes[axis] for axis in moved)], "shape")
        tensor = self.emit("Reshape", [self.in_memory_order(value), wanted])
        return tensor if moved == order else self.emit("Transpose", [tensor], perm=[0, *(axis + 1 for axis in order)])

    # --- the model ---------------------------------------------------------------------------------------------------

    def name_output(self, tensor: str, name: str) -> None:
        """Call a tensor by an output's name; what has a name of the model's already is copied."""
        if any(step.output == tensor for step in self._steps) and tensor not in self._renamed:
            self._renamed[tensor] = name
            return
        copy = self.emit("Identity", [tensor])
        self._renamed[copy] = name

    def nodes(self) -> list[onnx.NodeProto]:
        def called(tensor: str) -> str:
            return self._renamed.get(tensor, tensor)

        return [
            helper.make_node(s.op, [called(i) for i in s.inputs], [called(s.output)], s.name, **s.attributes)
            for s in self._steps
        ]

    def initialisers(self) -> list[onnx.TensorProto]:
        used = {name for step in self._steps for name in step.inputs}
        return [numpy_helper.from_array(a, name) for name, a in self._initialisers.items() if name in used]


def tensor_info(name: str, batched: bool, shape: Shape) -> onnx.ValueInfoProto:
    """A float tensor of the model's own shape, its batch left open."""
    sizes: list[int | str] = ["N", *shape[1:]] if batched else list(shape)
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes)


def _batched(graph: Graph) -> str | None:
    """The first input with a batch axis, one that is read where there is such a one."""
    read = {value for node in graph.nodes for value in node.inputs} | {o.value for o in graph.outputs}
    found = sorted((i for i in graph.inputs if i.layout.batch_axis == 0), key=lambda i: i.name not in read)
    return found[0].model_name if found else None


def _unique(base: str, taken: set[str]) -> str:
    name, count = base, 1
    while name in taken:
        count += 1
        name = f"{base}_{count}"
    taken.add(name)
    return name
