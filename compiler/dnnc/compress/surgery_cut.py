"""One node with fewer channels: its attributes, parameters and type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc.ir.channels import Mask
from dnnc.ir.graph import Node, freeze
from dnnc.ir.op import Op
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.movement import Constant, Pad, Reshape, Slice
from dnnc.ops.pointwise import PRelu

Array = NDArray[Any]


def cut(
    node: Node, kept: Mapping[str, Mask], held: Mapping[str, NDArray[np.float64]], followers: frozenset[str]
) -> Node:
    """The node for the channels `kept` of every value; layers get what removed ones held (`held`) into their biases."""
    out = kept[node.name]
    if out.all() and all(kept[value].all() for value in node.inputs):
        return node
    shape = (*node.type.shape[:-1], int(out.sum())) if node.type.shape else ()
    op, params = node.op, dict(node.params)
    if isinstance(op, Conv2D | Dense):
        if node.name in followers:
            assert isinstance(op, Conv2D)
            op = replace(op, groups=int(out.reshape(op.groups, -1).any(axis=1).sum()))
            params = {name: value[out] for name, value in params.items()}
        else:
            params = linear(op, params, kept[node.inputs[0]], out, held[node.inputs[0]])
    elif type(op) in _CUTS:
        op, params = _CUTS[type(op)](op, params, kept[node.inputs[0]] if node.inputs else out, out)
    return replace(node, op=op, params=freeze(params), type=replace(node.type, shape=shape))


def linear(
    op: Conv2D | Dense, params: Mapping[str, Array], before: Mask, out: Mask, held: NDArray[np.float64]
) -> dict[str, Array]:
    """Parameters of a layer for some of its inputs and outputs; `held` [I]: what removed inputs hold, 0 for most."""
    weight = params["weight"]
    groups = op.groups if isinstance(op, Conv2D) else 1
    constant = np.where(before, 0.0, np.nan_to_num(held)).reshape(groups, -1)
    made = dict(params)
    if constant.any():
        sums = weight.reshape(groups, len(weight) // groups, -1, weight.shape[-1]).sum(axis=2, dtype=np.float64)
        added = np.einsum("goi,gi->go", sums, constant).ravel()
        made["bias"] = (params["bias"] + added).astype(params["bias"].dtype)
    made["weight"] = weight[..., before[: weight.shape[-1]]]
    return {name: value[out] for name, value in made.items()}


def _reshape(op: Op, params: dict[str, Array], before: Mask, out: Mask) -> tuple[Op, dict[str, Array]]:
    assert isinstance(op, Reshape)
    return replace(op, shape=(*op.shape[:-1], int(out.sum()))) if op.shape else op, params


def _slice(op: Op, params: dict[str, Array], before: Mask, out: Mask) -> tuple[Op, dict[str, Array]]:
    assert isinstance(op, Slice)
    if not op.start or op.step[-1] != 1:
        return op, params
    first = int(before[: op.start[-1]].sum())
    return replace(op, start=(*op.start[:-1], first), stop=(*op.stop[:-1], first + int(out.sum()))), params


def _pad(op: Op, params: dict[str, Array], before: Mask, out: Mask) -> tuple[Op, dict[str, Array]]:
    assert isinstance(op, Pad)
    if not op.before:
        return op, params
    low, high = int(out[: op.before[-1]].sum()), int(out[len(out) - op.after[-1] :].sum())
    return replace(op, before=(*op.before[:-1], low), after=(*op.after[:-1], high)), params


def _prelu(op: Op, params: dict[str, Array], before: Mask, out: Mask) -> tuple[Op, dict[str, Array]]:
    return op, {"slope": params["slope"] if len(params["slope"]) == 1 else params["slope"][out]}


def _constant(op: Op, params: dict[str, Array], before: Mask, out: Mask) -> tuple[Op, dict[str, Array]]:
    return op, {"value": params["value"][..., out]}


_CUTS: dict[type[Op], Callable[[Op, dict[str, Array], Mask, Mask], tuple[Op, dict[str, Array]]]] = {
    Reshape: _reshape,
    Slice: _slice,
    Pad: _pad,
    PRelu: _prelu,
    Constant: _constant,
}
