"""Entropy estimators against closed forms, channel scores, and channels removed by them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch

from digits import RELU, Net, trained
from dnnc.compress import METHODS, entropy, parse_method
from dnnc.compress.activation_samples import Statistics, statistics_samples, views
from dnnc.compress.budget import accuracy, weight_count
from dnnc.compress.channel_order import by_share, channel_order, id_count, per_group, read, written
from dnnc.compress.channel_scores import ChannelKind, channel_scores, without_redundancy
from dnnc.compress.feed import ArrayFeed, Batch
from dnnc.compress.importance import magnitude
from dnnc.compress.method import Setting
from dnnc.compress.mutual_information import MutualInformation
from dnnc.compress.surgery import channel_map, mask
from dnnc.cost.loader import load_target
from dnnc.errors import DnncError, OptionError
from dnnc.evaluate import evaluate_batches
from dnnc.ir.graph import Graph
from dnnc.ops.elementwise import Add
from dnnc.ops.movement import Reshape
from dnnc.ops.pool import MaxPool2D, ReduceMean
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.threads import one_thread

quick = pytest.mark.quick
M7 = load_target("cortex-m7")
RNG = np.random.default_rng(0)


def setting(data: Dataset, held_out: Dataset | None = None, **changes: Any) -> Setting:
    return replace(Setting(ArrayFeed(data), data, held_out, M7), **changes)


def digits_setting() -> tuple[Graph, Setting, Dataset]:
    """(graph, a setting of its training data, test data)"""
    graph, data, unseen = trained()
    seen, held_out = data.halves()
    return graph, setting(seen, held_out), unseen


def residual() -> Graph:
    """A residual stage, a depthwise layer, a pool and a flattened image."""
    net = Net(8, 8, 2)
    a = net.conv("a", "x", 6)
    b = net.conv("b", a, 6)
    s = net.add("sum", Add(clamp=RELU), [a, b])
    d = net.conv("dw", s, 6, groups=6)
    c = net.conv("c", d, 5, 1)
    p = net.add("pool", MaxPool2D(kernel=(2, 2), stride=(2, 2)), [c])
    f = net.add("flat", Reshape(shape=(80,)), [p])
    net.dense("d", f, 4)
    return net.graph("d")


# --- estimators ---


@quick
def test_independent_quantities_share_nothing_once_corrected() -> None:
    values, labels = RNG.normal(size=(2000, 20)), RNG.integers(0, 10, 2000)
    codes = entropy.equal_frequency(values, 32)
    joint = entropy.joint_histograms(codes, labels)
    p = joint / 2000
    product = p.sum(axis=1, keepdims=True) * p.sum(axis=2, keepdims=True)
    plain = np.where(p > 0, p * np.log(np.where(p > 0, p / product, 1)), 0).sum(axis=(1, 2))
    # Plug-in: 31 * 9 / 4000 nats of nothing but bias.
    assert 0.05 < plain.mean() < 0.09
    assert entropy.mutual_information(codes, labels).mean() < 0.15 * plain.mean()


@quick
def test_information_of_a_gaussian_channel() -> None:
    """I = -1/2 log(1 - r^2) between two normal quantities, one of them cut into many classes."""
    first = RNG.normal(size=20000)
    second = 0.8 * first + 0.6 * RNG.normal(size=20000)
    labels = entropy.equal_frequency(first[:, None], 20)[:, 0]
    found = entropy.mutual_information(entropy.equal_frequency(second[:, None], 32), labels)[0]
    assert found == pytest.approx(-0.5 * np.log(1 - 0.8**2), abs=0.03)


@quick
def test_a_copy_of_the_label_tells_everything_and_a_constant_nothing() -> None:
    labels = RNG.integers(0, 4, 400)
    values = np.stack([labels * 2.0, np.full(400, 3.0), labels % 2], axis=1)
    for bins in (entropy.equal_frequency, entropy.equal_width):
        codes = bins(values, 32)
        of_labels = entropy.entropy(np.bincount(labels)[None])[0]
        found = entropy.mutual_information(codes, labels)
        np.testing.assert_allclose(found, [of_labels, 0, np.log(2)], atol=0.02)
        terms = entropy.class_information(codes, labels)
        np.testing.assert_allclose(terms.sum(axis=1), found, atol=0.03)
        pairs = entropy.pairwise_information(codes)
        np.testing.assert_allclose(pairs, pairs.T)
        np.testing.assert_allclose(pairs[0, 2], np.log(2), atol=0.02)
        np.testing.assert_allclose(pairs[:, 1], 0, atol=1e-9)


@quick
def test_equal_values_share_a_bin_and_bins_suit_the_samples() -> None:
    relu = np.maximum(RNG.normal(size=(1000, 1)), 0)
    codes = entropy.equal_frequency(relu, 10)
    assert len(np.unique(codes[relu == 0])) == 1
    counts = entropy.histograms(codes)[0]
    assert counts.max() == (relu == 0).sum() and 4 <= (counts > 0).sum() <= 7
    assert entropy.bins_for(10000, 10, 32) == 32
    assert entropy.bins_for(300, 10, 32) == 6
    assert entropy.bins_for(3, 10, 32) == 2


@quick
def test_the_entropy_of_a_few_samples_is_not_too_small() -> None:
    counts = np.stack([np.bincount(RNG.integers(0, 16, 100), minlength=16) for _ in range(200)])
    p = counts / 100
    plain = -(p * np.log(np.where(p > 0, p, 1))).sum(axis=1)
    assert abs(entropy.entropy(counts).mean() - np.log(16)) < 0.2 * abs(plain.mean() - np.log(16))


# --- channels ---


@quick
def test_views_are_means_of_what_readers_find() -> None:
    graph = residual()
    cmap = channel_map(graph)
    data = Dataset({"x": RNG.random((9, 8, 8, 2)).astype(np.float32)})
    values: dict[str, np.ndarray[Any, Any]] = {}

    def keep(name: str, value: Any) -> Any:
        values[name] = value.numpy()
        return value

    evaluate_batches(graph, data.inputs, 9, keep)
    seen = {v.value: v for v in views(graph, cmap, data, setting(data))}
    assert sorted(seen) == ["a", "dw", "flat"]
    np.testing.assert_allclose(seen["dw"].means, values["dw"].mean(axis=(1, 2)), rtol=1e-5)
    # A flattened image: the mean over the positions of each channel.
    np.testing.assert_allclose(seen["flat"].means, values["pool"].mean(axis=(1, 2)), rtol=1e-5)
    cells = {v.value: v for v in views(graph, cmap, data, setting(data), cells=True)}
    assert sorted(cells) == ["a", "b", "c"]
    part = cells["c"]
    assert part.cells is not None and part.energy is not None and part.cells.shape == (9, 16, 5)
    np.testing.assert_allclose(part.cells[:, 5], values["c"][:, 2:4, 2:4].mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(part.energy[5], (values["c"][:, 2:4, 2:4] ** 2).mean(axis=(0, 1, 2)), rtol=1e-5)


@quick
def test_l1_norms_are_of_all_that_makes_or_reads_a_channel() -> None:
    graph = residual()
    cmap = channel_map(graph)
    of = {n.name: np.abs(np.asarray(n.params["weight"], np.float64)) for n in graph.nodes if "weight" in n.params}
    makes, reads = (f(graph, cmap, magnitude(graph)) for f in (written, read))
    stage, last = cmap.of["sum"], cmap.of["c"]
    np.testing.assert_allclose(makes[stage], sum(of[n].sum(axis=(1, 2, 3)) for n in ("a", "b", "dw")))
    np.testing.assert_allclose(reads[stage], of["b"].sum(axis=(0, 1, 2)) + of["c"].sum(axis=(0, 1, 2)))
    np.testing.assert_allclose(reads[last], of["d"].reshape(4, 16, 5).sum(axis=(0, 1)))


@quick
def test_orders_of_channels_respect_floors() -> None:
    graph = residual()
    cmap = channel_map(graph)
    scores = np.arange(id_count(cmap), dtype=np.float64)
    by_layer = channel_order(cmap, scores, "layer")
    assert [len(w) for w in by_layer.worst] == [len(g.ids) - 1 for g in cmap.groups]
    everywhere = channel_order(cmap, scores, "global", floor=0.5)
    assert len(everywhere.worst) == 1 and len(everywhere.gone(1.0)) == 3 + 2
    assert list(everywhere.gone(0.4)) == sorted(everywhere.worst[0])[:2]
    assert not len(everywhere.gone(0.0))
    kept = [len(g.ids) - int(np.isin(g.ids, by_share(cmap, scores, 0.548)).sum()) for g in cmap.groups]
    assert kept == [3, 3]
    np.testing.assert_allclose([per_group(cmap, scores)[g.ids].max() for g in cmap.groups], 1)


@quick
def test_noise_goes_before_what_tells_classes_apart() -> None:
    net = Net(4, 4, 2)
    c = net.conv("c", "x", 4, 1)
    m = net.add("m", ReduceMean(axes=(0, 1)), [c])
    net.dense("d", m, 3)
    graph = net.graph("d")
    weight = np.zeros((4, 1, 1, 2), np.float32)
    # Channels 0 and 1 hold the class, 2 holds noise, 3 nothing.
    weight[0, ..., 0], weight[1, ..., 0], weight[2, ..., 1] = 1, 0.5, 1
    node = graph.by_name["c"]
    changed = replace(node, params={"weight": weight, "bias": np.zeros(4, np.float32)})
    graph = graph.with_nodes([changed if n.name == "c" else n for n in graph.nodes]).verify()
    labels = RNG.integers(0, 3, 600)
    x = RNG.random((600, 4, 4, 2)).astype(np.float32)
    x[..., 0] += labels[:, None, None]
    where = setting(Dataset({"x": x}, labels))
    cmap = channel_map(graph)
    ids = cmap.of["c"]
    signal = channel_scores("signal-weighted-mi", Statistics(graph, cmap, where, 600, True), 32)[ids]
    # Channel 1 holds half of channel 0; layer d reads both by L1 norms that are known.
    l1 = np.abs(np.asarray(graph.by_name["d"].params["weight"], np.float64)).sum(axis=0)
    assert signal[0] / l1[0] == pytest.approx(2 * signal[1] / l1[1], rel=1e-3)
    for kind in ("mi", "class-weighted-mi", "cell-weighted-mi"):
        scores = channel_scores(kind, Statistics(graph, cmap, where, 600, True), 32)[ids]
        assert scores[0] == pytest.approx(scores[1], rel=1e-3) and scores[0] > 3 * scores[2] >= 3 * scores[3] == 0
    assert np.argmin(channel_scores("entropy", Statistics(graph, cmap, where, 600, True), 32)[ids]) == 3
    plain = channel_scores("mi", Statistics(graph, cmap, where, 600, True), 32)
    assert set(np.argsort(plain[ids])[:2]) == {2, 3}
    # The copy is chosen after the noise, once what channels share counts.
    ranks = without_redundancy(Statistics(graph, cmap, where, 600, True), plain, 5.0)[ids]
    assert ranks[0] == 4 and ranks[2] > ranks[1]


@quick
def test_statistics_come_from_the_training_data_where_the_sample_is_small() -> None:
    data = Dataset({"x": np.zeros((100, 3), np.float32)})
    where = replace(setting(data), sample=data.first(10))
    assert len(statistics_samples(where, 60, labelled=False)) == 60
    assert len(statistics_samples(where, 5, labelled=False)) == 5
    assert len(statistics_samples(where, 500, labelled=False)) == 100

    def mixed(batch: Batch, generator: torch.Generator) -> Batch:
        return Batch(batch.inputs, torch.full((len(batch), 3), 1 / 3))

    # Labels that are no classes any more: the sample has them still.
    labelled = replace(data, labels=np.zeros(100, np.int64))
    where = replace(setting(labelled), train=ArrayFeed(labelled, mixed), sample=labelled.first(10))
    assert len(statistics_samples(where, 60, labelled=True)) == 10
    assert len(statistics_samples(where, 60, labelled=False)) == 60


# --- the method ---


@one_thread()
def test_every_score_removes_channels_and_equals_its_mask() -> None:
    graph, where, _ = digits_setting()
    where = setting(where.sample.spread(200), where.labelled("test").spread(50))
    x = where.labelled("test").inputs
    cmap = channel_map(graph)
    for kind in get_args(ChannelKind):
        found = MutualInformation(score=kind, keep=0.5, recalibrate=False).apply(graph, where).graph
        assert [len(found.by_name[n].params["weight"]) for n in ("c1", "c2", "fc")] == [8, 12, 10]
        gone = by_share(cmap, channel_scores(kind, Statistics(graph, cmap, where, 10000, True), 32), 0.5)
        expected = evaluate_batches(mask(graph, gone), x)
        for name, value in evaluate_batches(found, x).items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-3, atol=1e-5)


@one_thread()
def test_budgets_are_met_and_information_beats_chance() -> None:
    graph, where, _ = digits_setting()
    for ranking in ("layer", "global"):
        found = MutualInformation(params=0.5, ranking=ranking).apply(graph, where)
        assert found.missed is None and weight_count(found.graph) <= 0.5 * weight_count(graph)
    found = MutualInformation(max_drop=2.0).apply(graph, where)
    held_out = where.labelled("test")
    assert found.missed is None and weight_count(found.graph) < weight_count(graph)
    assert accuracy(graph, held_out) - accuracy(found.graph, held_out) <= 2 + 1e-9
    halved = {
        score: np.mean([
            accuracy(MutualInformation(score=score, keep=0.6).apply(graph, replace(where, seed=s)).graph, held_out)
            for s in range(3)
        ])
        for score in ("weighted-mi", "random")
    }  # fmt: skip
    assert halved["weighted-mi"] > halved["random"]


def test_recalibration_puts_statistics_right() -> None:
    graph, where, _ = digits_setting()
    held_out = where.labelled("test")
    left = [
        MutualInformation(score="input-l1", keep=0.7, recalibrate=r).apply(graph, where).graph for r in (False, True)
    ]
    assert accuracy(left[1], held_out) > accuracy(left[0], held_out)


@quick
def test_without_labels() -> None:
    graph = residual()
    data = Dataset({"x": RNG.random((50, 8, 8, 2)).astype(np.float32)})
    for score in ("entropy", "output-l1", "input-l1"):
        found = MutualInformation(score=score).apply(graph, setting(data))
        assert found.missed is None and weight_count(found.graph) <= 0.5 * weight_count(graph)
    with pytest.raises(OptionError, match=r"needs labels.*entropy"):
        MutualInformation().apply(graph, setting(data))


@quick
def test_an_impossible_budget_says_so_and_nothing_to_remove_is_no_error() -> None:
    graph = residual()
    data = Dataset({"x": RNG.random((50, 8, 8, 2)).astype(np.float32)})
    found = MutualInformation(score="input-l1", params=0.001).apply(graph, setting(data))
    assert found.missed is not None and "params=0.001" in found.missed
    assert all(len(g.ids) == 1 for g in channel_map(found.graph).groups)
    net = Net(5)
    net.dense("d", "x", 3)
    alone = net.graph("d")
    flat = Dataset({"x": RNG.random((5, 5)).astype(np.float32)})
    assert MutualInformation(score="input-l1").apply(alone, setting(flat)).graph is alone


@quick
def test_text_and_wrong_options() -> None:
    assert METHODS["mutual-information"] is MutualInformation
    assert parse_method("mutual-information{score=mi,keep=0.5}") == MutualInformation(score="mi", keep=0.5)
    for text, words in (
        ("mutual-information{score=weighted}", "did you mean 'weighted-mi'"),
        ("mutual-information{keep=1.5}", "0 < keep <= 1"),
        ("mutual-information{keep=0.5,macs=0.5}", "found both"),
        ("mutual-information{ranking=global,redundancy=1}", "ranking=layer"),
        ("mutual-information{bins=1}", "2 or more"),
        ("mutual-info", "did you mean 'mutual-information'"),
    ):
        with pytest.raises(DnncError, match=words):
            parse_method(text)
