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
from dnnc.compress.importance import adam_moment, adam_steps, magnitude, weight_scores
from dnnc.compress.method import Setting
from dnnc.compress.weight_masks import masked, order
from dnnc.cost.loader import load_target
from dnnc.errors import DnncError, OptionError
from dnnc.evaluate import evaluate, parameters
from dnnc.ir.graph import Graph
from dnnc.ops.elementwise import Add
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
    kept = np.flatnonzero(two_steps(first, second, 4, 0.5, "global")["a"])
    # Down to sqrt(4 %) = 20 weights by size (the last of which comes along with the largest), then the best 4 of these.
    np.testing.assert_array_equal(kept, [80, 81, 82, 83])
    np.testing.assert_array_equal(np.flatnonzero(two_steps(first, second, 4, 1.0, "global")["a"]), [96, 97, 98, 99])
    np.testing.assert_array_equal(np.flatnonzero(two_steps(first, second, 4, 0.0, "global")["a"]), [0, 1, 2, 3])


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
        ("fisher{samples=0}", "1 or more"),
        ("fisher{max_drop=-1}", "max_drop"),
        ("fisher{denisty=0.1}", "did you mean 'density'"),
    ):
        with pytest.raises(DnncError, match=words):
            parse_method(text)
