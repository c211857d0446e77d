"""Widths within budgets of flash, RAM, cycles and energy: against enumeration, on targets made up for it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from digits import Net, images, network
from dnnc import build
from dnnc.cost.estimate import LayerCost, NetworkCost, summed
from dnnc.cost.layer import LayerWork, layers_of
from dnnc.cost.loader import load_target
from dnnc.errors import BudgetError, OptionError
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.bits import Fisher, parse_policy
from dnnc.quantise.bits.budgets import Allocator, live_bytes
from dnnc.quantise.bits.costing import LayerModel, Source, Spent, choices
from dnnc.quantise.bytes import linear_bytes, linear_nodes, other_bytes
from dnnc.quantise.calibrate import Calibration, calibrate
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.fisher import fisher
from dnnc.quantise.menu import Menu, menu
from dnnc.quantise.reasons import reasons

M7 = load_target("cortex-m7")
WIDTHS = (2, 4, 8)


@dataclass(frozen=True)
class Model:
    """A cost model made up: cycles of a product by the weights' width, calls, energy of every bit that moves."""

    of_product: Mapping[int, float]
    code: int = 0
    between_layers: int = 0

    @property
    def clock_hz(self) -> int:
        return 1_000_000

    def layer(self, work: LayerWork) -> LayerCost:
        channels = sum(n for _, n in work.channel_bits)
        each = work.macs / max(channels, 1)
        cycles = 100 * max(len(work.channel_bits), 1) + sum(each * n * self.of_product[b] for b, n in work.channel_bits)
        moved = work.total_weight_bits + work.total_input_bits + work.total_output_bits
        return LayerCost(
            work.name, work.op, int(cycles), energy_pj={"sram": float(moved)}, ram_bytes=work.live_bits // 8
        )

    def network(self, works: Sequence[LayerWork]) -> NetworkCost:
        return replace(summed(self.layer, works, self.clock_hz, ""), other_cycles=self.between_layers)


class WithCode(LayerModel):
    """A source that knows the kernels that layers share."""

    @property
    def knows_code(self) -> bool:
        return True

    def layers(self, bits: Mapping[str, Any], widths: Mapping[str, int]) -> Mapping[str, Spent]:
        kinds = {work.name: work.kind for work in layers_of(self.graph)}
        found = super().layers(bits, widths)
        code = self.model.code  # type: ignore[attr-defined]
        calls = {n: {f"{kinds[n]}_w{b}": code for b in set(bits[n].tolist())} if n in bits else {} for n in found}
        nodes = self.graph.by_name
        flash = {n: linear_bytes(nodes[n], bits[n]) if n in bits else 0 for n in found}
        return {name: Spent(replace(spent.cost, flash_bytes=flash[name]), calls[name]) for name, spent in found.items()}

    def network(self, bits: Mapping[str, Any], widths: Mapping[str, int]) -> NetworkCost:
        flash = sum(linear_bytes(node, bits[node.name]) for node in linear_nodes(self.graph.nodes))
        code = {kernel: size for spent in self.layers(bits, widths).values() for kernel, size in spent.code.items()}
        whole = flash + other_bytes(self.graph, 8) + sum(code.values())
        return replace(super().network(bits, widths), other_flash_bytes=whole)


@dataclass(frozen=True)
class Made:
    """The programs of a calibration, at costs made up."""

    calibration: Calibration
    source: Source | None

    def arena(self, allocation: Allocation) -> int:
        return build.Programs(self.calibration, M7).arena(allocation)


FASTER = Model({2: 0.5, 3: 0.7, 4: 0.6, 5: 0.9, 6: 0.8, 8: 1.0})
SLOWER = Model({2: 2.0, 3: 2.0, 4: 1.8, 5: 1.6, 6: 1.4, 8: 1.0})


@lru_cache
def calibrated() -> tuple[Calibration, Dataset]:
    x, y = images()
    graph, half = network(), 192
    return calibrate(graph, Dataset({"x": x[:half]}, y[:half]), M7), Dataset(
        {"x": x[half : 2 * half]}, y[half : 2 * half]
    )


@lru_cache
def menus(by_channel: bool = False) -> Menu:
    calibration = calibrated()[0]
    return menu(calibration, fisher(calibration, calibration.dataset, (4, 8)), WIDTHS, by_channel)


