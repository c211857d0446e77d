"""Augmentation: what is allowed, which axes it works on, and that chance comes from the generator alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from digits import Net
from dnnc.compress.augment import augmentation
from dnnc.compress.feed import Batch
from dnnc.errors import OptionError
from dnnc.frontend import read
from dnnc.ir.graph import Graph
from dnnc.ops.movement import Reshape
from models import tiny_conv1d, tiny_mlp

pytestmark = pytest.mark.quick


def image_graph(height: int = 8, width: int = 8, channels: int = 3, classes: int = 4) -> Graph:
    net = Net(height, width, channels)
    x = net.conv("c", "x", 2)
    return net.graph(net.dense("fc", net.add("flat", Reshape((height * width * 2,)), [x]), classes))


def changed(text: str, graph: Graph, x: torch.Tensor, labels: torch.Tensor | None = None, seed: int = 0) -> Batch:
    found = augmentation(text, graph)
    assert found is not None
    return found(Batch({graph.inputs[0].name: x}, labels), torch.Generator().manual_seed(seed))


def images(count: int = 64, graph: Graph | None = None) -> torch.Tensor:
    shape = (8, 8, 3) if graph is None else graph.inputs[0].type.shape
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(9)) + 0.5


@pytest.mark.parametrize("text", ["shift", "flip", "mixup", "noise", "shift{border=edge},flip", "mixup{alpha=1},noise"])
def test_the_generator_is_the_only_chance(text: str) -> None:
    graph, x, labels = image_graph(), images(), torch.arange(64) % 4
    first, again, other = (changed(text, graph, x, labels, seed) for seed in (0, 0, 1))
    assert torch.equal(first.inputs["x"], again.inputs["x"])
    assert not torch.equal(first.inputs["x"], other.inputs["x"])
    assert first.inputs["x"].shape == x.shape and not torch.equal(first.inputs["x"], x)
    assert torch.equal(x, images()), "the batch itself must stay"


def test_shifted_images_are_crops_of_padded_ones() -> None:
    x = images()
    for border, mode in (("zero", "constant"), ("edge", "replicate")):
        y = changed(f"shift{{margin=2,border={border}}}", image_graph(), x).inputs["x"]
        padded = torch.nn.functional.pad(x.permute(0, 3, 1, 2), (2,) * 4, mode=mode).permute(0, 2, 3, 1)
        places = set()
        for index in range(len(x)):
            (place,) = [
                (r, c) for r in range(5) for c in range(5) if torch.equal(y[index], padded[index, r : r + 8, c : c + 8])
            ]
            places.add(place)
        assert len(places) > 15


def test_flipped_images_are_mirrored_left_to_right() -> None:
    x = images(200)
    y = changed("flip", image_graph(), x).inputs["x"]
    mirrored = [torch.equal(b, a.flip(1)) for a, b in zip(x, y, strict=True)]
    same = [torch.equal(b, a) for a, b in zip(x, y, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert 70 < sum(mirrored) < 130


def test_mixed_samples_have_mixed_labels() -> None:
    """Images of one value, their class: every mean of images is the mean that its label tells."""
    graph, labels = image_graph(), torch.arange(64) % 4
    x = labels.float().reshape(-1, 1, 1, 1).expand(64, 8, 8, 3)
    found = changed("mixup{alpha=1}", graph, x, labels)
    assert found.labels is not None and found.labels.shape == (64, 4)
    torch.testing.assert_close(found.labels.sum(1), torch.ones(64))
    torch.testing.assert_close((found.labels * torch.arange(4)).sum(1), found.inputs["x"][:, 0, 0, 0])
    assert len(found.inputs["x"].unique()) > 4
    assert changed("mixup", graph, x).labels is None
    assert changed("mixup", image_graph(classes=1), x, labels % 2).labels.shape == (64, 2)


def test_noise_has_its_size() -> None:
    x = 40 * images(500)
    difference = changed("noise{deviation=0.1}", image_graph(), x).inputs["x"] - x
    np.testing.assert_allclose(float(difference.std()), 0.1 * float(x.std()), rtol=0.02)


def test_channels_are_found_wherever_they_are() -> None:
    """A network that flattens its input has it as the file has it: channels first."""
    net = Net(1, 8, 6)
    graph = net.graph(net.dense("fc", net.add("flat", Reshape((48,)), ["x"]), 3))
    x = images(64, graph)
    y = changed("flip", graph, x).inputs["x"]
    assert all(torch.equal(b, a) or torch.equal(b, a.flip(2)) for a, b in zip(x, y, strict=True))
    moved = changed("shift", graph, x).inputs["x"]
    assert (moved == 0).any() and not torch.equal(moved[:, :, 1:], x[:, :, 1:])


def test_signals_move_in_time_alone() -> None:
    net = Net(1, 40, 4)
    graph = net.graph(net.conv("c", "x", 2, 1))
    x = images(64, graph)
    y = changed("shift{margin=3}", graph, x).inputs["x"]
    for a, b in zip(x, y, strict=True):
        padded = torch.nn.functional.pad(a, (0, 0, 3, 3))
        assert any(torch.equal(b, padded[:, t : t + 40]) for t in range(7))
    with pytest.raises(OptionError, match="more than one row"):
        augmentation("flip", graph)


def test_no_augmentation() -> None:
    assert augmentation("none", image_graph()) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("shft", r"unknown augmentation 'shft', did you mean 'shift'\?; allowed: shift, flip, mixup, noise"),
        ("shift{margn=2}", "has no option 'margn', did you mean 'margin'"),
        ("shift{margin=0}", "'margin' expects a whole number >= 1, found 0"),
        ("shift{border=mirror}", "expects one of zero, edge"),
        ("mixup{alpha=0}", "'alpha' expects a number > 0, found 0"),
        ("noise{deviation=-1}", "'deviation' expects a number > 0"),
        ("flip,none", "'none' stands alone"),
        ("", "unknown augmentation ''"),
    ],
)
def test_wrong_names_name_the_right_ones(text: str, told: str) -> None:
    with pytest.raises(OptionError, match=told):
        augmentation(text, image_graph())


def test_images_are_needed_by_what_moves_them() -> None:
    graph = read(tiny_mlp())
    with pytest.raises(OptionError, match=r"'shift' needs images, and the network takes 'features' of \[12\]"):
        augmentation("noise,shift", graph)
    assert augmentation("noise,mixup", graph) is not None
    assert augmentation("noise", read(tiny_conv1d())) is not None
