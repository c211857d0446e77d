"""What a handler works with: the tensors translated so far, and the graph under construction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from math import prod
from typing import Any

import numpy as np

from dnnc.errors import ModelError
from dnnc.frontend.names import Namer
from dnnc.frontend.onnx import view as views
from dnnc.frontend.onnx.source import MAX_ELEMENTS, Array, Const, NotSupported
from dnnc.frontend.onnx.view import View
from dnnc.frontend.simplify.ops import Affine, Divide, Scalar
from dnnc.ir.graph import Node, make_node
from dnnc.ir.op import Op
from dnnc.ir.types import Quant, Shape, TensorType
from dnnc.ops.elementwise import Add, Mul
from dnnc.ops.movement import Concat, Constant, Pad, Reshape, Slice, Transpose
from dnnc.ops.pointwise import Pointwise, PRelu
from dnnc.ops.pool import ReduceMean

#: Operations whose output has the dimensions of their first input, if perhaps longer or shorter.
KEEPS_DIMENSIONS = (Affine, Scalar, Divide, Pointwise, PRelu, Add, Mul, Pad, Slice, Concat, ReduceMean)

#: Beyond this rank, places for axes of size 1 are not searched for.
MAX_PERMUTED_RANK = 6


@dataclass(frozen=True)
class Codes:
    """A tensor behind a QuantizeLinear: the reals `view`, to be rounded to `quant`."""

    view: View
    quant: Quant


@dataclass(frozen=True)
class Unknown:
    """A tensor made by a node that is not supported; its shape is known or not."""

    shape: Shape | None


@dataclass(frozen=True)
class Pieces:
    """A sequence of tensors, as torch writes chunk and split: only SequenceAt reads it."""

    views: tuple[View, ...]


Tensor = View | Const | Codes | Unknown | Pieces


class Blocked(Exception):
    """A node reads a tensor that an unsupported node makes: nothing can be said about it."""


class Context:
    """The translation so far. Handlers read tensors with `view`, `const`, emit nodes, and `set` their outputs."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.types: dict[str, TensorType] = {}
        self.quants: dict[str, Quant] = {}
        self.names = Namer()
        #: For values whose dimensions are those of a graph input: that input, and its axes in each dimension.
        self.origin: dict[str, tuple[str, tuple[tuple[int, ...], ...]]] = {}
        #: Axis orders that would have spared an input a move: input -> permutation of its axes.
        self.hints: dict[str, tuple[int, ...]] = {}
        self.input_shapes: dict[str, Shape] = {}
        #: The value whose memory a Reshape shows.
        self.roots: dict[str, str] = {}
        self._moves: dict[tuple[str, Op], str] = {}
        self._scope = ""

    # --- tensors ---------------------------------------------------------------------------------------------------

    def scope(self, name: str) -> None:
        """Nodes emitted from now on are named after this."""
        self._scope = name

    def const(self, name: str) -> Const | None:
        """The constant of that name, None where the tensor is computed (or left out)."""
        found = self.tensors.get(name)
        if isinstance(found, Unknown):
            raise Blocked
        return found if isinstance(found, Const) else None

    def need_const(self, name: str, what: str) -> Array:
        """A constant's array; NotSupported where it is computed at run time."""
        found = self.const(name)
        if found is None:
            raise NotSupported(f"its {what} must be constant")
        return found.array

    def integers(self, name: str, what: str) -> tuple[int, ...]:
        """A constant's elements as Python integers."""
        array = self.need_const(name, what)
        if array.dtype.kind not in "iu":
            raise ModelError(f"its {what} are {array.dtype}, not integers")
        return tuple(int(v) for v in array.ravel())

    def view(self, name: str) -> View:
        """A computed tensor; a constant becomes a Constant node."""
        found = self.tensors.get(name)
        if isinstance(found, Unknown):
            found = self._phantom(name, found)
            self.tensors[name] = found
        if isinstance(found, Codes):
            raise NotSupported("it works on integer tensors; only QuantizeLinear-DequantizeLinear pairs are read")
        if isinstance(found, Pieces):
            raise NotSupported("it works on a sequence; only SplitToSequence followed by SequenceAt is read")
        if isinstance(found, Const):
            found = self._constant(name, found.array)
            self.tensors[name] = found
        if found is None:
            raise NotSupported("an input that it needs is left out")
        return found

    def _phantom(self, name: str, unknown: Unknown) -> View:
        """A value without a node in place of one that is not supported: the graph is lost, but the search goes on."""
        if unknown.shape is None or not 1 <= prod(unknown.shape) < MAX_ELEMENTS:
            raise Blocked
        shape = unknown.shape[1:] if unknown.shape[:1] == (1,) else unknown.shape
        value = self.names.unique(name, "unsupported")
        self.types[value] = TensorType(shape)
        return views.natural(value, shape, unknown.shape)

    def is_constant(self, value: str) -> bool:
        """True for what a Constant makes, or a view of it."""
        return any(n.name == self.roots.get(value, value) and isinstance(n.op, Constant) for n in self.nodes)

    def _constant(self, name: str, array: Array) -> View:
        array = np.asarray(array)
        if array.dtype.kind not in "fiub":
            raise NotSupported(f"it computes with a constant of type {array.dtype}")
        shape = array.shape[1:] if array.ndim and array.shape[0] == 1 else array.shape
        value = self.emit(Constant(), (), {"value": array.reshape(shape).astype(np.float32)}, name=name)
        return views.natural(value, shape, array.shape)

    def shape(self, name: str) -> Shape:
        """The ONNX shape of any tensor."""
        if name not in self.tensors:
            raise NotSupported("an input that it needs is left out")
        found = self.known_shape(name)
        if found is None:
            raise Blocked
        return found

    def known_shape(self, name: str) -> Shape | None:
        """The ONNX shape of any tensor, None where an unsupported node makes it or it is left out."""
        found = self.tensors.get(name)
        if isinstance(found, Const):
            return tuple(found.array.shape)
        if isinstance(found, Codes):
            return found.view.shape
        if isinstance(found, View):
            return found.shape
        return found.shape if isinstance(found, Unknown) else None

    def set(self, name: str, tensor: Tensor) -> None:
        self.tensors[name] = tensor

    # --- nodes -----------------------------------------------------------------------------------------------------

    def emit(self, op: Op, inputs: Sequence[str], params: Mapping[str, Any] | None = None, name: str = "") -> str:
        """Append a node; returns its value. Raises ModelError where shapes do not fit or are out of all proportion."""
        unique = self.names.unique(name or self._scope, op.kind.lower())
        node = make_node(unique, op, inputs, self.types, params)
        if prod(node.type.shape) >= MAX_ELEMENTS or any(v < 1 for v in node.type.shape):
            raise ModelError(f"its output would have the shape {node.type.shape}")
        self.nodes.append(node)
        self.types[unique] = node.type
        if isinstance(op, Reshape):
            self.roots[unique] = self.roots.get(inputs[0], inputs[0])
        if inputs:
            self._inherit(inputs[0], op, node)
        return unique

    def _inherit(self, source: str, op: Op, node: Node) -> None:
        """Note where a value's dimensions come from, as long as they can still be told apart."""
        if source not in self.origin:
            return
        name, groups = self.origin[source]
        old, new = self.types[source].shape, node.type.shape
        if isinstance(op, Reshape):
            dims = views.align_dims(old, new)
            if dims is None:
                return
            self.origin[node.name] = (name, tuple(tuple(a for d in dim for a in groups[d]) for dim in dims))
        elif len(old) == len(new) and isinstance(op, KEEPS_DIMENSIONS):
            self.origin[node.name] = (name, groups)

    def add_input(self, name: str, sample_shape: Shape, perm: tuple[int, ...]) -> str:
        """Declare a graph input whose axis i is axis perm[i] of the model's sample."""
        value = self.names.unique(name, "input")
        self.types[value] = TensorType(tuple(sample_shape[p] for p in perm))
        self.origin[value] = (value, tuple((i,) for i in range(len(perm))))
        self.input_shapes[value] = self.types[value].shape
        return value

    def elementwise(self, op: Op, view: View, params: Mapping[str, Any] | None = None) -> View:
        """Emit an operation that keeps its input's shape; the result lies in memory as the input does."""
        return replace(view, value=self.emit(op, (view.value,), params))

    def set_quant(self, view: View, quant: Quant) -> View:
        """Give the view's value a quantisation; a value that has another one is copied into the new one."""
        known = self.quants.setdefault(view.value, quant)
        if known == quant:
            return view
        copied = self.elementwise(Pointwise("identity"), view)
        self.quants[copied.value] = quant
        return copied

    # --- memory order ----------------------------------------------------------------------------------------------

    def arrange(self, view: View, order: Sequence[int], shape: Shape) -> str:
        """The view's elements with its atoms in this memory order, as a value of this shape."""
        want = view.solid(order)
        if list(want) == sorted(want):
            return self.reshape(view.value, shape)
        self._hint(view, want, shape)
        solid = view.solid(range(len(view.atoms)))
        flat = self.reshape(view.value, tuple(view.atoms[a] for a in solid))
        moved = self._move(flat, Transpose(tuple(solid.index(a) for a in want)))
        return self.reshape(moved, shape)

    def reshape(self, value: str, shape: Shape) -> str:
        """The value under another shape."""
        current = self.types[value].shape
        if current == shape:
            return value
        if value in self.input_shapes and sorted(current) == sorted(shape):
            perm = place_units(current, tuple(i for i, size in enumerate(current) if size > 1), shape)
            if tuple(current[p] for p in perm) == shape:
                self.hints.setdefault(value, perm)
        return self._move(value, Reshape(shape))

    def _move(self, value: str, op: Op) -> str:
        """Emit a Reshape or Transpose, once for all its readers."""
        key = (value, op)
        if key not in self._moves:
            self._moves[key] = self.emit(op, (value,), name=f"{value}/{op.kind.lower()}")
        return self._moves[key]

    def wish(self, view: View, last: int) -> None:
        """Note that an input would better have been stored with this atom last."""
        want = [*(a for a in view.solid(range(len(view.atoms))) if a != last), last]
        self._hint(view, want, tuple(view.atoms[a] for a in want))

    def _hint(self, view: View, want: Sequence[int], shape: Shape) -> None:
        """Note which order of an input's axes would have made this move unnecessary."""
        source, groups = self.origin.get(view.value, ("", ()))
        dims = views.align_dims(view.atoms, self.types[view.value].shape)
        if not source or source in self.hints or dims is None:
            return
        solid = [view.solid(dim) for dim in dims]
        ranked = sorted((i for i, members in enumerate(solid) if members), key=lambda i: want.index(solid[i][0]))
        if [a for i in ranked for a in solid[i]] != list(want):
            return
        extents = self.input_shapes[source]
        axes = tuple(a for i in ranked for a in groups[i] if extents[a] > 1)
        if sorted(axes) == [a for a, extent in enumerate(extents) if extent > 1]:
            self.hints[source] = place_units(extents, axes, shape)

    def natural(self, view: View, shape: Shape | None = None) -> View:
        """The view moved into ONNX order, its axes one atom each (under another ONNX shape, if given)."""
        shape = view.shape if shape is None else shape
        sample = shape[1:] if shape and shape[0] == 1 else shape
        return views.natural(self.arrange(view, view.order, sample), sample, shape)

    def isolate(self, view: View, axes: Sequence[int]) -> View:
        """A view whose value has one dimension for each of these ONNX axes (atoms and dimensions are the same)."""
        if not all(self._contiguous(view, axis) for axis in axes):
            ranked = sorted(range(len(view.axes)), key=lambda i: min(view.solid(view.axes[i]), default=-1))
            order = [a for i in ranked for a in view.axes[i]]
            sizes = tuple(view.atoms[a] for a in order)
            value = self.arrange(view, order, sizes)
            place = {a: i for i, a in enumerate(order)}
            view = View(value, sizes, tuple(tuple(place[a] for a in group) for group in view.axes))
        # Merging first: it may swallow atoms of size 1, so these are handed out last.
        for axis in sorted(axes, key=lambda i: -len(view.solid(view.axes[i]))):
            view = _one_atom(view, axis)
        return replace(view, value=self.reshape(view.value, view.atoms))

    def _contiguous(self, view: View, axis: int) -> bool:
        solid = view.solid(view.axes[axis])
        between = range(solid[0], solid[-1] + 1) if solid else ()
        return list(solid) == [a for a in between if view.atoms[a] > 1]

    def image(self, view: View) -> str:
        """The value [H, W, C] of an ONNX tensor [1, C, H, W], or [1, W, C] of [1, C, W]."""
        rank = len(view.axes)
        if rank not in (3, 4):
            raise NotSupported(f"it has an input of {rank} dimensions; 1-D (rank 3) and 2-D (rank 4) are supported")
        if view.shape[0] != 1:
            raise NotSupported(
                f"its batch is {view.shape[0]}; only batches of 1 are compiled (give --input-shape with a batch of 1)"
            )
        size = view.shape
        axes = (2, 3, 1) if rank == 4 else (2, 1)
        shape = (size[2], size[3], size[1]) if rank == 4 else (1, size[2], size[1])
        return self.arrange(view, [a for i in axes for a in view.axes[i]], shape)


