"""Arithmetic of two operands with broadcasting, and functions of one number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import isfinite, prod

import numpy as np

from dnnc.errors import ModelError
from dnnc.frontend.onnx import view as views
from dnnc.frontend.onnx.context import Context
from dnnc.frontend.onnx.source import Array, Const, NotSupported, SourceNode
from dnnc.frontend.onnx.view import View
from dnnc.frontend.simplify.ops import Affine, Divide, Scalar
from dnnc.ir.op import Op
from dnnc.ir.types import Shape
from dnnc.ops.elementwise import Add, Mul
from dnnc.ops.movement import Constant
from dnnc.ops.pointwise import Pointwise, PRelu

Handler = Callable[[Context, SourceNode], None]

# --- constants against a view ----------------------------------------------------------------------------------------


def fits(view: View, array: Array) -> bool:
    """True where the constant broadcasts to the view's shape and not beyond."""
    try:
        return np.broadcast_shapes(view.shape, array.shape) == view.shape
    except ValueError:
        return False


def spread(context: Context, view: View, arrays: list[Array]) -> tuple[View, list[Array]]:
    """Constants that broadcast to the view, in the dimensions of its value.

    Returns the view (perhaps of a reshaped value) and each constant as an array of the rank of its value, with
    dimensions of 1 or the value's.
    """
    laid: list[Array] = []
    rank = len(view.axes)
    sizes = tuple(view.atoms)
    order = [a for group in view.axes for a in view.solid(group)]
    for array in arrays:
        full = array.reshape((1,) * (rank - array.ndim) + array.shape)
        parts: list[int] = []
        for axis, group in enumerate(view.axes):
            solid = view.solid(group)
            parts += [sizes[a] if full.shape[axis] > 1 else 1 for a in solid]
        cut = full.reshape(parts)
        by_memory = cut.transpose(np.argsort(order)) if order else cut
        shape = [1] * len(sizes)
        for position, a in enumerate(sorted(order)):
            shape[a] = by_memory.shape[position]
        laid.append(by_memory.reshape(shape))
    dims = views.align_dims(view.atoms, context.types[view.value].shape)
    if dims is None:
        view = replace(view, value=context.reshape(view.value, view.atoms))
        dims = [[a] for a in range(len(view.atoms))]
    return view, [_join(array, dims, view.atoms) for array in laid]


def _join(array: Array, dims: list[list[int]], atoms: Shape) -> Array:
    """Atoms into dimensions; a dimension in which the constant varies at all is filled out."""
    shape = list(array.shape)
    joined: list[int] = []
    for members in dims:
        varies = any(array.shape[a] > 1 for a in members)
        for a in members:
            shape[a] = atoms[a] if varies else 1
        joined.append(prod(atoms[a] for a in members) if varies else 1)
    return np.broadcast_to(array, shape).reshape(joined)


def _uniform(array: Array) -> Array:
    """A constant whose elements are all equal as a single one."""
    return array.reshape(-1)[:1].reshape(()) if array.size and np.all(array == array.reshape(-1)[0]) else array


def affine(
    context: Context, view: View, scale: Array, shift: Array, statistics: Mapping[str, Array] | None = None
) -> View:
    """view * scale + shift for constants that broadcast to it: per channel, or else with whole constant tensors."""
    scale, shift = _uniform(np.asarray(scale, np.float64)), _uniform(np.asarray(shift, np.float64))
    if not (fits(view, scale) and fits(view, shift)):
        raise ModelError(f"constants of shapes {scale.shape} and {shift.shape} do not fit a tensor of {view.shape}")
    view, (scale, shift) = spread(context, view, [scale, shift])
    shape = context.types[view.value].shape
    if all(prod(a.shape[:-1]) == 1 for a in (scale, shift)):
        factors = [a.reshape(-1) if a.size > 1 else a.reshape(()) for a in (scale, shift)]
        extra = {k: v for k, v in (statistics or {}).items() if v.shape == shape[-1:]}
        return context.elementwise(Affine(), view, {"scale": factors[0], "shift": factors[1], **extra})
    varied = {d for a in (scale, shift) for d, size in enumerate(a.shape) if size > 1}
    dims = views.align_dims(view.atoms, shape)
    if len(varied) == 1 and dims is not None and len(members := view.solid(dims[varied.pop()])) == 1:
        context.wish(view, members[0])
    for op, array, neutral in ((Mul(), scale, 1.0), (Add(), shift, 0.0)):
        if np.any(array != neutral):
            sizes = array.shape
            while sizes[:1] == (1,):
                sizes = sizes[1:]
            constant = context.emit(Constant(), (), {"value": array.reshape(sizes).astype(np.float32)})
            view = replace(view, value=context.emit(op, (view.value, constant)))
    return view


