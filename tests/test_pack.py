"""Packed activations: which values are packed, what that saves, and that traces see their codes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cases import Case, Maker, stored_bytes
from dnnc.backends.c import lower
from dnnc.backends.c.banded import rows_are_words, takes_packed
from dnnc.cost.loader import load_target
from dnnc.ir.graph import Graph
from dnnc.ir.types import Quant, TensorType
from dnnc.ops.conv import Conv2D
from dnnc.ops.elementwise import Add
from dnnc.ops.movement import Reshape
from dnnc.ops.pointwise import Pointwise
from dnnc.passes.pack import pack_activations
from dnnc.passes.plan import plan
from dnnc.run.blocks import unpack_value


def packed_names(graph: Graph) -> set[str]:
    return {name for name, kind in graph.types.items() if kind.packed}


def pack_all(graph: Graph) -> Graph:
    return pack_activations(graph, takes_packed, rows_are_words, stored_bytes)


def chain(*bits: int, width: int = 8) -> Graph:
    """3x3 convolutions over a 16 x width image, with 8 output channels of these bits, but for the last one's two."""

    def build(make: Maker) -> Sequence[str]:
        x = make.input(16, width, 1)
        for count in bits[:-1]:
            x = make.linear(Conv2D(padding=(1, 1, 1, 1)), x, (8, 3, 3, make.types[x].shape[2]), 8, count)
        return [make.linear(Conv2D(padding=(1, 1, 1, 1)), x, (2, 3, 3, 8), 8, bits[-1])]

    return Case(f"chain_{'_'.join(map(str, bits))}", build).graph()


def test_a_word_holds_eight_elements() -> None:
    kind = TensorType((3, 3), Quant(4, 1.0, 0), packed=True)
    assert kind.nbytes == 8
    # Element e of a word is nibble e // 4 of byte e % 4.
    data = np.array([[0x41, 0x52, 0x63, 0x70, 0x0F, 0, 0, 0]], np.uint8)
    assert unpack_value(kind, data).tolist() == [[[1, 2, 3], [0, 4, 5], [6, 7, -1]]]


def test_only_inner_values_of_four_bits_are_packed() -> None:
    graph = pack_all(chain(4, 8, 3, 4))
    assert packed_names(graph) == {graph.nodes[0].name, graph.nodes[2].name}


def test_values_that_some_reader_cannot_unpack_stay_bytes() -> None:
    def build(make: Maker) -> Sequence[str]:
        x = make.linear(Conv2D(), make.input(8, 8, 2), (8, 1, 1, 2), 8, 4)
        y = make.add(Pointwise("tanh"), [x], bits=4)
        z = make.linear(Conv2D(), x, (8, 1, 1, 8), 8, 4)
        return [make.add(Add(), [y, z])]

    graph = Case("read_by_a_table", build).graph()
    assert packed_names(pack_all(graph)) == {graph.nodes[2].name}


def test_a_value_and_its_views_are_packed_together() -> None:
    def build(reader_of_view: bool) -> Graph:
        def nodes(make: Maker) -> Sequence[str]:
            x = make.linear(Conv2D(), make.input(4, 8, 2), (4, 1, 1, 2), 8, 4)
            view = make.add(Reshape((8, 4, 4)), [x])
            y = make.linear(Conv2D(), view, (4, 1, 1, 4), 8)
            return [y, make.add(Pointwise("tanh"), [view])] if reader_of_view else [y]

        return Case(f"views_{reader_of_view}", nodes).graph()

    lone = build(False)
    assert packed_names(pack_all(lone)) == {lone.nodes[0].name, lone.nodes[1].name}
    assert packed_names(pack_all(build(True))) == set()


def test_rows_that_are_no_whole_words_stay_bytes() -> None:
    assert packed_names(pack_all(chain(4, 8, width=4))) and rows_are_words((1, 3, 5)) and rows_are_words((77,))
    assert not rows_are_words((3, 3, 5))


def test_packing_halves_the_arena_of_large_images() -> None:
    target = load_target("cortex-m7")

    def arena(graph: Graph) -> int:
        program = lower(graph, target)
        return plan(graph, program.scratch, program.overwrites).arena_bytes

    graph = chain(4, 4, 4, 4, 8, width=64)
    packed = pack_activations(graph, takes_packed, rows_are_words, arena)
    assert arena(packed) < 0.75 * arena(graph)


def test_what_saves_nothing_stays_bytes() -> None:
    """The arena's peak is at the first layer, where the network's own input cannot be packed."""

    def build(make: Maker) -> Sequence[str]:
        x = make.linear(Conv2D(stride=(4, 4)), make.input(64, 64, 8), (8, 1, 1, 8), 8, 4)
        for _ in range(3):
            x = make.linear(Conv2D(padding=(1, 1, 1, 1)), x, (8, 3, 3, 8), 8, 4)
        return [make.linear(Conv2D(), x, (8, 1, 1, 8), 8)]

    graph = Case("peak_at_the_input", build).graph()

    def arena(candidate: Graph) -> int:
        program = lower(candidate, load_target("cortex-m7"))
        return plan(candidate, program.scratch, program.overwrites).arena_bytes

    packed = pack_activations(graph, takes_packed, rows_are_words, arena)
    assert arena(packed) <= arena(pack_all(graph)) and len(packed_names(packed)) < len(packed_names(pack_all(graph)))
