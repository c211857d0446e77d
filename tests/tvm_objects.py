"""The kernels of TVM's library for another machine, run by an emulator of that machine's Linux programs.

TVM's runtime is not at hand for other machines, so the objects that the library is linked of go into a static program
that calls their kernels as TVM's virtual machine does, tensors and all, in the order of the network.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm_ffi.libinfo
from numpy.typing import NDArray
from tvm import relax

from dnnc.backends.c.text import array_lines
from dnnc.backends.tvm.call import storage
from dnnc.backends.tvm.library import Network, export
from dnnc.backends.tvm.machine import machine_of
from dnnc.backends.tvm.network import Program, add_function, lower
from dnnc.cost.loader import load_target
from dnnc.ir.graph import Graph
from dnnc.run import toolchain

Array = NDArray[Any]
#: By target: the emulator, and what zig calls the system without shared libraries.
EMULATORS = {
    "aarch64": ("qemu-aarch64", "aarch64-linux-musl"),
    "aarch64-dotprod": ("qemu-aarch64", "aarch64-linux-musl"),
    "rv64": ("qemu-riscv64", "riscv64-linux-musl"),
}

_HEAD = """#include <tvm/ffi/c_api.h>
#include <stdio.h>
#include <stdlib.h>
typedef void *allocate_t(int, int, uint64_t, int, int);
typedef int free_t(int, int, void *);
extern allocate_t *__TVMBackendAllocWorkspace __attribute__((weak));
extern free_t *__TVMBackendFreeWorkspace __attribute__((weak));
static void *allocate(int type, int id, uint64_t bytes, int code, int bits) {
  return aligned_alloc(64, (bytes + 63) / 64 * 64);
}
static int release(int type, int id, void *at) { free(at); return 0; }
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  fprintf(stderr, "%s: ", kind);
  for (int32_t i = 0; i < count; i++) fprintf(stderr, "%s", parts[i] ? parts[i] : "");
}
static void call(TVMFFISafeCallType kernel, DLTensor **tensors, int32_t count) {
  TVMFFIAny arguments[32] = {{0}}, result = {0};
  for (int32_t i = 0; i < count; i++) {
    arguments[i].type_index = kTVMFFIDLTensorPtr;
    arguments[i].v_ptr = tensors[i];
  }
  if (kernel(NULL, arguments, count, &result)) exit(3);
}
"""
_MAIN = """int main(void) {{
  if (&__TVMBackendAllocWorkspace) __TVMBackendAllocWorkspace = allocate;
  if (&__TVMBackendFreeWorkspace) __TVMBackendFreeWorkspace = release;
{calls}
  return fclose(stdout);
}}
"""


@dataclass(frozen=True)
class Foreign:
    """inputs: codes [N, *shape] by graph input name. Names of networks that run together differ."""

    name: str
    graph: Graph
    inputs: Mapping[str, Array]

    @property
    def count(self) -> int:
        return len(next(iter(self.inputs.values())))


def emulator_of(target: str) -> str | None:
    """The program that runs another machine's programs; None where it is not installed."""
    name, _ = EMULATORS[target]
    return shutil.which(name) or shutil.which(f"{name}-static")


