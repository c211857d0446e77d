"""The networks of the tables that shared/ does not hold, as the papers' descriptions give them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

WEIGHTS = Path(__file__).parent / "weights"

#: Output channels of 3x3 convolutions; "p" is a 2x2 maximum pool, (channels, 1) a 1x1 convolution.
Plan = Sequence[int | str | tuple[int, int]]

VGG16_QUARTER: Plan = (16, 16, "p", 32, 32, "p", 64, 64, 64, "p", 128, 128, 128, "p", 128, 128, 128, "p")
SIMPLENET_310K: Plan = (
    64, 32, 32, 32, "p", 32, 32, 64, "p", 64, 64, "p", 128, (256, 1), (64, 1), "p", 64, "p",
)  # fmt: skip


class Chain(nn.Module):
    """Convolutions with BatchNorm and ReLU one after another, pooled to one pixel, and a linear layer."""

    def __init__(self, plan: Plan, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for part in plan:
            if part == "p":
                layers.append(nn.MaxPool2d(2))
                continue
            width, kernel = part if isinstance(part, tuple) else (int(part), 3)
            layers += [nn.Conv2d(channels, width, kernel, padding=kernel // 2), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).flatten(1))


def vgg16_quarter() -> nn.Module:
    """VGG-16 with BatchNorm for images of 32x32, all widths a quarter: 924,186 parameters."""
    return Chain(VGG16_QUARTER)


def simplenet_310k() -> nn.Module:
    """SimpleNet's configuration of 312,362 parameters (Hasanpour et al., arXiv 1608.06037 and its PyTorch code)."""
    return Chain(SIMPLENET_310K)


NETWORKS = {"vgg16_quarter": vgg16_quarter, "simplenet_310k": simplenet_310k}


def load(name: str) -> nn.Module:
    """A network with the weights that `train_networks.py` made, in eval mode."""
    network = NETWORKS[name]()
    stored = torch.load(WEIGHTS / f"{name}.pt", map_location="cpu", weights_only=True)
    network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in stored.items()})
    return network.eval()
