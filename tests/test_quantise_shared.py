"""Accuracy of real networks: what int8 keeps, what fewer bits cost, what it takes without data."""

from __future__ import annotations

import numpy as np
import pytest

from dnnc import frontend
from dnnc.cost.loader import load_target
from dnnc.ir.graph import Graph
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.bits import parse_policy
from dnnc.quantise.bytes import linear_nodes
from dnnc.quantise.calibrate import Calibration, calibrate
from dnnc.quantise.data import load_data, synthesise
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.integer import quantise
from dnnc.quantise.measure import changed, correct_percent, float_outputs, integer_outputs
from shared import model_path, needs_shared, samples

pytestmark = [needs_shared, pytest.mark.slow]
M7 = load_target("cortex-m7")


def prepared(name: str, tested: int) -> tuple[Graph, Dataset, Dataset]:
    graph = frontend.read(model_path(name))
    plain = name.removesuffix("_bn")
    return graph, load_data(samples(plain, "train", 400), graph), load_data(samples(plain, "test", tested), graph)


def accuracy(graph: Graph, data: Dataset) -> float:
    outputs = integer_outputs(graph, data) if graph.integer else float_outputs(graph, data)
    assert data.labels is not None
    return correct_percent(next(iter(outputs.values())), data.labels)


def allocated(calibration: Calibration, bits: str) -> Allocation:
    return parse_policy(bits).allocate(calibration, M7)


@pytest.mark.parametrize("name", ["lenet300", "lenet5"])
def test_digits_lose_nothing(name: str) -> None:
    graph, seen, unseen = prepared(name, 2000)
    real = accuracy(graph, unseen)
    calibration = calibrate(graph, seen, M7)
    for bits, drop in (
        ("int8", 0.3),
        ("uniform{weights=4}", 0.4),
        ("fisher{average=4}", 0.4),
        ("fisher{average=2.5}", 1),
    ):
        assert accuracy(quantise(graph, calibration, allocated(calibration, bits), M7), unseen) >= real - drop


def test_resnet8_keeps_its_accuracy() -> None:
    """The margins leave room for the noise of 500 images (some 0.7 points); tools/bench/accuracy.py is exact."""
    graph, seen, unseen = prepared("resnet8_cifar10_jpeg", 500)
    real = accuracy(graph, unseen)
    calibration = calibrate(graph, seen, M7)
    expected = float_outputs(graph, unseen)["logits"]
    moved = {}
    for bits, drop in (("int8", 1), ("fisher{average=4}", 2.5), ("uniform{weights=3}", 6), ("fisher{average=3}", 4)):
        integer = quantise(graph, calibration, allocated(calibration, bits), M7)
        assert accuracy(integer, unseen) >= real - drop, bits
        moved[bits] = changed(expected, integer_outputs(integer, unseen)["logits"], probabilities=False)
    assert moved["int8"] < moved["fisher{average=4}"] < moved["fisher{average=3}"] < 0.9 * moved["uniform{weights=3}"]


def test_resnet8_needs_no_data() -> None:
    """From BatchNorm statistics, and from nothing but the weights."""
    for name, drop in (("resnet8_cifar10_jpeg_bn", 6), ("resnet8_cifar10_jpeg", 6)):
        graph, _, unseen = prepared(name, 500)
        data = synthesise(graph, 48)
        assert "pixels" in data.warnings[0] or "BatchNorm statistics" in data.warnings[0]
        calibration = calibrate(graph, data, M7)
        integer = quantise(graph, calibration, allocated(calibration, "int8"), M7)
        assert accuracy(integer, unseen) >= accuracy(graph, unseen) - drop


@pytest.mark.parametrize("name", ["kws_dscnn", "ad_autoencoder", "strww_streaming", "vww_mobilenetv1_025"])
def test_every_model_becomes_integer_without_data(name: str) -> None:
    graph = frontend.read(model_path(name))
    calibration = calibrate(graph, synthesise(graph, 16), M7)
    for bits in ("int8", "fisher{average=4,group=channel}"):
        allocation = allocated(calibration, bits)
        integer = quantise(graph, calibration, allocation, M7)
        assert integer.integer
        sizes = {n.name: n.params["weight"][0].size for n in linear_nodes(graph.nodes)}
        assert allocation.average_bits(sizes) <= (8 if bits == "int8" else 4)
        expected, found = float_outputs(graph, calibration.dataset), integer_outputs(integer, calibration.dataset)
        assert all(np.corrcoef(expected[k].ravel(), found[k].ravel())[0, 1] > 0.9 for k in expected)