# --- two computed operands -------------------------------------------------------------------------------------------


def combine(context: Context, op: Op, a: View, b: View) -> View:
    """Emit a two-operand operation over broadcast views."""
    rank = max(len(a.axes), len(b.axes))
    a, b = a.in_rank(rank), b.in_rank(rank)
    try:
        shape = np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise NotSupported(f"shapes {a.shape} and {b.shape} cannot be broadcast together") from None
    if a.shape != shape and b.shape != shape:
        return _natural(context, op, a, b, shape)
    # The operand that is whole, and not a constant, keeps its memory order; the other one follows.
    swapped = a.shape != shape or (b.shape == shape and context.is_constant(a.value))
    lead, other = (b, a) if swapped else (a, b)
    matched = match(lead, other)
    if matched is None:
        return _natural(context, op, a, b, shape)
    lead, other, partner = matched
    dims = views.align_dims(lead.atoms, context.types[lead.value].shape)
    covered = {i for i in partner if lead.atoms[i] > 1}
    if dims is None or any(0 < len(covered.intersection(d)) < len(lead.solid(d)) for d in dims):
        lead = replace(lead, value=context.reshape(lead.value, lead.atoms))
        dims = [[i] for i in range(len(lead.atoms))]
    small = [prod(lead.atoms[i] for i in d) if covered.intersection(d) else 1 for d in dims]
    value = context.arrange(other, [partner[i] for i in sorted(covered)], _lean(context, other, partner, small))
    # Where the order does not matter the whole operand comes first, so that the result can take its place.
    ordered = swapped and (a.shape == shape or (isinstance(op, Add) and op.subtract) or isinstance(op, Divide))
    result = context.emit(op, (value, lead.value) if ordered else (lead.value, value))
    return replace(lead, value=result)


def _lean(context: Context, other: View, partner: Mapping[int, int], wanted: list[int]) -> Shape:
    """The shape that a broadcast operand takes: its own where only leading 1s are missing."""
    current = context.types[other.value].shape

    def stripped(shape: Shape) -> Shape:
        while shape[:1] == (1,):
            shape = shape[1:]
        return shape

    shape = tuple(wanted)
    return current if stripped(current) == stripped(shape) and len(current) <= len(shape) else shape


def match(lead: View, other: View) -> tuple[View, View, dict[int, int]] | None:
    """Cut both views alike: every solid atom of `other` has one partner in `lead`, on the same axis.

    Returns both views and lead atom -> other atom; None where the axes cannot be cut alike. Axes of `other` of size 1
    have no atoms.
    """
    lead_factors: list[tuple[int, ...]] = []
    other_factors: list[tuple[int, ...]] = []
    for own, its in zip(lead.axes, other.axes, strict=True):
        mine = tuple(lead.atoms[i] for i in lead.solid(own))
        theirs = tuple(other.atoms[i] for i in other.solid(its))
        if theirs:
            common = views.common_factors(mine, theirs)
            if common is None:
                return None
            mine = theirs = tuple(f for f in common if f > 1)
        lead_factors.append(mine)
        other_factors.append(theirs)
    cut_lead, cut_other = _cut(lead, lead_factors), _cut(other, other_factors)
    if cut_lead is None or cut_other is None:
        return None
    pairs: dict[int, int] = {}
    for own, its in zip(cut_lead.axes, cut_other.axes, strict=True):
        solid = cut_other.solid(its)
        if solid:
            pairs.update(zip(cut_lead.solid(own), solid, strict=True))
    return cut_lead, cut_other, pairs


