"""The memory planner: which bytes of the arena hold which value, and when.

An output may overlap an input that dies with it, if it lies far enough before it (`lifetime.Distance`). The lower bound
that a plan is judged by: the most bytes live at one step, where an output and the inputs that it may overlap count as
the fewest bytes that they can take together. No choice of what to overwrite and no offsets can do with less.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import TypeAlias

from dnnc.ir.graph import Graph
from dnnc.ops.lifetimes import roots
from dnnc.passes.lifetime import Distance, Overwrites, aligned, buffers, candidates
from dnnc.passes.place import Piece, Placer, clashes, live_bytes

#: (what, name): a "value", the "scratch" of a node, or the "slot" of an output that is copied there.
Key = tuple[str, str]
#: node -> the buffers that its output may overlap (lifetime.candidates).
Options: TypeAlias = Mapping[str, Mapping[str, Distance]]

#: How often, from each start, the choice of what to overwrite is changed in search of a smaller arena; of a graph with
#: many blocks fewer changes are tried, as each takes about the square of their number.
MERGE_TRIALS = 48
MERGE_WORK = 240_000
#: More blocks than this are placed by the greedy orders alone: the exact search recurses once a block.
SEARCH_BLOCKS = 400


@dataclass(frozen=True)
class OutputCopy:
    """Graph output number `output` must be copied at the end: from `value` to arena offset `offset`.

    Needed where the value cannot live in its slot of the output struct: it is (a view of) an input or a constant, or
    it is two outputs.
    """

    output: int
    value: str
    offset: int


@dataclass(frozen=True)
class Plan:
    """Bytes in the arena. A view (Reshape) has its source's offset; a Constant, and a view of one, has none.

    input_offset, output_offset: where the structs of all inputs and all outputs lie (members: `struct_offsets`).
    overwritten: node -> indices of the inputs whose bytes its output takes, some of them or all.
    lower_bound_bytes: see the module; `arena_bytes` is never less.
    """

    offsets: Mapping[str, int]
    scratch_offsets: Mapping[str, int]
    arena_bytes: int
    lower_bound_bytes: int
    input_offset: int = 0
    output_offset: int = 0
    output_copies: tuple[OutputCopy, ...] = ()
    overwritten: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def struct_offsets(sizes: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """Where the members of an input or output struct lie, and the struct's bytes: every member is padded to 4."""
    padded = [aligned(size) for size in sizes]
    return tuple(sum(padded[:i]) for i in range(len(padded))), sum(padded)


def plan(graph: Graph, scratch: Mapping[str, int] | None = None, overwrites: Overwrites | None = None) -> Plan:
    """Offsets for every value of an integer graph, deterministic.

    scratch: node -> bytes that it needs beside its inputs and output, while it runs.
    overwrites: node -> the inputs that its output may overlap, and how far before them it must begin; the planner uses
    this where the input dies there, and where it helps.
    """
    options = candidates(graph, overwrites or {})
    apart = _arrange(graph, scratch or {}, options)
    bound = apart.placer.bound
    choice = _merged(graph, apart, options, bound)
    best, offsets = choice.arrangement, choice.offsets
    if len(apart.blocks) <= SEARCH_BLOCKS:
        offsets = best.placer.search(offsets, bound)
        if best.placer.peak(offsets) > bound:
            # What is tied lies at one distance; what is not may lie at any that is allowed.
            loose = apart.placer.search(apart.placer.greedy(), bound)
            if apart.placer.peak(loose) < best.placer.peak(offsets):
                best, offsets = apart, loose
    return _finish(graph, best, offsets, bound)


@dataclass(frozen=True)
class _Arrangement:
    """What lies together: block 0 is the input struct, block 1 the output struct; keys say what a piece holds."""

    blocks: tuple[Mapping[Key, Piece], ...]

    @cached_property
    def placer(self) -> Placer:
        return Placer([tuple(block.values()) for block in self.blocks])


def _arrange(graph: Graph, scratch: Mapping[str, int], options: Options) -> _Arrangement:
    """Every buffer in a block of its own, but for the two structs."""
    root = roots(graph)
    pieces = {
        name: Piece(0, buffer.size, buffer.first, buffer.last, name, tuple(options.get(name, {}).items()))
        for name, buffer in buffers(graph).items()
    }
    end = len(graph.nodes)
    blocks: list[dict[Key, Piece]] = [{}, {}]
    starts, _ = struct_offsets([source.type.nbytes for source in graph.inputs])
    for source, start in zip(graph.inputs, starts, strict=True):
        blocks[0]["value", source.name] = replace(pieces[source.name], offset=start)
    starts, _ = struct_offsets([graph.types[output.value].nbytes for output in graph.outputs])
    for number, (output, start) in enumerate(zip(graph.outputs, starts, strict=True)):
        owner = root[output.value]
        if owner is None or ("value", owner) in blocks[0] or ("value", owner) in blocks[1]:
            blocks[1]["slot", str(number)] = Piece(start, aligned(graph.types[output.value].nbytes), end, end)
        else:
            blocks[1]["value", owner] = replace(pieces[owner], offset=start)
    for name, piece in pieces.items():
        if ("value", name) not in blocks[0] and ("value", name) not in blocks[1]:
            blocks.append({("value", name): piece})
    for step, node in enumerate(graph.nodes):
        if node.name in scratch:
            blocks.append({("scratch", node.name): Piece(0, aligned(scratch[node.name]), step, step)})
    return _Arrangement(tuple(blocks))


