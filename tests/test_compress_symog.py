"""Weights pulled onto a grid, and grids of any width on their way through the quantiser."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from digits import Net, trained
from dnnc.compress import TRAINED_POLICIES
from dnnc.compress.budget import accuracy
from dnnc.compress.feed import ArrayFeed
from dnnc.compress.grid import TrainedPolicy, fitted_scales, nearest, on_grid, power_of_two_steps
from dnnc.compress.method import Compressed, Setting
from dnnc.compress.symog import Pull, Symog
from dnnc.cost.loader import load_target
from dnnc.cost.target import Target
from dnnc.errors import ModelError, OptionError
from dnnc.evaluate import evaluate_batches
from dnnc.ir.graph import Graph
from dnnc.ir.serial import dump_graph, load_graph
from dnnc.ops import BY_KIND
from dnnc.passes.simplify import simplify
from dnnc.quantise.bits import parse_policy
from dnnc.quantise.bits.policy import parse
from dnnc.quantise.bytes import linear_nodes
from dnnc.quantise.calibrate import calibrate
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.integer import quantise
from dnnc.quantise.measure import correct_percent, integer_outputs

quick = pytest.mark.quick
M7 = load_target("cortex-m7")
SHIFT = replace(M7, requantise="shift")


def setting(target: Target = M7, **others: Any) -> Setting:
    _, data, unseen = trained()
    return Setting(ArrayFeed(data), data.first(256), unseen, target, **others)


def integer(graph: Graph, policy: Any, target: Target = M7) -> Graph:
    calibration = calibrate(graph, trained()[1].first(256), target)
    return quantise(graph, calibration, policy.allocate(calibration, target), target)


def percent(graph: Graph, data: Dataset) -> float:
    assert data.labels is not None
    return correct_percent(integer_outputs(graph, data)[graph.outputs[0].model_name], data.labels)


@lru_cache
def two_bits() -> tuple[Symog, Compressed]:
    policy = Symog(weights=2, epochs=12)
    return policy, policy.prepare(trained()[0], setting())


def test_two_bits_everywhere_and_nothing_lost_by_rounding() -> None:
    policy, found = two_bits()
    _, _, unseen = trained()
    assert found.missed is None and not any("more epochs" in note for note in found.notes)
    assert accuracy(found.graph, unseen) >= 85.0
    for node in linear_nodes(found.graph.nodes):
        codes = np.unique(np.round(node.params["weight"] / scales(node.params)).astype(int))
        assert codes.tolist() == [-1, 0, 1]
    result = integer(found.graph, policy)
    assert abs(percent(result, unseen) - accuracy(found.graph, unseen)) <= 1.0
    before, after = (float(p.split(" %")[0].split()[-1]) for p in found.notes[1].split(",")[:2])
    assert before == after


def scales(params: Any) -> Any:
    return params["weight_scale"].reshape(-1, *(1,) * (params["weight"].ndim - 1))


def test_the_integer_program_has_exactly_the_trained_codes() -> None:
    policy, found = two_bits()
    graph = load_graph(dump_graph(found.graph), BY_KIND)
    result = integer(graph, policy)
    for node in linear_nodes(graph.nodes):
        made = result.by_name[node.name].params
        np.testing.assert_array_equal(made["weight"], np.round(node.params["weight"] / scales(node.params)))
        assert set(made["weight_bits"].tolist()) == {2}
        used = made["weight"].reshape(len(made["weight"]), -1).any(axis=1)
        np.testing.assert_array_equal(made["weight_scale"][used], node.params["weight_scale"][used])
    smaller = simplify(result)
    assert percent(smaller, trained()[2]) == percent(result, trained()[2])


def test_wider_policies_keep_the_codes_and_narrower_ones_do_not() -> None:
    _, found = two_bits()
    wide, narrow = (integer(found.graph, parse_policy(f"uniform{{weights={b}}}")) for b in (8, 2))
    for node in linear_nodes(found.graph.nodes):
        a, b = wide.by_name[node.name].params, narrow.by_name[node.name].params
        np.testing.assert_array_equal(a["weight"], b["weight"])
        np.testing.assert_array_equal(a["weight_scale"], b["weight_scale"])
        assert set(a["weight_bits"].tolist()) == {8} and set(b["weight_bits"].tolist()) == {2}


@pytest.mark.parametrize("target", [M7, SHIFT])
def test_strict_scales_are_powers_of_two(target: Target) -> None:
    policy = Symog(weights=3, epochs=3, strict=target is M7)
    found = policy.prepare(trained()[0], setting(target))
    for node in linear_nodes(found.graph.nodes):
        scale = node.params["weight_scale"]
        assert np.all(np.frexp(scale)[0] == 0.5) and len(set(scale.tolist())) == 1
    result = integer(found.graph, policy, target)
    codes = result.by_name["c1"].params
    assert set(codes["weight_bits"].tolist()) == {3} and np.abs(codes["weight"]).max() <= 3


def test_a_step_for_each_channel() -> None:
    found = Symog(weights=2, epochs=2, strict=True, step="channel").prepare(trained()[0], setting())
    assert len({s for n in linear_nodes(found.graph.nodes) for s in n.params["weight_scale"].tolist()}) > 1
    assert found.missed is None


def test_masks_stay() -> None:
    graph, _, _ = trained()
    masked = []
    for node in graph.nodes:
        if "weight" in node.params:
            weight = np.where(np.abs(node.params["weight"]) < 0.1, 0, node.params["weight"])
            node = replace(node, params={**node.params, "weight": weight})
        masked.append(node)
    found = Symog(weights=3, epochs=2).prepare(graph.with_nodes(masked), setting())
    for node in masked:
        if "weight" in node.params:
            assert not found.graph.by_name[node.name].params["weight"][node.params["weight"] == 0].any()


def test_an_interrupted_training_goes_on(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(stage: str, done: int, total: int) -> None:
        if "epoch 2" in stage:
            raise Stop

    policy = Symog(weights=2, epochs=3)
    tmp_path.mkdir(exist_ok=True)
    with pytest.raises(Stop):
        policy.prepare(trained()[0], setting(progress=stop, checkpoint=tmp_path))
    resumed = policy.prepare(trained()[0], setting(checkpoint=tmp_path)).graph
    again = policy.prepare(trained()[0], setting(checkpoint=tmp_path)).graph
    at_once = policy.prepare(trained()[0], setting()).graph
    assert dump_graph(resumed) == dump_graph(at_once) == dump_graph(again)
    assert len(list(tmp_path.iterdir())) == 1
    replace(policy, weights=3).prepare(trained()[0], setting(checkpoint=tmp_path))
    assert len(list(tmp_path.iterdir())) == 2


# --- pieces ---


@quick
def test_steps_are_the_best_powers_of_two() -> None:
    weight = torch.tensor(np.random.default_rng(0).normal(0, 0.05, (6, 40)), dtype=torch.float32)
    weight[2] *= 8
    for bits in (2, 3, 8):
        top = 2 ** (bits - 1) - 1
        steps = power_of_two_steps(weight, bits, by_channel=True)[:, 0]
        for row, step in zip(weight, steps.tolist(), strict=True):
            errors = {
                f: float(((row - torch.round(row / 2.0**f).clamp(-top, top) * 2.0**f) ** 2).sum())
                for f in range(-14, 4)
            }
            assert step == 2.0 ** min(errors, key=lambda f: errors[f])
    assert len(set(power_of_two_steps(weight, 2, by_channel=False).ravel().tolist())) == 1
    assert torch.all(power_of_two_steps(torch.zeros(3, 4), 2, by_channel=True) > 0)


@quick
def test_the_pull_grows_and_weights_are_clipped() -> None:
    pull = Pull(2, by_channel=False)
    weight = torch.tensor([[1.0, 0.9, -1.1, 0.1, 1.8]])
    params = {"d": {"weight": weight.clone(), "bias": torch.zeros(1)}}
    pull.params(params, 0.0)
    step = float(pull.steps["d"])
    assert step == 1.0
    pull.after_step(params, 0.1)
    early = params["d"]["weight"].clone()
    assert float(early.max()) <= step
    moved = (early[0, :4] - weight[0, :4]).abs()
    assert torch.all(moved[1:] > 0) and moved[[1, 3]].max() < 0.02
    for progress in np.linspace(0.1, 1, 50):
        pull.after_step(params, float(progress))
    torch.testing.assert_close(params["d"]["weight"], torch.tensor([[1.0, 1.0, -1.0, 0.0, 1.0]]), atol=1e-4, rtol=0)


@quick
def test_scales_are_found_again_with_their_signs() -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(-3, 4, (5, 3, 3, 2))
    codes[3] = 0
    scale = np.array([0.5, -0.25, 0.125, 2.0, 1e-12])
    net = Net(6, 6, 2)
    graph = net.graph(net.conv("c", "x", 5))
    weight = codes * scale.reshape(-1, 1, 1, 1)
    found = fitted_scales(weight, codes)
    np.testing.assert_array_equal(found[:3], scale[:3])
    made = on_grid(graph, {"c": codes}, {"c": scale}, {"c": np.full(5, 3)}).by_name["c"].params
    np.testing.assert_array_equal(made["weight"][:3], weight[:3].astype(np.float32))
    assert not made["weight"][3:].any() and np.all(made["weight_scale"] > 0)


@quick
def test_rounding_is_half_up() -> None:
    found = nearest(torch.tensor([-1.5, -0.5, 0.5, 1.5, 9.0]), torch.tensor(1.0), -2, 2)
    assert found.tolist() == [-1, 0, 1, 2, 2]


# --- what users see ---


@quick
def test_options() -> None:
    assert parse("symog{weights=3,epochs=5,strict=yes}", TRAINED_POLICIES) == Symog(weights=3, epochs=5, strict=True)
    assert issubclass(TRAINED_POLICIES["symog"], TrainedPolicy)
    with pytest.raises(OptionError, match="'weights' expects 2 to 8 bits, found 9"):
        Symog(weights=9)
    with pytest.raises(OptionError, match="epochs"):
        Symog(epochs=0)


@quick
def test_an_untrained_network_is_refused() -> None:
    net = Net(6)
    graph = net.graph(net.dense("d", "x", 4))
    data = Dataset({"x": np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)})
    with pytest.raises(OptionError, match="layer 'd' has no trained codes"):
        Symog().allocate(calibrate(graph, data, M7), M7)
    node = graph.nodes[0]
    params = {**node.params, "weight_scale": np.full(4, 1e-3), "weight_bits": np.full(4, 2, np.uint8)}
    wrong = graph.with_nodes([replace(node, params=params)])
    with pytest.raises(ModelError, match="do not give codes of 2 bits"):
        Symog().allocate(calibrate(wrong, data, M7), M7)


def test_without_labels_the_float_network_teaches() -> None:
    graph, data, unseen = trained()
    unlabelled = replace(data, labels=None)
    given = Setting(ArrayFeed(unlabelled), unlabelled.first(256), None, M7)
    found = Symog(weights=4, epochs=4).prepare(graph, given)
    assert accuracy(found.graph, unseen) > 90.0
    assert not any("accuracy" in note for note in found.notes)
    outputs = evaluate_batches(found.graph, unseen.first(8).inputs)
    assert all(np.isfinite(v).all() for v in outputs.values())
