"""Trains the float networks of `networks.py` and stores them in weights/: train_networks.py NAME [--epochs N].

SGD with Nesterov momentum, one cycle of the learning rate, weight decay, crops and mirrored images. The last 2,000
training images are never trained on: methods may use them to decide, so that test images decide nothing.
"""

from __future__ import annotations

import argparse
import time

import torch
from images import Images, cifar10, cifar_scaled, crop_and_flip
from networks import NETWORKS, WEIGHTS
from torch import nn

HELD_OUT = 2000


def accuracy(network: nn.Module, images: Images) -> float:
    """Per cent of images."""
    network.eval()
    with torch.inference_mode():
        right = sum(
            int((network(cifar_scaled(x)).argmax(1) == y).sum())
            for x, y in zip(images.x.split(500), images.y.split(500), strict=True)
        )
    return 100 * right / len(images)


def train(network: nn.Module, images: Images, epochs: int, rate: float, decay: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    steps = len(images) // 128
    optimiser = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, epochs * steps, pct_start=0.25)
    for epoch in range(epochs):
        network.train()
        start, total = time.time(), 0.0
        for batch in torch.randperm(len(images), generator=generator)[: steps * 128].split(128):
            x = cifar_scaled(crop_and_flip(images.x[batch], generator)).to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                loss = nn.functional.cross_entropy(network(x), images.y[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{epochs}: loss {total / steps:.4f}, {time.time() - start:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=NETWORKS)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--decay", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    network = NETWORKS[options.name]().to(memory_format=torch.channels_last)
    images = cifar10("train")
    train(network, images.take(slice(0, -HELD_OUT)), options.epochs, options.rate, options.decay, options.seed)
    held_out = accuracy(network, images.take(slice(-HELD_OUT, None)))
    WEIGHTS.mkdir(exist_ok=True)
    half = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    torch.save(half, WEIGHTS / f"{options.name}.pt")
    print(f"{options.name}: {held_out:.2f} % of {HELD_OUT} held-out training images")


if __name__ == "__main__":
    main()
