"""TVM's kernels as C with plain pointers == simulator, on emulated cores, behind the interface of the C back end."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import models
from cases import Case, all_cases
from dnnc.artefact import Artefact
from dnnc.backends.tvm import missing
from dnnc.cost.loader import load_target
from dnnc.driver import compile as compile_model
from dnnc.errors import OptionError, UnsupportedError
from dnnc.ops.softmax import Softmax
from dnnc.run import make_runner
from dnnc.simulate import simulate
from dnnc.verify import random_codes, verify
from emulated import Network, emulate

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

CASES = {case.name: case for case in all_cases()}
#: Every kind of operation, at the widths that differ in how weights are stored, and every way in which values overlap.
CHOSEN = (
    "conv_w8", "conv_w4", "conv_w2", "conv_w3", "conv_mixed_groups", "depthwise_w8", "depthwise_w4", "depthwise_w2",
    "conv_groups_4_aligned", "conv_16_bit", "conv_one_channel", "dense_w8", "dense_w4", "dense_w2", "dense_mixed",
    "dense_w4_16_to_8_bits", "add_to_itself", "mul_one", "pointwise_8_to_16_bit", "softmax_2x3x4",
    "maxpool_beyond_image", "avgpool_beyond_image", "mean_many", "slice_steps", "pad_value", "input_is_output",
    "output_twice", "constant_output", "constant_view", "in_place_chain", "residual_network", "two_inputs_two_outputs",
)  # fmt: skip


def networks(cases: Sequence[Case], target: str) -> list[Network]:
    from dnnc.backends.tvm.plain_emit import build_plain, emit_plain

    hardware = load_target(target)
    found = []
    for case in cases:
        graph = case.graph(hardware.requantise == "shift")
        files = emit_plain(build_plain(graph, hardware))
        found.append(Network(case.name, files, graph, case.inputs(graph)))
    return found


def differing(cases: Sequence[Case], target: str) -> list[str]:
    """The cases that an emulated core computes otherwise than the simulator."""
    made = networks(cases, target)
    wrong = []
    for one, found in zip(made, emulate(made, target, optimise="-O1"), strict=True):
        expected = simulate(one.graph, one.inputs)
        if not all(np.array_equal(found.outputs[name], codes) for name, codes in expected.items()):
            wrong.append(one.name)
    return wrong


@pytest.mark.parametrize("target", ["cortex-m7", "cortex-m0plus", "rv32imc"])
def test_chosen_cases_on_emulated_cores(target: str) -> None:
    cases = [CASES[name] for name in CHOSEN]
    widths = load_target(target).activation_bits
    allowed = [c for c in cases if all(t.quant is None or t.quant.bits in widths for t in c.graph().types.values())]
    assert len(allowed) > 0.8 * len(cases)
    wrong = differing(allowed, target)
    assert not wrong, f"TVM's C differs from the simulator on {target}: {', '.join(wrong)}"


@pytest.mark.slow
def test_every_case_on_a_cortex_m7() -> None:
    """But those of values packed in nibbles, which only the C back end has: here each has a byte."""
    cases = [case for case in CASES.values() if not any(kind.packed for kind in case.graph().types.values())]
    assert len(cases) > 0.8 * len(CASES)
    wrong = differing(cases, "cortex-m7")
    assert not wrong, f"TVM's C differs from the simulator: {', '.join(wrong)}"


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    made = compile_model(models.tiny_cnn(), target="cortex-m7", bits="uniform{weights=4}", backend="tvm", name="tiny")
    return Artefact.load(made.write(tmp_path_factory.mktemp("plain") / "tiny"))


def test_an_artefact_verifies_on_the_core_and_on_this_computer(artefact: Artefact) -> None:
    runners = {place: make_runner(artefact, place) for place in ("emulator", "host", "tvm")}
    result = verify(artefact, runners, random_codes(artefact.integer_graph, 3))
    assert result.equal, str(result.difference)
    found = result.measured["emulator"]
    assert found.flash is not None and found.ram is not None and found.profile is not None
    assert found.flash.weights > 0 and found.ram.arena > 0 and found.ram.stack < 1024
    assert set(found.profile.layers) >= {n.name for n in artefact.integer_graph.nodes}  # told apart, layer by layer
    report = json.loads(artefact.files["report.json"])
    assert report["instructions_per_inference"] == found.instructions_per_inference


def test_it_takes_the_place_of_the_c_back_ends_program(artefact: Artefact) -> None:
    """The same header but for the arena's size: the same structs, functions and constants."""
    own = compile_model(models.tiny_cnn(), target="cortex-m7", bits="uniform{weights=4}", name="tiny")

    def interface(files: Artefact) -> list[str]:
        lines = files.files["c/tiny.h"].decode().splitlines()
        return [line for line in lines[1:] if "ARENA_BYTES" not in line]

    assert interface(artefact) == interface(own)
    names = {Path(path).name for path in artefact.files if path.startswith("c/")}
    made = {"tiny.c", "tiny.h", "tiny_layers.h", "tiny_weights.c", "tiny_kernels.c", "tiny_selftest.c"}
    assert names == made
    readme = artefact.files["README.md"].decode()
    assert "tiny_run(in, out)" in readme and "written by TVM" in readme and "c/tiny_kernels.c" in readme
    assert b"sblock" in artefact.files["tvm/tiny.ir.txt"]


