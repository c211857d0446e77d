"""Many networks in one program for this computer, with sanitizers where the compiler has them.

The arena of each network is laid out with gaps between all values. The gaps are poisoned while it runs, so that
AddressSanitizer reports a kernel that reads or writes one byte beside its operands.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc.backends.c import emit, lower
from dnnc.backends.c.table import IN_ORDER, Selection
from dnnc.cost.loader import load_target
from dnnc.cost.target import Target
from dnnc.ir.graph import Graph
from dnnc.passes.lifetime import aligned, roots
from dnnc.passes.plan import Plan, plan
from dnnc.run import blocks, toolchain
from dnnc.run.bare_metal import c_files

Array = NDArray[Any]
GAP_BYTES = 32
#: Networks in one C file, for the compiler's sake.
PER_FILE = 120

_MAIN = """#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif
{includes}
typedef struct {{ uint32_t at, size; }} gap_t;
{gaps}
{wrappers}
typedef struct {{
  int (*run)(const void *, void *);
  uint8_t *(*base)(void);
  const gap_t *gaps;
  uint32_t count, samples, input, output;
}} network_t;

static const network_t networks[] = {{
{table}}};

int main(int count, char **arguments) {{
  if (count != 3) return 2;
  FILE *in = fopen(arguments[1], "rb"), *out = fopen(arguments[2], "wb");
  if (!in || !out) return 2;
  for (size_t n = 0; n < sizeof networks / sizeof *networks; n++) {{
    const network_t *network = &networks[n];
    for (uint32_t i = 0; i < network->count; i++) {{
      ASAN_POISON_MEMORY_REGION(network->base() + network->gaps[i].at, network->gaps[i].size);
    }}
    for (uint32_t sample = 0; sample < network->samples; sample++) {{
      void *x = malloc(network->input), *y = malloc(network->output);
      if (fread(x, 1, network->input, in) != network->input) return 2;
      if (network->run(x, y)) return 2;
      if (fwrite(y, 1, network->output, out) != network->output) return 2;
      free(x);
      free(y);
    }}
  }}
  return fclose(out);
}}
"""


@dataclass(frozen=True)
class Network:
    """inputs: codes [N, *shape] by graph input name. spread: lay the arena out with poisoned gaps, else as planned.

    layout: a plan to use instead. selection: of kernels and formats.
    """

    graph: Graph
    inputs: Mapping[str, Array]
    spread: bool
    layout: Plan | None = None
    selection: Selection = IN_ORDER


@dataclass(frozen=True)
class _Part:
    name: str
    network: Network
    files: Mapping[str, bytes]
    plan: Plan
    gaps: tuple[tuple[int, int], ...]


def run_on_host(
    networks: Sequence[Network], target: str, folder: Path, optimise: str = "-O1"
) -> list[dict[str, Array]]:
    """Output codes int32 [N, *shape] by model name, of every network, as `target` would compile it."""
    compiler = toolchain.find_compiler(load_target("host"))
    sanitizers = list(toolchain.SANITIZE) if compiler.kind == "gcc" else []
    parts = [_part(network, f"{network.graph.name}_{i}", load_target(target)) for i, network in enumerate(networks)]
    files: dict[str, bytes] = {}
    for part in parts:
        files |= part.files
    models = [f"{part.name}.c" for part in parts]
    for start in range(0, len(parts), PER_FILE):
        some = parts[start : start + PER_FILE]
        files[f"models_{start}.c"] = "".join(map(_included, some)).encode()
        files[f"weights_{start}.c"] = "".join(f'#include "{part.name}_weights.c"\n' for part in some).encode()
    files["main.c"] = _main(parts).encode()
    toolchain.write_files(folder, files)
    unity = {*models, *(f"{part.name}_weights.c" for part in parts)}
    sources = sorted(name for name in files if name.endswith(".c") and name not in unity)
    objects = toolchain.compile_objects(compiler, folder, sources, sanitizers, optimise)
    toolchain.run_tool((*compiler.command, *sanitizers, *objects, "-o", "program.exe"), folder)
    packed = [blocks.pack_inputs(part.network.graph, part.network.inputs) for part in parts]
    (folder / "input.bin").write_bytes(b"".join(p.tobytes() for p in packed))
    done = subprocess.run(["./program.exe", "input.bin", "output.bin"], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr.decode(errors="replace")[:4000]
    return _outputs(parts, [len(p) for p in packed], (folder / "output.bin").read_bytes())


def _part(network: Network, name: str, target: Target) -> _Part:
    graph = replace(network.graph, name=name)
    program = lower(graph, target, network.selection)
    gaps: tuple[tuple[int, int], ...] = ()
    if network.layout is not None:
        layout = network.layout
    elif network.spread:
        layout, gaps = _spread(graph, program.scratch)
    else:
        layout = plan(graph, program.scratch, program.overwrites)
    return _Part(name, network, c_files(emit(graph, program, layout, target)), layout, gaps)


def _spread(graph: Graph, scratch: Mapping[str, int]) -> tuple[Plan, tuple[tuple[int, int], ...]]:
    """Every value and every scratch in bytes of its own, and the gaps (offset, size) between them."""
    base = plan(graph, scratch, {})
    owner = roots(graph)
    offsets: dict[str, int] = {}
    gaps: list[tuple[int, int]] = []
    end = 0

    def place(size: int) -> int:
        """`size` bytes at a multiple of 8, and a gap up to the next one."""
        nonlocal end
        start, end = end, -(-(end + size) // 8) * 8 + GAP_BYTES
        gaps.append((start + size, end - start - size))
        return start

    # The two structs stay whole, so their members are apart by at most their padding.
    input_offset = place(blocks.input_bytes(graph))
    at = input_offset
    for source in graph.inputs:
        offsets[source.name] = at
        at += aligned(source.type.nbytes)
    output_offset = place(blocks.output_bytes(graph))
    copies = []
    at = output_offset
    slots = {copy.output for copy in base.output_copies}
    for number, output in enumerate(graph.outputs):
        value = owner[output.value]
        if number in slots:
            copies.append(replace(next(c for c in base.output_copies if c.output == number), offset=at))
        else:
            assert value is not None
            offsets[value] = at
        at += aligned(graph.types[output.value].nbytes)
    for value, kind in graph.types.items():
        if owner[value] == value and value not in offsets:
            offsets[value] = place(kind.nbytes)
    scratches = {node: place(size) for node, size in scratch.items()}
    found = {value: offsets[name] for value, name in owner.items() if name is not None}
    return Plan(found, scratches, end, 0, input_offset, output_offset, tuple(copies)), tuple(gaps)


def _included(part: _Part) -> str:
    """One network's C inside a file that holds many: its private names made its own."""
    undefined = "".join(f"#undef {macro}\n" for macro in ("S8", "S16", "S4", "SCRATCH", "TRACE", "copy"))
    return f'#define copy {part.name}_copy\n#include "{part.name}.c"\n{undefined}'


