"""Tensor intrinsics: a product as loops, which is what a schedule finds in a kernel, and as the instruction for it.

TVM has the same in tvm.s_tir.tensor_intrin, but importing that parses those of every GPU, too: many seconds.
"""

# TVMScript is a language of its own in the syntax of Python: its annotations are values.
# mypy: ignore-errors

from __future__ import annotations

from tvm.s_tir import TensorIntrin
from tvm.script import from_source
from tvm.script import tirx as T

from dnnc.backends.tvm.dot import PMADDWD, SDOT, VNNI, Dot

_PRODUCT = """
@T.prim_func(s_tir=True)
def product(
    x: T.Buffer(({inputs},), "{kind}", offset_factor=1),
    w: T.Buffer(({lanes}, {group}), "int8", offset_factor=1),
    y: T.Buffer(({lanes},), "int32", offset_factor=1),
) -> None:
    with T.sblock("root"):
        T.reads(y[0:{lanes}], x[0:{inputs}], w[0:{lanes}, 0:{group}])
        T.writes(y[0:{lanes}])
        {body}
"""
_LOOPS = """for i, k in T.grid({lanes}, {group}):
            with T.sblock("sum"):
                lane, step = T.axis.remap("SR", [i, k])
                y[lane] = y[lane] + T.cast(x[{at}], "int32") * T.cast(w[lane, step], "int32")"""
#: The sums y after the products of x and w, vectors of as many bytes. VPMADDWD adds none by itself, and takes weights
#: of 16 bits: two products of 16 and 8 bits always fit 32, so that it never saturates, unlike VPMADDUBSW.
_CALL = 'T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id("llvm.%s"), %s, {of})'
_VPDPBUSD = _CALL % ("x86.avx512.vpdpbusd.512", "{y}, {x}, {w}")
_SDOT = _CALL % ("aarch64.neon.sdot", "{y}, {x}, {w}")
_PMADDWD = "{y} + " + _CALL % ("x86.avx2.pmadd.wd", '{x}, T.cast({w}, "{wide}")')


def _register_product(dot: Dot, instruction: str) -> None:
    """The intrinsics of a product: of inputs that all sums share, and of inputs (taps) of each sum's own."""
    kind, lanes, group = dot.inputs, dot.lanes, dot.group
    unit = lanes * group
    own = f'x.vload([0], dtype="{kind}x{unit}")'
    one = f'T.reinterpret(x.vload([0], "{kind}x{group}"), dtype="int32")'
    shared = f'T.reinterpret(T.broadcast({one}, {lanes}), dtype="{kind}x{unit}")'
    for name, inputs, at, x in (
        (dot.intrinsic, group, "step", shared),
        (dot.taps, unit, f"lane * {group} + step", own),
    ):
        sums = instruction.format(
            x=x,
            w=f'w.vload([0, 0], dtype="int8x{unit}")',
            y=f'y.vload([0], dtype="int32x{lanes}")',
            of=f'dtype="int32x{lanes}"',
            wide=f"{kind}x{unit}",
        )
        loops = _LOOPS.format(lanes=lanes, group=group, at=at)
        plain, fast = (
            from_source(_PRODUCT.format(inputs=inputs, kind=kind, lanes=lanes, group=group, body=body))
            for body in (loops, f"y[T.ramp(T.int32(0), 1, {lanes})] = {sums}")
        )
        TensorIntrin.register(name, plain, fast)


_register_product(VNNI, _VPDPBUSD)
_register_product(SDOT, _SDOT)
_register_product(PMADDWD, _PMADDWD)


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