def allocator(
    model: Model | None,
    activations: tuple[int, ...] = (8,),
    by_channel: bool = False,
    kind: type[LayerModel] = LayerModel,
) -> Allocator:
    calibration = calibrated()[0]
    source = None if model is None else kind(calibration.graph, model)
    information = fisher(calibration, calibration.dataset, (4, 8))
    offered = choices(calibration, menus(by_channel), information, activations, source, packed=True)
    return Allocator(calibration, offered, source, lambda _, widths: int(live_bytes(calibration.graph, widths).max()))


def allocated(text: str, model: Model | None) -> Allocation:
    calibration, held_out = calibrated()
    source = None if model is None else LayerModel(calibration.graph, model)
    return parse_policy(text).allocate(calibration, M7, held_out, programs=Made(calibration, source))


def everything(model: Model) -> list[tuple[float, float, float, float]]:
    """(loss, flash, cycles, energy) of every choice of one width a layer, activations of 8 bits."""
    calibration = calibrated()[0]
    graph, table = calibration.graph, menus()
    nodes = linear_nodes(graph.nodes)
    found = []
    for widths in itertools.product(WIDTHS, repeat=len(nodes)):
        bits = {n.name: np.full(len(n.params["weight"]), w, np.uint8) for n, w in zip(nodes, widths, strict=True)}
        cost = LayerModel(graph, model).network(bits, dict.fromkeys(graph.types, 8))
        flash = other_bytes(graph, 8) + sum(linear_bytes(n, bits[n.name]) for n in nodes)
        found.append((sum(table.loss(bits).values()), float(flash), float(cost.cycles), float(cost.energy_uj or 0)))
    return found


def test_as_good_as_enumeration_within_all_budgets() -> None:
    every = everything(FASTER)
    chooser = allocator(FASTER)
    low, high = (np.array(ends(axis)) for ends, axis in ((np.array(every).min, 0), (np.array(every).max, 0)))
    for shares in itertools.product((0.3, 1.0), repeat=3):
        most = low[1:] + np.array(shares) * (high[1:] - low[1:])
        fitting = [e[0] for e in every if np.all(np.array(e[1:]) <= most)]
        budgets = dict(zip(("flash_bytes", "cycles", "energy_uj"), most.tolist(), strict=True))
        found = chooser.least_loss(budgets)
        assert (found is None) == (not fitting)
        if found is not None:
            assert sum(menus().loss(found.bits).values()) == pytest.approx(min(fitting), rel=1e-6)
            assert all(found.costs[name] <= m for name, m in budgets.items())


def test_slow_widths_are_not_chosen_for_speed() -> None:
    """Where fewer bits are slower, a budget of cycles takes 8; where they are faster, fewer."""
    for model, narrow in ((SLOWER, False), (FASTER, True)):
        least = allocator(model).least_cost("cycles", {})
        assert least is not None
        assert all((set(bits.tolist()) <= {2}) == narrow for bits in least.bits.values())
        assert all((set(bits.tolist()) <= {8}) != narrow for bits in least.bits.values())


def test_uniform_widths_cost_what_they_cost_and_keep_to_budgets() -> None:
    calibration, chooser = calibrated()[0], allocator(FASTER)
    every = chooser.uniform({})
    assert [{int(b) for row in d.bits.values() for b in row} for d in every] == [{width} for width in WIDTHS]
    for decision in every:
        cost = LayerModel(calibration.graph, FASTER).network(decision.bits, decision.activation_bits)
        flash = sum(linear_bytes(n, decision.bits[n.name]) for n in linear_nodes(calibration.graph.nodes))
        assert decision.costs["cycles"] == cost.cycles
        assert decision.costs["flash_bytes"] == other_bytes(calibration.graph, 8) + flash
    assert len(chooser.uniform({"cycles": every[1].costs["cycles"]})) == 2


def test_what_comes_between_layers_counts() -> None:
    late = replace(FASTER, between_layers=5000)
    free, least = allocator(late).least_loss({}), allocator(late).least_cost("cycles", {})
    assert free is not None and least is not None
    middle = (free.costs["cycles"] + least.costs["cycles"]) / 2
    found = allocator(late).least_loss({"cycles": middle})
    same = allocator(FASTER).least_loss({"cycles": middle - 5000})
    assert found is not None and same is not None and found.costs["cycles"] <= middle
    assert all(np.array_equal(found.bits[n], same.bits[n]) for n in same.bits)


