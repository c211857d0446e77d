"""Factors and shifts per channel (BatchNormalization, Mul, Add of constants) into the layers around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc.frontend.simplify.edit import is_output, sole_reader, substitute
from dnnc.frontend.simplify.ops import Affine
from dnnc.ir.graph import Graph, Node
from dnnc.ir.types import TensorType
from dnnc.ops.activation import NO_CLAMP
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.elementwise import Add, Mul
from dnnc.ops.movement import Constant, Reshape
from dnnc.ops.pointwise import Pointwise

Array = NDArray[Any]
Step = Callable[[Graph, Node], Graph | None]


def fold_affine(graph: Graph) -> Graph:
    """Into the Conv2D or Dense that makes the value, or else into all that read it.

    On the way, chains of Affine become one, those that change nothing vanish, and they move behind a Reshape where that
    brings them to a layer that takes them.
    """
    for step in (_fold_back, _merge_or_sink, _drop_neutral, _fold_back, _fold_forward):
        graph = _until_done(graph, step)
    return graph


def _until_done(graph: Graph, step: Step) -> Graph:
    """Apply `step` to one Affine after another until it changes nothing."""
    changed = True
    while changed:
        changed = False
        for node in graph.nodes:
            if isinstance(node.op, Affine):
                found = step(graph, node)
                if found is not None:
                    graph, changed = found, True
                    break
    return graph


def _factors(node: Node) -> tuple[Array, Array]:
    return node.params["scale"].astype(np.float64), node.params["shift"].astype(np.float64)


def _drop_neutral(graph: Graph, node: Node) -> Graph | None:
    scale, shift = _factors(node)
    if np.any(scale != 1) or np.any(shift != 0) or node.type.quant is not None or is_output(graph, node.name):
        return None
    return substitute(graph, {}, {node.name: node.inputs[0]})


def _merge_or_sink(graph: Graph, node: Node) -> Graph | None:
    reader = sole_reader(graph, node.name)
    if reader is None or node.type.quant is not None:
        return None
    scale, shift = _factors(node)
    if isinstance(reader.op, Affine):
        outer_scale, outer_shift = _factors(reader)
        params = {
            **_statistics(node, outer_scale, outer_shift),
            **_statistics(reader, np.ones(()), np.zeros(())),
            "scale": scale * outer_scale,
            "shift": shift * outer_scale + outer_shift,
        }
        return substitute(graph, {reader.name: replace(reader, inputs=node.inputs, params=params)}, {})
    if isinstance(reader.op, Reshape):
        behind = graph.consumers[reader.name]
        if is_output(graph, reader.name) or not all(isinstance(r.op, Affine | Conv2D | Dense) for r in behind):
            return None
        moved = [_through(reader, a, node.type.shape) for a in (scale, shift)]
        if moved[0] is None or moved[1] is None:
            return None
        # The nodes trade places: the Reshape takes the earlier one's name, so that the order still holds.
        first = Node(node.name, reader.op, node.inputs, {}, TensorType(reader.op.shape))
        params = {"scale": moved[0], "shift": moved[1]}
        second = Node(reader.name, Affine(), (node.name,), params, reader.type)
        return substitute(graph, {node.name: first, reader.name: second}, {})
    return None


def _through(reshape: Node, factor: Array, shape: tuple[int, ...]) -> Array | None:
    """A factor of the input as a factor of the Reshape's output; None where it is not one a channel there."""
    if not factor.ndim:
        return factor
    full = np.broadcast_to(factor, shape).reshape(reshape.type.shape)
    if not full.ndim:
        return full
    rows = full.reshape(-1, full.shape[-1])
    return rows[0] if np.all(rows == rows[0]) else None


def _statistics(node: Node, scale: Array, shift: Array) -> dict[str, Array]:
    """The statistics of the output of an Affine (scale, shift) behind this node."""
    if "bn_mean" not in node.params:
        return {}
    return {"bn_mean": node.params["bn_mean"] * scale + shift, "bn_std": node.params["bn_std"] * np.abs(scale)}


