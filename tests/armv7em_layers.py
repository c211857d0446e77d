"""Single integer layers for the Armv7E-M kernels, with extreme and random numbers, as programs and as graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc.backends.c import emit, lower
from dnnc.cost.loader import load_target
from dnnc.fixed import weight_range
from dnnc.ir.graph import Graph, Input, Node, Output
from dnnc.ir.types import Layout, Quant, Shape, TensorType
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.tables import LARGEST_SHIFT, round_to_halves
from dnnc.passes.plan import plan

Array = NDArray[Any]


@dataclass(frozen=True)
class Linear:
    """A layer to be: weight [O, KH, KW, I / groups] over an image, or [O, I] (kernel None) over rows.

    bits: one width, or several to be dealt out over the output channels. clamp: codes. extreme: every weight and
    activation at an end of its range. compact: biases and multipliers of 16 bits. lowest: no weight is below it (8 bits
    above -128 may be packed as sums).
    """

    name: str
    image: Shape
    outputs: int
    kernel: tuple[int, int] | None = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    bits: tuple[int, ...] = (8,)
    zero_in: int = 3
    zero_out: int = -5
    clamp: tuple[int, int] = (-128, 127)
    left_shift: int = 0
    extreme: bool = False
    compact: bool = False
    lowest: int = -127

    @property
    def seed(self) -> int:
        return sum(self.name.encode()) + 1000 * self.outputs + sum(self.bits)


def make_graph(layer: Linear) -> Graph:
    """The integer graph of one layer; accumulators spread over the whole range of output codes."""
    rng = np.random.default_rng(layer.seed)
    depth = layer.image[-1] // layer.groups
    kernel = () if layer.kernel is None else layer.kernel
    shape = (layer.outputs, *kernel, depth)
    bits = np.array([layer.bits[i % len(layer.bits)] for i in range(layer.outputs)], np.uint8)
    rng.shuffle(bits)
    weight = np.stack([_weights(rng, int(b), shape[1:], layer) for b in bits])
    k = weight[0].size
    spread = np.abs(weight.astype(np.int64)).reshape(layer.outputs, -1).sum(axis=1) * (128 if layer.extreme else 12)
    ratio = 100.0 / np.maximum(spread, 1) * rng.uniform(0.5, 2.0, layer.outputs) * rng.choice([-1, 1], layer.outputs)
    multiplier = np.clip(np.round(ratio * 2.0 ** (32 - layer.left_shift)), -(2**31) + 1, 2**31 - 1).astype(np.int64)
    bias = rng.integers(-3 * k, 3 * k + 1, layer.outputs)
    if layer.compact:
        multiplier, bias = (_halves(values) for values in (multiplier, bias + spread * rng.integers(-3, 4) // 8))
    params = {
        "weight": weight.astype(np.int8),
        "weight_bits": bits,
        "weight_scale": np.ones(layer.outputs),
        "bias": bias.astype(np.int32),
        "multiplier": multiplier.astype(np.int32),
        "left_shift": layer.left_shift,
        "clamp": np.array(layer.clamp, np.int32),
    }
    source = TensorType(layer.image, Quant(8, 1.0, layer.zero_in))
    op = Dense() if layer.kernel is None else Conv2D(layer.stride, layer.padding, layer.dilation, layer.groups)
    made = TensorType(op.infer([source], params), Quant(8, 1.0, layer.zero_out))
    layout = [Layout((1, *t.shape), 0, tuple(range(len(t.shape)))) for t in (source, made)]
    return Graph(
        layer.name,
        (Input("x", source, "x", layout[0]),),
        (Node("y", op, ("x",), params, made),),
        (Output("y", "y", layout[1]),),
    ).verify()


def make_inputs(layer: Linear, samples: int = 2) -> Mapping[str, Array]:
    """Codes; the first sample of an extreme layer is all -128."""
    rng = np.random.default_rng(layer.seed + 1)
    shape = (samples, *layer.image)
    if not layer.extreme:
        return {"x": rng.integers(-128, 128, shape).astype(np.int8)}
    codes = rng.choice(np.array([-128, 127], np.int8), shape)
    codes[0] = -128
    return {"x": codes}


def make_files(graph: Graph, target_name: str, families: tuple[str, ...] | None = None) -> Mapping[str, bytes]:
    """The C of a graph for a target, or for its kernel families given otherwise."""
    target = load_target(target_name)
    if families:
        target = replace(target, kernels=families)
    program = lower(graph, target)
    placed = plan(graph, program.scratch, program.overwrites)
    return emit(graph, program, placed, target)


def _halves(values: Array) -> Array:
    """As near to the values as codes of 16 bits are; what is too large is cut off."""
    limit = (2**15 - 1) << LARGEST_SHIFT
    found = round_to_halves(np.clip(values, -limit, limit))
    assert found is not None
    return found.values


def _weights(rng: np.random.Generator, bits: int, shape: Shape, layer: Linear) -> Array:
    lo, hi = weight_range(bits)
    lo = max(lo, layer.lowest)
    if layer.extreme or bits == 1:
        return rng.choice(np.array([lo, lo, hi]), shape)
    return rng.integers(lo, hi + 1, shape)
