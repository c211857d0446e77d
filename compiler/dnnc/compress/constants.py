"""Channels that hold the same number for every input: folded into the layers that read them, and taken out.

Masks leave such channels behind: a layer's row of zeros makes its bias and nothing else. A layer without padding adds
what it reads of them to its own bias. Under padding a constant shows at the borders, unless it is 0: there all constant
channels of a value are merged into one, which stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from dnnc.compress.surgery import read_columns, remove_unread
from dnnc.compress.surgery_held import Reals, carried, clamped
from dnnc.ir.channels import channel_count
from dnnc.ir.graph import Graph, Node, freeze
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense


def fold_constants(graph: Graph) -> Graph:
    """A float graph that computes the same without constant channels, and without channels that no weight reads.

    Goes on until nothing changes: what one layer stops reading, an earlier one stops making. Of a structure's channels
    at least one stays. Results differ by the rounding of folded biases to their type, no more.
    """
    while True:
        smaller = remove_unread(_fold(graph))
        if smaller.nodes == graph.nodes:
            return graph.verify()
        graph = smaller


def constant_channels(graph: Graph) -> dict[str, Reals]:
    """Of every value, what each channel always holds, float64; NaN where it varies."""
    return carried(graph, _always)


def _always(node: Node) -> Reals:
    if isinstance(node.op, Conv2D | Dense):
        weight = node.params["weight"]
        idle = ~np.any(weight.reshape(len(weight), -1) != 0, axis=1)
        return clamped(node.op, np.where(idle, node.params["bias"], np.nan).astype(np.float64))
    value = np.asarray(node.params["value"], np.float64).reshape(-1, channel_count(node.type.shape))
    return np.where(np.all(value == value[0], axis=0), value[0], np.nan)


def _fold(graph: Graph) -> Graph:
    """Every layer reads as few constant channels as it can; nothing is taken out yet."""
    known = constant_channels(graph)
    merged = _merged(graph, known)
    nodes = []
    for node in graph.nodes:
        if isinstance(node.op, Conv2D | Dense):
            node = _without_constants(node, known[node.inputs[0]], merged.get(node.inputs[0]))
        nodes.append(node)
    return graph.with_nodes(nodes)


def _padded(node: Node) -> bool:
    return isinstance(node.op, Conv2D) and any(node.op.padding)


def _merged(graph: Graph, known: Mapping[str, Reals]) -> dict[str, int]:
    """Of values with constants besides 0 under padding: the channel that stands for all of them, the largest one."""
    found: dict[str, int] = {}
    for name, values in known.items():
        shown = np.zeros(len(values), np.bool_)
        for reader in graph.consumers[name]:
            if _padded(reader) and isinstance(reader.op, Conv2D) and reader.op.groups == 1:
                shown |= read_columns(reader)
        size = np.where(shown, np.abs(np.nan_to_num(values)), 0.0)
        if size.any():
            found[name] = int(size.argmax())
    return found


def _without_constants(node: Node, known: Reals, stays: int | None) -> Node:
    """A layer whose weights for constant inputs are 0, as far as that changes nothing.

    known: what its input channels hold. stays: the constant channel that it goes on reading under padding.
    """
    assert isinstance(node.op, Conv2D | Dense)
    read = read_columns(node)
    dropped = read & ~np.isnan(known) & ((known == 0) | (not _padded(node)))
    groups = node.op.groups if isinstance(node.op, Conv2D) else 1
    joined = np.zeros_like(dropped)
    on_grid = "weight_scale" in node.params  # prescribed codes: the sum of two weights need not be one
    if stays is not None and _padded(node) and groups == 1 and not on_grid:
        joined = read & ~np.isnan(known) & ~dropped
        joined[stays] = False
    if not (dropped.any() or joined.any()):
        return node
    weight = node.params["weight"]
    taps = weight.astype(np.float64).reshape(groups, len(weight) // groups, -1, weight.shape[-1])
    constant = np.where(dropped, known, 0.0).reshape(groups, -1)
    bias = node.params["bias"] + np.einsum("goti,gi->go", taps, constant).ravel()
    if joined.any():
        share = np.where(joined, np.nan_to_num(known), 0.0) / known[stays]
        taps[0, :, :, stays] += taps[0] @ share
    gone = (dropped | joined).reshape(groups, 1, 1, -1)
    made = np.where(gone, 0.0, taps).reshape(weight.shape).astype(weight.dtype)
    params = {**node.params, "weight": made, "bias": bias.astype(node.params["bias"].dtype)}
    return replace(node, params=freeze(params))
