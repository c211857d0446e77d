"""The normative arithmetic against exact rationals, and packed weights against their description."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dnnc import fixed

pytestmark = pytest.mark.quick

INT32 = st.integers(-(2**31), 2**31 - 1)
SMALL = st.integers(-(2**20), 2**20)


def half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


@given(INT32, st.integers(-(2**31) + 1, 2**31 - 1), st.integers(0, 12))
def test_rescale_is_one_exact_rounding(accumulator: int, multiplier: int, left_shift: int) -> None:
    accumulator >>= left_shift
    exact = half_up(Fraction(accumulator * multiplier) * Fraction(2) ** (left_shift - 32))
    assert fixed.rescale(accumulator, multiplier, left_shift) == exact
    # int64 is wide enough: the same in numpy, whatever the operands.
    wide = fixed.rescale(np.array([accumulator], np.int64), np.array([multiplier], np.int64), left_shift)
    assert wide.dtype == np.int64
    assert wide[0] == exact


@given(INT32, st.integers(-(2**31) + 1, 2**31 - 1))
def test_rescale_is_what_smmulr_computes(accumulator: int, multiplier: int) -> None:
    """SMMULR: the high word of the product plus 0x80000000, in 64-bit two's complement."""
    product = (accumulator * multiplier + 0x80000000) & (2**64 - 1)
    high = product >> 32
    assert fixed.rescale(accumulator, multiplier, 0) == (high - 2**32 if high >= 2**31 else high)


@pytest.mark.parametrize(
    ("accumulator", "expected"), [(1, 1), (-1, 0), (3, 2), (-3, -1), (5, 3), (-5, -2), (2, 1), (-2, -1), (0, 0)]
)
def test_ties_go_up(accumulator: int, expected: int) -> None:
    assert fixed.rescale(accumulator, 2**30, 1) == expected  # a ratio of one half
    assert fixed.round_half_up(accumulator / 2) == expected


@given(SMALL, st.floats(1e-6, 50.0), st.integers(-128, 127), st.sampled_from([2, 4, 8, 16]))
def test_requantise_is_within_one_rounding_of_the_real_ratio(
    accumulator: int, ratio: float, zero_point: int, bits: int
) -> None:
    lo, hi = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    multiplier, left_shift = fixed.multipliers(ratio)
    assume(abs(accumulator) << left_shift < 2**31)
    code = int(fixed.requantise(np.array([accumulator]), multiplier, left_shift, zero_point, lo, hi)[0])
    represented = Fraction(int(multiplier)) * Fraction(2) ** (left_shift - 32)
    assert code == min(max(half_up(accumulator * represented) + zero_point, lo), hi)
    # The multiplier is the nearest: its error is at most half a unit in its last place.
    assert abs(represented - Fraction(ratio)) <= Fraction(2) ** (left_shift - 33)


def test_requantise_takes_a_multiplier_for_every_channel() -> None:
    multiplier, left_shift = fixed.multipliers(np.array([0.5, 0.25, -1.0]))
    codes = fixed.requantise(np.array([[7, 7, 7], [-7, -7, -7]]), multiplier, left_shift, 1, -128, 127)
    assert codes.tolist() == [[5, 3, -6], [-2, -1, 8]]


def test_saturation_is_at_the_limits_themselves() -> None:
    codes = fixed.requantise(np.array([-(10**6), -128, 127, 10**6]), 2**30, 2, 0, -128, 127)
    assert codes.tolist() == [-128, -128, 127, 127]


@given(st.lists(st.floats(1e-9, 1e6) | st.floats(-1e6, -1e-9), min_size=1, max_size=5))
def test_multipliers_are_nearest_and_share_the_smallest_shift(ratios: list[float]) -> None:
    multiplier, left_shift = fixed.multipliers(np.array(ratios))
    assert multiplier.dtype == np.int32
    for m, ratio in zip(multiplier.tolist(), ratios, strict=True):
        assert m == half_up(Fraction(ratio) * Fraction(2) ** (32 - left_shift))
        assert abs(m) <= fixed.INT32_MAX
    if left_shift:
        assert any(half_up(abs(Fraction(r)) * Fraction(2) ** (33 - left_shift)) > fixed.INT32_MAX for r in ratios)


@pytest.mark.parametrize("exponent", range(-31, 25))
def test_a_power_of_two_stays_one(exponent: int) -> None:
    multiplier, left_shift = fixed.multipliers(2.0**exponent)
    assert Fraction(int(multiplier)) * Fraction(2) ** (left_shift - 32) == Fraction(2) ** exponent
    assert bin(int(multiplier)).count("1") == 1
    # Without a fraction, shifting is exact for every accumulator.
    for accumulator in (-5, -1, 0, 1, 3, 1000):
        if abs(accumulator) << left_shift < 2**31:
            exact = half_up(accumulator * Fraction(2) ** exponent)
            assert fixed.rescale(accumulator, int(multiplier), left_shift) == exact


