"""What TVM is told of a target, and which product its kernels are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
from tvm.target import codegen

from dnnc.backends.tvm.dot import PLAIN, PMADDWD, SDOT, VNNI, Dot
from dnnc.cost.target import Target, Tvm
from dnnc.errors import OptionError

HERE = Tvm(cpu="native")


@dataclass(frozen=True)
class Machine:
    """target: TVM's."""

    target: Any
    dot: Dot
    triple: str

    @property
    def cpu(self) -> str:
        return str(self.target.attrs["mcpu"])


def machine_of(target: Target) -> Machine:
    """Raises OptionError for a target that cannot run TVM's libraries."""
    if target.tvm is None:
        raise OptionError(f"target '{target.name}' has no section [tvm], so TVM makes no library for it")
    return machine(target.tvm)


def machine(described: Tvm = HERE) -> Machine:
    """The machine that is described; this computer without a description."""
    options: dict[str, Any] = {"kind": "llvm"}
    options["mcpu"] = codegen.llvm_get_system_cpu() if described.cpu == "native" else described.cpu
    if described.triple is not None:
        options["mtriple"] = described.triple
    if described.attributes:
        options["mattr"] = list(described.attributes)
    if described.abi is not None:
        options["mabi"] = described.abi
    target = tvm.target.Target(options)
    triple = described.triple or str(codegen.llvm_get_system_triple())
    return Machine(target, _dot(target, triple, own=described.triple is None), triple)


def _dot(target: Any, triple: str, own: bool) -> Dot:
    """own: whether the target is this computer."""
    if own and codegen.llvm_cpu_has_features("avx512vnni", target):
        return VNNI
    if own and codegen.llvm_cpu_has_features("avx2", target):
        return PMADDWD
    if triple.startswith(("aarch64", "arm64")) and codegen.llvm_cpu_has_features("dotprod", target):
        return SDOT
    return PLAIN