@pytest.mark.parametrize("width", [8, 4, 2])
@pytest.mark.parametrize("model", ["tiny_cnn", "tiny_mlp", "tiny_conv1d"])
def test_both_back_ends_compute_the_same_on_the_core(model: str, width: int) -> None:
    outputs = []
    for backend in ("c", "tvm"):
        bits = f"uniform{{weights={width}}}"
        made = compile_model(getattr(models, model)(), target="cortex-m7", bits=bits, backend=backend, name="tiny")
        # What the C back end packs into nibbles, TVM keeps in bytes: the graphs differ in that alone.
        codes = random_codes(made.integer_graph, 2)
        result = verify(made, {"emulator": make_runner(made, "emulator")}, codes)
        assert result.equal, str(result.difference)
        outputs.append(result.measured["emulator"].outputs)
    for name, codes in outputs[0].items():
        assert np.array_equal(codes, outputs[1][name])


def test_weights_stay_packed_and_nothing_is_allocated(artefact: Artefact) -> None:
    graph = artefact.integer_graph
    bits = sum(
        int(n.params["weight_bits"].sum()) * n.params["weight"][0].size for n in graph.nodes if "weight" in n.params
    )
    execution = make_runner(artefact, "emulator").run(artefact.vectors.take((0,)).inputs)
    assert execution.flash is not None and execution.flash.weights <= bits / 8 * 1.1 + 32 * len(graph.nodes)
    source = b"".join(data for path, data in artefact.files.items() if path.startswith("c/"))
    assert b"malloc" not in source.replace(b"no malloc", b"") and b"TVM_" not in source and b"DLTensor" not in source


def test_a_layer_that_differs_is_named(artefact: Artefact) -> None:
    path = "c/tiny_weights.c"
    source = artefact.files[path].decode()
    start = source.index("_bias[")
    at = source.index("{", start) + 1
    edited = source[:at] + "\n  100000 +" + source[at:].lstrip()
    other = dataclasses.replace(artefact, files={**artefact.files, path: edited.encode()})
    result = verify(artefact, {"emulator": make_runner(other, "emulator")})
    first = next(n for n in artefact.integer_graph.nodes if "bias" in n.params)
    assert result.difference is not None and result.difference.layer == first.name


def test_the_same_arguments_give_the_same_bytes() -> None:
    first, second = (compile_model(models.tiny_mlp(), target="cortex-m4", backend="tvm", name="tiny") for _ in "ab")
    assert first.files == second.files


class Unknown(Softmax):
    """An operation that the table does not have."""


def test_an_operation_without_a_lowering_is_refused_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    from dnnc.backends.tvm import network, plain_emit

    def built(*_: object) -> None:
        raise AssertionError("a kernel was made")

    monkeypatch.setattr(network, "_step", built)
    monkeypatch.setattr(plain_emit, "kernel_of", built)
    graph = CASES["residual_network"].graph()
    graph = graph.with_nodes(
        dataclasses.replace(n, op=Unknown()) if isinstance(n.op, Softmax) else n for n in graph.nodes
    )
    with pytest.raises(UnsupportedError, match="Softmax 'n8_softmax': the TVM back end has no lowering"):
        plain_emit.build_plain(graph, load_target("cortex-m7"))


def test_batches_and_goals_are_refused() -> None:
    with pytest.raises(OptionError, match="a batch of 4 is for TVM's libraries; for target 'cortex-m7'"):
        compile_model(models.tiny_mlp(), target="cortex-m7", backend="tvm", batch=4)
    with pytest.raises(OptionError, match="is for the back end c"):
        compile_model(models.tiny_mlp(), target="cortex-m7", backend="tvm", optimise="speed")
