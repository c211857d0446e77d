"""Random chains of operators that move, cut, join and compute, against onnxruntime: memory orders never mix up."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import onnx
import pytest

from against_onnx import check_against_onnxruntime
from models import ModelBuilder

Shape = tuple[int, ...]
Step = Callable[[ModelBuilder, str, Shape], tuple[str, Shape]]


def transpose(b: ModelBuilder, x: str, shape: Shape) -> tuple[str, Shape]:
    perm = [0, *(1 + b.rng.permutation(len(shape) - 1))]
    return b.node("Transpose", [x], perm=[int(p) for p in perm]), tuple(shape[p] for p in perm)


def reshape(b: ModelBuilder, x: str, shape: Shape) -> tuple[str, Shape]:
    left, parts = prod(shape), []
    while left > 1 and len(parts) < 3:
        divisors = [d for d in range(1, left + 1) if left % d == 0]
        parts.append(int(b.rng.choice(divisors)))
        left //= parts[-1]
    target = (1, *parts, left)
    return b.node("Reshape", [x, b.constant(target, np.int64)]), target


def join_or_cut(b: ModelBuilder, x: str, shape: Shape) -> tuple[str, Shape]:
    """Joins two neighbouring axes, or cuts one in two."""
    axis = int(b.rng.integers(1, len(shape)))
    if axis + 1 < len(shape) and b.rng.random() < 0.5:
        target = (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :])
    else:
        factor = int(b.rng.choice([d for d in range(1, shape[axis] + 1) if shape[axis] % d == 0]))
        target = (*shape[:axis], factor, shape[axis] // factor, *shape[axis + 1 :])
    return b.node("Reshape", [x, b.constant(target, np.int64)]), target


def conv(b: ModelBuilder, x: str, shape: Shape) -> tuple[str, Shape]:
    outputs = int(b.rng.integers(1, 4))
    ones = (1,) * (len(shape) - 2)
    return b.conv(x, shape[1], outputs, ones), (1, outputs, *shape[2:])


def matmul(b: ModelBuilder, x: str, shape: Shape) -> tuple[str, Shape]:
    outputs = int(b.rng.integers(1, 5))
    return b.node("MatMul", [x, b.weight(shape[-1], outputs, scale=0.5)]), (*shape[:-1], outputs)


def add_constant(b: ModelBuilder, x: str, shape: Shape) -> tuple[str, Shape]:
    part = tuple(n if b.rng.random() < 0.5 else 1 for n in shape[int(b.rng.integers(len(shape))) :])
    return b.node(str(b.rng.choice(["Add", "Mul", "Sub"])), [x, b.constant(b.rng.normal(size=part))]), shape


def pool_and_scale(b: ModelBuilder, x: str, shape: Shape) -> tuple[str, Shape]:
    axis = int(b.rng.integers(1, len(shape)))
    mean = b.node("ReduceMean", [x], axes=[axis], keepdims=1)
    return b.node(str(b.rng.choice(["Mul", "Sub", "Add"])), [x, b.node("Tanh", [mean])]), shape


def reduce(b: ModelBuilder, x: str, shape: Shape) -> tuple[str, Shape]:
    axes = sorted({int(a) for a in b.rng.integers(1, len(shape), 2)})
    op, keep = str(b.rng.choice(["ReduceMean", "ReduceMax"])), int(b.rng.integers(2)) or len(shape) - len(axes) < 2
    result = tuple(1 if i in axes else n for i, n in enumerate(shape) if keep or i not in axes)
    return b.node(op, [x], axes=axes, keepdims=int(keep)), result


def concat(b: ModelBuilder, x: str, shape: Shape) -> tuple[str, Shape]:
    axis = int(b.rng.integers(1, len(shape)))
    other = b.node("Sigmoid", [x])
    if b.rng.random() < 0.5:
        other = b.node(
            "Transpose",
            [b.node("Transpose", [other], perm=[*range(len(shape))][::-1])],
            perm=[*range(len(shape))][::-1],
        )
    return b.node("Concat", [x, other], axis=axis), tuple(2 * n if i == axis else n for i, n in enumerate(shape))


def cut(b: ModelBuilder, x: str, shape: Shape) -> tuple[str, Shape]:
    axis = int(b.rng.integers(1, len(shape)))
    start = int(b.rng.integers(0, shape[axis]))
    ends = [b.constant([v], np.int64) for v in (start, shape[axis], axis)]
    return b.node("Slice", [x, *ends]), tuple(n - start if i == axis else n for i, n in enumerate(shape))


def pad(b: ModelBuilder, x: str, shape: Shape) -> tuple[str, Shape]:
    before, after = (0, *b.rng.integers(0, 2, len(shape) - 1)), (0, *b.rng.integers(0, 2, len(shape) - 1))
    result = tuple(int(n + p + q) for n, p, q in zip(shape, before, after, strict=True))
    return b.node("Pad", [x, b.constant([*before, *after], np.int64)]), result


def softmax(b: ModelBuilder, x: str, shape: Shape) -> tuple[str, Shape]:
    return b.node("Softmax", [x], axis=int(b.rng.integers(1, len(shape)))), shape


def batch_norm(b: ModelBuilder, x: str, shape: Shape) -> tuple[str, Shape]:
    return b.batch_norm(x, shape[1]), shape


def relu(b: ModelBuilder, x: str, shape: Shape) -> tuple[str, Shape]:
    return b.node("Relu", [x]), shape


STEPS: tuple[Step, ...] = (
    transpose, transpose, reshape, join_or_cut, join_or_cut, conv, conv, matmul, add_constant, pool_and_scale, reduce,
    concat, cut, pad, softmax, batch_norm, relu,
)  # fmt: skip


def random_model(seed: int) -> onnx.ModelProto:
    """Up to seven random steps from a random shape of rank 3 or 4; the last value and one before it are outputs."""
    b = ModelBuilder(17, seed)
    shape: Shape = (1, *(int(n) for n in b.rng.choice([1, 2, 3, 4, 6], b.rng.integers(2, 4))))
    value = b.input("x", shape)
    values: list[str] = []
    for _ in range(int(b.rng.integers(2, 8))):
        step = STEPS[int(b.rng.integers(len(STEPS)))]
        if prod(shape) > 2000 or (step is conv and len(shape) not in (3, 4)):
            continue
        value, shape = step(b, value, shape)
        values.append(value)
    if not values:
        values.append(b.node("Relu", [value]))
    return b.model(*dict.fromkeys([values[-1], values[len(values) // 2]]))


@pytest.mark.parametrize("block", range(10))
def test_random_models(block: int) -> None:
    for seed in range(block * 20, block * 20 + 20):
        check_against_onnxruntime(random_model(seed), samples=1)
