"""Widths by groups of single weights: how they are grouped, what the map costs, and that the Fisher pays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from digits import network, trained
from dnnc.compress.budget import accuracy
from dnnc.compress.feed import ArrayFeed
from dnnc.compress.importance import true_fisher
from dnnc.compress.method import Setting
from dnnc.cost.loader import load_target
from dnnc.errors import BudgetError, OptionError
from dnnc.ir.graph import Graph
from dnnc.quantise.bits import parse_policy
from dnnc.quantise.bits.parameter_groups import GroupedBits, grouped_bits, groups_of_weights, rounded
from dnnc.quantise.bytes import linear_nodes

quick = pytest.mark.quick
RNG = np.random.default_rng(0)


def with_weights(graph: Graph, found: GroupedBits) -> Graph:
    nodes = [
        replace(n, params={**n.params, "weight": found.weights[n.name].astype(np.float32)})
        if n.name in found.weights
        else n
        for n in graph.nodes
    ]
    return graph.with_nodes(nodes).verify()


@quick
def test_groups_follow_the_information() -> None:
    information = np.exp(RNG.normal(size=(20, 3, 5)))
    for grouping in ("quantiles", "k-means"):
        labels = groups_of_weights(information, grouping, 4)  # type: ignore[arg-type]
        assert labels.shape == information.shape and sorted(np.unique(labels)) == [0, 1, 2, 3]
        for g in range(3):
            assert information[labels == g].max() < information[labels == g + 1].min()
    assert np.bincount(groups_of_weights(information, "quantiles", 4).reshape(-1)).tolist() == [75] * 4
    np.testing.assert_array_equal(groups_of_weights(information, "channel", 4)[7], 7)
    assert not groups_of_weights(information, "layer", 4).any()


@quick
def test_clusters_lie_where_the_information_does() -> None:
    logs = np.concatenate([RNG.normal(0, 0.1, 90), RNG.normal(5, 0.1, 10)])
    labels = groups_of_weights(np.exp(logs).reshape(10, 10), "k-means", 2).reshape(-1)
    np.testing.assert_array_equal(labels, [0] * 90 + [1] * 10)
    # One value only: one group.
    assert len(np.unique(groups_of_weights(np.ones((4, 4)), "k-means", 4))) == 1


@quick
def test_codes_are_on_a_grid_and_more_bits_lose_less() -> None:
    weight, information = RNG.normal(size=300), np.exp(RNG.normal(size=300))
    losses = []
    for bits in (0, 1, 2, 3, 4, 6, 8):
        real, loss = rounded(weight, information, bits)
        assert len(np.unique(real)) <= max(2**bits, 1)
        assert loss == pytest.approx(0.5 * (information * (real - weight) ** 2).sum())
        losses.append(loss)
    assert losses == sorted(losses, reverse=True)
    np.testing.assert_array_equal(rounded(np.zeros(5), np.ones(5), 4)[0], 0)


def test_all_bits_are_counted_and_the_budget_is_kept() -> None:
    graph = network()
    information = {n.name: np.exp(RNG.normal(size=n.params["weight"].shape)) for n in linear_nodes(graph.nodes)}
    weights = sum(n.params["weight"].size for n in linear_nodes(graph.nodes))
    channels = sum(len(n.params["weight"]) for n in linear_nodes(graph.nodes))
    layer = grouped_bits(graph, information, 4 * weights, "layer")
    assert layer.map_bits == 0 and layer.scale_bits == 16 * len(linear_nodes(graph.nodes))
    channel = grouped_bits(graph, information, 4 * weights, "channel")
    assert channel.map_bits == 4 * channels and channel.scale_bits == 16 * channels
    groups = grouped_bits(graph, information, 4 * weights, "quantiles", 4)
    assert groups.map_bits == 2 * weights and groups.entropy_bits == pytest.approx(groups.map_bits, rel=1e-3)
    clusters = grouped_bits(graph, information, 4 * weights, "k-means", 4)
    assert clusters.entropy_bits < clusters.map_bits == 2 * weights
    for found in (layer, channel, groups, clusters):
        assert found.total_bits <= 4 * weights
    free = grouped_bits(graph, information, 4 * weights, "quantiles", 4, map_included=False)
    assert free.value_bits > groups.value_bits and free.loss < groups.loss
    with pytest.raises(BudgetError, match="cannot be met"):
        grouped_bits(graph, information, weights, "quantiles", 4)


def test_information_beats_chance_at_equal_bits() -> None:
    graph, data, unseen = trained()
    setting = Setting(ArrayFeed(data), data, None, load_target("cortex-m7"))
    information = true_fisher(graph, setting, 128, 4.0)
    weights = sum(n.params["weight"].size for n in linear_nodes(graph.nodes))
    shuffled = {n: RNG.permutation(f.reshape(-1)).reshape(f.shape) for n, f in information.items()}
    right, wrong = (
        accuracy(with_weights(graph, grouped_bits(graph, f, 4 * weights, "quantiles", 4)), unseen)
        for f in (information, shuffled)
    )
    assert right > wrong


@quick
def test_single_weights_are_refused_by_the_policy() -> None:
    with pytest.raises(OptionError, match="no kernel reads the map"):
        parse_policy("fisher{group=parameter}")
