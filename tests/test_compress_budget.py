"""Budgets of compression, the search for the strength that meets them, samples, and what is reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from digits import trained
from dnnc.compress.budget import Budget, Found, accuracy, solve, weight_count
from dnnc.compress.changes import changes
from dnnc.compress.feed import ArrayFeed, LoaderFeed
from dnnc.compress.method import Compressed, Method, Setting, Usage
from dnnc.compress.pipeline import compress
from dnnc.cost.loader import load_target
from dnnc.errors import DataError, OptionError
from dnnc.ir.graph import Graph
from dnnc.samples import gather, is_loader

pytestmark = pytest.mark.quick
M7 = load_target("cortex-m7")


def setting(measure: Callable[[Graph], Usage] | None = None) -> Setting:
    data, held_out = trained()[1].halves()
    return Setting(ArrayFeed(data), data, held_out, M7, measure)


def thinned(graph: Graph, strength: float) -> Graph:
    """The smallest `strength` of every layer's weights set to 0."""
    nodes = []
    for node in graph.nodes:
        params = dict(node.params)
        if "weight" in params:
            weight = params["weight"].copy()
            order = np.argsort(np.abs(weight).ravel(), kind="stable")[: int(strength * weight.size)]
            weight.reshape(-1)[order] = 0
            params["weight"] = weight
        nodes.append(replace(node, params=params))
    return graph.with_nodes(nodes)


def solved(budget: Budget, measure: Callable[[Graph], Usage] | None = None) -> Found:
    graph = trained()[0]
    return solve(lambda strength: thinned(graph, strength), budget, graph, setting(measure))


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(params=0), "'params' is the fraction to keep"),
        (Budget(macs=1.5), "'macs' is the fraction to keep"),
        (Budget(flash_bytes=0), "'flash_bytes' expects a positive number"),
        (Budget(cycles=-1), "'cycles' expects a positive number"),
        (Budget(max_drop=float("nan")), "'max_drop' expects points of accuracy"),
    ],
)
def test_budgets_that_cannot_be_meant(budget: Budget, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        budget.check("method")


def test_the_mildest_that_keeps_to_a_budget() -> None:
    graph = trained()[0]
    found = solved(Budget(params=0.5))
    assert found.missed is None
    left = weight_count(found.graph) / weight_count(graph)
    assert 0.49 < left <= 0.5


def test_the_strongest_within_a_drop_of_accuracy() -> None:
    graph = trained()[0]
    held_out = setting().labelled("test")
    found = solved(Budget(max_drop=2.0))
    assert found.missed is None and found.strength > 0.2
    assert accuracy(graph, held_out) - accuracy(found.graph, held_out) <= 2.0
    stronger = thinned(graph, found.strength + 0.1)
    assert accuracy(graph, held_out) - accuracy(stronger, held_out) > 2.0


def test_a_budget_that_cannot_be_met_says_what_the_best_reaches() -> None:
    found = solved(Budget(params=0.001))
    assert found.missed is not None and "params=0.001 allows" in found.missed and found.strength == 1.0
    found = solved(Budget(params=0.02, max_drop=0.0))
    assert found.missed is not None and "accuracy drops by" in found.missed


def test_measured_budgets() -> None:
    def measure(graph: Graph) -> Usage:
        return Usage(1000 + weight_count(graph), 0, 2 * weight_count(graph), {})

    count = weight_count(trained()[0])
    found = solved(Budget(flash_bytes=1000 + count // 2), measure)
    assert found.missed is None and weight_count(found.graph) <= count // 2
    found = solved(Budget(cycles=10), measure)
    assert found.missed is not None and "cycles=10 is allowed" in found.missed
    with pytest.raises(OptionError, match="measured on an emulated core"):
        solved(Budget(cycles=10))


def test_accuracy_bounds_need_labels() -> None:
    graph = trained()[0]
    unlabelled = replace(setting(), held_out=None)
    with pytest.raises(OptionError, match="needs labels"):
        solve(lambda strength: thinned(graph, strength), Budget(max_drop=1.0), graph, unlabelled)


@dataclass(frozen=True)
class Thin(Method):
    name: ClassVar[str] = "thin"
    part: float = 0.5

    def apply(self, graph: Graph, setting: Setting) -> Compressed:
        return Compressed(thinned(graph, self.part), ("thinner",), None if self.part < 0.9 else "too thin")


def test_methods_one_after_another() -> None:
    graph = trained()[0]
    found = compress(graph, (Thin(0.25), Thin(0.95)), 0, setting())
    assert found.steps == ("thin{part=0.25}", "thin{part=0.95}")
    assert found.notes == ("thin: thinner", "thin: thinner")
    assert found.missed == ("thin{part=0.95}: too thin",)
    assert found.changes == changes(graph, found.graph)
    assert found.percent is not None and found.percent[1] < found.percent[0]
    assert all(c.weights[1] < c.weights[0] and c.outputs[1] <= c.outputs[0] for c in found.changes)


def test_a_fifth_is_held_out_where_something_is_trained() -> None:
    graph, data, _ = trained()
    samples = gather(graph, data, training=True)
    assert samples.held_out is not None and samples.held_out.labels is not None and data.labels is not None
    assert len(samples.held_out) == len(data) // 5
    assert len(samples.train) + len(samples.held_out) == len(data)
    shares = np.bincount(samples.held_out.labels) / np.bincount(data.labels)
    assert np.all(np.abs(shares - 0.2) < 0.05)


def test_loaders_feed_in_the_model_s_own_layout() -> None:
    graph, data, _ = trained()
    source = graph.inputs[0]
    # The graph's layout back to the model's.
    back = np.argsort([0, *(p + 1 for p in source.layout.perm)])
    x = torch.from_numpy(np.ascontiguousarray(data.inputs[source.name].transpose(*back), np.float32))
    loader: Any = DataLoader(TensorDataset(x, torch.as_tensor(data.labels)), batch_size=64)
    assert is_loader(loader) and not is_loader(data) and not is_loader((x, data.labels))
    samples = gather(graph, loader, training=True)
    assert len(samples.train) == len(data) and samples.train.labelled and samples.held_out is None
    batch = next(samples.train.batches(64, torch.Generator()))
    assert np.array_equal(batch.inputs[source.name].numpy(), np.asarray(data.inputs[source.name][:64], np.float32))
    with pytest.raises(DataError, match="expected samples of"):
        next(LoaderFeed(DataLoader(TensorDataset(x[:, :, :2])), graph).batches(1, torch.Generator()))


def test_array_feeds_shuffle_by_their_generator() -> None:
    data = trained()[1]
    feed = ArrayFeed(data)
    first, again, other = (
        [b.labels for b in feed.batches(32, torch.Generator().manual_seed(seed))] for seed in (0, 0, 1)
    )
    assert len(first) == len(data) // 32
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True) if a is not None and b is not None)
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True) if a is not None and b is not None)
