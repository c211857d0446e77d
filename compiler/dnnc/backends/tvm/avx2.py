"""VPMADDWD of AVX2: the sums as loops, and as the instruction.

It multiplies 16-bit integers, so inputs are stored as such and weights are widened on their way to it. Two products of
16 and 8 bits always fit 32: unlike those of VPMADDUBSW, its sums never saturate.
"""

# TVMScript is a language of its own in the syntax of Python: its annotations are values.
# mypy: ignore-errors

from __future__ import annotations

from tvm.script import tirx as T


@T.prim_func(s_tir=True)
def eight_sums(
    x: T.Buffer((2,), "int16", offset_factor=1),
    w: T.Buffer((8, 2), "int8", offset_factor=1),
    y: T.Buffer((8,), "int32", offset_factor=1),
) -> None:
    with T.sblock("root"):
        T.reads(y[0:8], x[0:2], w[0:8, 0:2])
        T.writes(y[0:8])
        for i, k in T.grid(8, 2):
            with T.sblock("sum"):
                lane, step = T.axis.remap("SR", [i, k])
                y[lane] = y[lane] + T.cast(x[step], "int32") * T.cast(w[lane, step], "int32")


@T.prim_func(s_tir=True)
def pmaddwd(
    x: T.Buffer((2,), "int16", offset_factor=1),
    w: T.Buffer((8, 2), "int8", offset_factor=1),
    y: T.Buffer((8,), "int32", offset_factor=1),
) -> None:
    with T.sblock("root"):
        T.reads(y[0:8], x[0:2], w[0:8, 0:2])
        T.writes(y[0:8])
        y[T.ramp(T.int32(0), 1, 8)] = y.vload([0], dtype="int32x8") + T.call_llvm_pure_intrin(
            T.llvm_lookup_intrinsic_id("llvm.x86.avx2.pmadd.wd"),
            T.reinterpret(T.broadcast(T.reinterpret(x.vload([0], "int16x2"), dtype="int32"), 8), dtype="int16x16"),
            T.cast(w.vload([0, 0], dtype="int8x16"), "int16x16"),
            dtype="int32x8",
        )


@T.prim_func(s_tir=True)
def eight_sums_of_taps(
    x: T.Buffer((16,), "int16", offset_factor=1),
    w: T.Buffer((8, 2), "int8", offset_factor=1),
    y: T.Buffer((8,), "int32", offset_factor=1),
) -> None:
    with T.sblock("root"):
        T.reads(y[0:8], x[0:16], w[0:8, 0:2])
        T.writes(y[0:8])
        for i, k in T.grid(8, 2):
            with T.sblock("sum"):
                lane, step = T.axis.remap("SR", [i, k])
                y[lane] = y[lane] + T.cast(x[lane * 2 + step], "int32") * T.cast(w[lane, step], "int32")


@T.prim_func(s_tir=True)
def pmaddwd_of_taps(
    x: T.Buffer((16,), "int16", offset_factor=1),
    w: T.Buffer((8, 2), "int8", offset_factor=1),
    y: T.Buffer((8,), "int32", offset_factor=1),
) -> None:
    with T.sblock("root"):
        T.reads(y[0:8], x[0:16], w[0:8, 0:2])
        T.writes(y[0:8])
        y[T.ramp(T.int32(0), 1, 8)] = y.vload([0], dtype="int32x8") + T.call_llvm_pure_intrin(
            T.llvm_lookup_intrinsic_id("llvm.x86.avx2.pmadd.wd"),
            x.vload([0], dtype="int16x16"),
            T.cast(w.vload([0, 0], dtype="int8x16"), "int16x16"),
            dtype="int32x8",
        )
