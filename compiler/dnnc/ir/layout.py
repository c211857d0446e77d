"""Samples between the model file's own layout and the graph's channels-last one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc.ir.types import Layout

Array = NDArray[Any]


def from_model(x: Array, layout: Layout) -> Array:
    """[N, *sample_shape] as the model's file has it -> [N, *shape] as the graph has it."""
    return np.ascontiguousarray(x.transpose(0, *(p + 1 for p in layout.perm)))


def to_model(x: Array, layout: Layout) -> Array:
    """[N, *shape] as the graph has it -> [N, *sample_shape] as the model's file has it."""
    inverse = np.argsort(layout.perm)
    return np.ascontiguousarray(x.transpose(0, *(int(p) + 1 for p in inverse)))
