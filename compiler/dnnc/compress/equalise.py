"""Cross-layer equalisation: channels that are wide in one layer and narrow in the next meet half way, exactly.

Nagel, van Baalen, Blankevoort, Welling, "Data-free quantization through weight equalization and bias correction", ICCV
2019, section 4.1. Between two layers with weights, a channel may be scaled down in one and up in the other where only
functions f with f(s x) = s f(x), s > 0, lie between. Scales here are powers of two: the float network is unchanged, bit
for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc.evaluate import evaluate_batches
from dnnc.ir.graph import Graph, Node
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.movement import Reshape
from dnnc.ops.pool import AvgPool2D, MaxPool2D, ReduceMean
from dnnc.quantise.bytes import linear_nodes
from dnnc.quantise.dataset import Dataset

Array = NDArray[Any]

#: Rounds over all layers; most networks need three.
_ROUNDS = 20
#: Larger factors belong to channels that hold next to nothing.
_LARGEST_EXPONENT = 12


@dataclass(frozen=True, eq=False)
class Link:
    """A layer whose output channels can be scaled, with the layers that read them. readers: node name, and for each
    position of the last axis of what that node reads the channel of the maker that lies there.
    """

    maker: str
    readers: tuple[tuple[str, NDArray[np.int64]], ...]


def links(graph: Graph) -> tuple[Link, ...]:
    """All layers that can be scaled, in order. Layers with prescribed scales, and values with prescribed quantisations,
    are left alone.
    """
    found = []
    for node in linear_nodes(graph.nodes):
        op = node.op
        assert isinstance(op, (Conv2D, Dense))
        if op.clamp.lo not in (None, 0.0) or op.clamp.hi is not None or "weight_scale" in node.params:
            continue
        readers = _readers(graph, node.name, np.arange(node.type.shape[-1]))
        if readers:
            found.append(Link(node.name, tuple(readers)))
    return tuple(found)


def _readers(graph: Graph, value: str, of: NDArray[np.int64]) -> list[tuple[str, NDArray[np.int64]]] | None:
    """The linear layers that read a value's channels, or None where anything else does."""
    if graph.types[value].quant is not None or any(o.value == value for o in graph.outputs):
        return None
    found: list[tuple[str, NDArray[np.int64]]] = []
    for node in graph.consumers[value]:
        shape, out = graph.types[value].shape, node.type.shape
        if isinstance(node.op, (Conv2D, Dense)):
            if "weight_scale" in node.params:
                return None
            found.append((node.name, of))
            continue
        rank = len(shape)
        if isinstance(node.op, (MaxPool2D, AvgPool2D)):
            after: NDArray[np.int64] | None = of
        elif isinstance(node.op, ReduceMean):
            after = None if {a % rank for a in node.op.axes} & {rank - 1} else of
        elif isinstance(node.op, Reshape):
            after = np.tile(of, out[-1] // shape[-1]) if out and out[-1] % shape[-1] == 0 else None
        else:
            after = None
        further = None if after is None else _readers(graph, node.name, after)
        if further is None:
            return None
        found += further
    return found


def equalise(graph: Graph, sample: Dataset | None = None) -> Graph:
    """The same float function, its channels scaled so that within every layer they are as alike as can be.

    sample: the widths of channels are the largest values that they take on these samples; without, the largest weights
    that make them, which need no data.
    """
    chain = links(graph)
    params = {n.name: dict(n.params) for n in linear_nodes(graph.nodes)}
    reach = {} if sample is None else reaches(graph, sample, [link.maker for link in chain])
    for _ in range(_ROUNDS):
        changed = False
        for link in chain:
            maker = params[link.maker]
            channels = len(maker["weight"])
            made = (
                reach[link.maker] if sample is not None else np.abs(maker["weight"]).reshape(channels, -1).max(axis=1)
            )
            read = np.zeros(channels)
            for name, of in link.readers:
                np.maximum.at(read, of, _columns(graph.by_name[name], params[name]["weight"]))
            alive = (made > 0) & (read > 0)
            ratio = np.divide(made, read, out=np.ones(channels), where=alive)
            # All channels of a layer alike is what helps; a common factor changes nothing.
            ratio /= np.exp(np.log(ratio[alive]).mean()) if alive.any() else 1.0
            exponent = np.where(alive, np.round(np.log2(ratio) / 2), 0).clip(-_LARGEST_EXPONENT, _LARGEST_EXPONENT)
            if exponent.any():
                changed = True
                _scale(graph, params, link, np.exp2(-exponent).astype(np.float32))
                if sample is not None:
                    reach[link.maker] = reach[link.maker] * np.exp2(-exponent)
        if not changed:
            break
    nodes = [replace(n, params=params[n.name]) if n.name in params else n for n in graph.nodes]
    return graph.with_nodes(nodes).verify()


def reaches(graph: Graph, sample: Dataset, values: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """The largest magnitude of every channel of some values."""
    found: dict[str, NDArray[np.float64]] = {}
    wanted = frozenset(values)

    def hook(name: str, value: torch.Tensor) -> torch.Tensor:
        if name in wanted:
            seen = value.reshape(-1, value.shape[-1]).abs().amax(dim=0).double().numpy()
            found[name] = np.maximum(found[name], seen) if name in found else seen
        return value

    evaluate_batches(graph, sample.inputs, hook=hook)
    return found


def _columns(node: Node, weight: Array) -> NDArray[np.float64]:
    """The largest weight that multiplies each input channel."""
    groups = node.op.groups if isinstance(node.op, Conv2D) else 1
    taps = np.abs(weight).reshape(groups, -1, weight.shape[-1])
    largest: NDArray[np.float64] = taps.max(axis=1).reshape(-1).astype(np.float64)
    return largest


def _scale(graph: Graph, params: Mapping[str, dict[str, Array]], link: Link, factor: NDArray[np.float32]) -> None:
    """Channel c of the maker times factor[c], what reads it by as much less."""
    maker = params[link.maker]
    maker["weight"] = maker["weight"] * factor.reshape(-1, *(1,) * (maker["weight"].ndim - 1))
    for key in ("bias", "bn_mean", "bn_std"):
        if key in maker:
            maker[key] = maker[key] * factor
    for name, of in link.readers:
        node, weight = graph.by_name[name], params[name]["weight"]
        groups = node.op.groups if isinstance(node.op, Conv2D) else 1
        inverse = (1 / factor[of]).reshape(groups, 1, *(1,) * (weight.ndim - 2), weight.shape[-1])
        scaled = weight.reshape(groups, len(weight) // groups, *weight.shape[1:]) * inverse
        params[name]["weight"] = scaled.reshape(weight.shape)
