"""Kernels that call another for a part of the layer: bands of packed values, chunks of ternary weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dnnc.cost.kernels.call import Symbol
from dnnc.cost.kernels.counts import Counter

Numbers = Mapping[str, Any]

#: As in kernels/generic: DNNC_BAND_PIXELS, CHUNK of banded_add.c, and words that ternary.c unpacks at a time.
BAND_PIXELS, CHUNK, CHUNK_WORDS = 32, 64, 512


def parts(c: Counter, s: Symbol, f: Numbers) -> Iterator[tuple[Numbers, int]]:
    """Adds what the wrapper itself does; the numbers of its calls of the inner kernel, and how often each is made."""
    if "ternary" in s.variant:
        return _chunks(c, f)
    return _sums(c, s, f) if s.op == "add" else _bands(c, s, f)


def _chunks(c: Counter, f: Numbers) -> Iterator[tuple[Numbers, int]]:
    """ternary.c: ten digits come out of a half-word, sixteen make a word."""
    tile, outputs = f["blocks"], f["out_c"]
    tiles = max(CHUNK_WORDS // tile, 1)
    words = tile * -(-outputs // 4)
    c.part = "ternary"
    c.add("call", 1)
    c.add("search", tiles)
    c.add("chunk", -(-outputs // (4 * tiles)))
    c.add("word", words)
    for first in range(0, outputs, 4 * tiles):
        yield {**f, "out_c": min(4 * tiles, outputs - first)}, 1


def _packed(s: Symbol) -> tuple[bool, bool]:
    return s.elements[0] == "s4", s.elements[-1] == "s4"


def _words(elements: int) -> int:
    return -(-elements // 8)


def _sums(c: Counter, s: Symbol, f: Numbers) -> Iterator[tuple[Numbers, int]]:
    """banded_add.c."""
    size = f["size"][3]
    inputs = sum(element == "s4" for element in s.elements[:-1])
    chunks = [min(CHUNK, size - done) for done in range(0, size, CHUNK)]
    c.part = "banded_add"
    c.add("call", 1)
    c.add("chunk", len(chunks))
    _convert(c, sum(map(_words, chunks)) * inputs, len(chunks) * inputs, "unpack")
    if s.elements[-1] == "s4":
        _convert(c, sum(map(_words, chunks)), len(chunks), "pack")
    for count in dict.fromkeys(chunks):
        yield {**f, "size": (*f["size"][:3], count)}, chunks.count(count)


def _convert(c: Counter, words: int, calls: int, name: str) -> None:
    c.part = "nibbles"
    c.add(name, calls)
    c.add(f"{name}_word", words)


def _bands(c: Counter, s: Symbol, f: Numbers) -> Iterator[tuple[Numbers, int]]:
    """banded_image.c."""
    image = f.get("window", f)
    packed_in, packed_out = _packed(s)
    rows = min(-(-BAND_PIXELS // image["out_w"]), image["out_h"])
    span = (image["kernel_h"] - 1) * image["dilation_h"] + 1
    in_row = image["in_w"] * image.get("in_stride", image.get("channels"))
    out_row = image["out_w"] * image.get("out_stride", image.get("channels"))
    found: dict[tuple[int, int, int], int] = {}
    for row in range(0, image["out_h"], rows):
        count = min(rows, image["out_h"] - row)
        begin, pad = row * image["stride_h"], image["pad_top"]
        first = max(begin - pad, 0)
        in_h = min(begin + (count - 1) * image["stride_h"] + span - pad, image["in_h"]) - first
        key = (count, in_h, max(pad - begin, 0))
        found[key] = found.get(key, 0) + 1
        if packed_in:
            _convert(c, _words(in_h * in_row), 1, "unpack")
        if packed_out:
            _convert(c, _words(count * out_row), 1, "pack")
            if f.get("scattered"):
                _convert(c, _words(count * out_row), 1, "unpack")
    c.part = "banded_pool" if "window" in f else "banded_image"
    c.add("call", 1)
    c.add("search", rows)
    c.add("band", sum(found.values()))
    for (count, in_h, pad), times in found.items():
        changed = {"out_h": count, "in_h": in_h, "pad_top": pad}
        yield ({**f, "window": {**image, **changed}} if "window" in f else {**f, **changed}), times
