"""What a call of a kernel does, counted: the table of kernels and their loops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from dnnc.cost.kernels import portable, simple, smlad, smlad_depthwise, wrapped
from dnnc.cost.kernels.call import KernelCall, Symbol, symbol_of
from dnnc.cost.kernels.counts import Counter, Key
from dnnc.errors import DnncError

Loops = Callable[[Counter, Symbol, Mapping[str, Any]], None]

_PORTABLE: Mapping[str, Loops] = MappingProxyType(
    {
        "conv": portable.conv, "depthwise": portable.depthwise, "dense": portable.dense, "sparse": portable.sparse,
        "bitmap": portable.sparse, "straight": portable.straight,
        "add": simple.binary, "mul": simple.binary, "pointwise": simple.pointwise,
        "prelu": simple.prelu, "maxpool": simple.pool, "avgpool": simple.pool, "mean": simple.mean,
        "softmax": simple.softmax, "copy": simple.copy, "fill": simple.fill, "resize": simple.resize,
    }
)  # fmt: skip
_OF_FAMILY: Mapping[tuple[str, str], Loops] = MappingProxyType(
    {
        ("armv7em", "conv"): smlad.conv,
        ("armv7em", "dense"): smlad.dense,
        ("armv7em", "depthwise"): smlad_depthwise.depthwise,
    }
)


def counts(call: KernelCall) -> dict[Key, float]:
    """(piece of code, thing done) -> how often. Raises DnncError for a kernel that is not in the table."""
    counter = Counter()
    _count(counter, call.kernel, call.numbers, call.inner)
    return counter.found


def _count(counter: Counter, name: str, numbers: Mapping[str, Any], inner: str | None) -> None:
    symbol = symbol_of(name)
    if inner is not None:
        for part, times in wrapped.parts(counter, symbol, numbers):
            counter.times *= times
            _count(counter, inner, part, None)
            counter.times /= times
        return
    loops = _OF_FAMILY.get((symbol.family, symbol.op)) or _PORTABLE.get(symbol.op)
    if loops is None:
        raise DnncError(f"nothing is known of what the kernel '{name}' takes; known operations: {', '.join(_PORTABLE)}")
    loops(counter, symbol, numbers)
