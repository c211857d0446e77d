"""TVM == simulator: every case of the one list, at every width, and whole networks."""

from __future__ import annotations

import dataclasses
import io
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

import models
from cases import Case, all_cases
from dnnc import ops
from dnnc.artefact import Artefact
from dnnc.backends.tvm import missing, planes
from dnnc.backends.tvm.dot import PLAIN, PMADDWD, VNNI, Dot
from dnnc.backends.tvm.planes import pack_units, planes_of, unpack_units
from dnnc.cost.target import Tvm
from dnnc.driver import compile as compile_model
from dnnc.errors import OptionError, UnsupportedError
from dnnc.fixed import WEIGHT_BITS, weight_range
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.report.readme_tvm import cpp_lines, python_lines
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
    wrong = differing(CASES[start : start + CHUNK], PLAIN)
    assert not wrong, f"TVM differs from the simulator: {', '.join(wrong)}"


@needs_tvm
@pytest.mark.slow
@pytest.mark.parametrize("cpu", ["native", "haswell"])
@pytest.mark.parametrize("start", range(0, len(CASES), CHUNK))
def test_linear_layers_of_this_machines_products_equal_the_simulator(start: int, cpu: str) -> None:
    from dnnc.backends.tvm.machine import machine

    if machine().dot == PLAIN:
        pytest.skip("this machine has no product of its own")
    if cpu == "haswell" and machine().dot not in (VNNI, PMADDWD):
        pytest.skip("this machine cannot run what is made for a Haswell")
    made_for = machine(Tvm(cpu=cpu))
    assert cpu != "haswell" or made_for.dot == PMADDWD
    chunk = CASES[start : start + CHUNK]
    linear = [c for c in chunk if any(isinstance(n.op, Conv2D | Dense) for n in c.graph().nodes)]
    if not linear:
        pytest.skip("none of these cases has a layer with weights")
    wrong = differing(linear, made_for.dot, cpu=made_for.cpu)
    assert not wrong, f"TVM differs from the simulator: {', '.join(wrong)}"


def differing(cases: Sequence[Case], dot: Dot, power_of_two: bool = False, cpu: str | None = None) -> list[str]:
    """The cases that a module of all of them, compiled for this computer, computes otherwise than the simulator."""
    import tvm
    from tvm import relax

    from dnnc.backends.tvm.call import storage
    from dnnc.backends.tvm.machine import machine
    from dnnc.backends.tvm.network import add_function, lower

    builder = relax.BlockBuilder()
    graphs = [case.graph(power_of_two) for case in cases]
    inputs = [case.inputs(graph) for case, graph in zip(cases, graphs, strict=True)]
    for case, graph, codes in zip(cases, graphs, inputs, strict=True):
        count = len(next(iter(codes.values())))
        add_function(builder, lower(graph, dot, count), count, count, case.name, f"{case.name}_")
    # Many small kernels: what LLVM's optimiser would take is most of the test's time.
    target = tvm.target.Target({"kind": "llvm", "mcpu": cpu or machine().cpu, "opt-level": 1})
    virtual = relax.VirtualMachine(tvm.compile(builder.finalize(), target=target), tvm.cpu())
    wrong = []
    for case, graph, codes in zip(cases, graphs, inputs, strict=True):
        given = [tvm.runtime.tensor(codes[i.name].astype(storage(i.type))) for i in graph.inputs]
        expected = simulate(graph, codes)
        found = zip(virtual[case.name](*given), graph.outputs, strict=True)
        if not all(np.array_equal(y.numpy(), expected[o.model_name]) for y, o in found):
            wrong.append(case.name)
    return wrong


