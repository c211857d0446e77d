"""What several operations share: reading types, exact products, the parameters of a linear map in integers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike

from dnnc import fixed
from dnnc.errors import ModelError
from dnnc.ir.channels import Interval
from dnnc.ir.op import Array, Bounds
from dnnc.ir.types import Quant, Shape, TensorType
from dnnc.ops.activation import Clamp
from dnnc.ops.tables import LARGEST_SHIFT, LARGEST_SPARSE_SHIFT, compact

#: The share of weights that are 0 from which on they are hardly ever stored.
_MOSTLY = 0.7


def shape_of(value: TensorType | Shape) -> Shape:
    return value.shape if isinstance(value, TensorType) else tuple(value)


def quant_of(value: TensorType) -> Quant:
    """The quantisation of an integer tensor; asking a float tensor for one is a programming error."""
    if value.quant is None:
        raise TypeError("an integer tensor is needed, but this one is float")
    return value.quant


def exact_dtype(weights: Array, magnitude: int) -> DTypeLike:
    """The fastest type in which x . weights[o] is exact for every row o, where no |x| exceeds `magnitude`.

    All partial sums are integers below the bound, so they are exact in float32 under 2**24 and in float64 under 2**53:
    floating-point BLAS then computes integer products, exactly and fast.
    """
    bound = magnitude * int(np.abs(weights.reshape(len(weights), -1).astype(np.int64)).sum(axis=1).max(initial=0))
    return np.float32 if bound < 2**24 else np.float64 if bound < 2**53 else np.int64


def exact_matmul(columns: Array, weights: Array, magnitude: int) -> Array:
    """columns [M, K] @ weights [O, K] transposed, in int64; see exact_dtype."""
    dtype = exact_dtype(weights, magnitude)
    products: Array = columns.astype(dtype, copy=False) @ weights.T.astype(dtype)
    return products.astype(np.int64)


def quantise_linear(
    params: Mapping[str, Array], x: TensorType, out: TensorType, clamp: Clamp
) -> dict[str, Array | int]:
    """Integer parameters of clamp(weight . x + bias): the input's zero point is folded into the bias.

    weight codes [O, ...], weight_scale [O], bias float [O] -> weight int8, weight_bits uint8 [O], weight_scale [O],
    bias int32 [O], multiplier int32 [O], left_shift, clamp int32 [2]. Biases and multipliers are of 16 bits where that
    moves no output by more than dnnc.ops.tables.LARGEST_ERROR of its step.
    """
    codes = np.asarray(params["weight"], np.int64)
    scale = _common_scale(np.asarray(params["weight_scale"], np.float64), codes)
    sums = codes.reshape(len(codes), -1).sum(axis=1)
    # In floats first: what does not even fit 64 bits must be refused before it is cast.
    bias = np.floor(params["bias"] / (scale * quant_of(x).scale) + 0.5) - quant_of(x).zero_point * sums
    if not np.all(np.abs(bias) <= fixed.INT32_MAX):
        worst = int(np.argmax(np.abs(bias)))
        raise ModelError(f"the bias of output channel {worst} does not fit 32 bits at scale {scale[worst]:.3g}")
    multiplier, left_shift = fixed.multipliers(scale * quant_of(x).scale / quant_of(out).scale)
    made: dict[str, Array | int] = {
        "weight": codes.astype(np.int8),
        "weight_bits": np.asarray(params["weight_bits"], np.uint8),
        "weight_scale": scale,
        "bias": bias.astype(np.int32),
        "multiplier": multiplier,
        "left_shift": left_shift,
        "clamp": clamp.codes(quant_of(out)),
    }
    if left_shift == 0:
        q = quant_of(out)
        lows, highs = linear_bounds({k: np.asarray(v) for k, v in made.items()}, x)
        span = max(q.hi - q.zero_point, q.zero_point - q.lo) + 1
        reach = np.maximum(np.abs(lows), np.abs(highs)).astype(np.float64)
        largest = LARGEST_SPARSE_SHIFT if np.mean(codes == 0) > _MOSTLY else LARGEST_SHIFT
        made["bias"], made["multiplier"] = compact(bias.astype(np.int32), multiplier, reach, span, largest)
    return made


def _common_scale(scale: Array, codes: Array) -> Array:
    """Scales [O] in which the channels without weights have the layer's largest: any will do for them, and a bias and a
    multiplier of the others' size do not cost the layer the precision of its tables."""
    empty = ~codes.reshape(len(codes), -1).any(axis=1)
    return scale if empty.all() else np.where(empty, scale[~empty].max(), scale)


def linear_bounds(params: Mapping[str, Array], x: TensorType) -> Bounds:
    """Bounds of (weight . x + bias) << left_shift per output channel, and of every partial sum, for any input codes."""
    weight = params["weight"].reshape(len(params["weight"]), -1).astype(np.int64)
    q = quant_of(x)
    bias = params["bias"].astype(np.int64)
    # Partial sums may hold the extremes of any subset of the products, so every product counts by its own sign.
    lows = np.minimum(np.minimum(weight * q.lo, weight * q.hi), 0).sum(axis=1)
    highs = np.maximum(np.maximum(weight * q.lo, weight * q.hi), 0).sum(axis=1)
    shift = int(params["left_shift"])
    return (np.minimum(bias, 0) + lows) << shift, (np.maximum(bias, 0) + highs) << shift


def requantised(
    lowest: Array, highest: Array, multiplier: Array | int, left_shift: int, zero_point: int, lo: int, hi: int
) -> Interval:
    """The codes that accumulators in lowest..highest are requantised to: between the ends, as rescaling is monotone."""
    ends = [fixed.requantise(v, multiplier, left_shift, zero_point, lo, hi) for v in (lowest, highest)]
    return Interval(np.minimum(*ends), np.maximum(*ends))


def broadcast(a: Shape, b: Shape) -> Shape:
    """The common shape of two operands; a shorter one is aligned at the last axis."""
    try:
        return tuple(int(v) for v in np.broadcast_shapes(a, b))
    except ValueError:
        raise ModelError(f"shapes {a} and {b} cannot be broadcast together") from None


def align(x: Array, rank: int) -> Array:
    """[N, *shape] with unit axes inserted after the batch axis, so that shapes align at the last axis."""
    return x.reshape(x.shape[0], *(1,) * (rank - (x.ndim - 1)), *x.shape[1:])
