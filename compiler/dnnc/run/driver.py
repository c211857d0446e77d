"""What the test driver (targets/common/driver.c) is compiled with, and the files that it reads and writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dnnc.errors import VerificationError
from dnnc.ir.graph import Graph
from dnnc.run import blocks
from dnnc.run.base import Array

NO_TICKS = 0xFFFFFFFF


@dataclass(frozen=True)
class Driven:
    """What a run of the driver left behind. stack_bytes and ticks are of the first sample."""

    outputs: Mapping[str, Array]
    layers: Mapping[str, Array]
    stack_bytes: int | None
    ticks: int | None


def model_header(name: str) -> bytes:
    """harness_model.h for the driver."""
    lines = [f'#include "{name}.h"']
    for what in ("input", "output"):
        lines += [f"#define HARNESS_{what.upper()}_T {name}_{what}_t", f"#define HARNESS_{what.upper()} {name}_{what}"]
    return "\n".join([*lines, f"#define HARNESS_RUN {name}_run", ""]).encode()


def write_input(folder: Path, codes: NDArray[np.uint8]) -> None:
    """Input blocks uint8 [N, input_bytes]."""
    (folder / "input.bin").write_bytes(codes.tobytes())


def read_results(folder: Path, graph: Graph, count: int, trace: bool) -> Driven:
    """The results of `count` samples. Raises VerificationError where the program left too few."""
    size = blocks.output_bytes(graph)
    data = (folder / "output.bin").read_bytes()
    if len(data) != size * count:
        raise VerificationError(f"the program wrote {len(data)} bytes of output instead of {size * count}")
    outputs = blocks.unpack_outputs(graph, np.frombuffer(data, np.uint8).reshape(count, size))
    layers = _read_trace((folder / "trace.bin").read_bytes(), graph, count) if trace else {}
    figures = np.frombuffer((folder / "measured.bin").read_bytes(), "<u4").tolist()
    stack, ticks = figures if figures else (0, NO_TICKS)
    return Driven(outputs, layers, stack or None, None if ticks == NO_TICKS else ticks)


def _read_trace(data: bytes, graph: Graph, count: int) -> dict[str, Array]:
    """Records (step, bytes, value): one for the input and one for every node, of every sample."""
    values: dict[str, list[bytes]] = {node.name: [] for node in graph.nodes}
    offset = 0
    for _ in range(count):
        for expected in range(-1, len(graph.nodes)):
            step = int.from_bytes(data[offset : offset + 4], "little", signed=True)
            size = int.from_bytes(data[offset + 4 : offset + 8], "little")
            if len(data) < offset + 8 + size or step != expected:
                raise VerificationError(f"the program traced step {step} where step {expected} was due")
            if expected >= 0:
                values[graph.nodes[expected].name].append(data[offset + 8 : offset + 8 + size])
            offset += 8 + size
    return {
        node.name: blocks.unpack_value(
            node.type, np.frombuffer(b"".join(values[node.name]), np.uint8).reshape(count, node.type.nbytes)
        )
        for node in graph.nodes
    }