def _main(parts: Sequence[_Part]) -> str:
    includes = "".join(f'#include "{part.name}.h"\n' for part in parts)
    gaps, wrappers, table = "", "", ""
    for part in parts:
        name = part.name
        pairs = ", ".join(f"{{{at}, {size}}}" for at, size in part.gaps) or "{0, 0}"
        gaps += f"static const gap_t {name}_gaps[] = {{{pairs}}};\n"
        wrappers += f"static int {name}_call(const void *x, void *y) {{ return {name}_run(x, y); }}\n"
        base = f"(uint8_t *){name}_input() - {part.plan.input_offset}"
        wrappers += f"static uint8_t *{name}_base(void) {{ return {base}; }}\n"
        samples = len(next(iter(part.network.inputs.values())))
        sizes = f"sizeof({name}_input_t), sizeof({name}_output_t)"
        table += f"    {{{name}_call, {name}_base, {name}_gaps, {len(part.gaps)}, {samples}, {sizes}}},\n"
    return _MAIN.format(includes=includes, gaps=gaps, wrappers=wrappers, table=table)


def _outputs(parts: Sequence[_Part], counts: Sequence[int], data: bytes) -> list[dict[str, Array]]:
    found = []
    start = 0
    for part, count in zip(parts, counts, strict=True):
        size = blocks.output_bytes(part.network.graph)
        codes = np.frombuffer(data, np.uint8, count * size, start).reshape(count, size)
        found.append(blocks.unpack_outputs(part.network.graph, codes))
        start += count * size
    assert start == len(data)
    return found