@pytest.mark.parametrize("ratio", [np.nan, np.inf, -np.inf])
def test_a_ratio_that_is_no_number_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        fixed.multipliers(np.array([1.0, ratio]))


# --- packed weights ------------------------------------------------------------------------------------------------


@st.composite
def weight_pairs(draw: st.DrawFn) -> tuple[int, np.ndarray]:
    bits = draw(st.sampled_from(fixed.WEIGHT_BITS))
    lo, hi = fixed.weight_range(bits)
    weight = st.sampled_from([-1, 1]) if bits == 1 else st.integers(lo, hi)
    count = draw(st.integers(0, 40))
    flat = draw(st.lists(weight, min_size=2 * count, max_size=2 * count))
    return bits, np.array(flat, np.int64).reshape(count, 2)


@given(weight_pairs())
def test_packing_round_trips(case: tuple[int, np.ndarray]) -> None:
    bits, pairs = case
    words = fixed.pack_pairs(pairs, bits)
    assert words.dtype == np.uint32
    assert len(words) == fixed.packed_words(len(pairs), bits)
    assert np.array_equal(fixed.unpack_pairs(words, bits, len(pairs)), pairs)


@given(weight_pairs())
def test_one_shift_and_one_mask_give_both_lanes(case: tuple[int, np.ndarray]) -> None:
    """What the kernels rely on: (word >> s) & mask holds the first weight low and the second high, offset binary."""
    bits, pairs = case
    packing = fixed.PACKINGS[bits]
    if bits in (6, 7, 8):
        return  # fields of 6 straddle words, bytes are sign-extended: see below
    mask = (2**bits - 1) * 0x10001
    words = fixed.pack_pairs(pairs, bits).tolist()
    for k, (first, second) in enumerate(pairs.tolist()):
        lanes = (words[k // packing.pairs] >> bits * (k % packing.pairs)) & mask
        low, high = lanes & 0xFFFF, lanes >> 16
        if bits == 1:
            assert (2 * low - 1, 2 * high - 1) == (first, second)
        else:
            assert (low - packing.offset, high - packing.offset) == (first, second)


@given(weight_pairs())
def test_bytes_are_sign_extended_by_sxtb16(case: tuple[int, np.ndarray]) -> None:
    bits, pairs = case
    if bits < 7:
        return
    words = fixed.pack_pairs(pairs, bits).tolist()
    for k, pair in enumerate(pairs.tolist()):
        rotated = words[k // 2] >> 8 * (k % 2)
        lanes = [int(np.array(rotated >> s & 0xFF, np.uint8).view(np.int8)) for s in (0, 16)]
        assert lanes == pair


def test_six_bits_lie_two_whole_fields_a_word_and_two_across_three() -> None:
    pairs = np.zeros((8, 2), np.int64) - 32
    for k, expected in enumerate(
        [
            [0x3F, 0, 0],
            [0x3F << 6, 0, 0],
            [0, 0x3F, 0],
            [0, 0x3F << 6, 0],
            [0, 0, 0x3F],
            [0, 0, 0x3F << 6],
            [0xF << 12, 0x3 << 12, 0],
            [0, 0x3 << 14, 0xF << 12],
        ]
    ):
        one = pairs.copy()
        one[k, 0] = 31
        assert fixed.pack_pairs(one, 6).tolist() == expected
        one = pairs.copy()
        one[k, 1] = 31
        assert fixed.pack_pairs(one, 6).tolist() == [word << 16 for word in expected]


@pytest.mark.parametrize(
    ("bits", "stored"), [(1, 1.0), (2, 2.0), (3, 3.2), (4, 4.0), (5, 16 / 3), (6, 6.0), (7, 8.0), (8, 8.0)]
)
def test_stored_bits(bits: int, stored: float) -> None:
    assert fixed.PACKINGS[bits].stored_bits == pytest.approx(stored)
    assert fixed.packed_words(fixed.PACKINGS[bits].pairs, bits) == fixed.PACKINGS[bits].words
    assert fixed.packed_words(0, bits) == 0


@pytest.mark.parametrize("bits", fixed.WEIGHT_BITS)
def test_weights_that_do_not_fit_are_refused(bits: int) -> None:
    lo, hi = fixed.weight_range(bits)
    for wrong in (lo - 1, hi + 1, *([0] if bits == 1 else [])):
        with pytest.raises(ValueError, match=f"range of {bits} bits"):
            fixed.pack_pairs(np.array([[lo, wrong]]), bits)