def _cut(view: View, factors: list[tuple[int, ...]]) -> View | None:
    """`refine`, leaving a view that is cut like that already as it is (with its atoms of size 1)."""
    if [tuple(view.atoms[a] for a in view.solid(group)) for group in view.axes] == factors:
        return view
    return views.refine(view, factors)


def _natural(context: Context, op: Op, a: View, b: View, shape: Shape) -> View:
    """Both operands in ONNX order, one dimension an axis."""
    batched = bool(shape) and shape[0] == 1
    values = []
    for operand in (a, b):
        dims = operand.shape[1:] if batched else operand.shape
        values.append(context.arrange(operand, operand.order, dims))
    return views.natural(context.emit(op, values), shape[1:] if batched else shape, shape)


# --- handlers --------------------------------------------------------------------------------------------------------


def arithmetic(context: Context, node: SourceNode) -> None:
    """Add, Sub, Mul, Div of computed and constant tensors."""
    if len(node.inputs) != 2:
        raise NotSupported(f"{len(node.inputs)} operands; 2 are supported")
    left, right = context.const(node.inputs[0]), context.const(node.inputs[1])
    if (left is None) == (right is None):
        ops: dict[str, Op] = {"Add": Add(), "Sub": Add(subtract=True), "Mul": Mul(), "Div": Divide()}
        context.set(
            node.outputs[0], combine(context, ops[node.op], context.view(node.inputs[0]), context.view(node.inputs[1]))
        )
        return
    constant = left if left is not None else right
    if constant is None:
        raise AssertionError("one operand is constant here")
    array = constant.array.astype(np.float64)
    view = context.view(node.inputs[1 if left is not None else 0])
    if node.op == "Div" and left is not None:
        view = context.elementwise(Scalar("reciprocal"), view)
    elif node.op == "Div":
        if not np.all(array):
            raise NotSupported("it divides by zero")
        array = 1 / array
    if array.ndim > len(view.axes):
        view = view.in_rank(array.ndim)
    if not fits(view, array):
        # The constant is the larger operand: it becomes a tensor of its own.
        op = Mul() if node.op in ("Mul", "Div") else Add(subtract=node.op == "Sub")
        whole = context.view(node.inputs[0] if left is not None else node.inputs[1])
        if node.op == "Div" and left is None:
            raise NotSupported("it divides by a constant larger than its operand")
        context.set(node.outputs[0], combine(context, op, *((whole, view) if left is not None else (view, whole))))
        return
    if node.op in ("Mul", "Div"):
        factors = (array, np.zeros(()))
    else:
        sign = -1.0 if node.op == "Sub" else 1.0
        factors = (np.ones(()), sign * array) if left is None else (np.asarray(sign), array)
    context.set(node.outputs[0], affine(context, view, *factors))


def negate(context: Context, node: SourceNode) -> None:
    context.set(node.outputs[0], affine(context, context.view(node.inputs[0]), np.asarray(-1.0), np.zeros(())))


def pointwise(function: str, **defaults: float) -> Handler:
    """A handler for a function of one number; `defaults` maps alpha and beta to what ONNX assumes."""

    def handle(context: Context, node: SourceNode) -> None:
        values = {name: float(node.attribute(name, default)) for name, default in defaults.items()}
        context.set(node.outputs[0], context.elementwise(Pointwise(function, **values), context.view(node.inputs[0])))

    return handle


def scalar(function: str) -> Handler:
    """A handler for a function of one number that only occurs inside of known ones."""

    def handle(context: Context, node: SourceNode) -> None:
        context.set(node.outputs[0], context.elementwise(Scalar(function), context.view(node.inputs[0])))

    return handle


def selu(context: Context, node: SourceNode) -> None:
    alpha, gamma = node.attribute("alpha", 1.67326319), node.attribute("gamma", 1.05070102)
    context.set(node.outputs[0], context.elementwise(Pointwise("selu", alpha, gamma), context.view(node.inputs[0])))


def gelu(context: Context, node: SourceNode) -> None:
    function = "gelu_tanh" if node.attribute("approximate", "none") == "tanh" else "gelu"
    context.set(node.outputs[0], context.elementwise(Pointwise(function), context.view(node.inputs[0])))