@needs_tvm
def test_scales_that_are_powers_of_two() -> None:
    """What targets without a long multiply compute."""
    chosen = [c for c in CASES if c.name in ("conv_w4", "depthwise_w3", "dense_mixed", "residual_network")]
    assert len(chosen) == 4
    assert not differing(chosen, PLAIN, power_of_two=True)


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


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artefact that is a library of TVM for this computer."""
    model = models.tiny_cnn()
    artefact = compile_model(model, target="host", bits="uniform{weights=4}", backend="tvm", batch=3, name="tiny")
    return artefact.write(tmp_path_factory.mktemp("tvm") / "tiny")


@needs_tvm
def test_the_library_of_an_artefact_runs(library: Path) -> None:
    artefact = Artefact.load(library)
    assert {"tvm/tiny.so", "tvm/tiny.ir.txt", "README.md"} <= set(artefact.files)
    assert not any(path.startswith("c/") for path in artefact.files)
    assert b"call_tir" in artefact.files["tvm/tiny.ir.txt"]
    codes = random_codes(artefact.integer_graph, 5)
    assert verify(artefact, {"tvm": make_runner(artefact, "tvm")}, codes).equal


@needs_tvm
def test_three_lines_of_python_load_it(library: Path) -> None:
    artefact = Artefact.load(library)
    lines = python_lines(artefact.manifest)
    assert lines in artefact.files["README.md"].decode() and len(lines.splitlines()) == 3
    zeros = f"import os\nos.chdir({str(library)!r})\n{lines}\nprint(outputs[0].ravel().tolist())"
    done = subprocess.run([sys.executable, "-c", zeros], capture_output=True, text=True, check=True)
    graph = artefact.integer_graph
    codes = {i.name: np.zeros((1, *i.type.shape), np.int32) for i in graph.inputs}
    (expected,) = simulate(graph, codes).values()
    assert done.stdout.strip() == str(expected.ravel().tolist())


@needs_tvm
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
def test_three_statements_of_cpp_load_it(library: Path, tmp_path: Path) -> None:
    import tvm_ffi.libinfo

    artefact = Artefact.load(library)
    lines = cpp_lines(artefact.manifest)
    assert lines in artefact.files["README.md"].decode() and lines.count(";") == 3
    (port,) = artefact.manifest["inputs"]
    shape = [1, *port["shape"]]
    (tmp_path / "load.cc").write_text(f"""
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>
#include <cstdio>
#include <cstring>
struct Memory {{
  void AllocData(DLTensor *t) {{ t->data = std::calloc(1, tvm::ffi::GetDataSize(*t)); }}
  void FreeData(DLTensor *t) {{ std::free(t->data); }}
}};
int main() {{
  auto x0 = tvm::ffi::Tensor::FromNDAlloc(Memory(), {{{", ".join(map(str, shape))}}}, {{kDLInt, 8, 1}}, {{kDLCPU, 0}});
  {lines}
  auto codes = static_cast<const int8_t *>(outputs[0].data_ptr());
  for (int64_t i = 0; i < outputs[0].numel(); i++) std::printf("%d ", codes[i]);
}}
""")
    import tvm

    runtime = Path(tvm.__file__).parent / "lib"
    ffi = Path(tvm_ffi.libinfo.find_libtvm_ffi()).parent
    includes = [tvm_ffi.libinfo.find_include_path(), tvm_ffi.libinfo.find_dlpack_include_path()]
    subprocess.run(
        ["g++", "-std=c++17", "load.cc", *(f"-I{path}" for path in includes), f"-L{runtime}", f"-L{ffi}",
         "-Wl,--no-as-needed", "-ltvm_runtime", "-ltvm_ffi", f"-Wl,-rpath,{runtime}:{ffi}", "-o", "load"],
        cwd=tmp_path, check=True,
    )  # fmt: skip
    done = subprocess.run([tmp_path / "load"], cwd=library, capture_output=True, text=True, check=True)
    graph = artefact.integer_graph
    codes = {i.name: np.zeros((1, *i.type.shape), np.int32) for i in graph.inputs}
    (expected,) = simulate(graph, codes).values()
    assert [int(v) for v in done.stdout.split()] == expected.ravel().tolist()


@needs_tvm
@pytest.mark.slow
@pytest.mark.parametrize("target", ["aarch64", "rv64"])
def test_libraries_for_other_machines(target: str) -> None:
    artefact = compile_model(models.tiny_mlp(), target=target, backend="tvm", name="tiny")
    elf = ELFFile(io.BytesIO(artefact.files["tvm/tiny.so"]))
    assert elf["e_type"] == "ET_DYN" and elf["e_machine"] == {"aarch64": "EM_AARCH64", "rv64": "EM_RISCV"}[target]


@pytest.mark.quick
def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(OptionError, match="a batch of 2 is for TVM's libraries; for target 'rp2040'"):
        compile_model(models.tiny_mlp(), target="rp2040", backend="tvm", batch=2)
    with pytest.raises(OptionError, match="batches are for --backend tvm"):
        compile_model(models.tiny_mlp(), batch=4)
    with pytest.raises(OptionError, match="unknown back end 'vhdl'; known: c, tvm"):
        compile_model(models.tiny_mlp(), backend="vhdl")
