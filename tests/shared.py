"""The real models and data that lie beside the repository, where they do; tests that need them carry `needs_shared`."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[Any]

SHARED = Path(__file__).resolve().parents[2] / "shared"
MODELS = SHARED / "models"
DATA = SHARED / "data"

needs_shared = pytest.mark.skipif(
    not (MODELS.is_dir() and DATA.is_dir()), reason="needs the folder 'shared' (models/, data/) beside the repository"
)

#: The models whose figures the README quotes: file name without `.onnx`.
MODEL_NAMES = (
    "lenet300",
    "lenet5",
    "resnet8_cifar10_jpeg",
    "vgg_small_cifar10",
    "resnet8_cifar10",
    "vww_mobilenetv1_025",
    "kws_dscnn",
    "ad_autoencoder",
    "ad_autoencoder_fused",
    "strww_streaming",
)


def model_path(name: str) -> Path:
    """The ONNX file of a model; skips the test where it is missing."""
    path = MODELS / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"needs shared/models/{name}.onnx")
    return path


def mnist(split: str = "test", limit: int | None = None) -> tuple[Array, Array]:
    """Images uint8 [N, 28, 28] and labels uint8 [N]; skips the test where they are missing."""
    with np.load(_data("mnist.npz")) as archive:
        return archive[f"x_{split}"][:limit], archive[f"y_{split}"][:limit]


def cifar10(split: str = "test", limit: int | None = None) -> tuple[Array, Array]:
    """Images uint8 [N, 32, 32, 3] (RGB) and labels uint8 [N]; only the first `limit` are decoded.

    Every prefix is balanced over the classes. Skips the test where the file, or Pillow, is missing.
    """
    image = pytest.importorskip("PIL.Image", reason="needs Pillow to decode CIFAR-10")
    with np.load(_data("cifar10.npz")) as archive:
        packed, offsets, labels = archive[f"jpeg_{split}"], archive[f"offsets_{split}"], archive[f"y_{split}"][:limit]
    files = (packed[a:b].tobytes() for a, b in itertools.pairwise(offsets[: len(labels) + 1]))
    return np.stack([np.asarray(image.open(io.BytesIO(file))) for file in files]), labels


def samples(name: str, split: str = "test", limit: int | None = None) -> tuple[Array, Array]:
    """Inputs float32 in the layout and scaling that model `name` was trained on, and labels."""
    if name.startswith("lenet"):
        images, labels = mnist(split, limit)
        return (images[:, None] / np.float32(255)).astype(np.float32), labels
    if name.startswith("strww"):
        with np.load(_data("strww_samples.npz")) as archive:
            return archive["x"][:limit].astype(np.float32), archive["y"][:limit]
    if "cifar10" not in name:
        pytest.skip(f"there is no data for {name}")
    images, labels = cifar10(split, limit)
    x = images.astype(np.float32)
    if name.startswith("vgg_small"):
        x = (x - np.array([125.3, 123.0, 113.9], np.float32)) / np.array([63.0, 62.1, 66.7], np.float32)
    channels_last = name == "resnet8_cifar10"
    return (x if channels_last else np.ascontiguousarray(x.transpose(0, 3, 1, 2))), labels


def _data(name: str) -> Path:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"needs shared/data/{name}")
    return path
