"""Quantisation-aware training: learned steps, given widths, narrow activations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from digits import Net, trained
from dnnc.compress import TRAINED_POLICIES, lsq
from dnnc.compress.feed import ArrayFeed
from dnnc.compress.lsq import Lsq, Rounding, start
from dnnc.compress.method import Setting
from dnnc.compress.surgery import channel_map, remove
from dnnc.compress.train import train
from dnnc.cost.loader import load_target
from dnnc.cost.target import Target
from dnnc.errors import OptionError
from dnnc.ir.graph import Graph
from dnnc.ir.types import Quant
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.bits import parse_policy
from dnnc.quantise.bits.activations import activation_widths
from dnnc.quantise.bits.policy import parse
from dnnc.quantise.bytes import linear_nodes
from dnnc.quantise.calibrate import Calibration, calibrate
from dnnc.quantise.integer import quantise
from dnnc.quantise.measure import correct_percent, integer_outputs
from dnnc.quantise.weights import WeightCodes

quick = pytest.mark.quick
M7 = load_target("cortex-m7")
SHIFT = replace(M7, requantise="shift")


def setting(target: Target = M7) -> Setting:
    _, data, unseen = trained()
    return Setting(ArrayFeed(data), data.first(256), unseen, target)


def calibrated(graph: Graph, target: Target = M7) -> Calibration:
    return calibrate(graph, trained()[1].first(256), target)


def integer(graph: Graph, policy: Any, target: Target = M7) -> Graph:
    calibration = calibrated(graph, target)
    return quantise(graph, calibration, policy.allocate(calibration, target), target)


def percent(graph: Graph) -> float:
    unseen = trained()[2]
    assert unseen.labels is not None
    return correct_percent(integer_outputs(graph, unseen)[graph.outputs[0].model_name], unseen.labels)


def test_the_teacher_is_the_network_before_any_method(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, _, _ = trained()
    teachers = []

    def spy(*given: Any, teacher: Graph, **options: Any) -> Graph:
        teachers.append(teacher)
        return train(*given, teacher=teacher, **options)

    monkeypatch.setattr(lsq, "train", spy)
    pruned = remove(graph, channel_map(graph).groups[0].ids[:2].tolist())
    Lsq(weights=4, epochs=1).prepare(pruned, replace(setting(), original=graph))
    Lsq(weights=4, epochs=1).prepare(pruned, setting())
    assert teachers == [graph, pruned]


def test_two_bits_above_rounding_after_training_and_codes_as_trained() -> None:
    graph, _, _ = trained()
    policy = Lsq(weights=2, epochs=8, rate=0.005)
    found = policy.prepare(graph, setting())
    result = integer(found.graph, policy)
    assert percent(result) > percent(integer(graph, parse_policy("uniform{weights=2}")))
    for node in linear_nodes(found.graph.nodes):
        made = result.by_name[node.name].params
        scale = node.params["weight_scale"].reshape(-1, *(1,) * (made["weight"].ndim - 1))
        np.testing.assert_array_equal(made["weight"], np.round(node.params["weight"] / scale))
        assert made["weight"].min() >= -2 and made["weight"].max() <= 1


def test_widths_of_another_policy() -> None:
    graph, _, _ = trained()
    found = Lsq(average=2.5, epochs=1).prepare(graph, setting())
    bits = {n.name: int(n.params["weight_bits"][0]) for n in linear_nodes(found.graph.nodes)}
    assert len(set(bits.values())) > 1
    calibration = calibrated(graph)
    rng = np.random.default_rng(0)
    mixed = {n.name: rng.choice([2, 4], len(n.params["weight"])) for n in linear_nodes(graph.nodes)}
    allocation = Allocation(mixed, activation_widths(calibration, 8))
    policy = Lsq(epochs=1)
    by_channel = policy.at(graph, calibration, allocation, setting())
    result = integer(by_channel.graph, policy)
    for name, widths in mixed.items():
        np.testing.assert_array_equal(result.by_name[name].params["weight_bits"], widths)
        for code, width in zip(result.by_name[name].params["weight"], widths, strict=True):
            assert code.min() >= -(2 ** (width - 1)) and code.max() < 2 ** (width - 1)


def test_narrow_activations_have_the_trained_steps() -> None:
    graph, _, _ = trained()
    policy = Lsq(weights=4, activations=4, epochs=2)
    found = policy.prepare(graph, setting())
    result = integer(found.graph, policy)
    inner = [n.name for n in found.graph.nodes if n.type.quant is not None]
    assert {"c1", "dw", "c2"} <= set(inner)
    before = calibrated(graph)
    for name in inner:
        quant = result.types[name].quant
        assert quant == found.graph.types[name].quant and quant is not None and quant.bits == 4
        assert quant.scale != before.quant(name, 4).scale
        assert quant.zero_point == before.quant(name, 4).zero_point


def test_powers_of_two_for_a_target_that_shifts() -> None:
    policy = Lsq(weights=3, epochs=2)
    found = policy.prepare(trained()[0], setting(SHIFT))
    assert all(np.all(np.frexp(n.params["weight_scale"])[0] == 0.5) for n in linear_nodes(found.graph.nodes))
    result = integer(found.graph, policy, SHIFT)
    assert set(result.by_name["c2"].params["weight_bits"].tolist()) == {3}


def test_masks_stay() -> None:
    graph, _, _ = trained()
    nodes = []
    for node in graph.nodes:
        if "weight" in node.params:
            weight = np.where(np.abs(node.params["weight"]) < 0.1, 0, node.params["weight"])
            node = replace(node, params={**node.params, "weight": weight})
        nodes.append(node)
    policy = Lsq(weights=2, epochs=2)
    found = policy.prepare(graph.with_nodes(nodes), setting())
    result = integer(found.graph, policy)
    for node in linear_nodes(nodes):
        assert not result.by_name[node.name].params["weight"][node.params["weight"] == 0].any()


# --- pieces ---


def example() -> tuple[Graph, WeightCodes]:
    net = Net(5)
    graph = net.graph(net.dense("d", "x", 3))
    weight = np.array([[0.9, -0.4, 0.0, 0.2, -3.0], [0.5, 0.6, 1.4, 2.5, -0.1], [0.0, 0.1, 0.2, 0.3, 0.4]])
    codes = np.array([[1, -1, 1, 0, -2], [0, 1, 1, 1, 0], [0, 0, 0, 1, 1]], np.int8)
    scale = np.array([0.7, 1.0, 0.5])
    params = {**graph.nodes[0].params, "weight": weight.astype(np.float32)}
    graph = graph.with_nodes([replace(graph.nodes[0], params=params)])
    return graph, WeightCodes(codes, scale, np.full(3, 2, np.uint8))


@quick
def test_weights_start_where_they_round_to_their_codes() -> None:
    graph, codes = example()
    weight = graph.nodes[0].params["weight"]
    moved = start(graph, {"d": codes}).nodes[0].params["weight"]
    rounded = np.clip(np.floor(moved / codes.scale[:, None] + 0.5), -2, 1)
    np.testing.assert_array_equal(rounded[weight != 0], codes.codes[weight != 0])
    assert not moved[weight == 0].any()
    np.testing.assert_array_equal(moved[0, [0, 4]], weight[0, [0, 4]])
    assert moved[1, 3] == weight[1, 3]


@quick
def test_gradients_of_steps_are_those_of_the_paper() -> None:
    graph, codes = example()
    quants = {"x": Quant(8, 0.1, 3), "d": Quant(4, 0.5, -2)}
    rounding = Rounding(graph, {"d": codes}, quants, {"x": "x", "d": "d"}, power_of_two=False)
    weight = torch.tensor(graph.nodes[0].params["weight"]).requires_grad_(True)
    used = rounding.params({"d": {"weight": weight}}, 0.0)["d"]["weight"]
    used.sum().backward()
    scaled = weight.detach().numpy() / codes.scale[:, None]
    inside = (scaled > -2) & (scaled < 1)
    of_step = np.where(inside, np.floor(scaled + 0.5) - scaled, np.clip(scaled, -2, 1)).sum(axis=1)
    logs = rounding.tensors()["d"]
    assert logs.grad is not None and weight.grad is not None
    np.testing.assert_allclose(logs.grad.numpy()[:, 0], of_step * codes.scale * np.log(2), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(weight.grad.numpy()[inside], 1)
    assert not weight.grad.numpy()[(scaled < -2) | (scaled > 1)].any()
    assert set(rounding.tensors()) == {"d", "value d"}
    x = torch.tensor([[-0.7, 0.04, 0.06, 100.0]])
    torch.testing.assert_close(rounding.value("x", x), torch.tensor([[-0.7, 0.0, 0.1, 12.4]]))
    torch.testing.assert_close(rounding.value("d", x), torch.tensor([[-0.5, 0.0, 0.0, 4.5]]))
    assert rounding.narrow_quants() == {"d": quants["d"]}


@quick
def test_options() -> None:
    assert parse("lsq{average=3.5,activations=4}", TRAINED_POLICIES) == Lsq(average=3.5, activations=4)
    assert str(Lsq(weights=2)) == "lsq{weights=2}"
    for text, message in (
        ("lsq{weights=1}", "'weights' expects 2 to 8 bits, found 1"),
        ("lsq{average=9}", "'average' expects 2 to 8 bits, found 9"),
        ("lsq{activations=16}", "'activations' expects 4 or 8 bits, found 16"),
        ("lsq{weight=2}", "did you mean 'weights'"),
    ):
        with pytest.raises(OptionError, match=message):
            parse(text, TRAINED_POLICIES)
