"""TVM == simulator: every case of the one list, at every width, and whole networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

import models
from cases import Case, all_cases
from dnnc import ops
from dnnc.artefact import Artefact
from dnnc.backends.tvm import missing, planes
from dnnc.backends.tvm.planes import pack_units, planes_of, unpack_units
from dnnc.driver import compile as compile_model
from dnnc.errors import UnsupportedError
from dnnc.fixed import WEIGHT_BITS, weight_range
from dnnc.run import make_runner
from dnnc.simulate import simulate
from dnnc.verify import random_codes, verify

needs_tvm = pytest.mark.skipif(missing() is not None, reason=str(missing()))

CASES = all_cases()
#: Cases of one IRModule: LLVM is started once for all of them.
CHUNK = 61


@pytest.mark.quick
@pytest.mark.parametrize("bits", WEIGHT_BITS)
def test_planes_hold_every_width_in_as_many_bits(bits: int) -> None:
    lo, hi = weight_range(bits)
    weights = np.random.default_rng(bits).integers(lo, hi + 1, (24, 16))
    weights[0, :2] = lo, hi
    if bits == 1:
        weights[weights == 0] = 1
    packed = pack_units(weights, bits)
    assert packed.nbytes == weights.size * bits / 8
    assert np.array_equal(unpack_units(packed, 24), weights)
    assert np.array_equal(unpack_units(pack_units(weights[:5], bits), 5), weights[:5])  # rows that are not full


@pytest.mark.quick
def test_planes_add_up() -> None:
    assert [[(p.bits, p.base) for p in planes_of(b)] for b in (8, 7, 6, 5, 3, 1)] == [
        [(8, 0)], [(4, 3), (2, 1), (1, 0)], [(4, 2), (2, 0)], [(4, 1), (1, 0)], [(2, 1), (1, 0)], [(1, 0)],
    ]  # fmt: skip
    with pytest.raises(ValueError, match="does not fit 3 bits"):
        planes.pack_units(np.full((2, 4), 4), 3)


@needs_tvm
@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, len(CASES), CHUNK))
def test_every_case_equals_the_simulator(start: int) -> None:
    wrong = differing(CASES[start : start + CHUNK], {"kind": "llvm", "opt-level": 1})
    assert not wrong, f"TVM differs from the simulator: {', '.join(wrong)}"


def differing(cases: Sequence[Case], target: dict[str, object], power_of_two: bool = False) -> list[str]:
    """The cases that a module of all of them, compiled for this computer, computes otherwise than the simulator."""
    import tvm
    from tvm import relax

    from dnnc.backends.tvm.call import storage
    from dnnc.backends.tvm.network import add_function, lower

    builder = relax.BlockBuilder()
    graphs = [case.graph(power_of_two) for case in cases]
    inputs = [case.inputs(graph) for case, graph in zip(cases, graphs, strict=True)]
    for case, graph, codes in zip(cases, graphs, inputs, strict=True):
        count = len(next(iter(codes.values())))
        add_function(builder, lower(graph, batch=count), count, count, case.name, f"{case.name}_")
    machine = relax.VirtualMachine(tvm.compile(builder.finalize(), target=tvm.target.Target(target)), tvm.cpu())
    wrong = []
    for case, graph, codes in zip(cases, graphs, inputs, strict=True):
        given = [tvm.runtime.tensor(codes[i.name].astype(storage(i.type))) for i in graph.inputs]
        expected = simulate(graph, codes)
        found = zip(machine[case.name](*given), graph.outputs, strict=True)
        if not all(np.array_equal(y.numpy(), expected[o.model_name]) for y, o in found):
            wrong.append(case.name)
    return wrong


@needs_tvm
def test_scales_that_are_powers_of_two() -> None:
    """What targets without a long multiply compute."""
    chosen = [c for c in CASES if c.name in ("conv_w4", "depthwise_w3", "dense_mixed", "residual_network")]
    assert len(chosen) == 4
    assert not differing(chosen, {"kind": "llvm", "opt-level": 1}, power_of_two=True)


@needs_tvm
def test_any_batch_up_to_the_largest() -> None:
    from dnnc.backends.tvm.library import jit

    (case,) = (c for c in CASES if c.name == "residual_network")
    graph = case.graph()
    loaded = jit(graph, batch=3)
    for count in (1, 2, 3, 7):
        codes = random_codes(graph, count)
        (found,), (expected,) = loaded.run(codes).values(), simulate(graph, codes).values()
        assert np.array_equal(found, expected)


@needs_tvm
@pytest.mark.parametrize("model", ["tiny_cnn", "tiny_mlp", "tiny_conv1d"])
@pytest.mark.parametrize("bits", ["int8", "uniform{weights=3}"])
def test_networks_verify_on_tvm(model: str, bits: str) -> None:
    artefact = compile_model(getattr(models, model)(), target="host", bits=bits)
    result = verify(artefact, {"tvm": make_runner(artefact, "tvm")}, random_codes(artefact.integer_graph, 3))
    assert result.equal, str(result.difference)
    assert result.executions == ("simulator", "tvm")


@needs_tvm
def test_a_layer_that_differs_is_named() -> None:
    artefact = compile_model(models.tiny_cnn(), target="host")
    graph = artefact.integer_graph
    victim = next(n for n in graph.nodes if n.op.kind == "Conv2D")
    params = {**victim.params, "bias": victim.params["bias"] + 4096}
    edited = graph.with_nodes(dataclasses.replace(n, params=params) if n is victim else n for n in graph.nodes)
    from dnnc.artefact import INTEGER_GRAPH
    from dnnc.ir.serial import dump_graph

    other = Artefact.create("other", "host", {**artefact.files, INTEGER_GRAPH: dump_graph(edited)}, {})
    result = verify(artefact, {"tvm": make_runner(other, "tvm")})
    assert result.difference is not None and result.difference.layer == victim.name


@needs_tvm
def test_every_operation_has_a_lowering_or_is_refused_by_name() -> None:
    from dnnc.backends.tvm.table import FOLDED, LOWERINGS, check

    assert set(ops.ALL) == set(LOWERINGS) | set(FOLDED)
    (case,) = (c for c in CASES if c.name == "softmax_10")
    with pytest.raises(UnsupportedError, match="the TVM back end has no lowering of Softmax"):
        check(case.graph(), {})
