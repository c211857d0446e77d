"""Holistic filter pruning: costs against removal, budgets met together and exactly, gates, odd networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from digits import RELU, Net, trained
from dnnc.compress import METHODS, parse_method
from dnnc.compress.budget import accuracy, weight_count
from dnnc.compress.channel_gates import Gates
from dnnc.compress.cost_model import cost_model
from dnnc.compress.feed import ArrayFeed
from dnnc.compress.fit_budget import fit_budget
from dnnc.compress.hfp import Hfp
from dnnc.compress.method import Setting, Usage
from dnnc.compress.surgery import channel_map, remove
from dnnc.cost.loader import load_target
from dnnc.errors import DnncError, OptionError
from dnnc.ir.graph import Graph
from dnnc.ops.elementwise import Add
from dnnc.ops.movement import Concat, Reshape
from dnnc.ops.pool import ReduceMean
from dnnc.quantise.dataset import Dataset

quick = pytest.mark.quick
M7 = load_target("cortex-m7")


def residual(seed: int = 0) -> Graph:
    """Residual sum, depthwise and grouped layers, a concatenation and a flattened image, over [8, 8, 1]."""
    net = Net(8, 8, 1, seed=seed)
    x = net.conv("stem", "x", 12)
    y = net.conv("a", x, 8)
    y = net.conv("b", y, 12)
    x = net.add("sum", Add(), [x, y])
    d = net.conv("dw", x, 12, groups=12, stride=(2, 2))
    e = net.conv("grouped", x, 8, groups=2, stride=(2, 2))
    x = net.add("both", Concat(axis=2), [d, e])
    x = net.conv("last", x, 6, kernel=1)
    x = net.add("flat", Reshape((96,)), [x])
    return net.graph(net.dense("fc", x, 5))


def setting(data: Dataset, held_out: Dataset | None = None, **changes: Any) -> Setting:
    return replace(Setting(ArrayFeed(data), data, held_out, M7), **changes)


def digits_setting() -> tuple[Graph, Setting, Dataset]:
    graph, data, unseen = trained()
    seen, held_out = data.halves()
    return graph, setting(seen, held_out), unseen


def pretended(graph: Graph) -> Usage:
    """A target whose kernels compute four channels at a time."""

    def tiles(count: int) -> int:
        return -(-count // 4) * 4

    cycles = {}
    for node in graph.nodes:
        weight = node.params.get("weight")
        if weight is None:
            cycles[node.name] = node.type.size
            continue
        positions = node.type.size // node.type.shape[-1]
        taps = weight.size // len(weight) // weight.shape[-1]
        cycles[node.name] = positions * tiles(len(weight)) * (taps * tiles(weight.shape[-1]) + 5) + 50
    flash = sum(p.size for n in graph.nodes for p in n.params.values()) + 3000
    return Usage(flash, 0, sum(cycles.values()) + 20, cycles)


@quick
@pytest.mark.parametrize("seed", range(4))
def test_parameters_and_multiplications_are_those_of_the_network_without_the_channels(seed: int) -> None:
    graph = residual()
    cmap = channel_map(graph)
    rng = np.random.default_rng(seed)
    gone = np.concatenate([rng.permutation(g.ids)[: rng.integers(0, len(g.ids))] for g in cmap.groups])
    model = cost_model(graph, cmap)
    gates = torch.ones(model.channels)
    gates[torch.from_numpy(gone)] = 0
    left = remove(graph, gone.tolist())
    cost = model.cost(gates)
    assert int(cost["macs"]) == left.macs
    assert int(cost["params"]) == sum(n.params[k].size for n in left.nodes for k in ("weight", "bias") if k in n.params)


@quick
def test_a_measurement_sets_the_model_right_and_it_then_predicts_other_widths() -> None:
    graph = residual()
    cmap = channel_map(graph)
    model = cost_model(graph, cmap)
    assert set(model.cost(torch.ones(model.channels))) == {"params", "macs"}
    usage = pretended(graph)
    model = model.calibrated(torch.ones(model.channels), usage)
    cost = model.cost(torch.ones(model.channels))
    assert float(cost["cycles"]) == pytest.approx(usage.cycles, rel=1e-4)
    assert float(cost["flash_bytes"]) == pytest.approx(usage.flash_bytes, abs=1)
    gone = [int(i) for g in cmap.groups for i in g.ids[: len(g.ids) // 8 * 4]]
    gates = torch.ones(model.channels)
    gates[gone] = 0
    found = pretended(remove(graph, gone))
    assert float(model.cost(gates)["cycles"]) == pytest.approx(found.cycles, rel=0.1)


@quick
@pytest.mark.parametrize("seed", range(3))
def test_the_quick_ways_to_costs_and_gradients_agree_with_autograd(seed: int) -> None:
    graph = residual()
    cmap = channel_map(graph)
    model = cost_model(graph, cmap)
    model = model.calibrated(torch.ones(model.channels), pretended(graph))
    keep = np.random.default_rng(seed).random(model.channels) < 0.7
    gates = torch.tensor(keep, dtype=torch.float64, requires_grad=True)
    cost, exact, slopes = model.cost(gates), model.exact(keep), model.slopes(keep)
    assert set(cost) == set(exact) == set(slopes) == {"params", "macs", "flash_bytes", "cycles"}
    for name, value in cost.items():
        (slope,) = torch.autograd.grad(value, gates, retain_graph=True)
        assert exact[name] == pytest.approx(float(value.detach()))
        np.testing.assert_allclose(slopes[name], slope.numpy(), rtol=1e-9)


@quick
def test_costs_have_gradients_and_costlier_channels_larger_ones() -> None:
    net = Net(8, 8, 1)
    x = net.conv("wide", "x", 8)
    x = net.conv("narrow", x, 8, stride=(4, 4))
    x = net.add("mean", ReduceMean(axes=(0, 1)), [x])
    graph = net.graph(net.dense("fc", x, 3))
    cmap = channel_map(graph)
    model = cost_model(graph, cmap)
    gates = torch.ones(model.channels, requires_grad=True)
    model.cost(gates)["macs"].backward()  # type: ignore[no-untyped-call]
    assert gates.grad is not None
    slope = {g.name: gates.grad[g.ids] for g in cmap.groups}
    # a channel of the first layer: its own 64 * 9 products and those of the second layer that read it, 4 * 9 * 8
    assert slope["wide"].tolist() == [64 * 9 + 4 * 9 * 8] * 8
    assert slope["narrow"].tolist() == [4 * 9 * 8 + 3] * 8


@quick
def test_two_budgets_are_met_at_once_to_within_a_per_cent_and_by_the_channels_of_least_value() -> None:
    net = Net(16, 16, 3)
    x = net.conv("a", "x", 48)
    x = net.conv("b", x, 64, stride=(2, 2))
    x = net.conv("c", x, 96, stride=(2, 2))
    x = net.add("mean", ReduceMean(axes=(0, 1)), [x])
    graph = net.graph(net.dense("fc", x, 10))
    cmap = channel_map(graph)
    model = cost_model(graph, cmap)
    values = np.random.default_rng(0).random(model.channels)
    whole = model.cost(torch.ones(model.channels))
    limits = {"params": 0.4 * float(whole["params"]), "macs": 0.4 * float(whole["macs"])}
    fit = fit_budget(values, model, cmap.groups, limits)
    assert fit.met and fit.tight
    left = remove(graph, np.flatnonzero(~fit.keep).tolist())
    assert 0.99 * 0.4 <= left.macs / graph.macs <= 0.4
    assert 0.99 * 0.4 <= weight_count(left) / weight_count(graph) <= 0.4
    for group in cmap.groups:
        kept = fit.keep[group.ids]
        if kept.any() and not kept.all():
            assert values[group.ids][kept].min() >= np.sort(values[group.ids])[len(kept) - kept.sum()] - 1e-12
    tiles = fit_budget(values, model, cmap.groups, {"macs": limits["macs"]}, tile=4)
    assert tiles.tight and sum(int(tiles.keep[g.ids].sum()) % 4 != 0 for g in cmap.groups) <= 1


@quick
def test_a_budget_below_one_channel_everywhere_is_not_met_and_says_so() -> None:
    graph = residual()
    cmap = channel_map(graph)
    model = cost_model(graph, cmap)
    fit = fit_budget(np.ones(model.channels), model, cmap.groups, {"params": 10.0})
    assert not fit.met and fit.used["params"] > 1
    assert all(fit.keep[g.ids].any() for g in cmap.groups)


@quick
def test_a_closed_gate_takes_its_channel_out_of_all_layers_that_share_it() -> None:
    graph = residual()
    gates = Gates(graph, {"params": 100.0}, "gates", 1)
    ids = gates.cmap.of["sum"]
    gates.open[int(ids[3])] = 0
    shapes = {"weight": 12, "gamma": 12, "beta": 12, "bias": 12}
    params = {
        name: {k: torch.ones(len(node.params["weight"]), *(3,) * (k == "weight")) for k in shapes}
        for name, node in graph.by_name.items()
        if "weight" in node.params
    }
    found = gates.params(params, 0.5)
    # the grouped layer's groups stay equal, so channel 9 is channel 3
    for name in ("stem", "b", "dw"):
        assert np.flatnonzero((found[name]["gamma"] == 0).numpy()).tolist() == [3, 9]
        assert np.flatnonzero((found[name]["beta"] == 0).numpy()).tolist() == [3, 9]
    assert found["a"]["gamma"].sum() == 8


@pytest.mark.parametrize("rule", ["taylor", "gates"])
def test_params_and_macs_of_a_trained_network_are_hit_together(rule: Any) -> None:
    graph, given, unseen = digits_setting()
    method = Hfp(params=0.5, macs=0.5, epochs=4, finetune=10, rule=rule)
    found = method.apply(graph, given)
    assert found.missed is None
    assert 0.47 <= weight_count(found.graph) / weight_count(graph) <= 0.5  # a channel is 1.5 % of so small a network
    assert 0.47 <= found.graph.macs / graph.macs <= 0.5
    assert accuracy(found.graph, unseen) >= accuracy(graph, unseen) - 6
    assert any("channels left" in note for note in found.notes)


def test_measured_budgets_are_met_as_measured() -> None:
    graph, given, _ = digits_setting()
    whole = pretended(graph)
    cycles, flash = int(0.6 * whole.cycles), int(0.8 * whole.flash_bytes)
    given = replace(given, measure=pretended)
    found = Hfp(cycles=cycles, flash_bytes=flash, epochs=2, finetune=0).apply(graph, given)
    left = pretended(found.graph)
    assert found.missed is None and left.cycles <= cycles and left.flash_bytes <= flash
    assert max(left.cycles / cycles, left.flash_bytes / flash) > 0.85


def test_the_same_seed_gives_the_same_network_and_unlabelled_data_will_do() -> None:
    graph, given, _ = digits_setting()
    bare = Dataset({k: v[:300] for k, v in given.sample.inputs.items()})
    graphs = [Hfp(params=0.6, epochs=1, finetune=1).apply(graph, setting(bare)).graph for _ in range(2)]
    for a, b in zip(graphs[0].nodes, graphs[1].nodes, strict=True):
        assert all(np.array_equal(a.params[k], b.params[k]) for k in a.params)
    assert weight_count(graphs[0]) <= 0.6 * weight_count(graph)


def test_training_that_was_interrupted_goes_on_where_gates_were(tmp_path: Path) -> None:
    graph, given, _ = digits_setting()
    method = Hfp(params=0.6, epochs=2, finetune=1)
    once = method.apply(graph, given)
    stored = replace(given, checkpoint=tmp_path)
    for _ in range(2):  # the second time, all epochs are there already
        again = method.apply(graph, stored)
        assert again.notes == once.notes
        for a, b in zip(once.graph.nodes, again.graph.nodes, strict=True):
            assert all(np.array_equal(a.params[k], b.params[k]) for k in a.params)


def test_a_network_of_many_structures_goes_through() -> None:
    graph = residual()
    rng = np.random.default_rng(0)
    data = Dataset({"x": rng.random((256, 8, 8, 1)).astype(np.float32)}, rng.integers(0, 5, 256))
    found = Hfp(params=0.5, macs=0.5, epochs=3, finetune=1).apply(graph, setting(data))
    assert found.missed is None
    assert [n.name for n in found.graph.nodes] == [n.name for n in graph.nodes]
    assert found.graph.macs <= 0.5 * graph.macs


def test_accuracy_alone_bounds_how_far_it_goes() -> None:
    graph, given, _ = digits_setting()
    held_out = given.held_out
    assert held_out is not None
    found = Hfp(max_drop=2.0, epochs=2, finetune=3).apply(graph, given)
    assert accuracy(found.graph, held_out) >= accuracy(graph, held_out) - 2.0
    assert weight_count(found.graph) < weight_count(graph)


@quick
def test_options() -> None:
    assert METHODS["hfp"] is Hfp
    assert parse_method("hfp{macs=0.4,params=0.4}") == Hfp(macs=0.4, params=0.4)
    for text in (
        "hfp{macs=0}",
        "hfp{params=1.5}",
        "hfp{epochs=0}",
        "hfp{finetune=-1}",
        "hfp{rule=magic}",
        "hfp{mac=1}",
    ):
        with pytest.raises(OptionError):
            parse_method(text)
    graph, given, _ = digits_setting()
    with pytest.raises(DnncError, match="emulated"):
        Hfp(cycles=1000).apply(graph, given)


@quick
def test_nothing_to_take_out_is_said() -> None:
    net = Net(6)
    graph = net.graph(net.dense("fc", "x", 3, clamp=RELU))
    data = Dataset({"x": np.zeros((64, 6), np.float32)}, np.zeros(64, np.int64))
    found = Hfp(params=0.5).apply(graph, setting(data))
    assert found.graph is graph and found.missed is not None and "params" in found.missed