def _fold_back(graph: Graph, node: Node) -> Graph | None:
    """Conv2D or Dense, then Affine: scale its rows."""
    maker = graph.by_name.get(node.inputs[0])
    if maker is None or not isinstance(maker.op, Conv2D | Dense) or maker.op.clamp != NO_CLAMP:
        return None
    if sole_reader(graph, maker.name) is None:
        return None
    weight, bias = maker.params["weight"].astype(np.float64), maker.params["bias"].astype(np.float64)
    scale, shift = (np.broadcast_to(a, (len(weight),)) for a in _factors(node))
    params = {
        "weight": (weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))).astype(np.float32),
        "bias": (bias * scale + shift).astype(np.float32),
        **_statistics(maker, scale, shift),
        **{k: v for k, v in node.params.items() if k.startswith("bn_")},
    }
    if "weight_scale" in maker.params and np.all(scale != 0):
        params["weight_scale"] = maker.params["weight_scale"] * np.abs(scale)
    joined = replace(maker, params=params, type=node.type)
    return substitute(graph, {maker.name: joined}, {node.name: maker.name})


def _fold_forward(graph: Graph, node: Node) -> Graph | None:
    """Affine, then nothing but Conv2D and Dense: scale their columns. Padding holds zeros, so it allows no shift."""
    readers = graph.consumers[node.name]
    scale, shift = _factors(node)
    if is_output(graph, node.name) or node.type.quant is not None or not readers:
        return None
    for reader in readers:
        padded = isinstance(reader.op, Conv2D) and any(reader.op.padding)
        if not isinstance(reader.op, Conv2D | Dense) or (padded and np.any(shift != 0)):
            return None
    new = {reader.name: _scaled_columns(reader, scale, shift) for reader in readers}
    return substitute(graph, new, {node.name: node.inputs[0]})


def _scaled_columns(reader: Node, scale: Array, shift: Array) -> Node:
    weight = reader.params["weight"].astype(np.float64)
    groups = reader.op.groups if isinstance(reader.op, Conv2D) else 1
    channels = weight.shape[-1] * groups
    # The input channels that each output channel sees: [O, I / groups].
    seen = np.arange(channels).reshape(groups, -1).repeat(len(weight) // groups, axis=0)
    columns = (len(weight), *(1,) * (weight.ndim - 2), weight.shape[-1])
    by_output = [np.broadcast_to(a, (channels,))[seen].reshape(columns) for a in (scale, shift)]
    added = (weight * by_output[1]).reshape(len(weight), -1).sum(axis=1)
    params = dict(reader.params)
    params["weight"] = (weight * by_output[0]).astype(np.float32)
    params["bias"] = (reader.params["bias"] + added).astype(np.float32)
    if "weight_scale" in params:
        if scale.ndim or scale == 0:
            del params["weight_scale"]
        else:
            params["weight_scale"] = params["weight_scale"] * abs(float(scale))
    return replace(reader, params=params)


def lower_affine(graph: Graph) -> Graph:
    """What could not be folded becomes an operation of its own."""
    nodes: list[Node] = []
    taken = {n.name for n in graph.nodes} | {i.name for i in graph.inputs}
    for node in graph.nodes:
        nodes += _lowered(node, taken) if isinstance(node.op, Affine) else [node]
    return graph.with_nodes(nodes)


def _lowered(node: Node, taken: set[str]) -> list[Node]:
    scale, shift = _factors(node)
    shape = node.type.shape
    if scale.ndim == shift.ndim == 0:
        return [Node(node.name, Pointwise("affine", float(scale), float(shift)), node.inputs, {}, node.type)]
    channels = shape[-1]
    if len(shape) == 3:
        weight = np.broadcast_to(scale, (channels,)).reshape(channels, 1, 1, 1)
        params = {"weight": weight.astype(np.float32), "bias": np.broadcast_to(shift, (channels,)).astype(np.float32)}
        params |= {k: v for k, v in node.params.items() if k.startswith("bn_")}
        return [Node(node.name, Conv2D(groups=channels), node.inputs, params, node.type)]
    steps: list[Node] = []
    value = node.inputs[0]
    parts = [
        (op, array, suffix)
        for op, array, suffix in ((Mul(), scale, "scale"), (Add(), shift, "shift"))
        if np.any(array != (1 if isinstance(op, Mul) else 0))
    ]
    for index, (op, array, suffix) in enumerate(parts):
        last = index == len(parts) - 1
        constant = _fresh(f"{node.name}/{suffix}", taken)
        held = array.astype(np.float32) if prod(array.shape) > 1 else array.reshape(1).astype(np.float32)
        steps.append(Node(constant, Constant(), (), {"value": held}, TensorType(held.shape)))
        name = node.name if last else _fresh(f"{node.name}/{op.kind.lower()}", taken)
        steps.append(Node(name, op, (value, constant), {}, node.type if last else TensorType(shape)))
        value = name
    return steps or [Node(node.name, Pointwise("identity"), node.inputs, {}, node.type)]


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
