"""The Fisher information against gradients taken sample by sample and class by class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from digits import Net, trained
from dnnc.cost.loader import load_target
from dnnc.evaluate import evaluate, parameters
from dnnc.ir.graph import Graph
from dnnc.ops.activation import NO_CLAMP, Clamp
from dnnc.ops.elementwise import Add
from dnnc.ops.movement import Reshape
from dnnc.ops.pool import MaxPool2D
from dnnc.ops.softmax import Softmax
from dnnc.quantise.calibrate import calibrate
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.fisher import Fisher, fisher
from dnnc.quantise.heads import heads

quick = pytest.mark.quick
RNG = np.random.default_rng(0)


def branched(outputs: int, softmax: bool) -> Graph:
    """Every kind of linear layer: strided, grouped, depthwise, dilated, with and without clamps, and a residual."""
    net = Net(6, 6, 4, seed=1)
    a = net.conv("a", "x", 8, stride=(2, 2), padding=(0, 1, 1, 0))
    b = net.conv("b", a, 8, groups=8, clamp=NO_CLAMP)
    c = net.conv(
        "c", net.add("sum", Add(clamp=Clamp(0.0, 6.0)), [a, b]), 6, groups=2, dilation=(2, 2), padding=(2,) * 4
    )
    pooled = net.add("pool", MaxPool2D(kernel=(2, 2), stride=(1, 1)), [c])
    size = net.types[pooled].size
    d = net.dense("d", net.add("flat", Reshape(shape=(size,)), [pooled]), outputs)
    return net.graph(net.add("p", Softmax(), [d]) if softmax else d)


def samples(graph: Graph, count: int) -> Dataset:
    return Dataset({"x": RNG.standard_normal((count, *graph.inputs[0].type.shape)).astype(np.float32)})


def found(graph: Graph, data: Dataset, seed: int = 0) -> Fisher:
    return fisher(calibrate(graph, data, load_target("cortex-m7")), data, (8,), seed)


def logits_of(graph: Graph, params: Any, x: torch.Tensor) -> torch.Tensor:
    seen: dict[str, torch.Tensor] = {}

    def hook(name: str, value: torch.Tensor) -> torch.Tensor:
        seen[name] = value
        return value

    evaluate(graph, {"x": x}, params, hook)
    return seen["d"][0]


def per_sample(graph: Graph, data: Dataset, loss_gradients: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Mean over samples of what `loss_gradients(logits)` lists as (weight, scalar): weight * gradient(scalar)^2."""
    params = parameters(graph, torch.float64)
    leaves = {n: p["weight"].requires_grad_(True) for n, p in params.items() if "weight" in p}
    total = {n: torch.zeros_like(v) for n, v in leaves.items()}
    for sample in data.inputs["x"]:
        y = logits_of(graph, params, torch.tensor(sample[None], dtype=torch.float64))
        for weight, scalar in loss_gradients(y):
            gradients = torch.autograd.grad(scalar, list(leaves.values()), retain_graph=True)
            for name, g in zip(leaves, gradients, strict=True):
                total[name] += weight * g**2
    return {n: v.numpy() / len(data) for n, v in total.items()}


@quick
def test_classes_are_an_exact_expectation() -> None:
    graph = branched(5, softmax=True)
    data = samples(graph, 6)

    def each_class(y: torch.Tensor) -> Any:
        log_p = y.log_softmax(dim=-1)
        return [(float(log_p[c].detach().exp()), log_p[c]) for c in range(5)]

    expected = per_sample(graph, data, each_class)
    result = found(graph, data)
    assert result.logits and result.samples == 6
    assert sorted(result.weights) == ["a", "b", "c", "d"]
    for name, values in expected.items():
        assert result.weights[name].shape == graph.by_name[name].params["weight"].shape
        np.testing.assert_allclose(result.weights[name], values, rtol=2e-3, atol=1e-7 * values.max())
        # The batch's mean gradient would be something else altogether.
        assert values.max() > 0


@quick
def test_plain_outputs_get_the_gauss_newton_form() -> None:
    graph = branched(3, softmax=False)
    data = samples(graph, 5)
    outputs = np.stack([
        logits_of(graph, parameters(graph, torch.float64), torch.tensor(x[None], dtype=torch.float64)).numpy()
        for x in data.inputs["x"]
    ])  # fmt: skip
    variance = outputs.var(axis=0).sum()
    expected = per_sample(graph, data, lambda y: [(1 / variance, v) for v in y])
    result = found(graph, data)
    assert not result.logits
    for name, values in expected.items():
        np.testing.assert_allclose(result.weights[name], values, rtol=2e-3, atol=1e-7 * values.max())


