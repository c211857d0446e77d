"""Tensor intrinsics: a product as loops, which is what a schedule finds in a kernel, and as the instruction for it.

TVM has the same in tvm.s_tir.tensor_intrin, but importing that parses those of every GPU, too: many seconds.
"""

# TVMScript is a language of its own in the syntax of Python: its annotations are values.
# mypy: ignore-errors

from __future__ import annotations

from tvm.s_tir import TensorIntrin
from tvm.script import from_source
from tvm.script import tirx as T

from dnnc.backends.tvm.avx2 import eight_sums, eight_sums_of_taps, pmaddwd, pmaddwd_of_taps
from dnnc.backends.tvm.dot import Dot
from dnnc.backends.tvm.neon import four_sums, four_sums_of_taps, sdot, sdot_of_taps


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


@T.prim_func(s_tir=True)
def sixteen_rescaled(
    x: T.Buffer((16,), "int32", offset_factor=1),
    m: T.Buffer((16,), "int32", offset_factor=1),
    y: T.Buffer((16,), "int32", offset_factor=1),
) -> None:
    with T.sblock("root"):
        T.reads(x[0:16], m[0:16])
        T.writes(y[0:16])
        for i in T.serial(16):
            with T.sblock("scaled"):
                lane = T.axis.remap("S", [i])
                y[lane] = T.cast(
                    T.shift_right(
                        T.cast(x[lane], "int64") * T.cast(m[lane], "int64") + T.int64(2147483648), T.int64(32)
                    ),
                    "int32",
                )


@T.prim_func(s_tir=True)
def even_and_odd(
    x: T.Buffer((16,), "int32", offset_factor=1),
    m: T.Buffer((16,), "int32", offset_factor=1),
    y: T.Buffer((16,), "int32", offset_factor=1),
) -> None:
    """Of a 64-bit lane the lower half is multiplied as it lies there, and then the upper; no lane is widened."""
    with T.sblock("root"):
        T.reads(x[0:16], m[0:16])
        T.writes(y[0:16])
        y[T.ramp(T.int32(0), 1, 16)] = T.reinterpret(
            T.bitwise_or(
                T.bitwise_and(
                    T.shift_right(
                        T.shift_right(
                            T.shift_left(
                                T.reinterpret(x.vload([0], dtype="int32x16"), dtype="int64x8"),
                                T.broadcast(T.int64(32), 8),
                            ),
                            T.broadcast(T.int64(32), 8),
                        )
                        * T.shift_right(
                            T.shift_left(
                                T.reinterpret(m.vload([0], dtype="int32x16"), dtype="int64x8"),
                                T.broadcast(T.int64(32), 8),
                            ),
                            T.broadcast(T.int64(32), 8),
                        )
                        + T.broadcast(T.int64(2147483648), 8),
                        T.broadcast(T.int64(32), 8),
                    ),
                    T.broadcast(T.int64(4294967295), 8),
                ),
                T.bitwise_and(
                    T.shift_right(
                        T.reinterpret(x.vload([0], dtype="int32x16"), dtype="int64x8"), T.broadcast(T.int64(32), 8)
                    )
                    * T.shift_right(
                        T.reinterpret(m.vload([0], dtype="int32x16"), dtype="int64x8"), T.broadcast(T.int64(32), 8)
                    )
                    + T.broadcast(T.int64(2147483648), 8),
                    T.broadcast(T.int64(-4294967296), 8),
                ),
            ),
            dtype="int32x16",
        )


TensorIntrin.register("dnnc_rescale_16", sixteen_rescaled, even_and_odd)
TensorIntrin.register("dnnc_vpdpbusd_512", sixteen_sums, vpdpbusd)


@T.prim_func(s_tir=True)
def sixteen_sums_of_taps(
    x: T.Buffer((64,), "uint8", offset_factor=1),
    w: T.Buffer((16, 4), "int8", offset_factor=1),
    y: T.Buffer((16,), "int32", offset_factor=1),
) -> None:
    with T.sblock("root"):
        T.reads(y[0:16], x[0:64], w[0:16, 0:4])
        T.writes(y[0:16])
        for i, k in T.grid(16, 4):
            with T.sblock("sum"):
                lane, step = T.axis.remap("SR", [i, k])
                y[lane] = y[lane] + T.cast(x[lane * 4 + step], "int32") * T.cast(w[lane, step], "int32")


@T.prim_func(s_tir=True)
def vpdpbusd_of_taps(
    x: T.Buffer((64,), "uint8", offset_factor=1),
    w: T.Buffer((16, 4), "int8", offset_factor=1),
    y: T.Buffer((16,), "int32", offset_factor=1),
) -> None:
    with T.sblock("root"):
        T.reads(y[0:16], x[0:64], w[0:16, 0:4])
        T.writes(y[0:16])
        y[T.ramp(T.int32(0), 1, 16)] = T.call_llvm_pure_intrin(
            T.llvm_lookup_intrinsic_id("llvm.x86.avx512.vpdpbusd.512"),
            y.vload([0], dtype="int32x16"),
            x.vload([0], dtype="uint8x64"),
            w.vload([0, 0], dtype="int8x64"),
            dtype="int32x16",
        )


TensorIntrin.register("dnnc_vpdpbusd_512_taps", sixteen_sums_of_taps, vpdpbusd_of_taps)

TensorIntrin.register("dnnc_sdot_128", four_sums, sdot)
TensorIntrin.register("dnnc_sdot_128_taps", four_sums_of_taps, sdot_of_taps)
TensorIntrin.register("dnnc_pmaddwd_256", eight_sums, pmaddwd)
TensorIntrin.register("dnnc_pmaddwd_256_taps", eight_sums_of_taps, pmaddwd_of_taps)

_WOVEN = """
@T.prim_func(s_tir=True)
def woven(
    x: T.Buffer(({reach},), "{kind}", offset_factor=1), y: T.Buffer(({unit},), "{kind}", offset_factor=1)
) -> None:
    with T.sblock("root"):
        T.reads(x[0:{reach}])
        T.writes(y[0:{unit}])
        {body}
"""


def weave(dot: Dot, step: int) -> str:
    """The tensor intrinsic that puts side by side inputs that lie `step` apart, `group` for each of `lanes`."""
    kind, lanes, group = dot.inputs, dot.lanes, dot.group
    name, unit = f"dnnc_weave_{kind}x{lanes}_{step}", lanes * group
    if TensorIntrin.get(name, allow_missing=True) is None:
        loops = f"""for i in T.serial({unit}):
            with T.sblock("woven"):
                at = T.axis.remap("S", [i])
                y[at] = x[at % {group} * {step} + at // {group}]"""
        rows = ", ".join(f'x.vload([{tap * step}], dtype="{kind}x{lanes}")' for tap in range(group))
        order = [at % group * lanes + at // group for at in range(unit)]
        shuffled = f"y[T.ramp(0, 1, {unit})] = T.Shuffle([{rows}], {order})"
        reach = (group - 1) * step + lanes
        plain, fast = (
            from_source(_WOVEN.format(reach=reach, unit=unit, kind=kind, body=body)) for body in (loops, shuffled)
        )
        TensorIntrin.register(name, plain, fast)
    return name
