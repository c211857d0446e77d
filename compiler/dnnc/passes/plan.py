"""The memory planner: which bytes of the arena hold which value, and when.

The lower bound that a plan is judged by: the most bytes live at one step, where a node that may write over one of its
inputs counts output and input together once. No choice of what to overwrite and no offsets can do with less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from dnnc.ir.graph import Graph
from dnnc.passes.lifetime import Buffer, aligned, buffers, candidates, roots
from dnnc.passes.place import Piece, Placer, clashes, live_bytes

#: (what, name): a "value", the "scratch" of a node, or the "slot" of an output that is copied there.
Key = tuple[str, str]

#: How often the choice of what to overwrite is changed in search of a smaller arena.
MERGE_TRIALS = 24
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
    overwritten: node -> index of the input whose place its output takes.
    lower_bound_bytes: see the module; `arena_bytes` is never less.
    """

    offsets: Mapping[str, int]
    scratch_offsets: Mapping[str, int]
    arena_bytes: int
    lower_bound_bytes: int
    input_offset: int = 0
    output_offset: int = 0
    output_copies: tuple[OutputCopy, ...] = ()
    overwritten: Mapping[str, int] = field(default_factory=dict)


def struct_offsets(sizes: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """Where the members of an input or output struct lie, and the struct's bytes: every member is padded to 4."""
    padded = [aligned(size) for size in sizes]
    return tuple(sum(padded[:i]) for i in range(len(padded))), sum(padded)


def plan(
    graph: Graph,
    scratch: Mapping[str, int] | None = None,
    overwrites: Mapping[str, tuple[int, ...]] | None = None,
) -> Plan:
    """Offsets for every value of an integer graph, deterministic.

    scratch: node -> bytes that it needs beside its inputs and output, while it runs.
    overwrites: node -> inputs (by index) over which its output may be written, from their first byte on; the planner
    uses this where the input dies there and is large enough, and where it helps.
    """
    apart = _arrange(graph, scratch or {})
    options = candidates(graph, overwrites or {})
    bound = _lower_bound(graph, apart, options)
    wanted = {node: inputs[0] for node, inputs in options.items()}
    best = _merge(apart, graph, wanted)
    offsets = best.placer.greedy()
    for trial in _variations(wanted, options):
        if best.placer.peak(offsets) == bound:
            break
        other = _merge(apart, graph, trial)
        moved = other.placer.greedy()
        if other.placer.peak(moved) < best.placer.peak(offsets):
            best, offsets = other, moved
    if len(best.blocks) <= SEARCH_BLOCKS:
        offsets = best.placer.search(offsets, bound)
    return _finish(graph, best, offsets, bound)


@dataclass(frozen=True)
class _Arrangement:
    """What lies together: block 0 is the input struct, block 1 the output struct; keys say what a piece holds."""

    blocks: tuple[Mapping[Key, Piece], ...]
    overwritten: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def placer(self) -> Placer:
        return Placer([tuple(block.values()) for block in self.blocks])


def _arrange(graph: Graph, scratch: Mapping[str, int]) -> _Arrangement:
    """Every buffer in a block of its own, but for the two structs."""
    root, live = roots(graph), buffers(graph)
    end = len(graph.nodes)
    blocks: list[dict[Key, Piece]] = [{}, {}]
    starts, _ = struct_offsets([source.type.nbytes for source in graph.inputs])
    for source, start in zip(graph.inputs, starts, strict=True):
        blocks[0]["value", source.name] = _piece(live[source.name], start)
    starts, _ = struct_offsets([graph.types[output.value].nbytes for output in graph.outputs])
    for number, (output, start) in enumerate(zip(graph.outputs, starts, strict=True)):
        owner = root[output.value]
        if owner is None or ("value", owner) in blocks[0] or ("value", owner) in blocks[1]:
            blocks[1]["slot", str(number)] = Piece(start, aligned(graph.types[output.value].nbytes), end, end)
        else:
            blocks[1]["value", owner] = _piece(live[owner], start)
    for name, buffer in live.items():
        if ("value", name) not in blocks[0] and ("value", name) not in blocks[1]:
            blocks.append({("value", name): _piece(buffer, 0)})
    for step, node in enumerate(graph.nodes):
        if node.name in scratch:
            blocks.append({("scratch", node.name): Piece(0, aligned(scratch[node.name]), step, step)})
    return _Arrangement(tuple(blocks))


def _piece(buffer: Buffer, offset: int) -> Piece:
    return Piece(offset, buffer.size, buffer.first, buffer.last)


def _lower_bound(graph: Graph, apart: _Arrangement, options: Mapping[str, tuple[int, ...]]) -> int:
    live = live_bytes(apart.placer.blocks, len(graph.nodes))
    for step, node in enumerate(graph.nodes):
        if node.name in options:
            live[step + 1] -= aligned(node.type.nbytes)
    return int(live.max(initial=0))


def _variations(wanted: Mapping[str, int], options: Mapping[str, tuple[int, ...]]) -> list[dict[str, int]]:
    """`wanted` with one node changed: to another of its inputs, or to none."""
    found = []
    for node, inputs in options.items():
        for index in inputs[1:]:
            found.append({**wanted, node: index})
        found.append({name: index for name, index in wanted.items() if name != node})
    return found[:MERGE_TRIALS]


def _merge(apart: _Arrangement, graph: Graph, wanted: Mapping[str, int]) -> _Arrangement:
    """The outputs of the wanted nodes laid over their inputs, but where the two structs cannot agree on it."""
    blocks: list[Mapping[Key, Piece]] = list(apart.blocks)
    home = {key: index for index, block in enumerate(blocks) for key in block}
    root = roots(graph)
    overwritten: dict[str, int] = {}
    for node in graph.nodes:
        if node.name not in wanted:
            continue
        below, above = ("value", str(root[node.inputs[wanted[node.name]]])), ("value", node.name)
        under, over = blocks[home[below]], dict(blocks[home[above]])
        if home[below] == home[above]:
            continue
        over[above] = _after(over[above])
        shift = under[below].offset - over[above].offset
        moved = {key: replace(piece, offset=piece.offset + shift) for key, piece in over.items()}
        if any(lo < 0 < hi for lo, hi in clashes(tuple(under.values()), tuple(moved.values()))):
            continue
        overwritten[node.name] = wanted[node.name]
        # The structs keep their numbers, and an input struct that meets the output struct becomes part of it.
        kept, gone = sorted((home[below], home[above]))
        blocks[kept], blocks[gone] = _from_zero({**under, **moved}), {}
        home.update(dict.fromkeys(blocks[kept], kept))
    return _Arrangement(tuple(blocks), overwritten)


def _after(piece: Piece) -> Piece:
    """An output that takes over its input's bytes: they are counted as the input's while the node runs."""
    return replace(piece, first=piece.first + 1) if piece.last > piece.first else replace(piece, size=0)


def _from_zero(block: Mapping[Key, Piece]) -> dict[Key, Piece]:
    lowest = min(piece.offset for piece in block.values())
    return {key: replace(piece, offset=piece.offset - lowest) for key, piece in block.items()}


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
        overwritten=arrangement.overwritten,
    )