def test_ram_is_met_by_narrower_values_that_lose_least() -> None:
    calibration = calibrated()[0]
    graph, members = calibration.graph, calibration.ties.members()
    chooser = allocator(None, (4, 8))
    groups = chooser.choices.problem.groups
    every = []
    for widths in itertools.product(*(groups[g] for g in members)):
        of = dict(zip(members, widths, strict=True))
        values = {v: of[g] for g, vs in members.items() for v in vs}
        every.append((float(live_bytes(graph, values).max()), sum(groups[g][of[g]] for g in of)))
    for most in sorted({e[0] for e in every}):
        found = chooser.least_loss({"ram_bytes": most})
        assert found is not None and found.costs["ram_bytes"] <= most
        of = {g: found.activation_bits[vs[0]] for g, vs in members.items()}
        assert sum(groups[g][of[g]] for g in of) == pytest.approx(min(e[1] for e in every if e[0] <= most), abs=1e-9)
    assert chooser.least_loss({"ram_bytes": min(e[0] for e in every) - 1}) is None


def test_channels_lose_no_more_than_layers() -> None:
    layers, channels = allocator(FASTER), allocator(FASTER, by_channel=True)
    least, most = layers.least_cost("flash_bytes", {}), layers.least_loss({})
    assert least is not None and most is not None
    for share in (0.1, 0.4, 0.8):
        flash = least.costs["flash_bytes"] + share * (most.costs["flash_bytes"] - least.costs["flash_bytes"])
        one, many = layers.least_loss({"flash_bytes": flash}), channels.least_loss({"flash_bytes": flash})
        assert one is not None and many is not None and many.costs["flash_bytes"] <= flash
        assert sum(menus().loss(many.bits).values()) <= sum(menus().loss(one.bits).values()) * (1 + 1e-9)


def kernels(bits: Mapping[str, np.ndarray]) -> int:  # type: ignore[type-arg]
    """How many kinds of kernels a choice of one width a layer calls: a width of a kind of layer each."""
    kinds = {"c1": "conv", "c2": "conv", "dw": "depthwise", "fc": "dense"}
    return len({(kinds[name], int(row[0])) for name, row in bits.items()})


def test_code_counts_once_for_each_kernel() -> None:
    """As enumeration finds it; the two convolutions share a width where the code of a second one is dear."""
    code = 600
    calibration, table = calibrated()[0], menus()
    nodes = linear_nodes(calibration.graph.nodes)
    every = []
    for widths in itertools.product(WIDTHS, repeat=len(nodes)):
        bits = {n.name: np.full(len(n.params["weight"]), w, np.uint8) for n, w in zip(nodes, widths, strict=True)}
        flash = other_bytes(calibration.graph, 8) + sum(linear_bytes(n, bits[n.name]) for n in nodes)
        every.append((sum(table.loss(bits).values()), flash + code * kernels(bits), len({widths[0], widths[2]})))
    chooser = allocator(Model(FASTER.of_product, code), kind=WithCode)
    shared = set()
    for most in np.linspace(min(e[1] for e in every), max(e[1] for e in every), 9):
        best = min((e for e in every if e[1] <= most), key=lambda e: e[0])
        found = chooser.least_loss({"flash_bytes": float(most)})
        assert found is not None and found.costs["flash_bytes"] <= most
        assert sum(table.loss(found.bits).values()) == pytest.approx(best[0], rel=1e-6)
        shared.add(best[2])
    assert 1 in shared


# --- the policy ---


