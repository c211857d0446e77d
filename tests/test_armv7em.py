"""The SMLAD kernels against the simulator on emulated cores: shapes at which their loops take every path.

tests/cases.py reaches every row of the table; here are the remainders of tiles, blocks, pixel pairs and rings, shifted
accumulators, and numbers at the ends of their ranges, in the code of both compilers.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from armv7em_layers import Linear, make_files, make_graph, make_inputs
from dnnc.backends.c import emit, lower
from dnnc.backends.c.pack import pack_linear, unpack_linear
from dnnc.backends.c.table import Layer, choose
from dnnc.backends.c.table_armv7em import ARMV7EM
from dnnc.cost.loader import load_target
from dnnc.ir.graph import Graph, Node
from dnnc.ops.pointwise import Pointwise
from dnnc.ops.tables import exact_halves
from dnnc.passes.plan import plan
from dnnc.simulate import simulate
from emulated import Network, emulate

ONES = (1, 1, 1, 1)
GCC = pytest.param("gcc", marks=pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="needs the compiler"))

EVERY_WIDTH = (
    Linear("conv_5_outputs", (5, 6, 4), 5, (3, 3), padding=ONES),
    Linear("conv_unaligned", (7, 5, 3), 4, (3, 3), (2, 2), (0, 1, 1, 0)),
    Linear("conv_dilated", (8, 9, 8), 6, (2, 3), (1, 1), (2, 0, 1, 3), (2, 2)),
    Linear("conv_groups", (6, 6, 12), 15, (3, 2), (1, 2), ONES, groups=3),
    Linear("conv_groups_unaligned", (6, 6, 9), 6, (3, 2), (1, 2), ONES, groups=3),
    Linear("pointwise_shifted", (3, 3, 16), 9, left_shift=2),
    Linear("pointwise_strided", (5, 5, 7), 3, (1, 1), (2, 2)),
    Linear("dense_clamped", (37,), 10, None, clamp=(-20, 90)),
    Linear("dense_three_rows_extreme", (3, 40), 8, None, extreme=True),
    Linear("dense_extreme", (640,), 5, None, extreme=True),
    Linear("depthwise", (7, 6, 8), 8, (3, 3), padding=ONES, groups=8),
    Linear("depthwise_part_tile", (7, 6, 7), 7, (3, 3), (2, 2), (0, 0, 1, 1), groups=7, clamp=(-30, 30)),
    Linear("depthwise_columns_shifted", (7, 3, 6), 6, (3, 3), padding=ONES, groups=6, left_shift=3),
    Linear("depthwise_dilated", (7, 9, 4), 4, (5, 3), (1, 1), (2, 1, 2, 1), (1, 2), groups=4, left_shift=1),
    Linear("depthwise_1d", (1, 9, 5), 5, (1, 4), (1, 3), (0, 3, 0, 2), groups=5),
)
OTHERS = (
    Linear("dense_lowest", (640,), 5, None, extreme=True, lowest=-128),
    Linear("pointwise_lowest", (2, 3, 20), 6, lowest=-128),
    Linear("conv_lowest", (4, 5, 6), 7, (3, 3), padding=ONES, lowest=-128),
    Linear("conv_4_many", (3, 3, 120), 6, (3, 3), padding=ONES, bits=(4,)),
    Linear("dense_4_many", (1500,), 6, None, bits=(4,)),
    Linear("mixed_conv", (5, 5, 8), 13, (3, 3), padding=ONES, bits=(2, 4, 8)),
    Linear("mixed_conv_groups", (5, 5, 8), 12, (3, 3), padding=ONES, groups=2, bits=(2, 4, 8)),
    Linear("mixed_pointwise", (3, 5, 11), 11, bits=(2, 4, 8), clamp=(-9, 50)),
    Linear("mixed_dense", (33,), 13, None, bits=(1, 3, 5, 6, 8), clamp=(-9, 50)),
    Linear("depthwise_lowest", (6, 6, 4), 4, (3, 3), (1, 2), ONES, groups=4, left_shift=8, lowest=-128),
    Linear("depthwise_5_by_5_shifted", (6, 6, 4), 4, (5, 5), padding=ONES, groups=4, left_shift=9),
    Linear("mixed_depthwise_columns", (9, 4, 7), 7, (3, 3), padding=ONES, groups=7, bits=(3, 8), clamp=(-90, 60)),
    Linear("mixed_depthwise", (6, 5, 11), 11, (3, 3), padding=ONES, groups=11, bits=(2, 4, 8), clamp=(-9, 50)),
    Linear("depthwise_odd_padding_even_stride", (6, 7, 4), 4, (3, 3), (2, 2), ONES, groups=4),
    Linear("depthwise_stride_3", (9, 10, 4), 4, (3, 3), (3, 3), (1, 2, 1, 2), groups=4),
    Linear("depthwise_stride_beyond", (11, 13, 4), 4, (2, 2), (5, 4), (1, 1, 0, 0), groups=4),
    Linear("depthwise_one_column", (8, 1, 4), 4, (3, 3), padding=ONES, groups=4),
    Linear("depthwise_one_pixel", (3, 3, 8), 8, (3, 3), groups=8),
    Linear("depthwise_padding_beyond", (2, 1, 4), 4, (3, 9), padding=(1, 7, 1, 1), groups=4),
    Linear("depthwise_even_kernel", (6, 8, 4), 4, (4, 6), padding=(1, 2, 2, 3), groups=4),
    Linear("depthwise_extreme", (5, 5, 4), 4, (3, 3), padding=ONES, groups=4, zero_in=-128, extreme=True),
    Linear("conv_zero_at_the_end", (4, 4, 4), 4, (3, 3), padding=ONES, zero_in=127, zero_out=-128),
    Linear("conv_one_pixel", (3, 3, 4), 4, (3, 3), padding=(0, 0, 0, 0), groups=2),
)
#: Every number of fours of k modulo 8, at which the loops are entered in another place, for one pixel and for two.
FOURS = tuple(
    Linear(f"entry_{name}_{k}", (*rows, k), 5, None)
    for name, rows in (("one", ()), ("two", (2,)))
    for k in range(4, 37, 4)
)
#: Sums at the end of what their factors leave of 32 bits.
LIMITS = (
    Linear("limit_8", (2, 516), 4, None, extreme=True),
    Linear("limit_4", (2, 511), 4, None, bits=(4,), extreme=True),
    Linear("limit_5", (2, 1023), 4, None, bits=(5,), extreme=True),
    Linear("limit_2", (2, 511), 4, None, bits=(2,), extreme=True),
    Linear("limit_2_highest", (2, 1020), 4, None, bits=(2,), extreme=True, lowest=1),
)
COMPACT = tuple(
    replace(layer, name=f"{layer.name}_16", compact=True) for layer in (*EVERY_WIDTH, *OTHERS) if not layer.left_shift
)
LAYERS = (
    *(
        replace(layer, name=f"{layer.name}_w{b}", bits=(b,))
        for layer in (*EVERY_WIDTH, *FOURS, *COMPACT[::3])
        for b in range(1, 9)
    ),
    *OTHERS,
    *COMPACT,
    *LIMITS,
)


def differing(layers: tuple[Linear, ...], target: str, compiler: str) -> list[str]:
    """The names of the layers whose codes differ from the simulator's."""
    networks = []
    for layer in layers:
        graph = make_graph(layer)
        files = make_files(graph, target)
        assert any("__armv7em" in name for name in files), f"{layer.name} is left to the portable kernels"
        networks.append(Network(layer.name, files, graph, make_inputs(layer)))
    found = emulate(networks, target, compiler=compiler)
    return [
        network.name
        for network, one in zip(networks, found, strict=True)
        if not np.array_equal(one.outputs["y"], simulate(network.graph, network.inputs)["y"])
    ]


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["zig", GCC])
def test_every_path_on_cortex_m7(compiler: str) -> None:
    assert not differing(LAYERS, "cortex-m7", compiler)


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m33"])
def test_other_cores_of_the_family(target: str) -> None:
    assert not differing((*OTHERS, *COMPACT), target, "auto")


