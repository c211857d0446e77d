"""What every choice of widths costs on a target: the options of the layers, for `dnnc.quantise.programme`.

Cycles and energy are those of the target's cost model, layer by layer and width by width; a layer of several widths
pays every kernel that it calls. Flash is what the C back end packs (`dnnc.quantise.bytes`) for targets that dnnc writes
programs for, and what the model says for others. RAM is no sum: see `dnnc.quantise.bits.budgets`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dnnc.cost.estimate import CostModel, LayerCost, NetworkCost
from dnnc.cost.layer import LayerWork, layers_of
from dnnc.ir.graph import Graph, Node
from dnnc.ops.movement import Reshape
from dnnc.quantise.bits.activations import width_limits
from dnnc.quantise.bytes import linear_bytes, other_bytes
from dnnc.quantise.calibrate import Calibration
from dnnc.quantise.fisher import Fisher
from dnnc.quantise.menu import Menu
from dnnc.quantise.programme import Item, Problem

Bits = NDArray[np.uint8]

#: What is spent, as the policy's options are called; milliseconds are cycles.
RESOURCES = ("flash_bytes", "cycles", "energy_uj")
#: Of a pair of widths in one layer so many splits of its channels are offered, and solutions at so many prices.
_SPLITS, _PRICES = 8, 24


@dataclass(frozen=True)
class Spent:
    """What one layer takes, and the code that it shares with others: bytes of flash by name, once in a program."""

    cost: LayerCost
    code: Mapping[str, int] = field(default_factory=dict)


class Source(Protocol):
    """What a calibrated graph costs on one target, whatever its widths: weights by node [O], values by name."""

    @property
    def clock_hz(self) -> int: ...

    @property
    def knows_code(self) -> bool:
        """Whether flash is that of the whole program, code and all."""

    def layers(self, bits: Mapping[str, Bits], widths: Mapping[str, int]) -> Mapping[str, Spent]:
        """Of every layer by itself; those are left out that the target cannot compute so, or no one knows of."""

    def network(self, bits: Mapping[str, Bits], widths: Mapping[str, int]) -> NetworkCost:
        """Of all of them together."""


@dataclass(frozen=True, eq=False)
class LayerModel:
    """A Source made of a target's cost model."""

    graph: Graph
    model: CostModel

    @property
    def clock_hz(self) -> int:
        return self.model.clock_hz

    @property
    def knows_code(self) -> bool:
        return False

    def layers(self, bits: Mapping[str, Bits], widths: Mapping[str, int]) -> Mapping[str, Spent]:
        return {work.name: Spent(self.model.layer(work)) for work in self._works(bits, widths)}

    def network(self, bits: Mapping[str, Bits], widths: Mapping[str, int]) -> NetworkCost:
        return self.model.network(self._works(bits, widths))

    def _works(self, bits: Mapping[str, Bits], widths: Mapping[str, int]) -> tuple[LayerWork, ...]:
        return layers_of(self.graph, {name: row.tolist() for name, row in bits.items()}, widths)


@dataclass(frozen=True, eq=False)
class Choices:
    """problem: for the solver; bits: of each linear item the widths [O] of every option's channels, by item and option.
    members: of each group of values; widths: of weights, on offer.
    """

    problem: Problem
    bits: tuple[tuple[Bits, ...] | None, ...]
    members: Mapping[str, Sequence[str]]
    widths: tuple[int, ...]

    def decided(self, options: Sequence[int], widths: Mapping[str, int]) -> tuple[dict[str, Bits], dict[str, int]]:
        """(bits by node, bits by value) of a solution."""
        pairs = zip(self.problem.items, self.bits, options, strict=True)
        weights = {item.name: bits[option] for item, bits, option in pairs if bits is not None}
        values = {v: widths[group] for group, members in self.members.items() for v in members}
        return weights, values


def offered_widths(calibration: Calibration, widths: Sequence[int]) -> dict[str, list[int]]:
    """Of every group of values those of `widths` that it may have."""
    found = {}
    for group, members in calibration.ties.members().items():
        least, most = width_limits(calibration, group, members)
        inside = [b for b in widths if least <= b <= most]
        found[group] = inside or [min(max(max(widths), least), most)]
    return found


