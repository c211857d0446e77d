"""Channels taken out of a network through everything that they reach: residual sums, concatenations, depthwise layers.

`channel_map` finds what can be removed and what goes with it, `remove` does so, `mask` zeroes instead: the pruned graph
computes what the masked one computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from dnnc.compress.surgery_cut import cut
from dnnc.compress.surgery_held import carried, zeroed
from dnnc.compress.surgery_ties import PINNED, Slots, tie
from dnnc.ir.graph import Graph, Node, freeze
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.movement import Constant

Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Group:
    """Channels that one kind of structure shares; at least one of them stays.

    name: of the first layer that makes them. ids: one for each unit that can be removed by itself (channel 5 of a
    residual stage is one id in all its layers). producers: Conv2D and Dense nodes that make them; layers that only
    follow their input, such as depthwise ones, are not among them. consumers: Conv2D and Dense nodes that read them.
    """

    name: str
    ids: Ids
    producers: tuple[str, ...]
    consumers: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ChannelMap:
    """of: value name -> id of every position of its last axis; a flattened image repeats ids, -1 cannot be removed.

    groups: in the order of the graph; every id but -1 is in one of them. followers: layers with weights whose output
    channels are their input's (depthwise and grouped ones of which only whole groups can go). held: value name -> what
    each channel holds where its id is masked, float64; NaN for -1 and where it varies.
    """

    of: Mapping[str, Ids]
    groups: tuple[Group, ...]
    followers: frozenset[str]
    held: Mapping[str, NDArray[np.float64]]


def channel_map(graph: Graph) -> ChannelMap:
    """What of a float graph can be removed. Ids depend on the graph's structure alone, not on its weights.

    Graph inputs and outputs keep their channels, and so do those of Softmax, of means over channels and of a Transpose
    that moves them, and those that hold something else than 0 when masked where a padded convolution reads them.
    """
    return _map(graph, careful=True)


def _map(graph: Graph, careful: bool) -> ChannelMap:
    """careful: as if every layer read every channel, whatever its weights are."""
    ties = tie(graph)
    layers = [n for n in graph.nodes if isinstance(n.op, Conv2D | Dense) and n.name not in ties.followers]
    labels = ties.labels()
    stays = np.zeros(len(labels), np.bool_)  # by label
    stays[labels[PINNED]] = True
    made = np.zeros(len(labels), np.bool_)
    for node in layers:
        made[labels[ties.slots[node.name]]] = True
    stays |= ~made
    of = _numbered(ties.slots, labels, stays)
    holds = carried(graph, zeroed, {name: ids >= 0 for name, ids in of.items()})
    for node in layers:
        x = node.inputs[0]
        padded = isinstance(node.op, Conv2D) and any(node.op.padding)
        bad = (holds[x] != 0) if padded else np.isnan(holds[x])
        if not careful:
            bad = bad & read_columns(node)
        stays[labels[ties.slots[x][bad]]] = True
    of = _numbered(ties.slots, labels, stays)
    holds = {name: np.where(ids < 0, np.nan, holds[name]) for name, ids in of.items()}
    groups = _groups(of, [n.name for n in layers], [n.inputs[0] for n in layers])
    return ChannelMap(MappingProxyType(of), groups, frozenset(ties.followers), MappingProxyType(holds))


def read_columns(node: Node) -> NDArray[np.bool_]:
    """Of every input channel of a Conv2D or Dense node, whether some weight that is not 0 reads it."""
    weight = node.params["weight"]
    groups = node.op.groups if isinstance(node.op, Conv2D) else 1
    used: NDArray[np.bool_] = np.any(weight.reshape(groups, -1, weight.shape[-1]) != 0, axis=1).ravel()
    return used


def input_columns(graph: Graph, cmap: ChannelMap, consumer: str, id: int) -> Ids:
    """Where on the last axis of a layer's weight channel `id` is read: int64, empty where it is not.

    Of a grouped convolution, these columns are those of every group.
    """
    node = graph.by_name[consumer]
    return np.flatnonzero(cmap.of[node.inputs[0]][: node.params["weight"].shape[-1]] == id).astype(np.int64)


def output_rows(cmap: ChannelMap, producer: str, id: int) -> Ids:
    """Which output channels of a layer are channel `id`: int64, empty where none is."""
    return np.flatnonzero(cmap.of[producer] == id).astype(np.int64)


def remove(graph: Graph, ids: Iterable[int]) -> Graph:
    """The graph without those channels: it computes what `mask` does, up to the order of float sums.

    What a masked channel would hold besides 0 is added to its readers' biases. Raises ValueError where an id is not of
    this graph, or a group would lose its last channel.
    """
    cmap = channel_map(graph)
    return _without(graph, cmap, _checked(cmap, ids))


def _without(graph: Graph, cmap: ChannelMap, gone: Ids) -> Graph:
    if not len(gone):
        return graph
    kept = {name: ~np.isin(of, gone) for name, of in cmap.of.items()}
    return graph.with_nodes([cut(node, kept, cmap.held, cmap.followers) for node in graph.nodes]).verify()


def remove_unread(graph: Graph) -> Graph:
    """The graph without the channels that no weight reads; no value loses its last one. It computes the same."""
    cmap = _map(graph, careful=False)
    read: list[Ids] = []
    for node in graph.nodes:
        if isinstance(node.op, Conv2D | Dense) and node.name not in cmap.followers:
            read.append(cmap.of[node.inputs[0]][read_columns(node)])
    every = np.concatenate([np.zeros(0, np.int64), *(group.ids for group in cmap.groups)])
    gone = np.setdiff1d(every, np.concatenate([np.zeros(0, np.int64), *read]))
    for of in cmap.of.values():
        if np.isin(of, gone).all():
            gone = gone[gone != of[0]]
    return _without(graph, cmap, gone)


def mask(graph: Graph, ids: Iterable[int]) -> Graph:
    """The graph with weights and biases 0 where a layer makes one of those channels; constants likewise.

    Raises ValueError as `remove` does.
    """
    cmap = channel_map(graph)
    gone = _checked(cmap, ids)
    nodes = []
    for node in graph.nodes:
        dead = np.isin(cmap.of[node.name], gone)
        if dead.any() and isinstance(node.op, Conv2D | Dense | Constant):
            params = {k: np.array(v) for k, v in node.params.items()}
            if isinstance(node.op, Constant):
                params["value"][..., dead] = 0
            else:
                params["weight"][dead] = 0
                params["bias"][dead] = 0
            node = replace(node, params=freeze(params))
        nodes.append(node)
    return graph.with_nodes(nodes)


def _checked(cmap: ChannelMap, ids: Iterable[int]) -> Ids:
    gone = np.unique(np.array(list(ids), np.int64))
    known = np.concatenate([np.zeros(0, np.int64), *(g.ids for g in cmap.groups)])
    strange = np.setdiff1d(gone, known)
    if len(strange):
        raise ValueError(f"channel {strange[0]} is none that can be removed from this graph")
    for group in cmap.groups:
        if np.isin(group.ids, gone).all():
            raise ValueError(f"all {len(group.ids)} channels of '{group.name}' would be removed; one has to stay")
    return gone


def _numbered(slots: Mapping[str, Slots], labels: Slots, keep: NDArray[np.bool_]) -> dict[str, Ids]:
    """Slots to ids: classes in the order in which they appear, -1 for those that stay."""
    every = np.concatenate([np.zeros(0, np.int64), *(labels[s] for s in slots.values())])
    found, first = np.unique(every, return_index=True)
    ids = np.full(len(labels), -1, np.int64)
    order = found[np.argsort(first)]
    order = order[~keep[order]]
    ids[order] = np.arange(len(order))
    return {name: ids[labels[s]] for name, s in slots.items()}


def _groups(of: Mapping[str, Ids], layers: list[str], sources: list[str]) -> tuple[Group, ...]:
    """Ids that appear in the same values: no value is left empty where each group keeps one."""
    places: dict[int, list[str]] = {}
    for name, ids in of.items():
        for i in np.unique(ids[ids >= 0]).tolist():
            places.setdefault(i, []).append(name)
    together: dict[tuple[str, ...], list[int]] = {}
    for i in sorted(places):
        together.setdefault(tuple(places[i]), []).append(i)
    groups = []
    for values, members in together.items():
        producers = tuple(layer for layer in layers if layer in values)
        consumers = tuple(layer for layer, source in zip(layers, sources, strict=True) if source in values)
        groups.append(Group(producers[0], np.array(members, np.int64), producers, consumers))
    return tuple(groups)
