"""Arm Ethos-U55, as Vela estimates it.

The formulae are those of Vela's public sources (Apache-2.0; ethosu/vela, ethosu/regor), in our own words. A layer is
computed block by block (`ethos_u55_blocks`). A block takes

- products: 4 cycles a *micro-block* of the array and step; a step is 32 input channels of one tap, 8 channels of four
  taps (part kernel), or four taps of a channel (depthwise). The weight decoder needs at least 4 cycles a channel;
- results: so many cycles an element, by the array's size and the operation.

All of one, and one block of the other, or a quarter of all that a block does, if that is more, since jobs queue; before
that the first input has to arrive, after it the last output to leave. The layer takes the most of this, of SRAM
transfers and of entropy-coded weights from flash. Adds and tables take cycles an element.

Left out: layers that are cut into slices of channels, whose weights arrive while others are computed, and cascades.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, prod

from dnnc.cost.assemble import AcceleratorModel, assemble, mac_pj, widened
from dnnc.cost.energy import add_pj
from dnnc.cost.estimate import LayerCost
from dnnc.cost.ethos_u55_blocks import CORES, SUBKERNEL, Blocks, Core, blocks_of, up
from dnnc.cost.layer import Image, LayerWork
from dnnc.cost.systolic import tiles

MACS = tuple(sorted(CORES))
#: vela.ini: cycles until a transfer from or to SRAM begins, or one from flash; bytes of a burst, bytes a cycle.
_LATENCY, _FLASH_LATENCY = 32, 64
_BURST, _RATE = 32, 8
#: Bytes of scale and bias of an output channel.
_SCALE_BYTES = 10
#: A Softmax is some 30 operations on 32-bit values, of 20 cycles at least.
_SOFTMAX_STEPS, _STEP_CYCLES = 30, 20


@dataclass(frozen=True)
class EthosU55:
    """macs: products a cycle, of MACS."""

    macs: int


class EthosU55Model(AcceleratorModel[EthosU55]):
    """A CostModel."""

    def layer(self, work: LayerWork) -> LayerCost:
        core, work = CORES[self.array.macs], widened(work, self.hardware)
        if not work.linear and work.kind not in ("max-pool", "average-pool"):
            bits = work.total_input_bits + work.total_output_bits
            energy = {"vector": work.output_elements * add_pj(32)}
            return assemble(work, self.hardware, elementwise_cycles(work, core), bits, energy)
        groups = 1 if work.kind == "depthwise" else work.groups
        part = _one_group(work) if groups > 1 else work
        blocks = blocks_of(part, core)
        cycles = groups * layer_cycles(part, core, blocks)
        moved = groups * _sram_bytes(part, blocks)
        constants = coded_bytes(work)
        pj = work.macs * mac_pj(self.hardware, 8, 16 if work.activation_bits > 8 else 8)
        return assemble(work, self.hardware, cycles, 8 * moved, {"mac": pj}, constants)


def layer_cycles(work: LayerWork, core: Core, blocks: Blocks) -> int:
    """Of a convolution of one group, a depthwise one, a dense layer or a pooling, without waiting for memories."""
    micro = (1, 4, core.micro[2]) if blocks.flat and work.output[1] % 2 == 0 else core.micro
    products = results = 0
    sizes = list(_pieces(work.output, blocks.output))
    for size, count in sizes:
        products += count * _block_cycles(work, core, blocks, micro, size)
        results += count * _result_cycles(work, core, size)
    whole = sizes[0][0]
    one_product, one_result = _block_cycles(work, core, blocks, micro, whole), _result_cycles(work, core, whole)
    read, write = _transfer(blocks.input, work.inputs[0], True), _transfer(blocks.output, work.output, False)
    queued = (one_product + one_result + max(read - write, 0)) // 4
    longest, other = (products, one_result) if products > results else (results, one_product)
    return longest + max(other, queued) + 2 * _LATENCY + read + write


def elementwise_cycles(work: LayerWork, core: Core) -> float:
    """Of an operation without weights that is no pooling; outputs are stored by 16 channels."""
    elements = work.output[0] * work.output[1] * up(work.output[2], 16)
    if work.kind == "softmax":
        return _SOFTMAX_STEPS * max(_STEP_CYCLES, work.output_elements * core.add)
    rates = {"add": core.add, "multiply": core.multiply, "prelu": core.add, "table": core.table}
    return elements * rates.get(work.kind, core.other)


def coded_bytes(work: LayerWork) -> int:
    """Weights as an entropy coder would store them, and scales; Vela's coder comes within a few per cent."""
    return ceil(work.entropy_bits * work.weights / 8) + _SCALE_BYTES * work.output[2] if work.linear else 0