@pytest.mark.quick
def test_tables_are_of_16_bits_where_that_is_exact() -> None:
    found = {True: 0, False: 0}
    for layer in (*OTHERS, *COMPACT):
        graph = make_graph(layer)
        params = graph.nodes[0].params
        exact = exact_halves(params["bias"]) is not None and exact_halves(params["multiplier"]) is not None
        text = " ".join(make_files(graph, "cortex-m7")[f"c/{layer.name}_weights.c"].decode().split())
        if len(layer.bits) == 1:
            assert (".scales = 0," in text) != exact, layer.name
            found[exact] += 1
    assert min(found.values()) > 10


IN_PLACE = (
    Linear("over_rows", (5, 6, 8), 8, (3, 3), padding=ONES, groups=8),
    Linear("over_columns", (9, 4, 8), 8, (3, 3), padding=ONES, groups=8, clamp=(-40, 90)),
    Linear("over_columns_before", (7, 3, 6), 6, (3, 3), padding=(2, 2, 0, 0), groups=6),
    Linear("over_rows_mixed", (4, 5, 7), 7, (3, 3), padding=(0, 0, 2, 2), groups=7, bits=(3, 8), clamp=(-40, 90)),
)


def test_depthwise_3x3_over_its_input() -> None:
    """Outputs written over the inputs of the same places; a table before and one behind keep it inside the arena."""
    networks = []
    for layer in IN_PLACE:
        made = make_graph(layer)
        source, node = made.inputs[0], made.nodes[0]
        table = {"table": np.arange(-128, 128)[::-1]}
        before = Node("before", Pointwise("identity"), ("x",), table, source.type)
        behind = Node("behind", Pointwise("identity"), ("y",), table, node.type)
        output = replace(made.outputs[0], value="behind")
        graph = Graph(made.name, made.inputs, (before, replace(node, inputs=("before",)), behind), (output,)).verify()
        target = load_target("cortex-m7")
        program = lower(graph, target)
        placed = plan(graph, program.scratch, {"y": program.overwrites["y"]})
        assert placed.offsets["y"] == placed.offsets["before"], layer.name
        networks.append(Network(layer.name, emit(graph, program, placed, target), graph, make_inputs(layer)))
    for network, one in zip(networks, emulate(networks, "cortex-m7"), strict=True):
        assert np.array_equal(one.outputs["y"], simulate(network.graph, network.inputs)["y"]), network.name


