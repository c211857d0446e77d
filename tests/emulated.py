"""Many networks in one emulated program: differential tests of whole case lists stay fast that way."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc.cost.loader import load_target
from dnnc.ir.graph import Graph
from dnnc.run import blocks
from dnnc.run.bare_metal import build_image, c_files
from dnnc.run.cycles import find_model
from dnnc.run.emulator import Model
from dnnc.run.layers import ALL
from dnnc.run.machine import Machine
from dnnc.run.profile import make_profile
from dnnc.run.toolchain import find_compiler

Array = NDArray[Any]
EMULATED_TARGETS = ("cortex-m7", "cortex-m4", "cortex-m33", "cortex-m0plus", "rv32imc")


@dataclass(frozen=True)
class Network:
    """What is emulated: `files` are an artefact's ("c/NAME.c", ...), `inputs` codes [N, *shape] by graph input name.

    Networks of one program have different names; files of the same name are the same.
    """

    name: str
    files: Mapping[str, bytes]
    graph: Graph
    inputs: Mapping[str, Array]


@dataclass(frozen=True)
class Emulated:
    """Output codes int32 [N, *shape] by model name; what the first sample cost, cycles if asked for and modelled."""

    name: str
    outputs: Mapping[str, Array]
    instructions: int
    stack_bytes: int
    cycles: int | None = None


def emulate(
    networks: Sequence[Network],
    target: str,
    *,
    compiler: str = "auto",
    optimise: str = "-O2",
    chunk: int = 300,
    cycles: bool = False,
) -> Iterator[Emulated]:
    """Every network's outputs on an emulated target, `chunk` networks a program; with modelled cycles if asked for."""
    for start in range(0, len(networks), chunk):
        yield from _emulate(networks[start : start + chunk], target, compiler, optimise, cycles)


def _emulate(
    networks: Sequence[Network], target: str, compiler: str, optimise: str, cycles: bool
) -> Iterator[Emulated]:
    hardware = load_target(target)
    model = find_model(hardware) if cycles else None
    image = build_image(
        _merged(networks), [n.name for n in networks], hardware, find_compiler(hardware, compiler), optimise=optimise
    )
    counted, plain = Machine(image, hardware), Machine(image, hardware)
    for network in networks:
        size = blocks.output_bytes(network.graph)
        first, *others = blocks.pack_inputs(network.graph, network.inputs)
        data, cost = Model(counted, network.name).run_counted(first.tobytes(), size)
        made = [data, *(Model(plain, network.name).run(block.tobytes(), size) for block in others)]
        codes = np.frombuffer(b"".join(made), np.uint8).reshape(len(made), size)
        count = cost.count
        modelled = make_profile(image, count, {ALL: count.executions}, model).total.cycles if model else None
        outputs = blocks.unpack_outputs(network.graph, codes)
        yield Emulated(network.name, outputs, count.instructions, count.stack_bytes, modelled)


def _merged(networks: Sequence[Network]) -> dict[str, bytes]:
    """The C files of all networks, self-tests left out; all weights in one file, for a compiler takes long to start,
    and likewise the kernels that TVM wrote."""
    files: dict[str, bytes] = {}
    for name, data in itertools.chain.from_iterable(c_files(n.files).items() for n in networks):
        if files.setdefault(name, data) != data:
            raise AssertionError(f"two networks of one program disagree about {name}")
    merged = {name: data for name, data in files.items() if not name.endswith("_selftest.c")}
    for what in ("weights", "kernels"):
        parts = [f"{n.name}_{what}.c" for n in networks if f"{n.name}_{what}.c" in files]
        merged |= {name.replace(".c", ".inc"): merged.pop(name) for name in parts}
        merged[f"all_{what}.c"] = "".join(f'#include "{name.replace(".c", ".inc")}"\n' for name in parts).encode()
    return merged