def _one_group(work: LayerWork) -> LayerWork:
    def cut(image: Image) -> Image:
        return image[0], image[1], image[2] // work.groups

    return replace(work, inputs=(cut(work.inputs[0]),), output=cut(work.output), weights=work.weights // work.groups)


def _pieces(whole: Image, block: Image) -> Iterator[tuple[Image, int]]:
    """The sizes of the blocks that cover an output, whole ones first, and how many there are of each."""
    cuts = []
    for extent, size in zip(whole, block, strict=True):
        parts = [(size, extent // size), (extent % size, 1)]
        cuts.append([(length, count) for length, count in parts if length and count])
    for (height, a), (width, b), (depth, c) in product(*cuts):
        yield (height, width, depth), a * b * c


def _result_cycles(work: LayerWork, core: Core, size: Image) -> int:
    """Until all results of a block are out, and the scales of its channels in."""
    result = int((core.maximum if work.kind == "max-pool" else core.other) * prod(size))
    return max(result, _SCALE_BYTES * size[2] * _FLASH_LATENCY // 256) if work.linear else result


def _block_cycles(work: LayerWork, core: Core, blocks: Blocks, micro: Image, size: Image) -> int:
    """Until all products of a block are made."""
    places, deep = tiles(size[0], micro[0]) * tiles(size[1], micro[1]), tiles(size[2], micro[2])
    depth = min(work.inputs[0][2], blocks.input[2])
    cycles = sum(_step_cycles(work, core, blocks.part_kernel, taps, places, deep, depth) for taps in _parts(work))
    return cycles * tiles(work.inputs[0][2], depth) if work.kind in ("conv", "dense") else cycles


def _step_cycles(work: LayerWork, core: Core, part_kernel: bool, taps: int, places: int, deep: int, depth: int) -> int:
    """Of a block and one part of the kernel; places, deep: micro-blocks; depth: channels of the input at a time."""
    wide, smallest = work.activation_bits > 8, core.micro[2] == 4
    pace, repeats = max(4 * core.micro[2], 4 * places), 1
    if not work.linear:
        steps = 1
        cycles = max(4, taps) * places * deep * (1 if smallest else 8 if wide else 4)
    elif work.kind == "depthwise":
        steps = tiles(taps, 4)
        cycles = max(4 * core.micro[2], 4 * places * (2 if wide else 1)) * steps * deep
    elif part_kernel:
        steps, repeats = tiles(taps, 2 if wide else 4), tiles(depth, 8)
        cycles = pace * steps * deep * repeats
    else:
        steps = taps
        cycles = pace * steps * deep
    if places > 1:
        return cycles
    waiting = (3 if smallest else 2) * (steps if deep == 1 else (steps - 1) * deep)
    return cycles + waiting * repeats


def _parts(work: LayerWork) -> Iterator[int]:
    """Taps of the parts that a kernel is cut into; a dense layer has one tap."""
    for y in range(0, work.kernel[0], SUBKERNEL):
        for x in range(0, work.kernel[1], SUBKERNEL):
            yield min(work.kernel[0] - y, SUBKERNEL) * min(work.kernel[1] - x, SUBKERNEL)


def _transfer(block: Image, whole: Image, reading: bool) -> int:
    """Cycles that a block's bytes take. Tensors lie by 16 channels, only an input of less than 8, the network's own,
    pixel by pixel: then bursts are as short as its block is deep.
    """
    size = prod(map(min, block, whole))
    burst = min(_BURST, block[2] if reading and whole[2] < 8 else 16 * block[1])
    return size * _BURST // burst // _RATE


def _sram_bytes(work: LayerWork, blocks: Blocks) -> int:
    """Inputs for every block, weights for every block in the plane, outputs once."""
    across = tiles(work.output[0], blocks.output[0]) * tiles(work.output[1], blocks.output[1])
    deep = tiles(work.output[2], blocks.output[2])
    pixelwise = work.inputs[0][2] < 8
    burst = _BURST // min(_BURST, blocks.input[2]) if pixelwise else 1
    area = blocks.input[0] * blocks.input[1] * (work.inputs[0][2] if pixelwise else up(work.inputs[0][2], 16))
    parts = len(list(_parts(work)))
    inputs = area * burst * parts * across * (deep if work.kind in ("conv", "dense") else 1)
    weights = coded_bytes(work) * across if work.kind in ("conv", "depthwise") else 0
    return inputs + weights + work.output_elements
