"""Where blocks with lifetimes go in one memory, so that it is small: dynamic storage allocation.

A block is a rigid set of pieces, each with its own bytes and its own lifetime; two pieces of different blocks that live
at the same step must not overlap, but where one is written behind the other as that is read (`Piece.over`). One piece
is a buffer; several are the members of a struct, or buffers that take over each other's bytes. The problem is NP-hard
in general and easy for most networks: a few greedy orders, then an exact search that gives up after a fixed amount of
work (counted, not timed: the same blocks get the same offsets anywhere).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnnc.passes.lifetime import Distance

#: Elementary steps that the exact search may take: about a tenth of a second.
SEARCH_WORK = 300_000


@dataclass(frozen=True)
class Piece:
    """`size` bytes at `offset` of its block, live at the steps first..last, both included.

    over: names of pieces that die at step `first`, and how far before them this piece may begin and overlap them.
    """

    offset: int
    size: int
    first: int
    last: int
    name: str = ""
    over: tuple[tuple[str, Distance], ...] = ()

    def behind(self, other: Piece) -> Distance | None:
        """How it may overlap another one, if at all."""
        return next((distance for name, distance in self.over if name == other.name), None)

    def saving(self, other: Piece) -> int:
        """The most bytes that it can have in common with a piece that lives at the same step."""
        distance = self.behind(other)
        return 0 if distance is None else max(0, min(self.size - distance.bytes, other.size))


Block = tuple[Piece, ...]


def extent(block: Block) -> int:
    """Bytes from the block's start to the end of its last piece."""
    return max((piece.offset + piece.size for piece in block), default=0)


def clashes(a: Block, b: Block) -> tuple[tuple[int, int], ...]:
    """Open intervals (lo, hi) in which `offset of a - offset of b` must not lie."""
    found = []
    for p in a:
        for q in b:
            if p.first <= q.last and q.first <= p.last and p.size and q.size:
                shift = q.offset - p.offset
                found += [(lo + shift, hi + shift) for lo, hi in _apart(p, q)]
    return tuple(found)


def _apart(p: Piece, q: Piece) -> list[tuple[int, int]]:
    """The same for the pieces' own offsets."""
    lowest, highest = -p.size, q.size
    if (distance := p.behind(q)) is not None:
        at = -distance.bytes
    elif (distance := q.behind(p)) is not None:
        at = distance.bytes
    else:
        return [(lowest, highest)]
    below, above = (lowest, at), (at, highest)
    forbidden = [below, above] if distance.exact else [above] if p.behind(q) is not None else [below]
    return [(lo, hi) for lo, hi in forbidden if lo < hi] if lowest < at < highest else [(lowest, highest)]


def live_bytes(blocks: Iterable[Block], steps: int) -> NDArray[np.int64]:
    """Bytes live at each step -1..steps, [steps + 2]; what two pieces of a block have in common counts once."""
    live = np.zeros(steps + 2, np.int64)
    for block in blocks:
        for piece in block:
            live[piece.first + 1 : piece.last + 2] += piece.size
            for other in block if piece.over else ():
                if piece.behind(other) is not None:
                    ends = min(piece.offset + piece.size, other.offset + other.size)
                    live[piece.first + 1] -= max(0, ends - max(piece.offset, other.offset))
    return live


def savings(blocks: Sequence[Block], steps: int) -> NDArray[np.int64]:
    """The most bytes that pieces of different blocks can have in common at each step -1..steps, [steps + 2]."""
    found = np.zeros(steps + 2, np.int64)
    home = {piece.name: (index, piece) for index, block in enumerate(blocks) for piece in block}
    for index, block in enumerate(blocks):
        for piece in block:
            others = [home[name] for name, _ in piece.over if name in home]
            common = sum(piece.saving(other) for where, other in others if where != index)
            found[piece.first + 1] += min(common, piece.size)
    return found


