"""Gemm and MatMul with constant weights: fully connected layers over the last axis."""

from __future__ import annotations

import numpy as np

from dnnc.frontend.onnx.context import Context
from dnnc.frontend.onnx.elementwise import affine, combine, fits
from dnnc.frontend.onnx.source import Array, Const, NotSupported, SourceNode
from dnnc.frontend.onnx.view import View
from dnnc.ops.dense import Dense
from dnnc.ops.elementwise import Add


def fully_connected(context: Context, view: View, weights: Array, bias: Array, scale: Array | None) -> View:
    """Dense over the view's last axis, whose features may lie in any order in memory: the weights' columns follow.

    weights [O, I], bias [O], scale [O] of quantised weights or None.
    """
    features = view.solid(view.axes[-1])
    rows = sorted(a for group in view.axes[:-1] for a in view.solid(group))
    if weights.shape[1] != view.shape[-1]:
        raise NotSupported(f"weights of shape {weights.shape} for {view.shape[-1]} features")
    sizes = [view.atoms[a] for a in features]
    columns = weights.reshape(len(weights), *sizes)
    order = sorted(range(len(features)), key=lambda i: features[i])
    columns = columns.transpose(0, *(i + 1 for i in order)).reshape(weights.shape)
    heights = tuple(view.atoms[a] for a in rows)
    value = context.arrange(view, [*rows, *sorted(features)], (*heights, weights.shape[1]))
    params = {"weight": columns.astype(np.float32), "bias": bias.astype(np.float32)}
    if scale is not None:
        params["weight_scale"] = scale
    result = context.emit(Dense(), (value,), params)
    place = {a: i for i, a in enumerate(rows)}
    axes = tuple(tuple(place[a] for a in view.solid(group)) for group in view.axes[:-1])
    return View(result, (*heights, len(weights)), (*axes, (len(rows),)))


def gemm(context: Context, node: SourceNode) -> None:
    """alpha * A' . B' + beta * C."""
    constant = _weights(context, node)
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    transposed = bool(node.attribute("transB", 0))
    array = constant.array.astype(np.float64)
    if array.ndim != 2:
        raise NotSupported(f"weights of shape {array.shape}")
    weights = alpha * (array if transposed else array.T)
    scale = constant.scale_of(0 if transposed else 1)
    scale = None if scale is None or alpha == 0 else scale * abs(alpha)
    view = context.view(node.input(0))
    if len(view.axes) != 2:
        raise NotSupported(f"an input of shape {view.shape}; Gemm takes matrices")
    if node.attribute("transA", 0):
        view = view.permute((1, 0))
    given = context.const(node.input(2)) if node.input(2) and beta != 0 else None
    row = None if given is None else _as_row(given.array, len(weights))
    bias = np.zeros(len(weights)) if row is None else beta * row
    result = fully_connected(context, view, weights, bias, scale)
    if node.input(2) and beta != 0 and row is None:
        result = _add(context, result, node.input(2), beta)
    context.set(node.outputs[0], result)


def _as_row(array: Array, outputs: int) -> Array | None:
    """A bias that is the same in every row, [outputs]; None for others."""
    if array.size == 1 or array.shape in ((outputs,), (1, outputs)):
        return np.broadcast_to(array.astype(np.float64).reshape(-1), (outputs,))
    return None


def _add(context: Context, view: View, name: str, beta: float) -> View:
    """view + beta * tensor."""
    constant = context.const(name)
    if constant is not None and fits(view, constant.array):
        return affine(context, view, np.ones(()), beta * constant.array.astype(np.float64))
    other = context.view(name)
    if beta != 1:
        other = affine(context, other, np.asarray(beta), np.zeros(()))
    return combine(context, Add(), view, other)


def matmul(context: Context, node: SourceNode) -> None:
    """A . B with B constant [I, O], or [I]."""
    constant = _weights(context, node)
    array = constant.array.astype(np.float64)
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim not in (1, 2):
        raise NotSupported(f"weights of shape {array.shape}; a batch of matrices is not supported")
    vector = array.ndim == 1
    weights = array[None] if vector else array.T
    scale = constant.scale_of(constant.array.ndim - 1) if not vector else None
    view = context.view(node.input(0))
    squeezed = len(view.axes) == 1
    view = view.in_rank(2) if squeezed else view
    result = fully_connected(context, view, weights, np.zeros(len(weights)), scale)
    axes = result.axes[1:] if squeezed else result.axes
    context.set(node.outputs[0], View(result.value, result.atoms, axes[:-1] if vector else axes))


def _weights(context: Context, node: SourceNode) -> Const:
    right = context.const(node.input(1))
    if right is None:
        left = context.const(node.input(0))
        raise NotSupported("its weights are the left operand" if left else "both of its operands are computed")
    if context.const(node.input(0)) is not None:
        raise NotSupported("its left operand is constant")
    return right