def run_foreign(networks: Sequence[Foreign], target: str, folder: Path) -> list[dict[str, Array]]:
    """Output codes int32 [N, *shape] by model name, of every network."""
    made_for = machine_of(load_target(target))
    programs = [lower(network.graph, made_for.dot) for network in networks]
    builder = relax.BlockBuilder()
    for network, program in zip(networks, programs, strict=True):
        add_function(builder, program, 1, 1, network.name, f"{network.name}_")
    objects: list[str] = []

    def link(output: str, found: Sequence[str]) -> None:
        for index, path in enumerate(found):
            objects.append(shutil.copy(path, folder / f"part{index}.o"))
        Path(output).write_bytes(b"")

    whole = builder.finalize()
    export(Network(networks[0].graph, made_for, 1, programs[0], whole), link)
    (folder / "main.c").write_text(_source(networks, programs))
    _build(objects, target, folder)
    data = b"".join(_codes(network) for network in networks)
    command = [str(emulator_of(target)), "./program"]
    done = subprocess.run(command, cwd=folder, input=data, capture_output=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr.decode(errors="replace")[:2000]
    return _outputs(networks, done.stdout)


def _build(objects: Sequence[str], target: str, folder: Path) -> None:
    compiler = toolchain.find_compiler(load_target("host"), "zig")
    includes = [tvm_ffi.libinfo.find_include_path(), tvm_ffi.libinfo.find_dlpack_include_path()]
    toolchain.run_tool(
        (*compiler.command, "-target", EMULATORS[target][1], "-static", "-O1", "-w", "main.c", *objects,
         *(f"-I{path}" for path in includes), "-o", "program"),
        folder,
    )  # fmt: skip


def _source(networks: Sequence[Foreign], programs: Sequence[Program]) -> str:
    parts, calls = [_HEAD], []
    for network, program in zip(networks, programs, strict=True):
        parts.append(_network(network.name, program))
        calls.append(f"  for (int sample = 0; sample < {network.count}; sample++) {network.name}_run();")
    return "".join(parts) + _MAIN.format(calls="\n".join(calls))


def _network(name: str, program: Program) -> str:
    """One network as static tensors and a function that reads inputs, calls every kernel and writes outputs."""
    graph = program.graph
    lines: list[str] = []
    numbers: dict[str, str] = {}

    def tensor(key: str, shape: Sequence[int], dtype: str, values: Array | None = None, share: str = "") -> None:
        called = numbers[key] = f"{name}_t{len(numbers)}"
        size = max(int(np.prod(shape)), 1)
        if not share:
            content = "" if values is None else f" = {{{' '.join(array_lines(values, f'{dtype}_t'))}}}"
            lines.append(f"static {dtype}_t {called}_data[{size}] __attribute__((aligned(64))){content};")
        lines.append(f"static int64_t {called}_shape[] = {{{', '.join(map(str, shape))}}};")
        code, bits = ("kDLUInt", dtype[4:]) if dtype.startswith("u") else ("kDLInt", dtype[3:])
        place = f"{share or called}_data"
        lines.append(
            f"static DLTensor {called} = {{{place}, {{kDLCPU, 0}}, {len(shape)}, {{{code}, {bits}, 1}}, "
            f"{called}_shape, NULL, 0}};"
        )

    for value, kind in graph.types.items():
        known = program.constants.get(value)
        source = value
        while source in program.views:
            source = program.views[source]
        share = "" if source == value else numbers[source]
        tensor(value, (1, *kind.shape), storage(kind), known, share)
    body = [f"  fread({numbers[i.name]}_data, 1, sizeof {numbers[i.name]}_data, stdin);" for i in graph.inputs]
    for step in program.steps:
        for index, (_, values) in enumerate(step.constants):
            tensor(f"{step.function}/{index}", values.shape, str(values.dtype), values)
        arguments = [numbers[v] for v in step.inputs]
        arguments += [numbers[f"{step.function}/{index}"] for index in range(len(step.constants))]
        arguments.append(numbers[step.node.name])
        kernel = f"__tvm_ffi_{name}_{step.function}"
        lines.append(f"int {kernel}(void *, const TVMFFIAny *, int32_t, TVMFFIAny *);")
        listed = ", ".join(f"&{argument}" for argument in arguments)
        body.append(f"  call({kernel}, (DLTensor *[]){{{listed}}}, {len(arguments)});")
    for output in graph.outputs:
        source = output.value
        while source in program.views:
            source = program.views[source]
        body.append(f"  fwrite({numbers[source]}_data, 1, sizeof {numbers[source]}_data, stdout);")
    return "\n".join([*lines, f"static void {name}_run(void) {{", *body, "}", ""])


def _codes(network: Foreign) -> bytes:
    """Sample by sample, input by input."""
    found = b""
    for sample in range(network.count):
        for source in network.graph.inputs:
            found += network.inputs[source.name][sample].astype(storage(source.type)).tobytes()
    return found


def _outputs(networks: Sequence[Foreign], data: bytes) -> list[dict[str, Array]]:
    found, start = [], 0
    for network in networks:
        samples: dict[str, list[Array]] = {output.model_name: [] for output in network.graph.outputs}
        for _ in range(network.count):
            for output in network.graph.outputs:
                kind = network.graph.types[output.value]
                dtype = np.dtype(storage(kind))
                size = int(np.prod(kind.shape))
                codes = np.frombuffer(data, dtype, size, start).reshape(kind.shape)
                samples[output.model_name].append(codes.astype(np.int32))
                start += size * dtype.itemsize
        found.append({name: np.stack(parts) for name, parts in samples.items()})
    assert start == len(data)
    return found
