"""Which values need bytes of the arena, how many and when; and who may write over whom.

Steps are those of `dnnc.ops.lifetimes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from dnnc.ir.graph import Graph
from dnnc.ops.lifetimes import lifetimes, roots

#: Offsets and sizes are multiples of this many bytes; the arena itself is aligned to 8.
ALIGNMENT = 4


def aligned(size: int) -> int:
    """`size` bytes rounded up to the arena's granularity."""
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Buffer:
    """`size` bytes (a multiple of 4) that a value and its views share, live at the steps first..last inclusive."""

    size: int
    first: int
    last: int


@dataclass(frozen=True)
class Distance:
    """Where an output may begin that overlaps an input: `bytes` (a multiple of 4, at least 0) before it, or further.

    exact: nowhere else.
    """

    bytes: int
    exact: bool = False


#: node -> input value -> how far before that input's start its output may begin; other inputs stay untouched.
Overwrites: TypeAlias = Mapping[str, Mapping[str, Distance]]


def buffers(graph: Graph) -> dict[str, Buffer]:
    """The buffer of every value that has its own."""
    return {
        name: Buffer(aligned(graph.types[name].nbytes), first, last) for name, (first, last) in lifetimes(graph).items()
    }


def candidates(graph: Graph, overwrites: Overwrites) -> dict[str, dict[str, Distance]]:
    """node -> the buffers that its output may really overlap, in the order of its inputs, and how far behind it stays.

    A buffer qualifies when nothing reads it (through any view) after this node, and every input of the node that lies
    in it may be overwritten.
    """
    root, live = roots(graph), buffers(graph)
    found: dict[str, dict[str, Distance]] = {}
    for step, node in enumerate(graph.nodes):
        allowed = overwrites.get(node.name, {})
        if not allowed or root[node.name] != node.name:
            continue
        owners = dict.fromkeys(root[value] for value in node.inputs)
        good = {}
        for owner in owners:
            if owner is None or live[owner].last != step:
                continue
            every = [allowed.get(value) for value in dict.fromkeys(node.inputs) if root[value] == owner]
            if (distance := _all_of(every)) is not None and distance.bytes < node.type.nbytes:
                good[owner] = distance
        if good:
            found[node.name] = good
    return found


def _all_of(distances: Sequence[Distance | None]) -> Distance | None:
    """One distance that keeps several, or None."""
    known = [distance for distance in distances if distance is not None]
    furthest = max(known, key=lambda d: d.bytes) if known else None
    if furthest is None or len(known) < len(distances):
        return None
    exact = {distance.bytes for distance in known if distance.exact}
    if len(exact) > 1 or (exact and furthest.bytes not in exact):
        return None
    return Distance(furthest.bytes, bool(exact))