class Placer:
    """Offsets for one fixed set of blocks; `bound` is what no placement can undercut."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = tuple(blocks)
        self.extents = [extent(block) for block in self.blocks]
        self.steps = max((piece.last for block in self.blocks for piece in block), default=0)
        self.savings = savings(self.blocks, self.steps)
        self.bound = int((live_bytes(self.blocks, self.steps) - self.savings).max(initial=0))
        self.clashes: list[dict[int, tuple[tuple[int, int], ...]]] = [{} for _ in self.blocks]
        spans = [(min(p.first for p in b), max(p.last for p in b)) if b else (0, -1) for b in self.blocks]
        for i, a in enumerate(self.blocks):
            for j, b in enumerate(self.blocks[:i]):
                if spans[i][0] <= spans[j][1] and spans[j][0] <= spans[i][1] and (found := clashes(a, b)):
                    self.clashes[i][j] = found
                    self.clashes[j][i] = tuple((-hi, -lo) for lo, hi in found)

    def peak(self, offsets: Sequence[int]) -> int:
        """Bytes that a placement takes."""
        return max((o + e for o, e in zip(offsets, self.extents, strict=True)), default=0)

    def greedy(self) -> list[int]:
        """The best of several first-fit orders."""
        best: list[int] | None = None
        for order in self._orders():
            offsets = self._first_fit(order)
            if best is None or self.peak(offsets) < self.peak(best):
                best = offsets
            if self.peak(best) == self.bound:
                break
        return best or []

    def search(self, start: Sequence[int], goal: int, work: int = SEARCH_WORK) -> list[int]:
        """The best placement that an exact search finds, no worse than `start`; it stops at `goal` bytes.

        For blocks of pieces at offset 0, no `exact` distances, and given enough work the result is optimal.
        """
        return _Search(self, start, max(goal, self.bound), work).run()

    def lowest(self, block: int, placed: Mapping[int, int], floor: int = 0) -> int:
        """The lowest offset >= floor for a block that clashes with none of those (block -> offset) placed so far."""
        taken = []
        for other, intervals in self.clashes[block].items():
            at = placed.get(other)
            if at is not None:
                taken += [(at + lo, at + hi) for lo, hi in intervals]
        taken.sort()
        offset = floor
        for lo, hi in taken:
            if lo < offset < hi:
                offset = hi
        return offset

    def _first_fit(self, order: Sequence[int]) -> list[int]:
        placed: dict[int, int] = {}
        for block in order:
            placed[block] = self.lowest(block, placed)
        return [placed[block] for block in range(len(self.blocks))]

    def _orders(self) -> Iterator[list[int]]:
        """Orders worth trying: large first, long-lived first, large areas first, the fullest steps first, in time."""
        everything = range(len(self.blocks))
        sizes = self.extents
        first = [min((p.first for p in b), default=0) for b in self.blocks]
        last = [max((p.last for p in b), default=0) for b in self.blocks]
        span = [b - a + 1 for a, b in zip(first, last, strict=True)]
        live = live_bytes(self.blocks, self.steps)
        fullest = [max((int(live[p.first + 1 : p.last + 2].max()) for p in b), default=0) for b in self.blocks]
        yield sorted(everything, key=lambda i: (-sizes[i], first[i]))
        yield sorted(everything, key=lambda i: (-fullest[i], -sizes[i], first[i]))
        yield sorted(everything, key=lambda i: (-fullest[i], -span[i], first[i]))
        yield sorted(everything, key=lambda i: (-sizes[i] * span[i], first[i]))
        yield sorted(everything, key=lambda i: (-span[i], -sizes[i], first[i]))
        yield sorted(everything, key=lambda i: (first[i], -span[i]))
        yield sorted(everything, key=lambda i: (-last[i], -span[i]))


class _Search:
    """Depth first over placements in ascending order of offset.

    Some optimal placement has every block at the lowest offset that the blocks below it allow, so only those are tried;
    and never a block that leaves room for another one entirely underneath. A branch dies when the bytes that must still
    lie above the current offset, but for what they may have in common with others, cannot fit below the best placement
    found.
    """

    def __init__(self, placer: Placer, start: Sequence[int], goal: int, work: int) -> None:
        self.placer, self.goal, self.work = placer, goal, work
        self.best = list(start)
        self.best_peak = placer.peak(start)
        self.seen: set[tuple[int, bytes, tuple[int, ...], tuple[tuple[int, int], ...]]] = set()
        self.partners = _partners(placer.blocks)
        self.live = [live_bytes([block], placer.steps) for block in placer.blocks]
        self.base = [live_bytes([tuple(p for p in block if p.offset == 0)], placer.steps) for block in placer.blocks]

    def run(self) -> list[int]:
        everything = list(range(len(self.placer.blocks)))
        remaining = np.sum(self.live, axis=0) if self.live else np.zeros(1, np.int64)
        self._descend([], everything, remaining, np.zeros_like(remaining), 0)
        return self.best

    def _descend(
        self,
        placed: list[tuple[int, int]],
        rest: list[int],
        remaining: NDArray[np.int64],
        tops: NDArray[np.int64],
        floor: int,
    ) -> None:
        """placed: (block, offset); remaining: live bytes of `rest`; tops: where placed bytes end, at each step."""
        if not rest:
            offsets = [at for _, at in sorted(placed)]
            if self.placer.peak(offsets) < self.best_peak:
                self.best, self.best_peak = offsets, self.placer.peak(offsets)
            return
        # How blocks of whole buffers got here does not matter, only what is left and how high it starts; but where a
        # block lies that another one may overlap.
        met = tuple(at for at in placed if not self.partners[at[0]].isdisjoint(rest))
        state = (floor, np.maximum(tops, floor).tobytes(), tuple(rest), tuple(sorted(met)))
        if state in self.seen:
            return
        self.seen.add(state)
        where = dict(placed)
        lowest = {block: self.placer.lowest(block, where, floor) for block in rest}
        self.work -= len(rest) * (4 + len(placed))
        ceiling = min(lowest[block] + self.placer.extents[block] for block in rest)
        choices = [b for b in rest if lowest[b] < ceiling or self.placer.extents[b] == 0]
        for block in sorted(choices, key=lambda b: (lowest[b], -self.placer.extents[b], b)):
            if self.work <= 0 or self.best_peak <= self.goal:
                return
            self.work -= 20
            at = lowest[block]
            still = remaining - self.live[block]
            above = np.maximum(tops, np.where(self.base[block] > 0, at + self.base[block], 0))
            needed = np.where(still > 0, np.maximum(above, at) + still - self.placer.savings, 0).max()
            if max(int(needed), at + self.placer.extents[block]) < self.best_peak:
                self._descend([*placed, (block, at)], [b for b in rest if b != block], still, above, at)


def _partners(blocks: Sequence[Block]) -> list[frozenset[int]]:
    """For each block the others that it may overlap, or that may overlap it."""
    home = {piece.name: index for index, block in enumerate(blocks) for piece in block}
    found: list[set[int]] = [set() for _ in blocks]
    for index, block in enumerate(blocks):
        for other in {home[name] for piece in block for name, _ in piece.over if name in home} - {index}:
            found[index].add(other)
            found[other].add(index)
    return [frozenset(partners) for partners in found]