@pytest.mark.quick
def test_outputs_spread() -> None:
    """The layers above would notice: their codes are many, not one saturated value."""
    for layer in LAYERS:
        codes = simulate(make_graph(layer), make_inputs(layer))["y"]
        if codes.size >= 32 and layer.clamp == (-128, 127):
            assert len(np.unique(codes)) > 4, layer.name


@pytest.mark.quick
def test_limits_are_reached_by_sums() -> None:
    for layer in LIMITS:
        assert any("smlad_sums__armv7em" in name for name in make_files(make_graph(layer), "cortex-m7")), layer.name


@pytest.mark.quick
@pytest.mark.parametrize("bits", [2, 4, 5, 8])
@pytest.mark.parametrize("k", [1, 3, 4, 9, 26])
def test_sums_unpack(bits: int, k: int) -> None:
    half = 2 ** (bits - 1)
    weight = np.random.default_rng(k).integers(-half + 1, half, (6, k))
    weight[:, 0] = [half - 1, -half + 1] * 3
    words = pack_linear(weight, bits, 2, "sums")
    assert np.array_equal(unpack_linear(words, bits, 6, k, 2, "sums"), weight)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("bits", "lowest", "total", "variant"),
    [
        (8, -127, 65535, "smlad_sums"),
        (8, -127, 65536, "smlad"),
        (8, -128, 500, "smlad"),
        (4, -8, 4095, "smlad_sums"),
        (4, -8, 4096, "smlad"),
        (2, -2, 1023, "smlad_sums"),
        (2, -2, 1024, "smlad"),
        (5, -16, 16383, "smlad_sums"),
        (5, -16, 16384, "smlad"),
        (3, -4, 10, "smlad"),
    ],
)
def test_sums_only_where_they_fit(bits: int, lowest: int, total: int, variant: str) -> None:
    """|sum| times the largest factor of a channel stays below 2**31 for activations down to -128."""
    layer = Layer("dense", ("s8", "s8"), bits, in_c=1000, in_stride=1000, weight_lowest=lowest, weight_sum=total)
    kernel = choose(layer, ("armv7em",), ARMV7EM)
    assert kernel is not None
    assert kernel.variant == variant


@pytest.mark.quick
def test_large_depthwise_windows_are_left_to_others() -> None:
    layer = Layer("depthwise", ("s8", "s8"), 8, 40, 40, 4, 4, 40, 40, 4, 4, kernel_h=9, kernel_w=9)
    assert choose(layer, ("armv7em",), ARMV7EM) is None
