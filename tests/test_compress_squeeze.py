"""Squeezing: what is redundant goes without a trace, budgets are met, and readers make up for what goes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from digits import Net, network, trained
from dnnc.compress import parse_method, subset
from dnnc.compress.absorb import Choice, Squeezer, linear_layers
from dnnc.compress.budget import accuracy, weight_count
from dnnc.compress.collect import Pair, Values, output_metrics, paired_rows
from dnnc.compress.feed import ArrayFeed
from dnnc.compress.method import Setting, Usage
from dnnc.compress.squeeze import Squeeze
from dnnc.compress.surgery import channel_map, remove
from dnnc.compress.widths import Costs, convex, walk
from dnnc.cost.loader import load_target
from dnnc.errors import OptionError
from dnnc.evaluate import evaluate, evaluate_batches, parameters
from dnnc.ir.graph import Graph, freeze
from dnnc.ops.elementwise import Add
from dnnc.ops.movement import Concat, Reshape
from dnnc.ops.pool import MaxPool2D
from dnnc.quantise.dataset import Dataset
from random_graphs import random_data, random_graph

quick = pytest.mark.quick
M7 = load_target("cortex-m7")
ALGORITHMS = ("elimination", "cholesky", "qr")
PAPER = Squeeze(metric="variance", fit="absorb", allocation="error")


def setting(data: Dataset, held_out: Dataset | None = None, **changes: Any) -> Setting:
    return replace(Setting(ArrayFeed(data), data, held_out, M7), **changes)


def noise(graph: Graph, count: int = 400, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    return Dataset({i.name: rng.normal(size=(count, *i.type.shape)).astype(np.float32) for i in graph.inputs})


def chain(net: Net) -> str:
    """Padding, a pool and a flattened image in between."""
    x = net.conv("a", "x", 8)
    x = net.add("pool", MaxPool2D((2, 2), (2, 2)), [net.conv("b", x, 8)])
    return net.dense("e", net.dense("d", net.add("flat", Reshape((128,)), [x]), 8), 3)


def branches(net: Net) -> str:
    """A residual sum, read by three layers, and a concatenation."""
    x = net.conv("a", "x", 8)
    x = net.add("sum", Add(), [net.conv("b", x, 8), x])
    x = net.add("both", Concat(axis=2), [net.conv("c", x, 8, kernel=1), net.conv("d", x, 8)])
    return net.dense("e", net.add("flat", Reshape((16 * 64,)), [x]), 3)


def depthwise(net: Net) -> str:
    x = net.conv("dw", net.conv("a", "x", 8), 8, groups=8)
    return net.dense("e", net.add("flat", Reshape((512,)), [net.conv("b", x, 8, kernel=1)]), 3)


def with_copies(body: Callable[[Net], str]) -> Graph:
    """The second half of all channels between layers are multiples of the first half."""
    net = Net(8, 8, 2)
    graph = net.graph(body(net))
    nodes = []
    for node in graph.nodes:
        if node.params and node.type.shape[-1] == 8:
            weight, bias = np.array(node.params["weight"]), np.array(node.params["bias"])
            follows = node.name == "dw"
            weight[4:] = weight[:4] * (1 if follows else 1.5)
            bias[4:] = bias[:4] * 1.5
            node = replace(node, params=freeze({"weight": weight, "bias": bias}))
        nodes.append(node)
    return graph.with_nodes(nodes)


@pytest.mark.parametrize("fit", ["refit", "absorb"])
@pytest.mark.parametrize("body", [chain, branches, depthwise])
def test_copies_go_without_a_trace(body: Callable[[Net], str], fit: Any) -> None:
    """On inputs that nothing was fitted to; layers that lose what cannot be made up for would show."""
    graph = with_copies(body)
    data = noise(graph)
    method = Squeeze(params=0.5, fit=fit, damping=1e-6)
    half = [len(g.ids) // 2 for g in channel_map(graph).groups]
    units = remove(graph, [int(i) for g, n in zip(channel_map(graph).groups, half, strict=True) for i in g.ids[n:]])
    found = replace(method, params=weight_count(units) / weight_count(graph)).apply(graph, setting(data))
    assert found.missed is None
    assert weight_count(found.graph) <= weight_count(units)
    unseen = noise(graph, 50, seed=1).inputs
    (before,), (after,) = (evaluate_batches(g, unseen).values() for g in (graph, found.graph))
    assert np.abs(before - after).max() < 2e-3 * before.std()


def test_squeezing_beats_taking_out_the_smallest_and_refitting_beats_absorbing() -> None:
    graph, data, unseen = trained()
    metrics = output_metrics(graph, [n.name for n in linear_layers(graph)], data)

    def squeezed(choice: Choice) -> float:
        squeezer, current, gone = Squeezer(graph, data, metrics, choice), graph, frozenset[int]()
        for group in squeezer.cmap.groups:
            current, gone = squeezer.squeeze(current, group, gone, len(group.ids) // 2)
        return accuracy(remove(current, gone), unseen)

    smallest = []
    for group in channel_map(graph).groups:
        norms = np.abs(graph.by_name[group.name].params["weight"]).sum(axis=(1, 2, 3))
        smallest += group.ids[np.argsort(norms)[: len(group.ids) // 2]].tolist()
    l1 = accuracy(remove(graph, smallest), unseen)
    absorbed = [squeezed(Choice(a, "variance", "absorb")) for a in ALGORITHMS]
    absorbed.append(squeezed(Choice(fit="absorb")))
    refitted = squeezed(Choice())
    assert min(absorbed) > l1
    assert refitted >= max(absorbed)
    assert refitted > 80


def test_budgets_are_met_and_nothing_more_than_that() -> None:
    graph, data, _ = trained()
    seen, held_out = data.halves()
    params = Squeeze(size=2).apply(graph, setting(seen))
    assert params.missed is None
    assert 0.44 < weight_count(params.graph) / weight_count(graph) <= 0.5
    assert "parameters to" in params.notes[0]
    both = Squeeze(params=0.6, macs=0.5).apply(graph, setting(seen))
    assert both.missed is None
    assert weight_count(both.graph) <= 0.6 * weight_count(graph) and 0.44 < both.graph.macs / graph.macs <= 0.5
    accurate = Squeeze(max_drop=1.0).apply(graph, setting(seen, held_out))
    assert accurate.missed is None
    assert weight_count(accurate.graph) < 0.9 * weight_count(graph)
    assert accuracy(graph, held_out) - accuracy(accurate.graph, held_out) <= 1.0
    either = Squeeze(size=6, max_drop=0.0).apply(graph, setting(seen, held_out))
    assert either.missed is not None and "max_drop" in either.missed


def test_without_labels_half_of_the_parameters_go_and_the_same_seed_gives_the_same() -> None:
    graph, data, _ = trained()
    plain = Dataset(data.inputs)
    found = [Squeeze().apply(graph, setting(plain)).graph for _ in range(2)]
    assert weight_count(found[0]) <= 0.5 * weight_count(graph)
    for a, b in zip(found[0].nodes, found[1].nodes, strict=True):
        for key in a.params:
            np.testing.assert_array_equal(a.params[key], b.params[key])


def test_cycles_are_what_the_target_says() -> None:
    """A core that takes twice as long as the prediction thinks for every layer that is cut."""
    graph, data, _ = trained()
    asked = []

    def measure(tried: Graph) -> Usage:
        layers = {n.name: 10 * tried.types[n.name].size + 2000 for n in tried.nodes}
        asked.append(tried)
        return Usage(weight_count(tried) + 5000, 0, sum(layers.values()), layers)

    before = measure(graph)
    found = Squeeze(speed=1.3, size=1.5).apply(graph, setting(data, measure=measure))
    assert found.missed is None and len(asked) > 2
    assert measure(found.graph).cycles <= before.cycles / 1.3
    assert weight_count(found.graph) <= weight_count(graph) / 1.5
    flash = Squeeze(flash_bytes=7500).apply(graph, setting(data, measure=measure))
    assert flash.missed is None and measure(flash.graph).flash_bytes <= 7500
    never = Squeeze(cycles=10).apply(graph, setting(data, measure=measure))
    assert never.missed is not None and "cycles=10" in never.missed


@pytest.mark.parametrize("seed", range(6))
def test_odd_networks(seed: int) -> None:
    """Whatever random graphs hold, the result is a valid network with the same inputs and outputs."""
    graph = random_graph(seed)
    inputs = {k: np.asarray(v, np.float32) for k, v in random_data(graph, 16).items()}
    for method in (Squeeze(params=0.7), replace(PAPER, params=0.7)):
        found = method.apply(graph, setting(Dataset(inputs)))
        after = evaluate(found.graph, {k: torch.tensor(v) for k, v in inputs.items()})
        before = evaluate(graph, {k: torch.tensor(v) for k, v in inputs.items()})
        assert {k: v.shape for k, v in after.items()} == {k: v.shape for k, v in before.items()}
        assert all(bool(v.isfinite().all()) for v in after.values())


@quick
@pytest.mark.parametrize("metric", [False, True])
def test_subsets_against_all_there_are(metric: bool) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 8)) + 0.2 * rng.normal(size=(300, 8))
    covariance = subset.damped_covariance(torch.tensor(np.cov(x.T)), 1e-3)
    readers = rng.normal(size=(5, 8))
    seen = readers.T @ readers if metric else None
    every = [subset.residual(covariance, seen, np.array(k)) for k in itertools.combinations(range(8), 4)]
    for algorithm in ALGORITHMS:
        path = subset.order(covariance, seen, algorithm, keep=4)
        assert len(path.order) == 7 and (np.diff(path.loss) > -1e-9).all()
        kept = np.setdiff1d(np.arange(8), path.order[:4])
        found = subset.residual(covariance, seen, kept)
        assert path.loss[3] == pytest.approx(found / 2)
        assert found < 2 * min(every) and found < np.median(every)


@quick
@pytest.mark.parametrize("body", [chain, branches, depthwise])
def test_costs_are_those_of_the_network(body: Callable[[Net], str]) -> None:
    net = Net(8, 8, 2)
    graph = net.graph(body(net))
    cmap = channel_map(graph)
    costs = Costs.of(graph, cmap)
    rng = np.random.default_rng(0)
    for _ in range(5):
        widths = np.array([rng.integers(1, len(g.ids) + 1) for g in cmap.groups])
        ids = [int(i) for g, n in zip(cmap.groups, widths, strict=True) for i in rng.permutation(g.ids)[n:]]
        left = remove(graph, ids)
        assert costs.total("params", widths) == pytest.approx(weight_count(left))
        assert costs.total("macs", widths) == pytest.approx(left.macs)


@quick
def test_walks_give_up_first_what_costs_least() -> None:
    net = Net(8, 8, 2)
    graph = net.graph(chain(net))
    cmap = channel_map(graph)
    costs = Costs.of(graph, cmap)
    dear, cheap = np.arange(1.0, 8.0), np.arange(1.0, 8.0) * 1e-6
    paths = [subset.Path(np.arange(7), c) for c in (dear, cheap, dear)]
    for allocation in ("loss", "error"):
        states, losses = walk(costs, paths, {"params": 1.0}, allocation, 1)  # type: ignore[arg-type]
        assert list(states[-1]) == [1, 1, 1] and len(states) == 22
        assert losses[-1] == pytest.approx(2 * 7 + 7e-6)
        if allocation == "loss":
            assert list(states[7]) == [8, 1, 8]
    even, _ = walk(costs, paths, {"params": 1.0}, "even", 4)
    assert [list(w) for w in even] == [[8, 8, 8], [4, 8, 8], [4, 4, 8], [4, 4, 4]]
    curve = np.array([0.0, 3.0, 2.0, 2.5, 9.0])
    np.testing.assert_allclose(convex(curve), [0.0, 1.0, 2.0, 2.5, 9.0], atol=0.5)
    assert (convex(curve) <= curve).all() and (np.diff(convex(curve), 2) >= -1e-12).all()


@quick
def test_values_are_kept_until_something_changes() -> None:
    graph = network()
    data = noise(graph, 70)
    values = Values(data)
    first = values.get(graph, "c2")
    assert values.get(graph, "c2") is first
    node = graph.by_name["dw"]
    changed = replace(node, params=freeze({"weight": 2 * node.params["weight"], "bias": node.params["bias"]}))
    other = graph.with_nodes(changed if n.name == "dw" else n for n in graph.nodes)
    expected: dict[str, torch.Tensor] = {}
    evaluate(other, {"x": torch.tensor(data.inputs["x"])}, hook=lambda name, x: expected.setdefault(name, x))
    torch.testing.assert_close(values.get(other, "c2"), expected["c2"])
    assert not torch.equal(values.get(other, "c2"), first)
    torch.testing.assert_close(values.get(other, "x"), torch.tensor(data.inputs["x"]))


@quick
def test_moments_pair_what_was_with_what_is() -> None:
    """Least squares on the moments of an unchanged network gives its own weights."""
    graph = network()
    pair = Pair.over(graph, noise(graph, 200))
    for name in ("c2", "dw"):
        found = paired_rows(pair, graph, name).moments()
        weight = torch.tensor(graph.by_name[name].params["weight"]).double().reshape(len(found.x), -1, found.x.shape[1])
        solved = torch.linalg.solve(found.xx, found.xy).transpose(1, 2)
        torch.testing.assert_close(solved, weight, atol=1e-3, rtol=1e-3)
        bias = found.y - (solved @ found.x[:, :, None])[..., 0]
        torch.testing.assert_close(
            bias.reshape(-1), torch.tensor(graph.by_name[name].params["bias"]).double(), atol=1e-3, rtol=1e-3
        )


@quick
def test_metrics_predict_what_small_errors_do() -> None:
    """1/2 tr(M E) against the divergence that noise in the logits causes."""
    graph, data, _ = trained()
    metric = output_metrics(graph, ["fc"], data.first(128))["fc"]
    logits: dict[str, torch.Tensor] = {}
    evaluate(
        graph, {"x": torch.tensor(data.inputs["x"][:128])}, parameters(graph), lambda n, x: logits.setdefault(n, x)
    )
    y = logits["fc"].double()
    error = 0.05 * torch.randn(200, *y.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = y.log_softmax(dim=-1)
    divergence = (p.exp() * (p - (y + error).log_softmax(dim=-1))).sum(dim=-1).mean()
    assert float(metric.trace()) * 0.05**2 / 2 == pytest.approx(float(divergence), rel=0.1)


@quick
def test_wrong_options_are_named() -> None:
    assert parse_method("squeeze{size=4.9,fit=absorb}") == Squeeze(size=4.9, fit="absorb")
    assert str(Squeeze(size=4.9)) == "squeeze{size=4.9}"
    for text, message in (
        ("squeeze{size=0.5}", "size >= 1"),
        ("squeeze{size=2,params=0.5}", "limit the same"),
        ("squeeze{metric=konsumer}", "did you mean 'consumer'"),
        ("squeeze{damping=0}", "damping"),
        ("squeeze{max_drop=-1}", "max_drop"),
    ):
        with pytest.raises(OptionError, match=message):
            parse_method(text)
    graph = network()
    with pytest.raises(OptionError, match="emulated core"):
        Squeeze(speed=2).apply(graph, setting(noise(graph, 8)))


@quick
def test_targets_behind_a_clamp_never_get_worse() -> None:
    """Too few inputs to make what the original makes: what the clamp cuts off is left free, round after round."""
    graph = network()
    rows = paired_rows(Pair.over(graph, noise(graph, 200)), graph, "c2")
    part = replace(rows, x=rows.x[:, :, :40])
    errors, targets = [], part
    for _ in range(4):
        found = targets.moments()
        weight = torch.linalg.solve(found.xx + 1e-9 * torch.eye(40), found.xy).transpose(1, 2)
        bias = found.y - (weight @ found.x[:, :, None])[..., 0]
        made = torch.baddbmm(bias.float()[:, None], part.x, weight.float().transpose(1, 2))
        errors.append(float(((made.clamp(min=0) - part.y.clamp(min=0)) ** 2).mean()))
        targets = part.towards(weight, bias)
        assert bool((targets.y[part.y > 0] == part.y[part.y > 0]).all()) and bool((targets.y[part.y <= 0] <= 0).all())
    assert errors[-1] < 0.95 * errors[0]
    assert all(b <= a * 1.001 for a, b in itertools.pairwise(errors[1:]))
