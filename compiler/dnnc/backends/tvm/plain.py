"""A network's kernels as C with plain pointers: no runtime of TVM, no tensors of its own, nothing allocated.

TVM's pipeline without its calling convention, then its C code generator, one function a kernel. What a kernel would
allocate becomes an argument, for which the planner finds bytes in the arena.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import s_tir, tirx

from dnnc.backends.tvm.network import Step
from dnnc.backends.tvm.plain_schedule import arrange
from dnnc.ir.graph import Graph, Node
from dnnc.ops.common import quant_of
from dnnc.ops.conv import Conv2D
from dnnc.ops.elementwise import Add, Mul
from dnnc.ops.pointwise import Pointwise, PRelu
from dnnc.passes.lifetime import Distance, aligned

#: What a kernel keeps in a local array, which compilers turn into registers; anything larger is scratch.
LOCAL_BYTES = 64
_IN_ORDER = (Add, Mul, Pointwise, PRelu)
_TARGET = {"kind": "c"}
_SIGNATURE = re.compile(r"^TVM_DLL void (\w+)\((.*)\) \{$", re.MULTILINE)


@dataclass(frozen=True)
class Scratch:
    """Memory of a kernel beside its operands: bytes from the start of its scratch in the arena, and how many."""

    offset: int
    nbytes: int


@dataclass(frozen=True)
class Kernel:
    """A step as a C function, whose arguments are those of the step, then scratch. body: from its brace to the end."""

    step: Step
    name: str
    prototype: str
    body: str
    scratch: tuple[Scratch, ...]
    arranged: tirx.PrimFunc

    @property
    def source(self) -> str:
        return f"{self.prototype} {self.body}"

    @property
    def scratch_bytes(self) -> int:
        return max((part.offset + part.nbytes for part in self.scratch), default=0)


def kernel_of(step: Step, prefix: str) -> Kernel:
    """prefix: of the function's name."""
    name = f"{prefix}_{step.function}"
    arranged = arrange(step.node, step.plain).with_attr("global_symbol", name)
    target = tvm.target.Target(_TARGET)
    module = tirx.transform.BindTarget(target.with_host(target))(tvm.IRModule({name: arranged}))
    (lowered,) = _pipeline()(module).functions.values()
    body, allocated = _without_allocations(lowered.body)
    plain = _with_pointers(lowered, body, allocated)
    text = tvm.get_global_func("target.build.c")(tvm.IRModule({name: plain}), target).inspect_source()
    reads = len(step.inputs) + len(step.constants)
    overlapping = {*range(len(step.inputs)), reads} if _in_order(step.node) or _copies_first(step.node) else set()
    free = set(range(len(plain.params))) - overlapping
    prototype, body_text = _declared(text, name, reads, free)
    return Kernel(step, name, prototype, body_text, tuple(_placed(allocated)), arranged)


def overwrites(graph: Graph, kernels: tuple[Kernel, ...]) -> dict[str, dict[str, Distance]]:
    """node -> the inputs that its output may lie on, for the planner."""
    found = {}
    for kernel in kernels:
        node = kernel.step.node
        if _copies_first(node):
            found[node.name] = {value: Distance(0) for value in kernel.step.inputs}
        elif _in_order(node):
            same = [v for v in kernel.step.inputs if graph.types[v].shape == node.type.shape]
            width = _bytes(graph, node.name)
            found[node.name] = {v: Distance(0) for v in same if _bytes(graph, v) >= width}
    return found


def _in_order(node: Node) -> bool:
    """Whether element i of the output is made of elements i of the inputs, in ascending order: it may lie on an input
    whose elements are as many and no narrower."""
    return isinstance(node.op, _IN_ORDER)


def _copies_first(node: Node) -> bool:
    """Whether the input is copied, with its border, before any output is written."""
    return isinstance(node.op, Conv2D) and any(node.op.padding)


def _bytes(graph: Graph, value: str) -> int:
    return int(np.dtype(quant_of(graph.types[value]).dtype).itemsize)


def _pipeline() -> Any:
    return tvm.ir.transform.Sequential(
        [
            s_tir.transform.CanonicalizeLoop(),
            s_tir.transform.LowerInitBlock(),
            s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
            s_tir.transform.ConvertBlocksToOpaque(),
            s_tir.transform.CompactBufferAllocation(),
            s_tir.transform.LowerMatchBuffer(),
            s_tir.transform.StmtSimplify(),
            s_tir.transform.LowerOpaqueBlock(),
            tirx.transform.FlattenBuffer(),
            tirx.transform.NarrowDataType(32),
            tirx.transform.VectorizeLoop(True),
            tirx.transform.StorageRewrite(),
            tirx.transform.UnrollLoop(),
            s_tir.transform.RenormalizeSplitPattern(),
            tirx.transform.StmtSimplify(),
            tirx.transform.RemoveNoOp(),
            tirx.transform.CommonSubexprElim(),
            tirx.transform.LowerIntrin(),
        ]
    )


def _without_allocations(body: Any) -> tuple[Any, list[Any]]:
    """The statements without the large buffers that they allocate at their top, where StorageRewrite puts them all."""
    statements = list(body.seq) if isinstance(body, tirx.SeqStmt) else [body]
    large = [s.buffer for s in statements if isinstance(s, tirx.AllocBuffer) and _size(s.buffer) > LOCAL_BYTES]
    kept = [s for s in statements if not (isinstance(s, tirx.AllocBuffer) and _size(s.buffer) > LOCAL_BYTES)]
    return (tirx.SeqStmt(kept) if len(kept) > 1 else kept[0]), large


def _size(buffer: Any) -> int:
    """Bytes of a flat buffer."""
    (count,) = buffer.shape
    return int(count) * int(tvm.DataType(buffer.dtype).bits) // 8


def _with_pointers(function: Any, body: Any, allocated: list[Any]) -> Any:
    """The function with a pointer in the place of each buffer among its parameters, and of each that it allocated."""
    pointers, declared = [], []
    for buffer in (*function.params, *allocated):
        pointer = tirx.Var(f"{buffer.name}_at", tvm.ir.PointerType(tvm.ir.PrimType(buffer.dtype), "global"))
        declared.append(tirx.DeclBuffer(buffer, data=pointer))
        pointers.append(pointer)
    return tirx.PrimFunc(pointers, tirx.SeqStmt([*declared, body]), function.ret_type, attrs=function.attrs)


def _placed(allocated: list[Any]) -> Iterator[Scratch]:
    offset = 0
    for buffer in allocated:
        yield Scratch(offset, _size(buffer))
        offset += aligned(_size(buffer))


def _declared(text: str, name: str, reads: int, free: set[int]) -> tuple[str, str]:
    """Prototype and body of a function that TVM wrote. reads: so many parameters, the first, are only read. free: the
    numbers of those that nothing overlaps that is written."""
    (found,) = [match for match in _SIGNATURE.finditer(text) if match[1] == name]
    parameters = []
    for index, parameter in enumerate(found[2].split(", ")):
        kind, called = parameter.rsplit(" ", 1)
        constant, alone = "const " if index < reads else "", "restrict " if index in free else ""
        parameters.append(f"{constant}{kind.rstrip('*')} *{alone}{called}")
    body = text[found.end() - 1 :].rstrip()
    unused = [called for p in parameters if not re.search(rf"\b{(called := p.rsplit('*', 1)[1].split()[-1])}\b", body)]
    ignored = "".join(f"\n  (void){called};" for called in unused)
    return f"void {name}({', '.join(parameters)})", "{" + ignored + body[1:]
