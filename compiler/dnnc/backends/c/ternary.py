"""Layers of weights -1, 0 and 1, five a byte: chunks of tiles are unpacked for the target's kernel for 2 bits.

So every family serves them, exactly as it serves 2 bits; unpacking is paid once a weight, not once a product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc.backends.c.context import Context
from dnnc.backends.c.linear import lower_dense
from dnnc.backends.c.pack import COLUMNS, tile_words, tiles
from dnnc.backends.c.program import Array, Refusal, Step
from dnnc.backends.c.table import Instance, Kernel, Layer
from dnnc.backends.c.walk import Fields, Walk, Walker
from dnnc.ir.graph import Node

#: Words of tiles that are unpacked at a time, if a tile has fewer.
CHUNK_WORDS = 512
#: Digits of base 3 in a half-word; fields of 2 bits in a word.
_DIGITS, _FIELDS = 10, 16
#: Every second field of a word of sums is signed: its upper bit is turned over (pack.py).
_FLIPPED_SUMS = 0x88888888


def lower_ternary(context: Context, node: Node, layer: Layer) -> Step:
    """One call. Raises Refusal where the layer is not of such weights, or not one call of a kernel for 2 bits."""
    weight, bits = node.params["weight"], np.asarray(node.params["weight_bits"])
    if np.any(np.abs(weight.astype(np.int64)) > 1) or np.any(bits != 2):
        raise Refusal("its weights are not -1, 0 and 1 of 2 bits each")
    dense = lower_dense(context, node, layer)
    call = dense.calls[0]
    kernel = call.kernel
    if len(dense.calls) > 1 or kernel.inner or kernel.bits != 2 or layer.op == "depthwise" or layer.groups > 1:
        raise Refusal("its kernel does not take weights a few tiles at a time")
    if kernel.kernel.order in COLUMNS and layer.k % 4:
        raise Refusal("padding between its weights is no weight")
    flipped = _FLIPPED_SUMS if kernel.kernel.order == "sums" else 0
    words = call.fields["weights"]
    assert isinstance(words, Array)
    fields = {**call.fields, "weights": replace(words, values=pack_digits(words.values, flipped))}
    wrapped = _wrapped(kernel, flipped)
    return Step(
        node.name, (replace(call, kernel=wrapped, fields=fields),), wrapped.kernel.scratch(replace(layer, bits=2))
    )


def pack_digits(words: NDArray[Any], flipped: int = 0) -> NDArray[np.uint32]:
    """Words of 16 fields of 2 bits, none of them 0 once `flipped` is undone (but in channels that pad the last tile,
    where any will do), to half-words of ten digits, two a word, the first in the low half.
    """
    fields = (words.astype(np.int64)[:, None] ^ flipped) >> np.arange(0, 32, 2) & 3
    digits = np.maximum(fields.ravel() - 1, 0)
    whole = np.zeros(-(-len(digits) // (2 * _DIGITS)) * 2 * _DIGITS, np.int64)
    whole[: len(digits)] = digits
    number = whole.reshape(-1, _DIGITS) @ 3 ** np.arange(_DIGITS - 1, -1, -1)
    halves = -(-(number << 16) // 3**_DIGITS)
    return np.asarray(halves[::2] | halves[1::2] << 16, np.uint32)


def unpack_digits(packed: NDArray[Any], count: int, flipped: int = 0) -> NDArray[np.uint32]:
    """Inverse of pack_digits: `count` words, as the kernel unpacks them."""
    fraction = packed.astype(np.int64)[:, None] >> np.array([0, 16]) & 0xFFFF
    digits = []
    for _ in range(_DIGITS):
        fraction = fraction * 3
        digits.append(fraction >> 16)
        fraction = fraction & 0xFFFF
    fields = np.stack(digits, axis=-1).ravel()[: count * _FIELDS].reshape(count, _FIELDS) + 1
    return np.asarray((fields << np.arange(0, 32, 2)).sum(axis=1) ^ flipped, np.uint32)


def _wrapped(inner: Instance, flipped: int) -> Instance:
    kernel = inner.kernel

    def scratch(layer: Layer) -> int:
        tile = tile_words(layer.k, 2, kernel.order)
        return 4 * min(max(CHUNK_WORDS // tile, 1), tiles(layer.out_c)) * tile + kernel.scratch(layer)

    outer = replace(
        kernel,
        source="generic/ternary.c", variant=f"{kernel.variant}_ternary", headers=(), support=(), scratch=scratch,
        walk=_chunks(kernel) if kernel.walk else None,
        defines=(
            ("DNNC_CHUNK_WORDS", f"{CHUNK_WORDS}u"), ("DNNC_FLIPPED", f"{flipped:#x}u"),
            ("DNNC_RECORDS", str(int(kernel.records))),
        ),
    )  # fmt: skip
    return Instance(outer, inner.elements, inner.bits, inner)


def chunks(fields: Fields) -> list[tuple[int, int]]:
    """(first output channel, how many) of every call of the kernel for 2 bits."""
    step = 4 * max(CHUNK_WORDS // fields["blocks"], 1)
    return [(o, min(step, fields["out_c"] - o)) for o in range(0, fields["out_c"], step)]


def _chunks(kernel: Kernel) -> Walker:
    """The inner walk for some channels after another."""

    def of(fields: Fields, widths: Sequence[int]) -> Walk | None:
        walks = []
        for first, count in chunks(fields):
            walk = kernel.walk({**fields, "out_c": count}, widths) if kernel.walk else None
            if walk is None:
                return None
            walks.append(replace(walk, writes=walk.writes + first * widths[-1]))
        return Walk((np.concatenate([w.reads[0] for w in walks]),), np.concatenate([w.writes for w in walks]))

    return of
