"""Sparse layers: records round-trip, every format computes the same, and the smallest one is chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import Case, Maker, all_cases, case_graph
from dnnc.backends.c import lower
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
        for format, kernel in (("delta", "sparse_delta"), ("bitmap", "s8_bitmap")):
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
    for case in all_cases():
        if case.name.startswith("sparse_") and (target != "cortex-m7" or "bitmap" not in case.name):
            program = lower(case_graph(case, target), hardware)
            expected = "bitmap" if "bitmap" in case.name else "sparse"
            assert [k.kernel.op for k in program.kernels] == [expected], case.name
    for kind in ("dense", "conv", "groups"):
        assert "sparse" not in lower(one_layer("full", 1.0, kind), hardware).steps[0].kernel


@pytest.mark.quick
def test_a_selection_says_the_format() -> None:
    graph = one_layer("thin", 0.05, "conv")
    node = graph.nodes[0].name
    assert "sparse_delta" in lower(graph, M7).steps[0].kernel
    dense = lower(graph, M7, IN_ORDER.write(node, "delta").write(node, "dense")).steps[0]
    assert "sparse" not in dense.kernel and len(dense.calls) == 2


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
