"""How many bytes weights take in flash at each width, as the C back end packs them (tests hold the two together).

Weights lie in tiles of four output channels of one width, in runs of `fixed.PACKINGS` words; the last tile of a group,
and the last run of a tile, are padded. Of a masked layer they may be records instead (`dnnc.records`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc import fixed
from dnnc.ir.graph import Graph, Node
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.records import record_bytes, record_instructions

TILE = 4
#: Bias and multiplier of one output channel, int32 each; a layer whose tables are of 16 bits takes half of that.
_CHANNEL_BYTES = 8
#: The index of one output channel in a layer of several widths.
_MAP_BYTES = 2
#: The constants of one kernel call: its struct on a 32-bit core, for linear layers and, at most, for others.
_LINEAR_CALL_BYTES = 64
_CALL_BYTES = 80
#: Instructions of a multiply-accumulate where the weights are not records, at least (backends/c/formats.py).
_DENSE_INSTRUCTIONS = 1.1


#: The share of exact zeros from which on a layer's zeros are meant.
MASKED_SHARE = 0.3


def is_masked(weight: NDArray[Any]) -> bool:
    """Whether the zeros of a layer's weights are meant: at least MASKED_SHARE of them are exactly 0."""
    return bool(weight.size and np.count_nonzero(weight == 0) >= MASKED_SHARE * weight.size)


def is_linear(node: Node) -> bool:
    """A node with weights of its own: Conv2D or Dense."""
    return isinstance(node.op, (Conv2D, Dense))


def groups_of(node: Node) -> int:
    """Into how many separate matrices the weights fall; a depthwise layer is packed as one, its k being the taps."""
    if isinstance(node.op, Conv2D) and not node.op.depthwise(node.params):
        return node.op.groups
    return 1


def tile_bytes(k: int, bits: int) -> int:
    """Bytes of four channels of k weights each."""
    packing = fixed.PACKINGS[bits]
    pairs = lcm(TILE, packing.pairs)
    block_k, block_words = 2 * pairs // TILE, pairs // packing.pairs * packing.words
    return 4 * -(-k // block_k) * block_words


def weight_bytes(node: Node, bits: NDArray[np.uint8]) -> int:
    """Bytes of the packed weights of a linear node whose output channel c has bits[c] bits."""
    weight = node.params["weight"]
    k = weight[0].size
    groups = groups_of(node)
    total = 0
    bits = np.maximum(bits, 2) if is_masked(weight) else np.asarray(bits)
    for group in bits.reshape(groups, -1):
        widths = Counter(8 if b == 7 else int(b) for b in group)
        total += sum(-(-channels // TILE) * tile_bytes(k, width) for width, channels in widths.items())
    return total


def channel_bytes(node: Node, bits: int) -> int:
    """Bytes of one output channel where its tile is full: `weight_bytes` without the padding of tiles."""
    return tile_bytes(node.params["weight"][0].size, bits) // TILE


def linear_bytes(node: Node, bits: NDArray[np.uint8]) -> int:
    """`weight_bytes`, and the biases, multipliers, channel maps and call parameters that go with them: a layer of
    several widths is one call a width (and group). A masked layer has records where every target would have them.
    """
    stored = np.where(np.asarray(bits) == 7, 8, bits)
    dense, weight = weight_bytes(node, bits), node.params["weight"]
    density = np.count_nonzero(weight) / max(weight.size, 1)
    if is_masked(weight):
        stored = np.maximum(stored, 2)
        records = record_bytes(weight, int(stored.max()))
        slower = record_instructions(*_positions(node)) / _DENSE_INSTRUCTIONS
        if records * density * slower < dense and records < dense:
            return records + len(stored) * _CHANNEL_BYTES + _LINEAR_CALL_BYTES
    groups = stored.reshape(groups_of(node), -1)
    mixed = len(np.unique(stored)) > 1
    segments = [Counter(g.tolist()) for g in groups] if mixed else [Counter([0] * groups.shape[1])] * len(groups)
    padded = sum(-(-channels // TILE) * TILE for widths in segments for channels in widths.values())
    calls = sum(len(widths) for widths in segments) if mixed else 1
    maps = _MAP_BYTES * len(stored) if mixed else 0
    return dense + padded * _CHANNEL_BYTES + calls * _LINEAR_CALL_BYTES + maps


def _positions(node: Node) -> tuple[int, int]:
    """Rows and columns of the pixels that each weight is used for."""
    shape = node.type.shape
    return (shape[0], shape[1]) if isinstance(node.op, Conv2D) else (1, node.type.size // shape[-1])


def other_bytes(graph: Graph, activation_bits: int = 8) -> int:
    """Bytes of the constants of all nodes without weights: look-up tables, values, call parameters (at most)."""
    total = 0
    for node in graph.nodes:
        kind = node.op.kind
        if is_linear(node) or kind == "Reshape":
            continue
        total += _CALL_BYTES * (len(node.inputs) if kind == "Concat" else 1)
        if kind == "Pointwise":
            total += 2**8 if activation_bits <= 8 else 2 * (2**8 + 1)
        elif kind == "Softmax":
            total += 2 * 2**8
        elif kind == "Resize":
            total += 2 * sum(node.type.shape[:2])
        elif node.params:
            total += sum(p.size for p in node.params.values()) * (4 if kind == "PRelu" else 1)
    return total


def linear_nodes(nodes: Iterable[Node]) -> list[Node]:
    return [n for n in nodes if is_linear(n)]