@quick
def test_labels_make_plain_outputs_logits() -> None:
    graph = branched(3, softmax=False)
    data = samples(graph, 8)
    labelled = replace(data, labels=np.zeros(8, np.int64))
    assert found(graph, labelled).logits and not found(graph, data).logits
    with_softmax = branched(3, softmax=True)
    assert heads(with_softmax, labelled=True) == heads(with_softmax, labelled=False)


@pytest.mark.parametrize("softmax", [True, False])
def test_many_outputs_are_sampled_without_bias(softmax: bool) -> None:
    graph = branched(40, softmax)
    data = samples(graph, 100)

    def exact(y: torch.Tensor) -> Any:
        if softmax:
            log_p = y.log_softmax(dim=-1)
            return [(float(v.detach().exp()), v) for v in log_p]
        return [(1.0, v) for v in y]

    expected = per_sample(graph, Dataset({"x": data.inputs["x"][:40]}), exact)
    results = [found(graph, data, seed) for seed in range(3)]
    for name, values in expected.items():
        mean = np.mean([r.weights[name].sum() for r in results])
        scale = 1.0 if softmax else float(np.mean([r.weights["d"].sum() for r in results])) / expected["d"].sum()
        assert mean == pytest.approx(values.sum() * scale, rel=0.25)


@quick
def test_activations_are_what_autograd_says() -> None:
    graph = branched(4, softmax=True)
    data = samples(graph, 5)
    calibration = calibrate(graph, data, load_target("cortex-m7"))
    result = fisher(calibration, data, (8,))
    total = 0.0
    for sample in data.inputs["x"]:
        seen: dict[str, torch.Tensor] = {}

        def hook(name: str, value: torch.Tensor, seen: dict[str, torch.Tensor] = seen) -> torch.Tensor:
            seen[name] = value
            return value

        evaluate(graph, {"x": torch.tensor(sample[None]).requires_grad_(True)}, hook=hook)
        quant = calibration.quant("sum", 8)
        error = seen["sum"] - quant.scale * (
            (seen["sum"] / quant.scale + quant.zero_point + 0.5).floor().clamp(quant.lo, quant.hi) - quant.zero_point
        )
        log_p = seen["d"][0].log_softmax(dim=-1)
        for c in range(4):
            (g,) = torch.autograd.grad(log_p[c], [seen["sum"]], retain_graph=True)
            total += float(log_p[c].detach().exp() * (g**2 * error.detach() ** 2).sum()) / 2 / len(data)
    assert result.activations["sum"][8] == pytest.approx(total, rel=1e-2)


@quick
def test_predicted_loss_is_half_the_weighted_squared_error() -> None:
    graph = branched(4, softmax=True)
    data = samples(graph, 4)
    result = found(graph, data)
    node = graph.by_name["a"]
    moved = node.params["weight"] + 0.01
    expected = 0.5 * 1e-4 * result.weights["a"].reshape(8, -1).sum(axis=1)
    np.testing.assert_allclose(result.weight_loss(node, moved), expected, rtol=1e-4)


def test_predicts_the_divergence_that_small_noise_makes() -> None:
    """1/2 sum F e^2 is the KL divergence to second order, in expectation over independent errors."""
    graph, data, _ = trained()
    part = data.first(64)
    result = found(graph, part)
    params = parameters(graph, torch.float64)
    x = {"x": torch.tensor(part.inputs["x"], dtype=torch.float64)}
    p = evaluate(graph, x, params)["probabilities"]
    rng = np.random.default_rng(0)
    for name in ("c1", "c2", "fc"):
        sigma = 0.02 * float(params[name]["weight"].std())
        measured = []
        for _ in range(12):
            noise = torch.tensor(rng.standard_normal(params[name]["weight"].shape)) * sigma
            moved = {**params, name: {**params[name], "weight": params[name]["weight"] + noise}}
            q = evaluate(graph, x, moved)["probabilities"]
            measured.append(float((p * (p / q).log()).sum(dim=-1).mean()))
        predicted = 0.5 * sigma**2 * float(result.weights[name].sum())
        assert np.mean(measured) == pytest.approx(predicted, rel=0.4)


@quick
def test_same_seed_same_bytes(tmp_path: Path) -> None:
    graph = branched(40, softmax=True)
    data = samples(graph, 8)
    first, second = found(graph, data, 5), found(graph, data, 5)
    for name in first.weights:
        np.testing.assert_array_equal(first.weights[name], second.weights[name])
    assert first.activations == second.activations