def clip(context: Context, node: SourceNode) -> None:
    """Clip with its limits as attributes (before opset 11) or as inputs."""
    limits: list[float] = []
    for index, name, unlimited in ((1, "min", -np.inf), (2, "max", np.inf)):
        if name in node.attributes:
            limits.append(float(node.attribute(name, 0.0)))
        elif node.input(index):
            array = context.need_const(node.input(index), f"limit '{name}'")
            if array.size != 1:
                raise NotSupported(f"limit '{name}' of shape {array.shape}")
            limits.append(float(array.reshape(-1)[0]))
        else:
            limits.append(unlimited)
    context.set(node.outputs[0], limit(context, context.view(node.inputs[0]), limits[0], limits[1]))


#: Limits as large as this (exporters write the largest float) are none.
NO_LIMIT = 3.0e38


def limit(context: Context, view: View, low: float, high: float) -> View:
    """max(low, min(high, view))."""
    if low > high:
        raise NotSupported(f"its lower limit {low} lies above its upper one {high}")
    if abs(low) > NO_LIMIT and abs(high) > NO_LIMIT:
        return view
    if low == 0 and high > NO_LIMIT:
        return context.elementwise(Pointwise("relu"), view)
    return context.elementwise(Pointwise("clip", max(low, -NO_LIMIT), min(high, NO_LIMIT)), view)


def extremum(context: Context, node: SourceNode) -> None:
    """Max and Min against a scalar constant."""
    constants = [c.array for c in map(context.const, node.inputs) if c is not None]
    computed = [name for name in node.inputs if context.const(name) is None]
    if len(computed) != 1 or any(c.size != 1 for c in constants):
        raise NotSupported("it compares tensors; only one tensor with scalar constants is supported")
    if not constants:
        passing(context, node)
        return
    values = [float(c.reshape(-1)[0]) for c in constants]
    low, high = (max(values), np.inf) if node.op == "Max" else (-np.inf, min(values))
    context.set(node.outputs[0], limit(context, context.view(computed[0]), low, high))


def power(context: Context, node: SourceNode) -> None:
    """Pow with a constant scalar exponent."""
    exponent = context.need_const(node.input(1), "exponent")
    if exponent.size != 1:
        raise NotSupported(f"an exponent of shape {exponent.shape}")
    number = float(exponent.reshape(-1)[0])
    if not isfinite(number):
        raise NotSupported(f"the exponent {number}")
    op: Op = Pointwise("square") if number == 2 else Scalar("pow", number)
    context.set(node.outputs[0], context.elementwise(op, context.view(node.inputs[0])))


def prelu(context: Context, node: SourceNode) -> None:
    """PRelu with one slope, or one a channel."""
    slope = _uniform(context.need_const(node.input(1), "slope").astype(np.float64))
    view = context.view(node.input(0))
    if slope.ndim > len(view.axes) or not fits(view, slope):
        raise NotSupported(f"slopes of shape {slope.shape} for a tensor of shape {view.shape}")
    if slope.size == 1:
        context.set(node.outputs[0], context.elementwise(Pointwise("leaky_relu", float(slope)), view))
        return
    if len(view.axes) in (3, 4) and prod(slope.shape[-(len(view.axes) - 2) :]) == 1:
        value = context.image(view)
        view = views.image(value, context.types[value].shape, len(view.axes))
    view, (slope,) = spread(context, view, [slope])
    if prod(slope.shape[:-1]) != 1:
        raise NotSupported("slopes that vary over more than the channels")
    context.set(node.outputs[0], context.elementwise(PRelu(), view, {"slope": slope.reshape(-1).astype(np.float32)}))


def passing(context: Context, node: SourceNode) -> None:
    """Identity, Dropout at inference, Cast between float types."""
    context.set(node.outputs[0], context.view(node.inputs[0]))


def cast_like(context: Context, node: SourceNode) -> None:
    """CastLike of a constant or of a computed tensor to the type of a computed one, which is a float type."""
    found = context.const(node.input(0))
    if found is None:
        passing(context, node)
    else:
        context.set(node.outputs[0], Const(found.array.astype(np.float32)))


def cast(context: Context, node: SourceNode) -> None:
    """Cast to a float type; the integers that are cast are a graph input's."""
    if node.attribute("to", 1) not in (1, 10, 11, 16):
        raise NotSupported("it casts computed values to integers")
    passing(context, node)
