"""Sparse layers: records round-trip, every format computes the same, and the smallest one is chosen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cases import Case, Maker, all_cases, case_graph
from dnnc.backends.c import lower
from dnnc.backends.c.emit import kernel_files
from dnnc.backends.c.program import Program
from dnnc.backends.c.table import IN_ORDER
from dnnc.backends.c.ternary import pack_digits, unpack_digits
from dnnc.cost.loader import load_target
from dnnc.ir.graph import Graph
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.quantise.bytes import linear_bytes
from dnnc.records import MAX_BITS, pack_bitmap, pack_records, unpack_bitmap, unpack_records
from dnnc.simulate import simulate
from host_program import Network, run_on_host

Array = NDArray[Any]
M7 = load_target("cortex-m7")


@pytest.mark.quick
@settings(max_examples=200)
@given(
    size=st.integers(1, 3000), density=st.sampled_from([0.0, 0.001, 0.01, 0.1, 0.5, 1.0]), bits=st.integers(2, 8),
    lead=st.sampled_from([0, 1, 70000]), seed=st.integers(0, 99),
)  # fmt: skip
def test_records_round_trip(size: int, density: float, bits: int, lead: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lo, hi = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    weight = rng.integers(lo, hi + 1, size) * (rng.random(size) < density)
    weight = np.concatenate([np.zeros(lead, np.int64), weight])
    packed = pack_records(weight.astype(np.int8))
    assert packed.bits <= MAX_BITS
    assert len(packed.words) == 2 + -(-packed.count * packed.bits // 16)
    assert np.array_equal(unpack_records(packed, len(weight)), weight)
    if not lead:
        bitmap = pack_bitmap(weight.astype(np.int8))
        assert len(bitmap.words) == 2 + -(-(size + np.count_nonzero(weight) * bitmap.value_bits) // 16)
        assert np.array_equal(unpack_bitmap(bitmap, size), weight)


@pytest.mark.quick
def test_records_take_few_bits() -> None:
    """A hundred weights of 4 bits among 10,000: within 15 % of the entropy of their places, and 4 bits."""
    rng = np.random.default_rng(0)
    weight = np.zeros(10000, np.int8)
    weight[rng.choice(10000, 100, replace=False)] = rng.choice([-8, -3, 1, 7], 100)
    assert pack_records(weight).words.nbytes <= 1.15 * 100 * (np.log2(100 * np.e) + 4) / 8


def one_layer(name: str, density: float, kind: str) -> Graph:
    def build(make: Maker) -> list[str]:
        if kind == "dense":
            return [make.linear(Dense(), make.input(61), (9, 61), 4, density=density)]
        op = Conv2D(padding=(1, 0, 1, 2), stride=(1, 2), groups=2 if kind == "groups" else 1)
        depth = 6 // op.groups
        return [make.linear(op, make.input(7, 6, 6), (8, 3, 3, depth), (8, 4), density=density)]

    return Case(name, build).graph()


@pytest.mark.parametrize("density", [0.0, 0.03, 0.5, 1.0])
def test_every_density_computes_the_same(density: float, tmp_path: Path) -> None:
    graphs = [one_layer(f"{kind}_{int(100 * density)}", density, kind) for kind in ("dense", "conv", "groups")]
    rng = np.random.default_rng(1)
    networks = []
    for graph in graphs:
        (source,) = graph.inputs
        codes = {source.name: rng.integers(-128, 128, (4, *source.type.shape)).astype(np.int32)}
        for format, kernel in (("delta", "sparse_delta"), ("bitmap", "s8_bitmap"), ("straight", "straight")):
            forced = IN_ORDER.write(graph.nodes[0].name, format)
            assert kernel in lower(graph, M7, forced).steps[0].kernel
            networks += [Network(graph, codes, spread, selection=forced) for spread in (True, False)]
    for network, found in zip(networks, run_on_host(networks, "cortex-m7", tmp_path), strict=True):
        for name, codes in simulate(network.graph, network.inputs).items():
            assert np.array_equal(found[name], codes), network.graph.name


@pytest.mark.quick
@pytest.mark.parametrize("flipped", [0, 0x88888888])
def test_digits_round_trip(flipped: int) -> None:
    """Every half-word of ten digits, and words that end inside one."""
    ends = np.arange(3**10)
    digits = ends[:, None] // 3 ** np.arange(10) % 3
    fields = np.concatenate([digits.ravel(), np.zeros(-digits.size % 16, np.int64)]).reshape(-1, 16) + 1
    words = ((fields << np.arange(0, 32, 2)).sum(axis=1) ^ flipped).astype(np.uint32)
    packed = pack_digits(words, flipped)
    assert packed.nbytes <= len(words) * 16 / 5 + 4
    assert np.array_equal(unpack_digits(packed, len(words), flipped), words)


@pytest.mark.quick
@pytest.mark.parametrize("target", ["host", "cortex-m7", "cortex-m0plus", "rv32imc"])
def test_ternary_layers_take_five_weights_a_byte(target: str) -> None:
    hardware = load_target(target)
    for case in all_cases():
        if case.name.startswith("ternary_"):
            graph = case_graph(case, target)
            node = graph.nodes[0]
            step, dense = (lower(graph, hardware, s).steps[0] for s in (IN_ORDER, IN_ORDER.write(node.name, "dense")))
            assert "ternary" in step.kernel and "ternary" not in dense.kernel
            assert 0.8 * dense.weight_bytes <= step.weight_bytes <= 0.8 * dense.weight_bytes + 4


@pytest.mark.quick
@pytest.mark.parametrize("target", ["host", "cortex-m7", "cortex-m0plus"])
def test_the_rule_takes_records_for_sparse_layers_only(target: str) -> None:
    hardware = load_target(target)
    assert "sparse_delta" in lower(wide_layer(0.1), hardware).steps[0].kernel
    for case in all_cases():
        if "bitmap" in case.name and target != "cortex-m7":
            (kernel,) = lower(case_graph(case, target), hardware).kernels
            assert kernel.kernel.op == "bitmap", case.name
    for kind in ("dense", "conv", "groups"):
        assert "sparse" not in lower(one_layer("full", 1.0, kind), hardware).steps[0].kernel


def wide_layer(density: float, tiny: bool = False) -> Graph:
    """A convolution of 7,776 weights; tiny: a layer of a few weights follows it."""

    def build(make: Maker) -> list[str]:
        x = make.linear(Conv2D(), make.input(8, 8, 24), (36, 3, 3, 24), 8, density=density)
        return [make.linear(Conv2D(), x, (3, 1, 1, 36), 8, density=0.1) if tiny else x]

    return Case("wide_layer", build).graph()


@pytest.mark.quick
@pytest.mark.parametrize("target", ["host", "cortex-m7", "cortex-m0plus"])
def test_tiny_layers_are_code_where_that_saves_the_kernel_for_records(target: str) -> None:
    hardware = load_target(target)
    for kind in ("dense", "conv", "groups"):
        assert "straight" in lower(one_layer("thin", 0.05, kind), hardware).steps[0].kernel
    first, second = lower(wide_layer(0.1, tiny=True), hardware).steps
    assert "sparse_delta" in first.kernel and "sparse_delta" in second.kernel


@pytest.mark.quick
def test_a_selection_says_the_format() -> None:
    graph = one_layer("thin", 0.05, "conv")
    node = graph.nodes[0].name
    assert "sparse_delta" in lower(graph, M7, IN_ORDER.write(node, "delta")).steps[0].kernel
    dense = lower(graph, M7, IN_ORDER.write(node, "delta").write(node, "dense")).steps[0]
    assert "sparse" not in dense.kernel and len(dense.calls) == 2


def terms_of(layer: Graph) -> int:
    """How often the C of a layer as code reads an input."""
    (step,) = lower(layer, M7, IN_ORDER.write(layer.nodes[0].name, "straight")).steps
    (text,) = [t for name, t in kernel_files(Program((step,)), M7).items() if "straight" in name]
    return len(re.findall(r"at\[\d+\]", text))


@pytest.mark.quick
def test_code_has_a_term_for_every_weight_that_is_not_zero() -> None:
    for kind in ("dense", "conv", "groups"):
        graph = one_layer(kind, 0.2, kind)
        assert terms_of(graph) == np.count_nonzero(graph.nodes[0].params["weight"])


@pytest.mark.quick
def test_weights_of_one_magnitude_share_a_product() -> None:
    weight = np.zeros((3, 9), np.int64)
    weight[0, [1, 4, 5]] = 7, -7, 7
    weight[1, [0, 2, 8]] = -1, -4, -4
    assert statements(weight) == [
        "sums[0] = (uint32_t)(7 * (at[1] + at[5] - at[4]));",
        "sums[1] = (uint32_t)(-at[0] - 4 * (at[2] + at[8]));",
        "sums[2] = 0;",
    ]


def statements(weight: Array) -> list[str]:
    make = Maker("statements")
    params = {"weight": weight, "weight_bits": np.full(len(weight), 4, np.uint8),
              "weight_scale": np.full(len(weight), 0.1), "bias": np.zeros(len(weight))}  # fmt: skip
    graph = make.graph(make.add(Dense(), [make.input(weight.shape[1])], params))
    (instance,) = lower(graph, M7, IN_ORDER.write(graph.nodes[0].name, "straight")).kernels
    return list(dict(instance.values)["lines"])  # type: ignore[call-overload]


@pytest.mark.quick
def test_what_is_not_tiny_is_never_code() -> None:
    """Too many weights; too large an image to copy."""
    dense = wide_layer(0.5)
    assert "straight" not in lower(dense, M7).steps[0].formats

    def large(make: Maker) -> list[str]:
        return [make.linear(Conv2D(padding=(1, 1, 1, 1)), make.input(40, 40, 4), (3, 3, 3, 4), 8, density=0.1)]

    assert "straight" not in lower(Case("large", large).graph(), M7).steps[0].formats


@pytest.mark.quick
@pytest.mark.parametrize("target", ["host", "cortex-m7", "cortex-m0plus"])
@pytest.mark.parametrize("density", [0.02, 0.1, 0.2, 0.4, 0.6])
def test_bytes_are_at_least_those_of_the_layer(target: str, density: float) -> None:
    """What flash budgets count on, of a float layer, against its step."""
    hardware = load_target(target)
    for kind in ("dense", "conv", "groups"):
        graph = one_layer(f"{kind}_{int(100 * density)}", density, kind)
        node, step = graph.nodes[0], lower(graph, hardware).steps[0]
        counted = linear_bytes(node, np.asarray(node.params["weight_bits"]))
        if "sparse" in step.kernel or target == "cortex-m7":  # other dense kernels pad more than is counted
            assert step.weight_bytes + step.table_bytes <= counted
        if "sparse" in step.kernel and density < 0.1:
            assert counted < 1.2 * (step.weight_bytes + step.table_bytes) + 4 * len(node.params["bias"])
