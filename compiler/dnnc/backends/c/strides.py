"""Loops over strided tensors, merged into as few axes as possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dnnc.backends.c.program import Refusal
from dnnc.ir.types import Shape


@dataclass(frozen=True)
class Loops:
    """sizes of nested loops, outermost first, and for each operand the elements that a step of each loop moves."""

    sizes: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]


def strides(shape: Shape) -> tuple[int, ...]:
    """Elements between neighbours along each axis of a dense tensor."""
    found: list[int] = []
    step = 1
    for extent in reversed(shape):
        found.append(step)
        step *= extent
    return tuple(reversed(found))


def broadcast_strides(shape: Shape, out: Shape) -> tuple[int, ...]:
    """Strides of a tensor that is read as `out`: aligned at the last axis, 0 where it is repeated."""
    own = [0 if extent == 1 else step for extent, step in zip(shape, strides(shape), strict=True)]
    return (*(0,) * (len(out) - len(shape)), *own)


def merge(sizes: Sequence[int], operands: Sequence[Sequence[int]], depth: int) -> Loops:
    """The same visits in the same order with exactly `depth` loops; unit loops come first. Raises Refusal."""
    axes: list[tuple[int, tuple[int, ...]]] = []
    for size, steps in zip(sizes, zip(*operands, strict=True), strict=True):
        if size == 1:
            continue
        if axes and all(outer == inner * size for outer, inner in zip(axes[-1][1], steps, strict=True)):
            axes[-1] = (axes[-1][0] * size, steps)
        else:
            axes.append((size, steps))
    if len(axes) > depth:
        raise Refusal(f"it needs {len(axes)} nested loops, but its kernel has {depth}")
    axes = [(1, (0,) * len(operands))] * (depth - len(axes)) + axes
    return Loops(tuple(a[0] for a in axes), tuple(tuple(a[1][i] for a in axes) for i in range(len(operands))))
