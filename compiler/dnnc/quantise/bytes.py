"""How many bytes weights take in flash at each width, as the C back end packs them (tests hold the two together).

Weights lie in tiles of four output channels of one width, in runs of `fixed.PACKINGS` words; the last tile of a group,
and the last run of a tile, are padded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import lcm

import numpy as np
from numpy.typing import NDArray

from dnnc import fixed
from dnnc.ir.graph import Graph, Node
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense

TILE = 4
#: Bias and multiplier of one output channel, int32 each.
CHANNEL_TABLE_BYTES = 8
#: The index of one output channel in a layer of several widths.
CHANNEL_MAP_BYTES = 2


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
    for group in np.asarray(bits).reshape(groups, -1):
        widths = Counter(8 if b == 7 else int(b) for b in group)
        total += sum(-(-channels // TILE) * tile_bytes(k, width) for width, channels in widths.items())
    return total


def channel_bytes(node: Node, bits: int) -> float:
    """Bytes of one output channel where its tile is full: `weight_bytes` without the padding of tiles."""
    return tile_bytes(node.params["weight"][0].size, bits) / TILE


def table_bytes(graph: Graph, activation_bits: int = 8) -> int:
    """Bytes of constants that do not depend on the width of the weights: biases, multipliers and look-up tables."""
    total = 0
    for node in graph.nodes:
        if is_linear(node):
            channels = len(node.params["weight"])
            total += -(-channels // TILE) * TILE * CHANNEL_TABLE_BYTES
        elif node.op.kind == "Pointwise":
            total += 2**8 if activation_bits <= 8 else 2 * (2**8 + 1)
        elif node.op.kind == "Softmax":
            total += 2 * 2**8
        elif node.op.kind in ("PRelu", "Constant"):
            total += sum(p.size for p in node.params.values()) * (4 if node.op.kind == "PRelu" else 1)
    return total


def linear_nodes(nodes: Iterable[Node]) -> list[Node]:
    return [n for n in nodes if is_linear(n)]
