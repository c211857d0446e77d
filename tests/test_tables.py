"""Biases and multipliers of 16 bits: what they may cost, in exact arithmetic, and when a layer keeps 32 bits."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dnnc.fixed import rescale
from dnnc.ir.types import Quant, TensorType
from dnnc.ops.activation import NO_CLAMP
from dnnc.ops.common import linear_bounds, quantise_linear
from dnnc.ops.tables import LARGEST_ERROR, LARGEST_SHIFT, LARGEST_SPARSE_SHIFT, compact, exact_halves, round_to_halves

pytestmark = pytest.mark.quick
Array = NDArray[Any]
BOUND = Fraction(LARGEST_ERROR)


@given(st.lists(st.integers(-(2**29) + 2**14, 2**29 - 2**14 - 1), min_size=1, max_size=6))
def test_codes_are_the_nearest_at_the_smallest_shift(values: list[int]) -> None:
    found = round_to_halves(np.array(values))
    assert found is not None and found.codes.dtype == np.int16
    assert np.abs(found.values - values).max() <= 2**found.shift // 2
    if found.shift:
        half = 2 ** (found.shift - 2)
        smaller = [(v + int(half)) >> (found.shift - 1) for v in values]
        assert any(not -(2**15) <= code < 2**15 for code in smaller)
    exact = exact_halves(np.array(values))
    assert (exact is not None) == (found.values.tolist() == values)


def test_what_needs_a_larger_shift_has_no_codes() -> None:
    assert round_to_halves(np.array([(2**15 - 1) << LARGEST_SHIFT])) is not None
    assert round_to_halves(np.array([2**15 << LARGEST_SHIFT])) is None


def moved(values: tuple[int, int], exact: tuple[int, int], accumulator: int, span: int) -> Fraction:
    """How far an output moves, in steps, before it is rounded: (bias, multiplier) instead of the exact ones."""
    found, true = (Fraction((accumulator + bias) * m, 2**32) for bias, m in (values, exact))
    return abs(min(max(found, Fraction(-span)), Fraction(span)) - min(max(true, Fraction(-span)), Fraction(span)))


@given(
    st.lists(
        st.tuples(st.integers(-(2**24), 2**24), st.integers(2**10, 2**29), st.integers(1, 2**24)),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([16, 129, 256, 65536]),
    st.integers(0, 2**32),
)
def test_no_output_moves_by_more_than_is_allowed(channels: list[tuple[int, int, int]], span: int, seed: int) -> None:
    bias, multiplier, products = (np.array(values, np.int64) for values in zip(*channels, strict=True))
    made = compact(bias, multiplier, (np.abs(bias) + products).astype(np.float64), span)
    if made[0] is bias:
        return
    rng = np.random.default_rng(seed)
    for c, (b, m, reach) in enumerate(channels):
        ends = [-reach, 0, reach, *(int(v) for v in rng.integers(-reach, reach + 1, 8))]
        for turn in (-span, span):  # where the output is just about to saturate
            at = turn * 2**32 // m - b
            ends += [v for v in (at - 1, at, at + 1) if abs(v) <= reach]
        for accumulator in ends:
            assert moved((int(made[0][c]), int(made[1][c])), (b, m), accumulator, span) <= BOUND


@pytest.mark.parametrize(
    ("bias", "multiplier", "narrow"),
    [
        ([100, -32768], [32767, 5], True),  # exact as they are
        ([40000, -90000], [2**25, 2**24], True),  # a bias by 2, a multiplier not at all
        ([40000, 2**28], [2**25, 2**24], False),  # a huge bias elsewhere takes the first channel's precision
        ([40000, 10], [2**28, 2**20], True),  # 64 of 2**15 codes, but exact
        ([40000, 10], [2**28 - 1, 2**19 + 2**13 - 9], False),  # too few codes for a channel with the whole range
    ],
)
def test_extremes(bias: list[int], multiplier: list[int], narrow: bool) -> None:
    before = np.array(bias, np.int32), np.array(multiplier, np.int32)
    after = compact(*before, np.array([2.0**24] * 2), 256)
    halves = [exact_halves(values) for values in after]
    assert (halves[0] is not None and halves[1] is not None) == narrow
    if not narrow:
        assert after[0] is before[0] and after[1] is before[1]


def test_a_channel_that_hardly_moves_needs_no_precise_multiplier() -> None:
    bias, multiplier = np.array([10, 10], np.int32), np.array([2**28 - 1, 2**19 + 2**13 - 9], np.int32)
    after = compact(bias, multiplier, np.array([2.0**24, 2.0**12]), 256)
    assert exact_halves(after[1]) is not None


def layer(scales: list[float], weight: Array, bias: list[float], out: Quant) -> dict[str, Any]:
    x, y = TensorType((weight.shape[1],), Quant(8, 0.02, -128)), TensorType((len(weight),), out)
    params = {"weight": weight, "weight_scale": np.array(scales), "weight_bits": np.full(len(weight), 8, np.uint8),
              "bias": np.array(bias)}  # fmt: skip
    return quantise_linear(params, x, y, NO_CLAMP)


def test_quantise_bounds_the_error_of_every_channel() -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (9, 300))
    scales = (2.0 ** rng.uniform(-12, -8, 9)).tolist()
    made = layer(scales, weight, rng.normal(size=9).tolist(), Quant(8, 0.05, -128))
    assert exact_halves(made["bias"]) is not None and exact_halves(made["multiplier"]) is not None
    x = TensorType((300,), Quant(8, 0.02, -128))
    lows, highs = linear_bounds(made, x)
    for c, scale in enumerate(scales):
        exact_m = Fraction(scale) * Fraction(0.02) / Fraction(0.05) * 2**32
        for accumulator in np.linspace(float(lows[c]), float(highs[c]), 50).astype(int).tolist():
            bias = int(made["bias"][c])
            v = Fraction((accumulator + bias) * int(made["multiplier"][c]), 2**32)
            true = (accumulator + bias) * exact_m / 2**32
            assert abs(min(max(v, Fraction(-256)), Fraction(256)) - min(max(true, Fraction(-256)), Fraction(256))) <= (
                BOUND + Fraction(1, 100)
            )


def test_outputs_of_16_bits_keep_their_precision() -> None:
    weight = np.random.default_rng(1).integers(-127, 128, (4, 300))
    made = layer([1e-3, 2e-3, 1.5e-3, 1.3e-3], weight, [0.0] * 4, Quant(16, 2e-3, 0))
    assert exact_halves(made["multiplier"]) is None


def test_channels_without_weights_cost_the_others_nothing() -> None:
    weight = np.random.default_rng(2).integers(-127, 128, (4, 300))
    weight[1] = 0
    made = layer([1e-3, 1e-7, 1.5e-3, 1.3e-3], weight, [0.3, 0.7, -0.2, 0.1], Quant(8, 0.05, 0))
    assert exact_halves(made["bias"]) is not None and exact_halves(made["multiplier"]) is not None
    assert rescale(int(made["bias"][1]), int(made["multiplier"][1]), 0) == 14
    assert made["weight_scale"].tolist() == [1e-3, 1.5e-3, 1.5e-3, 1.3e-3]


def test_sparse_layers_have_16_bits_for_any_multiplier() -> None:
    """Kernels of records shift their codes; others multiply them by a power of two that must fit 16 bits itself."""
    values = np.array([(2**15 - 1) << LARGEST_SPARSE_SHIFT, 0])
    assert exact_halves(values) is None
    found = exact_halves(values, LARGEST_SPARSE_SHIFT)
    assert found is not None and found.shift == LARGEST_SPARSE_SHIFT and np.array_equal(found.values, values)
