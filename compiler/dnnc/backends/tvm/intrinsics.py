"""Tensor intrinsics: a product as loops, which is what a schedule finds in a kernel, and as the instruction for it.

TVM has the same in tvm.s_tir.tensor_intrin, but importing that parses those of every GPU, too: many seconds.
"""

# TVMScript is a language of its own in the syntax of Python: its annotations are values.
# mypy: ignore-errors

from __future__ import annotations

from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T


@T.prim_func(s_tir=True)
def sixteen_sums(
    x: T.Buffer((4,), "uint8", offset_factor=1),
    w: T.Buffer((16, 4), "int8", offset_factor=1),
    y: T.Buffer((16,), "int32", offset_factor=1),
) -> None:
    with T.sblock("root"):
        T.reads(y[0:16], x[0:4], w[0:16, 0:4])
        T.writes(y[0:16])
        for i, k in T.grid(16, 4):
            with T.sblock("sum"):
                lane, step = T.axis.remap("SR", [i, k])
                y[lane] = y[lane] + T.cast(x[step], "int32") * T.cast(w[lane, step], "int32")


@T.prim_func(s_tir=True)
def vpdpbusd(
    x: T.Buffer((4,), "uint8", offset_factor=1),
    w: T.Buffer((16, 4), "int8", offset_factor=1),
    y: T.Buffer((16,), "int32", offset_factor=1),
) -> None:
    with T.sblock("root"):
        T.reads(y[0:16], x[0:4], w[0:16, 0:4])
        T.writes(y[0:16])
        y[T.ramp(T.int32(0), 1, 16)] = T.call_llvm_pure_intrin(
            T.llvm_lookup_intrinsic_id("llvm.x86.avx512.vpdpbusd.512"),
            y.vload([0], dtype="int32x16"),
            T.reinterpret(T.broadcast(T.reinterpret(x.vload([0], "uint8x4"), dtype="int32"), 16), dtype="uint8x64"),
            w.vload([0, 0], dtype="int8x64"),
            dtype="int32x16",
        )


TensorIntrin.register("dnnc_vpdpbusd_512", sixteen_sums, vpdpbusd)