@dataclass(eq=False)
class _Layer:
    """A node while its options are being costed. bits: of each option; combinations: the widths of the groups that it
    touches, all of them; spent: by (option, combination).
    """

    node: Node
    bits: list[Bits | None]
    losses: list[float]
    touched: list[str]
    combinations: list[dict[str, int]]
    spent: dict[tuple[int, int], Spent]


def choices(
    calibration: Calibration,
    menu: Menu,
    fisher: Fisher,
    activation_widths: Sequence[int],
    source: Source | None,
    packed: bool,
) -> Choices:
    """All that can be chosen for a calibrated graph.

    activation_widths: on offer for every value; source: None where only flash is asked about. packed: whether flash is
    that of dnnc's own programs, else the source's.
    """
    graph, members = calibration.graph, calibration.ties.members()
    offered = offered_widths(calibration, activation_widths)
    # What a whole program takes is known better than by the rules for constants alone.
    packed = packed and (source is None or not source.knows_code)
    layers = _layers(calibration, menu, offered, source is not None)
    if source is not None:
        for values, rows, places in _rounds(layers, offered, members):
            found = source.layers(rows, values)
            for layer in layers:
                if layer.node.name in places and layer.node.name in found:
                    layer.spent[places[layer.node.name]] = found[layer.node.name]
    items: list[Item] = []
    bits_of: list[tuple[Bits, ...] | None] = []
    charges: dict[str, int] = {}
    for layer in layers:
        item, bits, code = _item(layer, offered, packed, source is not None)
        items.append(item)
        bits_of.append(bits)
        charges |= code
    made = {
        g: [v for v in vs if v not in graph.by_name or not graph.by_name[v].op.keeps_quant] for g, vs in members.items()
    }
    groups = {g: {b: sum(fisher.activations[v].get(b, 0.0) for v in made[g]) for b in offered[g]} for g in members}
    base = np.zeros(len(RESOURCES))
    if packed:
        base[0] = other_bytes(graph, max(max(o) for o in offered.values()))
    once = {kernel: np.array([float(size), 0.0, 0.0]) for kernel, size in sorted(charges.items())}
    return Choices(Problem(RESOURCES, tuple(items), groups, once, base), tuple(bits_of), members, tuple(menu.widths))


def _layers(calibration: Calibration, menu: Menu, offered: Mapping[str, list[int]], costed: bool) -> list[_Layer]:
    """The nodes that cost anything: without a source those with weights."""
    graph, group_of = calibration.graph, calibration.ties.group_of
    linear = {node.name for node in menu.nodes}
    found = []
    for node in graph.nodes:
        if isinstance(node.op, Reshape) or (not costed and node.name not in linear):
            continue
        rows: list[Bits | None] = [*_layer_bits(menu, node)] if node.name in linear else [None]
        losses = [0.0 if bits is None else _loss(menu, node, bits) for bits in rows]
        touched = list(dict.fromkeys(group_of[v] for v in (*node.inputs, node.name)))
        every = itertools.product(*(offered[g] for g in touched))
        combinations = [dict(zip(touched, widths, strict=True)) for widths in every]
        found.append(_Layer(node, rows, losses, touched, combinations, {}))
    return found


_Round = tuple[dict[str, int], dict[str, Bits], dict[str, tuple[int, int]]]