@dataclass(frozen=True)
class _Choice:
    """tied: node -> the input that its output is tied to; the arrangement that this makes; offsets of its blocks."""

    tied: Mapping[str, str]
    arrangement: _Arrangement
    offsets: list[int]

    @property
    def peak(self) -> int:
        return self.arrangement.placer.peak(self.offsets)


def _merged(graph: Graph, apart: _Arrangement, options: Options, bound: int) -> _Choice:
    """The best that is found by choosing, node by node, which input its output is tied to, if to any."""
    first = {node: next(iter(owners)) for node, owners in options.items()}
    close = {node: owner for node, owner in first.items() if options[node][owner].bytes == 0}
    best: _Choice | None = None
    for tied in (first, close, {}):
        found = _climb(graph, apart, options, bound, tied)
        if best is None or found.peak < best.peak:
            best = found
        if best.peak == bound:
            break
    assert best is not None
    return best


def _climb(graph: Graph, apart: _Arrangement, options: Options, bound: int, tied: Mapping[str, str]) -> _Choice:
    """From one choice to the next better one that differs in one node, until there is none or the trials are over."""

    def place(tied: Mapping[str, str]) -> _Choice:
        arrangement = _merge(apart, graph, tied, options)
        return _Choice(tied, arrangement, arrangement.placer.greedy())

    best = place(tied)
    left = min(MERGE_TRIALS, MERGE_WORK // len(apart.blocks) ** 2)
    better: _Choice | None = best
    while better is not None and best.peak > bound:
        better = None
        for other in islice(_variations(graph, best, options), left):
            left -= 1
            if (found := place(other)).peak < best.peak:
                best = better = found
                break
    return best


def _variations(graph: Graph, choice: _Choice, options: Options) -> Iterator[dict[str, str]]:
    """The choice with one node changed: tied to another of its inputs, or to none; nodes at the fullest steps first."""
    chosen = choice.tied
    live = live_bytes(choice.arrangement.placer.blocks, len(graph.nodes))
    step = {node.name: index for index, node in enumerate(graph.nodes)}
    for node in sorted(options, key=lambda name: (-int(live[step[name] + 1]), step[name])):
        rest = {name: owner for name, owner in chosen.items() if name != node}
        for owner in options[node]:
            if chosen.get(node) != owner:
                yield {**rest, node: owner}
        if node in chosen:
            yield rest


def _merge(apart: _Arrangement, graph: Graph, wanted: Mapping[str, str], options: Options) -> _Arrangement:
    """The outputs of the wanted nodes tied to inputs, at the least distance, but where others are in the way."""
    blocks: list[Mapping[Key, Piece]] = list(apart.blocks)
    home = {key: index for index, block in enumerate(blocks) for key in block}
    for node in graph.nodes:
        if node.name not in wanted:
            continue
        owner = wanted[node.name]
        below, above = ("value", owner), ("value", node.name)
        if home[below] == home[above]:
            continue
        under, over = blocks[home[below]], blocks[home[above]]
        shift = under[below].offset - options[node.name][owner].bytes - over[above].offset
        moved = {key: replace(piece, offset=piece.offset + shift) for key, piece in over.items()}
        if any(lo < 0 < hi for lo, hi in clashes(tuple(under.values()), tuple(moved.values()))):
            continue
        # The structs keep their numbers, and an input struct that meets the output struct becomes part of it.
        kept, gone = sorted((home[below], home[above]))
        blocks[kept], blocks[gone] = _from_zero({**under, **moved}), {}
        home.update(dict.fromkeys(blocks[kept], kept))
    return _Arrangement(tuple(blocks))


def _from_zero(block: Mapping[Key, Piece]) -> dict[Key, Piece]:
    lowest = min(piece.offset for piece in block.values())
    return {key: replace(piece, offset=piece.offset - lowest) for key, piece in block.items()}


def _overwritten(graph: Graph, offsets: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """node -> the inputs whose bytes its output takes."""
    root = roots(graph)
    found = {}
    for node in graph.nodes:
        if root[node.name] != node.name:
            continue
        start, end = offsets[node.name], offsets[node.name] + node.type.nbytes
        met = tuple(
            i
            for i, value in enumerate(node.inputs)
            if value in offsets and start < offsets[value] + graph.types[value].nbytes and offsets[value] < end
        )
        if met:
            found[node.name] = met
    return found


def _finish(graph: Graph, arrangement: _Arrangement, at: Sequence[int], bound: int) -> Plan:
    where = {
        key: at[index] + piece.offset for index, block in enumerate(arrangement.blocks) for key, piece in block.items()
    }
    offsets = {value: where["value", owner] for value, owner in roots(graph).items() if owner is not None}
    copies = tuple(
        OutputCopy(number, output.value, where["slot", str(number)])
        for number, output in enumerate(graph.outputs)
        if ("slot", str(number)) in where
    )
    copied = {copy.output: copy.offset for copy in copies}
    return Plan(
        offsets=offsets,
        scratch_offsets={name: offset for (what, name), offset in where.items() if what == "scratch"},
        arena_bytes=arrangement.placer.peak(at),
        lower_bound_bytes=bound,
        input_offset=offsets[graph.inputs[0].name] if graph.inputs else 0,
        output_offset=copied[0] if 0 in copied else offsets[graph.outputs[0].value] if graph.outputs else 0,
        output_copies=copies,
        overwritten=_overwritten(graph, offsets),
    )
