"""Channels of weight . x + bias: what they can hold, which inputs they need, how the others are folded into the bias.

Weights are [O, ..., D] with D input channels a group: [O, I] or [O, KH, KW, I / groups].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dnnc.ir.channels import Channels, Interval, Known, Mask
from dnnc.ir.op import Array
from dnnc.ir.types import TensorType
from dnnc.ops.common import quant_of, requantised

#: Parameters with one entry, or one row, an output channel.
_BY_OUTPUT = ("weight", "weight_bits", "weight_scale", "bias", "multiplier")


def _taps(weight: Array) -> Array:
    """[O, taps, D]"""
    return weight.reshape(len(weight), -1, weight.shape[-1])


def accumulators(x: Interval, params: Mapping[str, Array], groups: int) -> Interval:
    """Of every output channel, before it is requantised; `x` includes what padding holds."""
    taps = _taps(params["weight"])
    up, down = (part(taps, 0).sum(axis=1, dtype=np.int64) for part in (np.maximum, np.minimum))
    lo, hi = (np.repeat(v.reshape(groups, -1), len(taps) // groups, axis=0) for v in (x.lo, x.hi))
    bias = params["bias"].astype(np.int64)
    return Interval(bias + (up * lo + down * hi).sum(axis=1), bias + (up * hi + down * lo).sum(axis=1))


def linear_interval(
    x: Interval, params: Mapping[str, Array], ins: Sequence[TensorType], out: TensorType, groups: int, padded: bool
) -> Interval:
    reach = accumulators(x.including(quant_of(ins[0]).zero_point) if padded else x, params, groups)
    lo, hi = (int(v) for v in params["clamp"])
    left_shift = int(params["left_shift"])
    return requantised(reach.lo, reach.hi, params["multiplier"], left_shift, quant_of(out).zero_point, lo, hi)


def _foldable(x: Interval, ins: Sequence[TensorType], padded: bool) -> Mask:
    """Input channels that add the same to every output: constants; with padding, those that hold what padding holds."""
    return x.constant & (x.lo == quant_of(ins[0]).zero_point) if padded else x.constant


def linear_channels(
    kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType], padded: bool
) -> Channels:
    """Of one group. A constant output needs no input: its weights may be zero, unless they have one bit (-1 or +1)."""
    rows = kept.out & (~known.out.constant | (params["weight_bits"] == 1))
    used = np.any(_taps(params["weight"][rows]) != 0, axis=(0, 1)) & ~_foldable(known.ins[0], ins, padded)
    return Channels((kept.ins[0] | used,), kept.out)


def linear_cut(
    kept: Channels, known: Known, params: Mapping[str, Array], ins: Sequence[TensorType], padded: bool
) -> Mapping[str, Array]:
    """Of one group. What dropped inputs add is added to the bias.

    The new bias and every partial sum lie within the bounds that were proven of the old ones: a constant times its
    weights is one of the partial sums that those bounds hold for.
    """
    made = rows_of(params, kept.out)
    x = known.ins[0]
    dropped = ~kept.ins[0]
    taps = _taps(made["weight"])
    bias = made["bias"].astype(np.int64) + (taps[:, :, dropped].sum(axis=1, dtype=np.int64) * x.lo[dropped]).sum(axis=1)
    weight = made["weight"].copy()
    # Constant outputs of inputs that vary: any accumulator that they can have stands for all of them.
    varying = dropped & ~_foldable(x, ins, padded)
    stuck = np.any(taps[:, :, varying] != 0, axis=(1, 2))
    reach = accumulators(x.including(quant_of(ins[0]).zero_point) if padded else x, made, 1)
    weight[stuck] = 0
    bias[stuck] = reach.lo[stuck]
    return {**made, "weight": weight[..., kept.ins[0]], "bias": bias.astype(np.int32)}


def group_channels(kept: Channels, groups: int) -> Channels:
    """Whole groups: one is kept where any of its channels is."""
    each = [mask.reshape(groups, -1) for mask in (kept.ins[0], kept.out)]
    alive = each[0].any(axis=1) | each[1].any(axis=1)
    return Channels((np.repeat(alive, each[0].shape[1]),), np.repeat(alive, each[1].shape[1]))


def rows_of(params: Mapping[str, Array], outputs: Mask) -> dict[str, Array]:
    """The parameters of some of the output channels."""
    return {name: value[outputs] if name in _BY_OUTPUT else value for name, value in params.items()}
