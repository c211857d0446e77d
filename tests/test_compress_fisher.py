"""Pruning by the Fisher information: scores against gradients taken one by one, budgets, and what stays zero."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from digits import RELU, Net, network, trained
from dnnc.compress import METHODS, parse_method
from dnnc.compress.budget import accuracy, weight_count
from dnnc.compress.feed import ArrayFeed, Batch, Feed
from dnnc.compress.fisher import Fisher, two_steps
from dnnc.compress.gates import gate_information
from dnnc.compress.importance import adam_moment, adam_steps, magnitude, weight_scores
from dnnc.compress.method import Setting
from dnnc.compress.surgery import channel_map
from dnnc.compress.weight_masks import masked, order
from dnnc.cost.loader import load_target
from dnnc.errors import DnncError, OptionError
from dnnc.evaluate import evaluate, parameters
from dnnc.ir.graph import Graph
from dnnc.ops.elementwise import Add
from dnnc.ops.pool import ReduceMean
from dnnc.quantise.bytes import linear_nodes
from dnnc.quantise.dataset import Dataset

quick = pytest.mark.quick
M7 = load_target("cortex-m7")


def setting(data: Dataset, held_out: Dataset | None = None, **changes: Any) -> Setting:
    return replace(Setting(ArrayFeed(data), data, held_out, M7), **changes)


def digits_setting() -> tuple[Graph, Setting, Dataset]:
    """(graph, a setting of its training data, test data)"""
    graph, data, unseen = trained()
    seen, held_out = data.halves()
    return graph, setting(seen, held_out), unseen


def zeros(graph: Graph) -> int:
    return sum(int((np.asarray(n.params["weight"]) == 0).sum()) for n in linear_nodes(graph.nodes))


class Fixed(Feed):
    """The same batches in every epoch."""

    def __init__(self, batches: list[Batch]) -> None:
        self.all = batches

    @property
    def labelled(self) -> bool:
        return True

    def __len__(self) -> int:
        return sum(len(b) for b in self.all)

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        yield from self.all


@quick
def test_adams_moment_is_what_adam_keeps() -> None:
    graph = network(softmax=False)
    rng = np.random.default_rng(0)
    batches = [
        Batch({"x": torch.tensor(rng.random((5, 8, 8, 1)), dtype=torch.float32)}, torch.tensor(rng.integers(0, 10, 5)))
        for _ in range(3)
    ]
    found = adam_moment(graph, Fixed(batches), 7)
    params = parameters(graph)
    leaves = [p["weight"].requires_grad_(True) for p in params.values()]
    # A rate of 0 holds the weights; Adam's own state is the reference.
    optimiser = torch.optim.Adam(leaves, lr=0.0, betas=(0.9, 0.999))
    for step in range(7):
        batch = batches[step % 3]
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(evaluate(graph, batch.inputs, params)["fc"], batch.labels).backward()
        optimiser.step()
    for node, leaf in zip(params, leaves, strict=True):
        expected = optimiser.state[leaf]["exp_avg_sq"].numpy() / (1 - 0.999**7)
        np.testing.assert_allclose(found[node], expected, rtol=1e-3, atol=1e-6 * expected.max())


@quick
def test_scores_are_of_the_weights_and_times_their_squares() -> None:
    graph, data, _ = trained()
    where = setting(data.first(64))
    plain, squared = (weight_scores(graph, kind, where, 16) for kind in ("true", "true-w2"))
    for node in linear_nodes(graph.nodes):
        weight = np.asarray(node.params["weight"], np.float64)
        assert plain[node.name].min() >= 0 and plain[node.name].max() > 0
        np.testing.assert_allclose(squared[node.name], plain[node.name] * weight**2)
        np.testing.assert_array_equal(magnitude(graph)[node.name], np.abs(weight))


@quick
def test_a_large_networks_moment_takes_fewer_steps() -> None:
    small, net = network(), Net(64, 64, 16)
    net.conv("c", "x", 512, 5)
    assert adam_steps(small) == 3000 > adam_steps(net.graph("c")) >= 100


@quick
def test_orders_keep_the_best_and_no_layer_dies_early() -> None:
    scores = {"a": np.array([[5.0, 1.0], [4.0, 0.0]]), "b": np.array([0.1, 0.2])}
    everywhere = order(scores, "global")
    assert [int(m.sum()) for m in everywhere.keep(3).values()] == [2, 1]
    np.testing.assert_array_equal(everywhere.keep(3)["a"], [[True, False], [True, False]])
    np.testing.assert_array_equal(everywhere.keep(2)["b"], [False, True])
    assert sum(int(m.sum()) for m in everywhere.keep(6).values()) == 6
    by_layer = order(scores, "layer").keep(3)
    assert [int(m.sum()) for m in by_layer.values()] == [2, 1]
    assert [int(m.sum()) for m in order(scores, "layer").keep(1).values()] == [1, 1]


@quick
def test_magnitude_goes_first_and_the_information_decides_among_survivors() -> None:
    first = {"a": np.arange(1.0, 101.0)}
    second = {"a": np.arange(100.0, 0.0, -1.0)}
    kept = np.flatnonzero(two_steps(first, second, 0.04, 0.5, "global")["a"])
    # Down to sqrt(4 %) = 20 weights by size (the last of which comes along with the largest), then the best 4 of these.
    np.testing.assert_array_equal(kept, [80, 81, 82, 83])
    np.testing.assert_array_equal(np.flatnonzero(two_steps(first, second, 0.04, 1.0, "global")["a"]), [96, 97, 98, 99])
    np.testing.assert_array_equal(np.flatnonzero(two_steps(first, second, 0.04, 0.0, "global")["a"]), [0, 1, 2, 3])


@quick
def test_density_is_exact_and_zeros_stay() -> None:
    graph, data, _ = trained()
    where = setting(data.first(64))
    first = Fisher(score="magnitude", density=0.5).apply(graph, where).graph
    count = sum(n.params["weight"].size for n in linear_nodes(graph.nodes))
    assert count - zeros(first) == round(0.5 * count)
    second = Fisher(score="true", density=0.3, samples=16).apply(first, where).graph
    assert count - zeros(second) == round(0.3 * count)
    for node in linear_nodes(first.nodes):
        # What was zero stays zero, whatever the information says of it; biases are untouched.
        assert not np.any(second.by_name[node.name].params["weight"][np.asarray(node.params["weight"]) == 0])
        np.testing.assert_array_equal(second.by_name[node.name].params["bias"], node.params["bias"])
    assert [n.name for n in second.nodes] == [n.name for n in graph.nodes]


@quick
def test_params_are_a_share_of_all_parameters() -> None:
    graph, data, _ = trained()
    for ranking in ("global", "layer"):
        found = Fisher(score="magnitude", params=0.25, ranking=ranking).apply(graph, setting(data.first(64)))
        assert found.missed is None
        assert 0.24 < weight_count(found.graph) / weight_count(graph) <= 0.25


@quick
def test_a_budget_below_the_biases_says_so() -> None:
    graph, data, _ = trained()
    found = Fisher(score="magnitude", params=0.001).apply(graph, setting(data.first(64)))
    assert found.missed is not None and "params=0.001" in found.missed


@quick
def test_without_labels_the_default_is_half_of_the_parameters() -> None:
    net = Net(7, 7, 3)
    a = net.conv("a", "x", 6)
    b = net.conv("b", a, 6, groups=6)
    net.dense("d", net.add("sum", Add(), [a, b]), 4, clamp=RELU)
    graph = net.graph("d", "a")
    data = Dataset({"x": np.random.default_rng(0).random((40, 7, 7, 3)).astype(np.float32)})
    found = Fisher(samples=32).apply(graph, setting(data))
    assert found.missed is None and weight_count(found.graph) <= 0.5 * weight_count(graph)
    with pytest.raises(OptionError, match="needs labels"):
        Fisher(score="adam").apply(graph, setting(data))
    with pytest.raises(OptionError, match="needs labels"):
        Fisher(score="magnitude", max_drop=1.0).apply(graph, setting(data))


def test_max_drop_is_kept_on_held_out_samples_and_information_beats_size() -> None:
    graph, where, unseen = digits_setting()
    held_out = where.labelled("test")
    left = {}
    for score in ("true-w2", "magnitude"):
        found = Fisher(score=score, max_drop=1.0, samples=256).apply(graph, where)
        assert found.missed is None
        assert accuracy(graph, held_out) - accuracy(found.graph, held_out) <= 1.0 + 1e-9
        left[score] = weight_count(found.graph)
        assert accuracy(graph, unseen) - accuracy(found.graph, unseen) < 4
    assert left["true-w2"] < left["magnitude"] < weight_count(graph)


def test_every_score_works_and_is_repeatable() -> None:
    graph, where, _ = digits_setting()
    where = replace(where, train=ArrayFeed(where.sample.first(128)))
    for score in ("true", "adam", "adam-w2", "magnitude-then-adam", "magnitude-then-true"):
        method = Fisher(score=score, density=0.2, samples=32, steps=40)
        one, two = (method.apply(graph, where).graph for _ in range(2))
        for node in linear_nodes(one.nodes):
            np.testing.assert_array_equal(node.params["weight"], two.by_name[node.name].params["weight"])


@quick
def test_gates_are_gradients_of_factors_on_channels() -> None:
    net = Net(6, 6, 2, seed=3)
    a = net.conv("a", "x", 4)
    b = net.conv("b", a, 4)
    s = net.add("sum", Add(clamp=RELU), [a, b])
    net.dense("d", net.add("m", ReduceMean(axes=(0, 1)), [net.conv("c", s, 5)]), 3)
    graph = net.graph("d")
    data = Dataset({"x": np.random.default_rng(0).random((5, 6, 6, 2)).astype(np.float32)}, np.zeros(5, np.int64))
    cmap = channel_map(graph)
    found = gate_information(graph, cmap, data, 5)
    # A factor on both layers of the stage, one sample and one class at a time.
    expected = np.zeros(len(found))
    for x in data.inputs["x"]:
        gate = torch.ones(len(found), requires_grad=True)

        def hook(name: str, value: torch.Tensor, gate: torch.Tensor = gate) -> torch.Tensor:
            return value * gate[torch.tensor(np.array(cmap.of[name]))] if name in ("a", "b", "c") else value

        log_p = evaluate(graph, {"x": torch.tensor(x[None])}, hook=hook)["d"][0].log_softmax(dim=-1)
        for value in log_p:
            (gradient,) = torch.autograd.grad(value, gate, retain_graph=True)
            expected += float(value.detach().exp()) * gradient.double().numpy() ** 2 / 5
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize("score", ["gate", "true-w2", "magnitude"])
def test_channels_go_by_budget(score: Any) -> None:
    graph, where, _ = digits_setting()
    for budget in ({"params": 0.5}, {"macs": 0.6}, {"max_drop": 2.0}):
        method = Fisher(structure="channel", score=score, rounds=3, samples=32, **budget)
        found = method.apply(graph, where)
        assert found.missed is None
        assert weight_count(found.graph) < weight_count(graph) and found.graph.macs < graph.macs
        if "macs" in budget:
            assert found.graph.macs <= 0.6 * graph.macs
    least = Fisher(structure="channel", score=score, params=0.0001, rounds=2, samples=16).apply(graph, where)
    assert least.missed is not None
    assert all(len(g.ids) == 1 for g in channel_map(least.graph).groups)


def test_rounds_refine_what_is_left_and_help() -> None:
    graph, where, _ = digits_setting()
    held_out = where.labelled("test")
    one, many = (Fisher(density=0.15, rounds=r, samples=128).apply(graph, where).graph for r in (1, 4))
    assert zeros(one) == zeros(many)
    assert accuracy(many, held_out) > accuracy(one, held_out)


@quick
def test_refined_orders_keep_what_was_decided() -> None:
    old = order({"a": np.array([4.0, 3.0, 2.0, 1.0, 0.0])}, "global")
    later = order({"a": np.array([0.0, 1.0, 2.0, 9.0, 8.0])}, "global")
    np.testing.assert_array_equal(old.refined(3, later).best[0], [2, 1, 0, 3, 4])


@quick
def test_masks_change_nothing_else() -> None:
    graph = network()
    whole = masked(graph, order(magnitude(graph), "global").keep(10**9))
    for node in linear_nodes(graph.nodes):
        np.testing.assert_array_equal(node.params["weight"], whole.by_name[node.name].params["weight"])


@quick
def test_text_and_wrong_options() -> None:
    assert METHODS["fisher"] is Fisher
    assert parse_method("fisher{params=0.1,score=adam-w2}") == Fisher(params=0.1, score="adam-w2")
    assert str(Fisher(density=0.1)) == "fisher{density=0.1}"
    for text, words in (
        ("fisher{score=ture}", "did you mean 'true'"),
        ("fisher{density=0}", "0 < density <= 1"),
        ("fisher{density=0.1,params=0.1}", "found both"),
        ("fisher{split=2}", r"0\.\.1"),
        ("fisher{macs=0.5}", "structure=channel"),
        ("fisher{score=gate}", "structure=channel"),
        ("fisher{structure=channel,score=magnitude-then-adam}", "ranks weights"),
        ("fisher{temperature=0}", "> 0"),
        ("fisher{samples=0}", "1 or more"),
        ("fisher{max_drop=-1}", "max_drop"),
        ("fisher{denisty=0.1}", "did you mean 'density'"),
    ):
        with pytest.raises(DnncError, match=words):
            parse_method(text)
