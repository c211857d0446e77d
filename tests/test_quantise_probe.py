"""What layers lose by themselves, measured from where they lie on, against whole networks with one layer rounded."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dnnc.cost.loader import load_target
from dnnc.evaluate import evaluate, parameters
from dnnc.quantise import probe
from dnnc.quantise.calibrate import Calibration, calibrate
from dnnc.quantise.fisher import fisher
from dnnc.quantise.heads import heads
from dnnc.quantise.menu import Menu, menu
from dnnc.quantise.probe import probed
from test_quantise_fisher import branched, samples

pytestmark = pytest.mark.quick
WIDTHS = (2, 4, 8)


def made(softmax: bool = True, by_channel: bool = False) -> tuple[Calibration, Menu]:
    graph = branched(5, softmax)
    calibration = calibrate(graph, samples(graph, 40), load_target("cortex-m7"))
    return calibration, menu(calibration, fisher(calibration, calibration.dataset), WIDTHS, by_channel)


@pytest.mark.parametrize("softmax", [True, False])
def test_sums_of_a_layer_are_what_the_whole_network_loses(softmax: bool) -> None:
    calibration, predicted = made(softmax)
    graph, found = calibration.graph, probed(calibration, predicted)
    (head,) = heads(graph, False)
    inputs = {k: torch.as_tensor(v) for k, v in calibration.dataset.inputs.items()}

    def answers(params: object) -> torch.Tensor:
        kept: dict[str, torch.Tensor] = {}
        evaluate(graph, inputs, params, lambda name, value: kept.setdefault(name, value))  # type: ignore[arg-type]
        return kept[head.value].double()

    before = answers(parameters(graph))
    for node in found.nodes:
        losses = []
        for width, codes in calibration.weights(node, WIDTHS).items():
            params = parameters(graph)
            error = (codes.real() - node.params["weight"]).reshape(len(codes.real()), -1)
            mean = np.repeat(
                calibration.moments[node.name].mean.numpy(),
                len(error) // len(calibration.moments[node.name].mean),
                axis=0,
            )
            params[node.name]["weight"] = torch.as_tensor(codes.real(), dtype=torch.float32)
            params[node.name]["bias"] -= torch.as_tensor((error * mean).sum(axis=1), dtype=torch.float32)
            after = answers(params)
            if head.logits:
                p, q = before.log_softmax(-1), after.log_softmax(-1)
                losses.append(float((p.exp() * (p - q)).sum(-1).mean()))
            else:
                variance = float(before.var(dim=0, unbiased=False).sum())
                losses.append(float(((before - after) ** 2).sum(-1).mean()) / variance / 2)
            assert width in WIDTHS
        least_first = np.maximum.accumulate(np.array(losses)[::-1])[::-1]
        np.testing.assert_allclose(found.losses[node.name].sum(axis=0), least_first, rtol=1e-4, atol=1e-9)


def test_channels_keep_their_shares() -> None:
    calibration, predicted = made(by_channel=True)
    found = probed(calibration, predicted)
    for name, losses in found.losses.items():
        before = predicted.losses[name]
        assert losses.shape == before.shape and np.all(losses >= 0)
        np.testing.assert_allclose(losses[:, 0] / losses[:, 0].sum(), before[:, 0] / before[:, 0].sum(), rtol=1e-6)
        assert np.all(np.diff(losses.sum(axis=0)) <= 1e-12)


def test_what_was_predicted_to_lose_nothing_is_shared_equally() -> None:
    found = probe._scaled(np.array([[0.0, 1.0], [0.0, 3.0]]), np.array([0.5, 0.2]))
    np.testing.assert_allclose(found, [[0.25, 0.05], [0.25, 0.15]])


def test_a_network_too_large_to_measure_keeps_the_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    calibration, predicted = made()
    monkeypatch.setattr(probe, "_MAC_BUDGET", 1e3)
    assert probed(calibration, predicted) is predicted