def _rounds(
    layers: Sequence[_Layer], offered: Mapping[str, list[int]], members: Mapping[str, Sequence[str]]
) -> Iterator[_Round]:
    """Whole networks, few of them, such that every option of every layer is in one: (widths of values, bits by node,
    (option, combination) by node).
    """
    pending = {
        id(layer): dict.fromkeys((o, c) for c in range(len(layer.combinations)) for o in range(len(layer.bits)))
        for layer in layers
    }
    while any(pending.values()):
        groups: dict[str, int] = {}
        places: dict[str, tuple[int, int]] = {}
        rows: dict[str, Bits] = {}
        for layer in sorted(layers, key=lambda one: -len(pending[id(one)])):
            fits = [c for c, of in enumerate(layer.combinations) if all(groups.get(g, w) == w for g, w in of.items())]
            open_ones = (place for place in pending[id(layer)] if place[1] in fits)
            place = next(open_ones, (0, fits[0]))
            pending[id(layer)].pop(place, None)
            groups.update(layer.combinations[place[1]])
            places[layer.node.name] = place
            bits = layer.bits[place[0]]
            if bits is not None:
                rows[layer.node.name] = bits
        yield {v: groups.get(g, offered[g][0]) for g, vs in members.items() for v in vs}, rows, places


def _item(
    layer: _Layer, offered: Mapping[str, list[int]], packed: bool, costed: bool
) -> tuple[Item, tuple[Bits, ...] | None, dict[str, int]]:
    """Options of a layer that are known, the bits of each, and the code that any of them calls."""
    losses, costs, widths, kernels, rows = [], [], [], [], []
    code: dict[str, int] = {}
    for option, (bits, loss) in enumerate(zip(layer.bits, layer.losses, strict=True)):
        flash = float(linear_bytes(layer.node, bits)) if packed and bits is not None else 0.0
        for number, combination in enumerate(layer.combinations):
            spent = layer.spent.get((option, number))
            if costed and spent is None:
                continue
            cost = None if spent is None else spent.cost
            energy = 0.0 if cost is None else sum(cost.energy_pj.values()) * 1e-6
            stored = flash if packed or cost is None else float(cost.flash_bytes)
            losses.append(loss)
            costs.append((stored, 0.0 if cost is None else float(cost.cycles), energy))
            # Widths that nothing chooses tie no one.
            widths.append({g: b for g, b in combination.items() if len(offered[g]) > 1})
            kernels.append(frozenset(() if spent is None else spent.code))
            code |= {} if spent is None else dict(spent.code)
            if bits is not None:
                rows.append(bits)
    item = Item(
        layer.node.name, np.array(losses), np.array(costs).reshape(-1, len(RESOURCES)), tuple(widths), tuple(kernels)
    )
    return item, tuple(rows) or None, code


def _loss(menu: Menu, node: Node, bits: Bits) -> float:
    columns = np.searchsorted(menu.widths, bits)
    return float(menu.losses[node.name][np.arange(len(bits)), columns].sum())


def _layer_bits(menu: Menu, node: Node) -> list[Bits]:
    """The widths of a layer's channels that are on offer: one for all; by channel also every pair of widths, the
    channels that lose least by it taking the narrower, and what is best at each of some prices of a bit.
    """
    channels = len(node.params["weight"])
    found = [np.full(channels, width, np.uint8) for width in menu.widths]
    if menu.by_channel:
        found += _pairs(menu, node.name, channels)
        found += _priced(menu, node.name)
    unique = {bits.tobytes(): bits for bits in found}
    return list(unique.values())


def _pairs(menu: Menu, name: str, channels: int) -> Iterator[Bits]:
    """Splits lie at whole tiles of four channels, which leave no padding."""
    tiles = np.unique(np.linspace(0, channels // 4, _SPLITS + 2).astype(int))[1:]
    for narrow, wide in itertools.combinations(range(len(menu.widths)), 2):
        order = np.argsort(menu.losses[name][:, narrow] - menu.losses[name][:, wide], kind="stable")
        for count in (4 * int(t) for t in tiles if 0 < 4 * int(t) < channels):
            bits = np.full(channels, menu.widths[wide], np.uint8)
            bits[order[:count]] = menu.widths[narrow]
            yield bits


def _priced(menu: Menu, name: str) -> Iterator[Bits]:
    """At a price of a bit every channel takes its own best width."""
    losses, widths = menu.losses[name], np.array(menu.widths, np.uint8)
    positive = losses[losses > 0]
    if not len(positive):
        return
    for price in np.geomspace(float(positive.min()) / 8, float(positive.max()), _PRICES):
        yield widths[np.argmin(losses + price * widths[None].astype(float), axis=1)]
