"""What every choice of widths costs on a target: the options of the layers, for `dnnc.quantise.programme`.

Cycles and energy are those of the target's cost model, layer by layer and width by width; a layer of several widths
pays every kernel that it calls. Flash is what the C back end packs (`dnnc.quantise.bytes`) for targets that dnnc writes
programs for, and what the model says for others. RAM is no sum: see `dnnc.quantise.bits.budgets`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dnnc.cost.estimate import CostModel, LayerCost
from dnnc.cost.layer import LayerWork, layers_of
from dnnc.ir.graph import Node
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


@runtime_checkable
class SharedCode(Protocol):
    """A cost model that knows the code that layers share."""

    def code_bytes(self, work: LayerWork) -> Mapping[str, int]:
        """The functions that a layer calls, and the flash that each takes once in a program."""


@dataclass(frozen=True, eq=False)
class Choices:
    """problem: for the solver; bits: of each linear item the widths [O] of every option's channels, by item and option.
    members: of each group of values.
    """

    problem: Problem
    bits: tuple[tuple[Bits, ...] | None, ...]
    members: Mapping[str, Sequence[str]]

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


def choices(
    calibration: Calibration,
    menu: Menu,
    fisher: Fisher,
    activation_widths: Sequence[int],
    model: CostModel | None,
    packed: bool,
) -> Choices:
    """All that can be chosen for a calibrated graph.

    activation_widths: on offer for every value; model: None where only flash is asked about. packed: whether flash is
    that of dnnc's own programs, else the model's.
    """
    graph, group_of = calibration.graph, calibration.ties.group_of
    offered = offered_widths(calibration, activation_widths)
    members = calibration.ties.members()
    made = {
        g: [v for v in vs if v not in graph.by_name or not graph.by_name[v].op.keeps_quant] for g, vs in members.items()
    }
    groups = {g: {b: sum(fisher.activations[v].get(b, 0.0) for v in made[g]) for b in offered[g]} for g in members}
    works = {work.name: work for work in layers_of(graph)}
    linear = {node.name: node for node in menu.nodes}
    items: list[Item] = []
    bits_of: list[tuple[Bits, ...] | None] = []
    charges: dict[str, int] = {}
    for node in graph.nodes:
        if node.name not in works or (model is None and node.name not in linear):
            continue
        rows: list[Bits | None] = [*_layer_bits(menu, node)] if node.name in linear else [None]
        losses = [0.0 if bits is None else _loss(menu, node, bits) for bits in rows]
        touched = list(dict.fromkeys(group_of[v] for v in (*node.inputs, node.name)))
        table = _Table(node, works[node.name], model, packed, group_of)
        found: list[tuple[float, tuple[float, ...], dict[str, int], frozenset[str], Bits | None]] = []
        for combination in itertools.product(*(offered[g] for g in touched)):
            widths = dict(zip(touched, combination, strict=True))
            for bits, loss in zip(rows, losses, strict=True):
                costs, code = table.costs(bits, widths)
                charges |= code
                found.append((loss, costs, widths, frozenset(code), bits))
        items.append(
            Item(
                node.name,
                np.array([f[0] for f in found]),
                np.array([f[1] for f in found]),
                # Widths that nothing chooses tie no one.
                tuple({g: b for g, b in f[2].items() if len(offered[g]) > 1} for f in found),
                tuple(f[3] for f in found),
            )
        )
        bits_of.append(tuple(f[4] for f in found if f[4] is not None) or None)
    base = np.zeros(len(RESOURCES))
    if packed:
        base[0] = other_bytes(graph, max(max(o) for o in offered.values()))
    once = {kernel: np.array([float(size), 0.0, 0.0]) for kernel, size in sorted(charges.items())}
    return Choices(Problem(RESOURCES, tuple(items), groups, once, base), tuple(bits_of), members)


@dataclass(frozen=True, eq=False)
class _Table:
    """Costs of one layer at any widths."""

    node: Node
    work: LayerWork
    model: CostModel | None
    packed: bool
    group_of: Mapping[str, str]

    def costs(self, bits: Bits | None, widths: Mapping[str, int]) -> tuple[tuple[float, ...], dict[str, int]]:
        """(of each of RESOURCES, code that the layer calls)."""
        flash = float(linear_bytes(self.node, bits)) if self.packed and bits is not None else 0.0
        if self.model is None:
            return (flash, 0.0, 0.0), {}
        counts = () if bits is None else tuple(sorted(Counter(bits.tolist()).items(), reverse=True))
        work = replace(
            self.work,
            channel_bits=counts,
            input_bits=tuple(widths[self.group_of[v]] for v in self.node.inputs),
            output_bits=widths[self.group_of[self.node.name]],
        )
        cost: LayerCost = self.model.layer(work)
        code = dict(self.model.code_bytes(work)) if isinstance(self.model, SharedCode) else {}
        energy = sum(cost.energy_pj.values()) * 1e-6
        return (flash if self.packed else float(cost.flash_bytes), float(cost.cycles), energy), code


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
