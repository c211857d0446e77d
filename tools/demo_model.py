"""Trains the demo's network: a small CNN on scikit-learn's handwritten digits, in seconds, on one core.

usage: demo_model.py FOLDER      writes digits.onnx, digits.npz (calibration: x, y) and digits_test.npz
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

EPOCHS = 12
BATCH = 32


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """1797 images [N, 1, 8, 8] in 0..1 and their classes, in a fixed random order."""
    images, classes = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    x = torch.tensor(images[order].reshape(-1, 1, 8, 8) / 16.0, dtype=torch.float32)
    return x, torch.tensor(classes[order])


def network() -> nn.Module:
    """Three convolutions with BatchNorm and one linear layer: 14 thousand weights."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((1, 16, 1), (16, 32, 2), (32, 32, 2)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def train(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    steps = EPOCHS * (len(x) // BATCH)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=steps)
    model.train()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x))[: len(x) // BATCH * BATCH].view(-1, BATCH):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimiser.step()
            schedule.step()
    model.eval()


def main(folder: Path) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    x, y = digits()
    seen, unseen = slice(0, 1297), slice(1297, None)
    model = network()
    train(model, x[seen], y[seen])
    with torch.inference_mode():
        right = (model(x[unseen]).argmax(1) == y[unseen]).float().mean()
    print(f"trained: {100 * right:.1f} % of {len(x[unseen])} unseen digits")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (x[:1],), str(folder / "digits.onnx"), dynamo=True, verbose=False, external_data=False)
    np.savez(folder / "digits.npz", x=x[seen].numpy(), y=y[seen].numpy())
    np.savez(folder / "digits_test.npz", x=x[unseen].numpy(), y=y[unseen].numpy())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
