"""Damaged models: a graph or a DnncError, never a crash or another exception."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from dnnc.errors import DnncError
from dnnc.frontend import read
from dnnc.frontend.onnx.table import HANDLERS
from models import tiny_cnn, tiny_mlp


@pytest.mark.parametrize("make", [tiny_cnn, tiny_mlp])
def test_damaged_bytes_never_do_harm(make: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    """Flipped bits, changed bytes, cut-out pieces: a graph or a DnncError, nothing else."""
    data = make().SerializeToString()
    rng = np.random.default_rng(0)
    outcomes = set()
    path = tmp_path / "m.onnx"
    for _ in range(400):
        noisy = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            position, kind = int(rng.integers(len(noisy))), int(rng.integers(3))
            if kind == 0:
                noisy[position] ^= 1 << int(rng.integers(8))
            elif kind == 1:
                noisy[position] = int(rng.integers(256))
            else:
                del noisy[position : position + int(rng.integers(1, 6))]
        try:
            path.write_bytes(bytes(noisy))
            read(path)
            outcomes.add("read")
        except DnncError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_damaged_structure_never_does_harm() -> None:
    """Wrong numbers in attributes and shapes, swapped operators and inputs."""
    rng = np.random.default_rng(1)
    numbers = [-(2**63), -1, 0, 1, 3, 2**16, 2**31, 2**62]
    outcomes = set()
    for _ in range(400):
        model = tiny_cnn()
        for _ in range(int(rng.integers(1, 4))):
            node = model.graph.node[int(rng.integers(len(model.graph.node)))]
            kind = int(rng.integers(3))
            if kind == 0 and node.attribute:
                attribute = node.attribute[int(rng.integers(len(node.attribute)))]
                number = int(rng.choice(numbers))
                if attribute.ints:
                    attribute.ints[int(rng.integers(len(attribute.ints)))] = number
                else:
                    attribute.i = number
            elif kind == 1:
                node.op_type = str(rng.choice(sorted(HANDLERS)))
            else:
                tensor = model.graph.initializer[int(rng.integers(len(model.graph.initializer)))]
                node.input[int(rng.integers(len(node.input)))] = tensor.name
        try:
            read(model)
            outcomes.add("read")
        except DnncError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