@pytest.mark.quick
@pytest.mark.parametrize(
    "text",
    [
        "fisher{flash_bytes=60000,cycles=8e+06}",
        "fisher{max_drop=0.5,minimise=cycles}",
        "fisher{ram_bytes=4000,milliseconds=3.5,energy_uj=20,activation_group=value}",
    ],
)
def test_printed_and_read_back(text: str) -> None:
    assert parse_policy(str(parse_policy(text))) == parse_policy(text)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fisher{average=4,cycles=100}", "takes one budget, found average and cycles"),
        ("fisher{average=4,minimise=cycles}", "takes one budget, found average and minimise"),
        ("fisher{cycles=-1}", "'cycles' expects a number >= 0"),
        ("fisher{minimise=cycle}", "did you mean 'cycles'"),
        ("fisher{activation_average=6,cycles=100}", "activation_average goes with average, flash_bytes or max_drop"),
    ],
)
def test_mistakes_are_explained(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse_policy(text)


def test_without_a_model_there_are_no_cycles() -> None:
    with pytest.raises(OptionError, match="what cycles a layer takes on target 'cortex-m7' is not known"):
        allocated("fisher{cycles=1000}", None)


def test_budgets_of_the_policy_hold() -> None:
    calibration = calibrated()[0]
    free = allocated("fisher{cycles=1e9}", FASTER)
    assert {int(b) for bits in free.weight_bits.values() for b in bits} == {8}

    def cycles(found: Allocation) -> float:
        bits = {k: np.asarray(v) for k, v in found.weight_bits.items()}
        return LayerModel(calibration.graph, FASTER).network(bits, dict(found.activation_bits)).cycles

    most = int(0.8 * cycles(free))
    for text in (f"fisher{{cycles={most}}}", f"fisher{{milliseconds={most / 1000}}}"):
        found = allocated(text, FASTER)
        assert cycles(found) <= most and found.predicted_loss > free.predicted_loss
        assert "predicted to take" in found.notes[0]


def test_ram_of_the_policy_is_the_planners() -> None:
    net = Net(16, 16, 4)
    first = net.conv("first", "x", 16)
    last = net.conv("last", net.conv("middle", first, 16), 8, stride=(2, 2))
    graph = net.graph(last)
    data = Dataset({"x": np.random.default_rng(0).normal(size=(32, 16, 16, 4)).astype(np.float32)})
    calibration = calibrate(graph, data, M7)
    made = Made(calibration, None)
    arena = made.arena

    def of(text: str) -> Allocation:
        return parse_policy(text).allocate(calibration, M7, programs=made)

    wide, least = arena(of("uniform{activations=16}")), arena(of("uniform{activations=4}"))
    found = of(f"fisher{{ram_bytes={(2 * wide + arena(of('int8'))) // 3},activations=16}}")
    assert arena(of("int8")) <= arena(found) < wide and len(set(found.activation_bits.values())) > 1
    assert set(of(f"fisher{{ram_bytes={wide},activations=16}}").activation_bits.values()) == {16}
    assert of("fisher{minimise=ram_bytes}").activation_bits["first"] <= 8
    with pytest.raises(BudgetError, match=f"ram_bytes=10 cannot be met: RAM takes at least {least:,} bytes.*; layer '"):
        of("fisher{ram_bytes=10}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "fisher{cycles=10}",
            "cycles=10 cannot be met: time takes at least [0-9,]+ cycles, which would do; layer 'c2' a",
        ),
        ("fisher{energy_uj=0}", "energy_uj=0 cannot be met: energy takes at least [0-9.]+ microjoules"),
        ("fisher{flash_bytes=10,cycles=1e9}", "flash_bytes=10 cannot be met: flash takes at least [0-9,]+ bytes"),
    ],
)
def test_impossible_budgets_say_what_would_do(text: str, message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        allocated(text, FASTER)


def test_budgets_that_only_conflict_are_named_together() -> None:
    """Narrow weights are small and, here, slow: either budget can be met, not both."""
    chooser = allocator(SLOWER)
    small, fast = chooser.least_cost("flash_bytes", {}), chooser.least_cost("cycles", {})
    assert small is not None and fast is not None
    with pytest.raises(BudgetError, match="cannot be met together with cycles="):
        chooser.within({"flash_bytes": small.costs["flash_bytes"], "cycles": fast.costs["cycles"]})


def test_the_fastest_network_that_is_accurate_enough() -> None:
    fast = allocated("fisher{max_drop=100,minimise=cycles}", FASTER)
    slow = allocated("fisher{max_drop=100,minimise=cycles}", SLOWER)
    assert {int(b) for bits in slow.weight_bits.values() for b in bits} == {8}
    assert max(int(b) for bits in fast.weight_bits.values() for b in bits) < 8
    assert "network of least time found" in fast.notes[0]
    assert Fisher(max_drop=100, minimise="cycles").minimise == "cycles"


def test_reasons_are_losses_bytes_and_cycles_against_8_bits() -> None:
    graph = calibrated()[0].graph
    for model, sign in ((FASTER, 1), (SLOWER, -1)):
        found = allocated("fisher{flash_bytes=3300}", None)
        why = {r.layer: r for r in reasons(graph, found, LayerModel(graph, model))}
        assert set(why) == {n.name for n in linear_nodes(graph.nodes)}
        for name, reason in why.items():
            assert reason.loss == found.sensitivity[name] and reason.bits == np.mean(found.weight_bits[name])
            assert (reason.bits == 8) == (reason.bytes_saved == 0) == (reason.cycles_saved == 0)
            assert reason.cycles_saved is not None and reason.cycles_saved * sign >= 0
            assert reason.narrower_loss is None or reason.narrower_loss >= reason.loss
        assert any(reason.bits < 8 for reason in why.values())
    assert all(r.cycles_saved is None for r in reasons(graph, found, None))
    assert reasons(graph, allocated("int8", None), None) == ()
