"""Bit policies: their text, their budgets, what they ask of targets and data."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from digits import Net, network, trained
from dnnc.backends.c.lower import lower
from dnnc.backends.c.pack import pack_linear, stored_width
from dnnc.cost.loader import load_target
from dnnc.errors import BudgetError, OptionError
from dnnc.ir.graph import Graph
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.bits import POLICIES, Fisher, Int8, Uniform, parse_policy
from dnnc.quantise.bytes import linear_nodes, weight_bytes
from dnnc.quantise.calibrate import Calibration, calibrate
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.fisher import fisher
from dnnc.quantise.integer import quantise
from dnnc.quantise.measure import correct_percent, float_outputs, integer_outputs
from dnnc.quantise.menu import menu
from dnnc.quantise.synthesise import synthesise

quick = pytest.mark.quick
M7 = load_target("cortex-m7")


@lru_cache
def prepared() -> tuple[Calibration, Dataset, Dataset]:
    """(calibration on half of the training data, the other half, test data)"""
    graph, data, unseen = trained()
    seen, held_out = data.halves()
    return calibrate(graph, seen, M7), held_out, unseen


def allocated(text: str, held_out: Dataset | None = None) -> Allocation:
    return parse_policy(text).allocate(prepared()[0], M7, held_out)


def sizes(graph: Graph) -> dict[str, int]:
    return {n.name: n.params["weight"][0].size for n in linear_nodes(graph.nodes)}


# --- text ---


@quick
@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("int8", Int8()),
        ("int8{}", Int8()),
        ("uniform{weights=4}", Uniform(weights=4)),
        (" uniform { weights = 3 , activations=16 } ", Uniform(weights=3, activations=16)),
        ("fisher", Fisher()),
        ("fisher{average=4,group=channel}", Fisher(average=4.0, group="channel")),
        ("fisher{average=3.5}", Fisher(average=3.5)),
        ("fisher{flash_bytes=60000}", Fisher(flash_bytes=60000)),
        ("fisher{max_drop=0.5,activations=8}", Fisher(max_drop=0.5)),
    ],
)
def test_parsed_from_fields_and_printed_back(text: str, policy: Any) -> None:
    assert parse_policy(text) == policy
    assert parse_policy(str(policy)) == policy


@quick
def test_printed_shortly() -> None:
    assert str(Fisher(average=4.0, group="channel")) == "fisher{average=4,group=channel}"
    assert str(Fisher()) == "fisher" and str(Fisher(flash_bytes=1234567)) == "fisher{flash_bytes=1234567}"


@quick
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fischer", "unknown bit policy 'fischer', did you mean 'fisher'.; allowed: int8, uniform, fisher"),
        ("", "unknown bit policy ''"),
        ("uniform{weight=4}", "no option 'weight', did you mean 'weights'.; allowed: weights, activations"),
        ("int8{weights=4}", "'int8' has no option 'weights'; allowed: none"),
        ("uniform{weights=four}", "'weights' expects a whole number, found 'four'"),
        ("uniform{weights=4.5}", "'weights' expects a whole number, found '4.5'"),
        ("fisher{average=x}", "'average' expects a number, found 'x'"),
        ("fisher{group=chanel}", "expects one of layer, channel, parameter, found 'chanel', did you mean 'channel'"),
        ("fisher{average=4,average=3}", "'average' is given twice"),
        ("fisher{average}", "'average' needs a value"),
        ("fisher{average=4,max_drop=1}", "takes one budget, found average and max_drop"),
        ("fisher{max_drop=-1}", "'max_drop' expects a number >= 0"),
        ("fisher{average=nan}", "'average' expects a number >= 0"),
        ("fisher{average=4", r"expects name or name\{option=value,...\}"),
    ],
)
def test_mistakes_are_explained(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse_policy(text)


@quick
def test_every_policy_says_what_it_is() -> None:
    for name, kind in POLICIES.items():
        assert kind.name == name and kind.__doc__ and parse_policy(name) == kind()


# --- widths of targets ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("uniform{weights=9}", "'cortex-m7' has no 9-bit weights; it has 1, 2, 3, 4, 5, 6, 7, 8 bits"),
        ("uniform{activations=5}", "no 5-bit activations; it has 4, 8, 16 bits"),
        ("fisher{average=4,activations=5}", "no 5-bit activations"),
    ],
)
def test_widths_that_the_target_lacks(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        allocated(text)


def test_ends_stay_at_8_bits_and_softmax_reads_8() -> None:
    graph, data, _ = trained()
    target = replace(M7, activation_bits=(4, 8, 16))
    calibration = calibrate(graph, data.first(64), target)
    four = Uniform(activations=4).allocate(calibration, target).activation_bits
    assert four == {"x": 8, "c1": 4, "dw": 4, "c2": 4, "mean": 4, "fc": 4, "probabilities": 8}
    sixteen = Uniform(activations=16).allocate(calibration, target).activation_bits
    assert sixteen["fc"] == sixteen["probabilities"] == 8 and sixteen["c2"] == sixteen["x"] == 16


def test_fisher_offers_what_the_target_lists() -> None:
    calibration = prepared()[0]
    few = replace(M7, weight_bits=(1, 4, 7, 8))
    allocation = Fisher(average=6).allocate(calibration, few)
    assert set(np.concatenate(list(allocation.weight_bits.values()))) <= {4, 8}


def test_activations_are_chosen_within_their_average() -> None:
    graph, data, _ = trained()
    target = replace(M7, activation_bits=(4, 8, 16))
    calibration = calibrate(graph, data.first(128), target)
    sizes_of = {v: t.size for v, t in graph.types.items()}
    losses = []
    for average in (5, 6, 7, 9):
        found = Fisher(average=8, activation_average=average).allocate(calibration, target)
        used = sum(found.activation_bits[v] * n for v, n in sizes_of.items())
        assert used <= average * sum(sizes_of.values()) and set(found.activation_bits.values()) <= {4, 8, 16}
        assert found.activation_bits["x"] >= 8 and found.activation_bits["probabilities"] == 8
        losses.append(sum(found.activation_sensitivity.values()))
        assert quantise(graph, calibration, found, target).integer
    assert losses == sorted(losses, reverse=True) and losses[0] > losses[-1]
    assert Fisher(average=8, activation_average=8).allocate(calibration, M7).activation_bits["c1"] == 8
    with pytest.raises(BudgetError, match="an average of 3 bits an activation cannot be met: the least is"):
        Fisher(activation_average=3).allocate(calibration, target)
    with pytest.raises(OptionError, match="'activation_average' expects a number >= 0"):
        Fisher(activation_average=-1)


# --- budgets ---


@pytest.mark.parametrize("group", ["layer", "channel"])
@pytest.mark.parametrize("average", [2, 2.7, 4, 5.5, 8, 20])
def test_average_is_met_exactly(group: str, average: float) -> None:
    graph = prepared()[0].graph
    allocation = allocated(f"fisher{{average={average},group={group}}}")
    assert allocation.average_bits(sizes(graph)) <= average + 1e-9
    if group == "channel" and average <= 8:
        assert allocation.average_bits(sizes(graph)) > average - 0.05
    if group == "layer":
        assert all(len(set(b)) == 1 for b in allocation.weight_bits.values())
    assert set(allocation.sensitivity) == set(sizes(graph))
    assert allocation.predicted_loss == pytest.approx(sum(allocation.sensitivity.values()))


def test_finer_groups_and_larger_budgets_lose_less() -> None:
    losses = {
        (group, average): allocated(f"fisher{{average={average},group={group}}}").predicted_loss
        for group in ("layer", "channel") for average in (2.5, 3, 4, 6)
    }  # fmt: skip
    for average in (2.5, 3, 4, 6):
        assert losses["channel", average] <= losses["layer", average]
    for group in ("layer", "channel"):
        row = [losses[group, average] for average in (2.5, 3, 4, 6)]
        assert row == sorted(row, reverse=True)


def test_layers_are_chosen_as_enumeration_chooses() -> None:
    calibration = prepared()[0]
    information = fisher(calibration, calibration.dataset)
    widths = (2, 4, 8)
    choices = menu(calibration, information, widths, by_channel=False)
    nodes = choices.nodes
    budget = 3.3 * sum(n.params["weight"].size for n in nodes)
    best = None
    for picks in np.ndindex(*(len(widths),) * len(nodes)):
        cost = sum(widths[p] * n.params["weight"].size for p, n in zip(picks, nodes, strict=True))
        loss = sum(choices.losses[n.name][:, p].sum() for p, n in zip(picks, nodes, strict=True))
        if cost <= budget and (best is None or loss < best):
            best = loss
    found = choices.least_bits(budget)
    assert found is not None and best is not None
    assert sum(choices.loss(found).values()) == pytest.approx(best)


@pytest.mark.parametrize("group", ["layer", "channel"])
@pytest.mark.parametrize("flash_bytes", [3400, 4321, 5555, 100000])
def test_flash_is_met(group: str, flash_bytes: int) -> None:
    graph = prepared()[0].graph
    allocation = allocated(f"fisher{{flash_bytes={flash_bytes},group={group}}}")
    integer = quantise(graph, prepared()[0], allocation, M7)
    steps = lower(integer, M7).steps
    used = sum(step.weight_bytes + step.table_bytes for step in steps)
    assert used <= flash_bytes
    assert used > 0.85 * min(flash_bytes, 5900)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fisher{average=1.5}", "average of 1.5 bits a weight cannot be met: the narrowest width is 2"),
        ("fisher{flash_bytes=900}", "900 bytes of flash cannot be met: weights and tables take at least [0-9]+ bytes"),
        ("fisher{flash_bytes=900,group=channel}", "cannot be met"),
    ],
)
def test_budgets_that_cannot_be_met(text: str, message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        allocated(text)


def test_max_drop_measures_on_held_out_samples() -> None:
    calibration, held_out, unseen = prepared()
    loose, strict = allocated("fisher{max_drop=3}", held_out), allocated("fisher{max_drop=0}", held_out)
    k = sizes(calibration.graph)
    assert 2 <= loose.average_bits(k) < strict.average_bits(k) <= 8
    name = "probabilities"
    for limit, allocation in ((3, loose), (0, strict)):
        integer = quantise(calibration.graph, calibration, allocation, M7)
        assert held_out.labels is not None and unseen.labels is not None
        real = correct_percent(float_outputs(calibration.graph, held_out)[name], held_out.labels)
        assert real - correct_percent(integer_outputs(integer, held_out)[name], held_out.labels) <= limit + 1e-6
        assert "held-out samples" in allocation.notes[0]
        real = correct_percent(float_outputs(calibration.graph, unseen)[name], unseen.labels)
        assert real - correct_percent(integer_outputs(integer, unseen)[name], unseen.labels) <= limit + 2


def test_max_drop_needs_labels() -> None:
    with pytest.raises(OptionError, match="max_drop needs labels"):
        allocated("fisher{max_drop=1}")


def test_labels_make_half_a_point_the_default() -> None:
    held_out = prepared()[1]
    both = [allocated(text, held_out) for text in ("fisher", "fisher{max_drop=0.5}")]
    assert "drops by at most 0.5 points" in both[0].notes[0] and both[0].notes == both[1].notes
    for name, bits in both[0].weight_bits.items():
        np.testing.assert_array_equal(bits, both[1].weight_bits[name])


def test_without_data_at_all() -> None:
    graph = network(softmax=False)
    for net in (graph, network()):
        calibration = calibrate(net, synthesise(net, 32), M7)
        allocation = Fisher().allocate(calibration, M7)
        assert 2 <= allocation.average_bits(sizes(net)) < 8
        assert "no labels" in allocation.notes[0]
        assert quantise(net, calibration, allocation, M7).integer


# --- bytes ---


@quick
@pytest.mark.parametrize("options", [{}, {"groups": 2}, {"groups": 6}])
def test_bytes_are_those_of_the_packer(options: dict[str, int]) -> None:
    rng = np.random.default_rng(0)
    for depth, outputs, kernel in ((6, 12, 3), (6, 18, 1), (12, 30, 2), (6, 6, 5)):
        if depth % options.get("groups", 1) or outputs % options.get("groups", 1):
            continue
        net = Net(8, 8, depth)
        node = net.graph(net.conv("c", "x", outputs, kernel, padding=(0, 0, 0, 0), **options)).nodes[0]
        groups = 1 if node.op.depthwise(node.params) else options.get("groups", 1)  # type: ignore[attr-defined]
        weight = node.params["weight"].reshape(outputs, -1)
        for bits in range(1, 9):
            codes = np.where(rng.random(weight.shape) < 0.5, -1, 1)
            packed = pack_linear(codes, stored_width(bits), groups)
            assert weight_bytes(node, np.full(outputs, bits, np.uint8)) == packed.nbytes
        mixed = rng.choice([2, 3, 4, 7, 8], outputs).astype(np.uint8)
        expected = 0
        for group in range(groups):
            chosen = np.arange(outputs) // (outputs // groups) == group
            for width in {stored_width(int(b)) for b in mixed[chosen]}:
                rows = chosen & (np.array([stored_width(int(b)) for b in mixed]) == width)
                expected += pack_linear(np.ones((int(rows.sum()), weight.shape[1]), int), width).nbytes
        assert weight_bytes(node, mixed) == expected
