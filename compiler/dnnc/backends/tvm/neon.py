"""SDOT of 64-bit Arm: the sums as loops, and as the instruction."""

# TVMScript is a language of its own in the syntax of Python: its annotations are values.
# mypy: ignore-errors

from __future__ import annotations

from tvm.script import tirx as T


@T.prim_func(s_tir=True)
def four_sums(
    x: T.Buffer((4,), "int8", offset_factor=1),
    w: T.Buffer((4, 4), "int8", offset_factor=1),
    y: T.Buffer((4,), "int32", offset_factor=1),
) -> None:
    with T.sblock("root"):
        T.reads(y[0:4], x[0:4], w[0:4, 0:4])
        T.writes(y[0:4])
        for i, k in T.grid(4, 4):
            with T.sblock("sum"):
                lane, step = T.axis.remap("SR", [i, k])
                y[lane] = y[lane] + T.cast(x[step], "int32") * T.cast(w[lane, step], "int32")


@T.prim_func(s_tir=True)
def sdot(
    x: T.Buffer((4,), "int8", offset_factor=1),
    w: T.Buffer((4, 4), "int8", offset_factor=1),
    y: T.Buffer((4,), "int32", offset_factor=1),
) -> None:
    with T.sblock("root"):
        T.reads(y[0:4], x[0:4], w[0:4, 0:4])
        T.writes(y[0:4])
        y[T.ramp(T.int32(0), 1, 4)] = T.call_llvm_pure_intrin(
            T.llvm_lookup_intrinsic_id("llvm.aarch64.neon.sdot"),
            y.vload([0], dtype="int32x4"),
            T.reinterpret(T.broadcast(T.reinterpret(x.vload([0], "int8x4"), dtype="int32"), 4), dtype="int8x16"),
            w.vload([0, 0], dtype="int8x16"),
            dtype="int32x4",
        )


@T.prim_func(s_tir=True)
def four_sums_of_taps(
    x: T.Buffer((16,), "int8", offset_factor=1),
    w: T.Buffer((4, 4), "int8", offset_factor=1),
    y: T.Buffer((4,), "int32", offset_factor=1),
) -> None:
    with T.sblock("root"):
        T.reads(y[0:4], x[0:16], w[0:4, 0:4])
        T.writes(y[0:4])
        for i, k in T.grid(4, 4):
            with T.sblock("sum"):
                lane, step = T.axis.remap("SR", [i, k])
                y[lane] = y[lane] + T.cast(x[lane * 4 + step], "int32") * T.cast(w[lane, step], "int32")


@T.prim_func(s_tir=True)
def sdot_of_taps(
    x: T.Buffer((16,), "int8", offset_factor=1),
    w: T.Buffer((4, 4), "int8", offset_factor=1),
    y: T.Buffer((4,), "int32", offset_factor=1),
) -> None:
    with T.sblock("root"):
        T.reads(y[0:4], x[0:16], w[0:4, 0:4])
        T.writes(y[0:4])
        y[T.ramp(T.int32(0), 1, 4)] = T.call_llvm_pure_intrin(
            T.llvm_lookup_intrinsic_id("llvm.aarch64.neon.sdot"),
            y.vload([0], dtype="int32x4"),
            x.vload([0], dtype="int8x16"),
            w.vload([0, 0], dtype="int8x16"),
            dtype="int32x4",
        )
