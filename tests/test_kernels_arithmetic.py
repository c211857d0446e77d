"""The C twins of fixed.rescale, with and without a long multiply, against the normative Python."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dnnc import fixed, resources
from dnnc.backends.c.linear import shift_of
from dnnc.backends.c.structs import STRUCTS, struct_bytes
from dnnc.cost.loader import load_target
from dnnc.run import toolchain

Array = NDArray[Any]

PROGRAM = """
#include <stdio.h>
#include "dnnc_kernels.h"
int main(void) {
  int32_t v[3];
  while (fread(v, 4, 3, stdin) == 3) {
    int32_t y[2] = {dnnc_rescale(v[0], v[1], (unsigned)v[2]), 0};
    if (v[1] > 0 && !(v[1] & (v[1] - 1))) {
      unsigned shift = 31;
      for (int32_t m = v[1]; m > 1; m >>= 1) shift--;
      y[1] = dnnc_rescale_shift(v[0], shift, (unsigned)v[2]);
    }
    fwrite(y, 4, 2, stdout);
  }
  return 0;
}
"""


def triples() -> Array:
    """(accumulator, multiplier, left shift) int32 [N, 3]: ends and neighbours of everything, then random ones."""
    rng = np.random.default_rng(0)
    edges = np.array([0, 1, 2**15, 2**16, 2**30, 2**31 - 1])
    near = np.unique(np.concatenate([edges - 1, edges, edges + 1, -edges - 1, -edges, -edges + 1]))
    near = near[(near >= -(2**31)) & (near < 2**31)]
    multipliers = np.unique(np.concatenate([near[near > -(2**31)], 2 ** np.arange(31)]))
    found = [np.stack(np.meshgrid(near, multipliers, [0]), axis=-1).reshape(-1, 3)]
    for left_shift in range(0, 20, 3):
        width = 31 - left_shift
        accumulators = rng.integers(-(2**width), 2**width, 3000) >> rng.integers(0, width, 3000)
        found.append(
            np.stack(
                [accumulators, rng.integers(-(2**31) + 1, 2**31, 3000), np.full(3000, left_shift)],
                axis=1,
            )
        )
        powers = 2 ** rng.integers(0, 31, 1000)
        found.append(np.stack([accumulators[:1000], powers, np.full(1000, left_shift)], axis=1))
    return np.concatenate(found).astype(np.int32)


@pytest.mark.parametrize("define", ["DNNC_LONG_MULTIPLY", "DNNC_NO_LONG_MULTIPLY"])
def test_rescale_is_the_normative_one(define: str, tmp_path: Path) -> None:
    compiler = toolchain.find_compiler(load_target("host"))
    sanitizers = list(toolchain.SANITIZE) if compiler.kind == "gcc" else []
    header = (resources.kernels() / "generic" / "dnnc_kernels.h").read_bytes()
    toolchain.write_files(tmp_path, {"dnnc_kernels.h": header, "main.c": PROGRAM.encode()})
    command = (*compiler.command, *toolchain.STRICT, "-O1", *sanitizers, f"-D{define}", "main.c", "-o", "main.exe")
    toolchain.run_tool(command, tmp_path)
    given = triples()
    made = subprocess.run([tmp_path / "main.exe"], input=given.tobytes(), capture_output=True, check=True)
    assert not made.stderr
    found = np.frombuffer(made.stdout, np.int32).reshape(-1, 2)
    accumulator, multiplier, left_shift = given.astype(np.int64).T
    expected = fixed.rescale(accumulator, multiplier, left_shift)
    assert np.array_equal(found[:, 0], expected)
    powers = (multiplier > 0) & (multiplier & (multiplier - 1) == 0)
    assert powers.sum() > 1000
    assert np.array_equal(found[powers, 1], expected[powers])


@pytest.mark.quick
def test_shifts_stand_for_powers_of_two() -> None:
    powers = np.array([2**30, 2**10, 1], np.int32)
    assert shift_of(powers).tolist() == [1, 21, 31]  # type: ignore[union-attr]
    assert shift_of(np.array([0, 4])) is not None  # 31 more shifts make anything 0
    for accumulator in (-(2**31), -1, 0, 1, 2**31 - 1):
        assert fixed.rescale(accumulator, 0, 0) == ((accumulator >> 31) + 1) >> 1
    assert shift_of(np.array([2**30, 3])) is None
    assert shift_of(np.array([-4])) is None


def test_struct_sizes_are_the_compilers(tmp_path: Path) -> None:
    """On a 32-bit core; also that every member exists by its name."""
    target = load_target("rv32imc")
    lines = ['#include "dnnc_kernels.h"', "#define SAME(a, b) typedef char check_##a[sizeof(a) == (b) ? 1 : -1]"]
    for struct, members in STRUCTS.items():
        lines.append(f"SAME({struct}, {struct_bytes(struct)});")
        last = members[-1].name
        lines.append(f"size_t at_{struct}(const {struct} *s);")
        uses = " + ".join(f"sizeof s->{member.name}" for member in members)
        lines.append(f"size_t at_{struct}(const {struct} *s) {{ return {uses} + offsetof({struct}, {last}); }}")
    header = (resources.kernels() / "generic" / "dnnc_kernels.h").read_bytes()
    toolchain.write_files(tmp_path, {"dnnc_kernels.h": header, "check.c": "\n".join(lines).encode() + b"\n"})
    toolchain.compile_objects(toolchain.find_compiler(target), tmp_path, ["check.c"], ())