def _one_atom(view: View, axis: int) -> View:
    """Merge the (contiguous) atoms of an axis into one; an axis without any gets an unused atom of size 1."""
    group = view.axes[axis]
    solid = view.solid(group)
    if len(group) == 1:
        return view
    if len(solid) > 1:
        first, last = solid[0], solid[-1]
        atoms = (*view.atoms[:first], prod(view.atoms[first : last + 1]), *view.atoms[last + 1 :])
        drop = last - first

        def place(a: int) -> int:
            return a if a < first else (first if a <= last else a - drop)

        axes = tuple(
            (first,) if i == axis else tuple(place(a) for a in g if not first <= a <= last)
            for i, g in enumerate(view.axes)
        )
        return View(view.value, atoms, axes)
    if solid:
        return replace(view, axes=(*view.axes[:axis], solid, *view.axes[axis + 1 :]))
    used = {a for i, g in enumerate(view.axes) if i != axis for a in g}
    free = [a for a, size in enumerate(view.atoms) if size == 1 and a not in used]
    atoms = view.atoms if free else (*view.atoms, 1)
    return View(
        view.value, atoms, (*view.axes[:axis], (free[-1] if free else len(view.atoms),), *view.axes[axis + 1 :])
    )


def place_units(shape: Shape, ranked: tuple[int, ...], wanted: Shape) -> tuple[int, ...]:
    """A permutation of all axes with the axes longer than 1 in the order `ranked`, equal to `wanted` if it can be."""
    units = tuple(i for i, size in enumerate(shape) if size == 1)
    if len(shape) > MAX_PERMUTED_RANK:
        return (*units, *ranked)
    candidates = [p for p in permutations(range(len(shape))) if tuple(a for a in p if shape[a] > 1) == ranked]
    exact = [perm for perm in candidates if tuple(shape[p] for p in perm) == wanted]
    return (exact or candidates)[0]
