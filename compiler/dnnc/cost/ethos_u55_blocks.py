"""The blocks in which an Ethos-U55 computes a layer: those that fit its buffers with the least to fetch.

The choice is the one that Vela's public sources make (Apache-2.0; ethosu/vela, ethosu/regor), in our own words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import inf, prod

from dnnc.cost.layer import Image, LayerWork
from dnnc.cost.systolic import tiles


@dataclass(frozen=True)
class Core:
    """micro: block that the array computes at a time; banks: of 1 kB of its buffers; granules: of these that inputs and
    sums are allotted in. add, multiply, maximum, other, table: cycles an element of the output stage, by operation.
    """

    micro: Image
    banks: int
    input_granule: int
    sum_granule: int
    add: float
    multiply: float
    maximum: float
    other: float
    table: float = 1.0


#: By products a cycle.
CORES = {
    256: Core((2, 2, 8), 48, 8, 16, 0.75, 0.375, 0.125, 0.25),
    128: Core((1, 2, 8), 24, 4, 8, 1.5, 0.75, 0.25, 0.5),
    64: Core((1, 1, 8), 16, 2, 4, 3.0, 1.5, 0.5, 1.0),
    32: Core((1, 1, 4), 16, 2, 4, 6.0, 3.0, 1.0, 2.0),
}
#: Kernels are cut into parts of at most 8 x 8 taps.
SUBKERNEL = 8
#: The largest block; channels are split in multiples of 16.
_LARGEST: Image = (32, 64, 128)
_SPLIT = 16
_BANK_BYTES, _OUTPUT_BANKS = 1024, 2
#: Equal choices are taken for what they see of the input up to this extent.
_SMALL = 4


@dataclass(frozen=True)
class Blocks:
    """The block of the output that is computed at a time, and the part of the input that it needs.

    part_kernel: a step is four taps of 8 channels, not one tap of 32. flat: a single row, which wide arrays fold.
    """

    output: Image
    input: Image
    part_kernel: bool
    flat: bool


def blocks_of(work: LayerWork, core: Core) -> Blocks:
    """Of a layer of one group, or a depthwise one, or a pooling."""
    # Networks repeat themselves: what does not matter here is taken out of the key.
    return _blocks(
        LayerWork("", "", work.kind, work.inputs[:1], work.output, (), 8, work.kernel, work.stride, work.dilation), core
    )


@lru_cache(maxsize=4096)
def _blocks(work: LayerWork, core: Core) -> Blocks:
    by_parts = _part_kernel(work)
    flat = core.micro[0] == 2 and work.output[0] == work.kernel[0] == 1 and work.kind in ("conv", "dense")
    whole = prod(work.inputs[0])
    best: tuple[Image, Image] | None = None
    least = seen = inf
    for block, area in _candidates(work, core, by_parts, flat):
        cost = _fetched(work, block, area)
        if 2 * prod(area) > whole:
            cost /= 2
        if cost > least:
            continue
        covered = -min(work.inputs[0][0], area[0]) * min(work.inputs[0][1], area[1])
        if cost == least:
            if covered > seen or max(block[:2]) > _SMALL:
                continue
            seen = covered
        else:
            seen = inf
        best, least = (block, area), cost
    assert best is not None, "one micro-block always fits"
    return Blocks(*best, by_parts, flat)


def _part_kernel(work: LayerWork) -> bool:
    """Whether steps of four taps and 8 channels fill the array at least as well as steps of 32 channels."""
    depth, taps = work.inputs[0][2], prod(work.kernel)
    if work.kind not in ("conv", "dense"):
        return False
    return depth <= 8 or depth / up(depth, 8) * (taps / up(taps, 4)) >= depth / up(depth, 32)


def _candidates(work: LayerWork, core: Core, by_parts: bool, flat: bool) -> Iterator[tuple[Image, Image]]:
    """Output blocks that fit, with what they need of the input."""
    heights, widths = _spans(work, core, 0), _spans(work, core, 1)
    deepest = up(min(work.output[2], _LARGEST[2]), core.micro[2])
    depth = up(min(work.inputs[0][2], 16 if by_parts else 32), 8)
    for channels in _depths(work.output[2], deepest, core.micro[2]):
        read = depth if work.kind in ("conv", "dense") else channels
        for rows, height in heights:
            for columns, width in widths:
                area, block = (height, width, read), (1 if flat else rows, columns, channels)
                if not _fits(core, area, block):
                    break  # wider ones do not either
                yield block, area


def _spans(work: LayerWork, core: Core, axis: int) -> list[tuple[int, int]]:
    """Extents of a block along an axis of the image, and what each needs of the input."""
    micro = core.micro[axis]
    most = up(min(work.output[axis], _LARGEST[axis]), micro)
    return [(size, up(_needed(work, axis, size), micro)) for size in range(micro, most + 1, micro)]


def _fetched(work: LayerWork, block: Image, area: Image) -> float:
    """Elements of inputs and weights that are read, in all."""
    height, width, channels = work.output
    depth = work.inputs[0][2]
    repeats = tiles(_extent(work, 0), SUBKERNEL) * tiles(_extent(work, 1), SUBKERNEL)
    inputs = area[0] * area[1] * depth * repeats * (height / block[0]) * (width / block[1])
    weights = 0
    if work.kind in ("conv", "dense"):
        inputs *= tiles(channels, block[2])
    if work.kind in ("conv", "depthwise"):
        weights = prod(work.kernel) * depth * tiles(height, block[0]) * tiles(width, block[1])
    return inputs + weights * (channels if work.kind == "conv" else 1)


def _depths(depth: int, most: int, micro: int) -> Iterator[int]:
    """Channels of a block that are tried."""
    channels = max(micro, min(most, _SPLIT))
    while True:
        if channels < depth:
            channels = up(channels, _SPLIT)
        if channels > most:
            return
        yield channels
        channels += micro


def _fits(core: Core, area: Image, block: Image) -> bool:
    """Whether inputs and sums (4 bytes) fit the banks twice each: one is filled while the other is used."""
    inputs = area[0] * area[1] * up(area[2], 8)
    sums = 4 * block[0] * block[1] * up(block[2], 8)
    held = up(2 * tiles(inputs, _BANK_BYTES), core.input_granule) + up(2 * tiles(sums, _BANK_BYTES), core.sum_granule)
    reserved = _OUTPUT_BANKS + (2 if core.banks > 16 else 0)
    return held + reserved <= core.banks


def _needed(work: LayerWork, axis: int, outputs: int) -> int:
    """Extent of the input that so many outputs in a row read."""
    return (outputs - 1) * work.stride[axis] + min(_extent(work, axis), SUBKERNEL)


def _extent(work: LayerWork, axis: int) -> int:
    return (work.kernel[axis] - 1) * work.dilation[axis] + 1


def up(value: int, granule: int) -> int:
    """The next multiple."""
    return tiles(value, granule) * granule
