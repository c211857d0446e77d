"""Positions of windows along one axis of an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


def starts(outputs: int, stride: int, pad: int) -> Counts:
    """Where each window begins; negative in the padding. [outputs]"""
    return np.arange(outputs, dtype=np.int64) * stride - pad


def taps_inside(first: Counts, kernel: int, dilation: int, extent: int) -> Counts:
    """How many of the `kernel` taps of each window lie in the axis. [windows]"""
    at = first[:, None] + np.arange(kernel) * dilation
    return np.asarray(np.count_nonzero((at >= 0) & (at < extent), axis=1), np.int64)


def windows_of_taps(outputs: int, stride: int, pad: int, kernel: int, dilation: int, extent: int) -> Counts:
    """For each tap, the windows for which it lies in the axis. [kernel]"""
    at = starts(outputs, stride, pad)[:, None] + np.arange(kernel) * dilation
    return np.asarray(np.count_nonzero((at >= 0) & (at < extent), axis=0), np.int64)
