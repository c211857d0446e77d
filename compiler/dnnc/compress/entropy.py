"""Entropies and mutual information of sampled quantities, in nats, corrected for the bias of counting.

A histogram of N samples over k filled cells makes an entropy too small by (k - 1) / 2N on average (Miller, "Note on the
bias of information estimates", 1955), and so a mutual information too large by about (bins - 1)(classes - 1) / 2N: with
256 bins and 1,000 samples that is more than any channel tells.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Codes = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Samples for each cell of a joint histogram, at the least.
_PER_CELL = 5


def bins_for(samples: int, classes: int, wanted: int) -> int:
    """At most `wanted` bins, so few that the cells of bins times classes hold five samples on average; at least 2."""
    return max(2, min(wanted, samples // (_PER_CELL * max(classes, 1))))


def equal_frequency(values: Array, bins: int) -> Codes:
    """Bins [N, C] of the columns of `values` [N, C], each with about as many samples. Equal values share a bin, and
    those that fill one, such as the zeros of a ReLU, share it with no others.
    """
    count = len(values)
    places = (np.arange(1, bins) * count) // bins
    codes = np.empty(values.shape, np.int64)
    for c, column in enumerate(values.T):
        ordered = np.sort(column)
        edges = np.unique(ordered[places])
        first, behind = (np.searchsorted(ordered, edges, side=side) for side in ("left", "right"))
        full = ((behind - first) * bins >= count) & (behind < count)
        edges = np.unique(np.concatenate([edges, ordered[behind[full]]]))
        codes[:, c] = np.searchsorted(edges, column, side="right")
    return codes


def equal_width(values: Array, bins: int) -> Codes:
    """Bins [N, C] of the columns of `values` [N, C], each as wide as the others of its column."""
    lo, hi = values.min(axis=0), values.max(axis=0)
    width = np.where(hi > lo, hi - lo, 1).astype(np.float64)
    codes: Codes = np.clip(np.floor((values - lo) / width * bins), 0, bins - 1).astype(np.int64)
    return codes


def entropy(counts: Array) -> Floats:
    """Of histograms along the last axis."""
    total = counts.sum(axis=-1, keepdims=True, dtype=np.float64)
    p = counts / np.maximum(total, 1)
    plain = -np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(axis=-1)
    filled = (counts > 0).sum(axis=-1)
    return np.asarray(plain + np.maximum(filled - 1, 0) / (2 * np.maximum(total[..., 0], 1)))


def histograms(codes: Codes) -> Codes:
    """[C, bins] of codes [N, C]."""
    bins = int(codes.max(initial=0)) + 1
    flat = codes + np.arange(codes.shape[1]) * bins
    return np.bincount(flat.reshape(-1), minlength=bins * codes.shape[1]).reshape(codes.shape[1], bins)


def joint_histograms(codes: Codes, labels: Codes) -> Codes:
    """[C, classes, bins] of codes [N, C] and labels [N]."""
    classes, bins = int(labels.max(initial=0)) + 1, int(codes.max(initial=0)) + 1
    flat = codes + (np.arange(codes.shape[1]) * classes + labels[:, None]) * bins
    found = np.bincount(flat.reshape(-1), minlength=codes.shape[1] * classes * bins)
    return found.reshape(codes.shape[1], classes, bins)


def mutual_information(codes: Codes, labels: Codes) -> Floats:
    """I(A_c; Y) [C] >= 0 of codes [N, C] and labels [N]: H(A) + H(Y) - H(A, Y)."""
    joint = joint_histograms(codes, labels)
    of_codes, of_labels = entropy(joint.sum(axis=1)), entropy(joint.sum(axis=2))
    return np.maximum(of_codes + of_labels - entropy(joint.reshape(len(joint), -1)), 0)


def class_information(codes: Codes, labels: Codes) -> Floats:
    """p(y) KL(p(a | y) || p(a)) [C, classes]: what channels tell of each class; sums over classes to I(A; Y).

    Corrected like the entropies that it is made of; single terms may then be a little negative, and become 0.
    """
    joint = joint_histograms(codes, labels).astype(np.float64)
    total = max(len(labels), 1)
    marginal = joint.sum(axis=1, keepdims=True) / total
    of_class = joint.sum(axis=2)
    conditional = joint / np.maximum(of_class[..., None], 1)
    filled = joint > 0
    ratio = np.where(filled, conditional / np.where(marginal > 0, marginal, 1), 1)
    divergence = np.where(filled, conditional * np.log(ratio), 0).sum(axis=2)
    bias = np.maximum(filled.sum(axis=2) - 1, 0) / (2 * np.maximum(of_class, 1))
    marginal_bias = np.maximum((marginal > 0).sum(axis=2) - 1, 0) / (2 * total)
    return np.asarray(of_class / total * np.maximum(divergence - bias + marginal_bias, 0))


def pairwise_information(codes: Codes) -> Floats:
    """I(A_c; A_d) [C, C] >= 0 of codes [N, C]; the diagonal holds the entropies."""
    count, channels = codes.shape
    bins = int(codes.max(initial=0)) + 1
    flags = np.zeros((count, channels * bins), np.float32)
    flags[np.arange(count)[:, None], codes + np.arange(channels) * bins] = 1
    joint = (flags.T @ flags).reshape(channels, bins, channels, bins).transpose(0, 2, 1, 3)
    single = entropy(histograms(codes))
    both = entropy(joint.reshape(channels, channels, -1))
    found = np.maximum(single[:, None] + single[None] - both, 0)
    np.fill_diagonal(found, single)
    return found
