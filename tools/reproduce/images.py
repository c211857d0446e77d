"""MNIST and this project's copy of CIFAR-10, as torch tensors: float [N,C,H,W] (scaled) or uint8, and labels."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

SHARED = Path(__file__).resolve().parents[3] / "shared"
CIFAR_MEAN, CIFAR_DEVIATION = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)


@dataclass(frozen=True)
class Images:
    """Images x uint8 [N,C,H,W] and labels y int64 [N]."""

    x: torch.Tensor
    y: torch.Tensor

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: torch.Tensor | slice) -> Images:
        return Images(self.x[index], self.y[index])


def _loader() -> object:
    spec = importlib.util.spec_from_file_location("load_data", SHARED / "data" / "load_data.py")
    if spec is None or spec.loader is None or not (SHARED / "data").is_dir():
        raise SystemExit("the data of these experiments are expected in ../shared/data beside the repository")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mnist(split: str) -> Images:
    """x [60000 | 10000, 1, 28, 28]."""
    x_train, y_train, x_test, y_test = _loader().mnist()  # type: ignore[attr-defined]
    x, y = (x_train, y_train) if split == "train" else (x_test, y_test)
    return Images(torch.from_numpy(x)[:, None], torch.from_numpy(y.astype(np.int64)))


def cifar10(split: str, limit: int | None = None) -> Images:
    """x [50000 | 10000, 3, 32, 32]; JPEG, so accuracies compare with each other only."""
    x, y = _loader().cifar10(split, limit)  # type: ignore[attr-defined]
    return Images(torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(y.astype(np.int64)))


def cifar_scaled(x: torch.Tensor) -> torch.Tensor:
    """Pixels 0..255 as the CIFAR networks take them."""
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (CIFAR_MEAN, CIFAR_DEVIATION))
    return (x.float() - mean) / deviation


def crop_and_flip(x: torch.Tensor, generator: torch.Generator, margin: int = 4) -> torch.Tensor:
    """Every image moved by up to `margin` pixels (zeros come in) and mirrored half of the time."""
    count, _, height, width = x.shape
    padded = torch.nn.functional.pad(x, (margin,) * 4)
    rows = torch.randint(0, 2 * margin + 1, (count, 1), generator=generator) + torch.arange(height)
    columns = torch.randint(0, 2 * margin + 1, (count, 1), generator=generator) + torch.arange(width)
    mirrored = torch.rand(count, generator=generator) < 0.5
    columns[mirrored] = columns[mirrored].flip(1)
    pick = torch.arange(count)[:, None, None]
    return padded.permute(0, 2, 3, 1)[pick, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
