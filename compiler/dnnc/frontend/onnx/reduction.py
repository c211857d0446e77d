"""Means, sums and maxima over axes; Softmax."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from dnnc.frontend.onnx.context import Context
from dnnc.frontend.onnx.elementwise import affine
from dnnc.frontend.onnx.movement import normalise_axis, reshaped
from dnnc.frontend.onnx.source import NotSupported, SourceNode
from dnnc.frontend.onnx.view import View
from dnnc.ir.op import Op
from dnnc.ops.pool import AvgPool2D, MaxPool2D, ReduceMean
from dnnc.ops.softmax import Softmax


def reduce(context: Context, node: SourceNode) -> None:
    """ReduceMean, ReduceSum and ReduceMax; over height and width they are the pooling that GlobalAveragePool is."""
    view = context.view(node.input(0))
    rank = len(view.axes)
    if "axes" in node.attributes:
        given = node.ints("axes")
    else:
        given = context.integers(node.input(1), "axes") if node.input(1) else ()
    if not given and node.attribute("noop_with_empty_axes", 0):
        context.set(node.outputs[0], view)
        return
    axes = {normalise_axis(a, rank) for a in given} or set(range(rank))
    count = prod(view.shape[a] for a in axes)
    view = _reduced(context, node.op, view, axes)
    if node.op == "ReduceSum":
        view = affine(context, view, np.asarray(float(count)), np.zeros(()))
    if node.attribute("keepdims", 1) != 1:
        view = replace(view, axes=tuple(g for i, g in enumerate(view.axes) if i not in axes))
    context.set(node.outputs[0], view)


def _reduced(context: Context, op: str, view: View, axes: set[int]) -> View:
    gone = {a for axis in axes for a in view.solid(view.axes[axis])}
    if not gone:
        return view
    dims = context.types[view.value].shape
    if dims != view.atoms:
        view = replace(view, value=context.reshape(view.value, view.atoms))
        dims = view.atoms
    kept = {i for i, size in enumerate(dims) if size > 1} - gone
    emitted: Op
    if len(dims) == 3 and 2 not in gone and kept <= {2}:
        window = (dims[0], dims[1])
        emitted = MaxPool2D(window, window) if op == "ReduceMax" else AvgPool2D(window, window)
    elif op == "ReduceMax":
        return _reduced_max(context, view, sorted(gone), sorted(kept))
    else:
        if len(kept) == 1:
            context.wish(view, next(iter(kept)))
        emitted = ReduceMean(tuple(sorted(gone)), keepdims=True)
    value = context.emit(emitted, (view.value,))
    return View(value, context.types[value].shape, view.axes)


def _reduced_max(context: Context, view: View, gone: list[int], kept: list[int]) -> View:
    """The maximum over any atoms, as the maximum over the height of an image."""
    if len(kept) == 1:
        context.wish(view, kept[0])
    sizes = tuple(view.atoms[a] for a in kept)
    height = prod(view.atoms[a] for a in gone)
    value = context.arrange(view, [*gone, *kept], (height, 1, prod(sizes)))
    value = context.emit(MaxPool2D((height, 1), (height, 1)), (value,))
    place = {a: i for i, a in enumerate(kept)}
    axes = tuple(tuple(place[a] for a in group if a in place) for group in view.axes)
    return View(value, sizes or (1,), axes)


def softmax(context: Context, node: SourceNode) -> None:
    """Softmax over one axis; before opset 13 over all axes from `axis` on, taken together."""
    view = context.view(node.input(0))
    rank = len(view.axes)
    axis = normalise_axis(node.attribute("axis", -1 if node.opset >= 13 else 1), rank)
    shape = view.shape
    if node.opset < 13:
        view = reshaped(context, view, (prod(shape[:axis]), prod(shape[axis:])))
        axis = 1
    classes = sorted(view.solid(view.axes[axis]))
    rows = sorted(a for i, g in enumerate(view.axes) if i != axis for a in view.solid(g))
    sizes = tuple(view.atoms[a] for a in rows)
    count = prod(view.atoms[a] for a in classes)
    order = [*rows, *classes]
    value = context.emit(Softmax(), (context.arrange(view, order, (*sizes, count)),))
    place = {a: i for i, a in enumerate(order)}
    atoms = tuple(view.atoms[a] for a in order)
    groups = tuple(tuple(place[a] for a in view.solid(g)) for g in view.axes)
    result = View(value, atoms if atoms else (1,), groups)
    context.set(node.outputs[0], reshaped(context, result, shape) if node.opset < 13 else result)


def no_log_softmax(context: Context, node: SourceNode) -> None:
    raise NotSupported("logarithms of probabilities do not fit 8 bits; export the model without its LogSoftmax")
