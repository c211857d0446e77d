"""Lowering of linear layers to records of the weights that are not zero (records.py, kernels/generic/sparse.c)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc.backends.c.context import Context
from dnnc.backends.c.program import Array, Call, Operand, Step, Value
from dnnc.backends.c.structs import STRUCTS
from dnnc.backends.c.table import Layer, band_rows
from dnnc.ir.graph import Node
from dnnc.ops.common import quant_of
from dnnc.ops.tables import LARGEST_SPARSE_SHIFT, exact_halves
from dnnc.records import Records, pack_bitmap, pack_records


def sparse_layer(layer: Layer) -> Layer:
    """What the table is asked about instead of a dense or convolutional layer: a depthwise one has groups of one."""
    if layer.op == "depthwise":
        channels = layer.in_c
        layer = replace(layer, groups=channels, in_c=1, out_c=layer.out_c // channels)
    return replace(layer, bits=0, shift_only=False)


def lower_delta(context: Context, node: Node, layer: Layer) -> Step:
    """One call of the kernel for records, whatever widths the channels have. Raises Refusal where it cannot serve."""
    return _lower(context, node, replace(sparse_layer(layer), op="sparse"), pack_records(node.params["weight"]))


def lower_bitmap(context: Context, node: Node, layer: Layer) -> Step:
    """Likewise, of the kernel for bitmaps."""
    return _lower(context, node, replace(sparse_layer(layer), op="bitmap"), pack_bitmap(node.params["weight"]))


def _lower(context: Context, node: Node, layer: Layer, records: Records) -> Step:
    kernel = context.instance(layer)
    lo, hi = (int(v) for v in node.params["clamp"])
    numbers: dict[str, Value] = {
        "weights": Array("weights", "uint16_t", "weights", records.words),
        **tables_of(layer, node.params["bias"], node.params["multiplier"]),
        "bits": records.bits,
        "gap_bits": records.gap_bits,
        "rows": band_rows(layer),
        "out_zero": quant_of(node.type).zero_point,
        "lo": lo,
        "hi": hi,
    }
    members = {
        f.name: numbers[f.name] if f.name in numbers else getattr(layer, f.name) for f in STRUCTS["dnnc_sparse_t"]
    }
    call = Call(kernel, members, (Operand(node.inputs[0]), Operand(node.name)))
    return Step(node.name, (call,), kernel.kernel.scratch(layer))


def tables_of(layer: Layer, bias: NDArray[Any], multiplier: NDArray[Any]) -> dict[str, Value]:
    """Bias and multiplier of each channel: of 16 bits where that is exact."""
    small_bias, small_multiplier = (exact_halves(v, LARGEST_SPARSE_SHIFT) for v in (bias, multiplier))
    if small_bias is None or small_multiplier is None:
        wide = Array("tables", "int32_t", "tables", np.stack([bias, multiplier], axis=1))
        return {"tables": wide, "wide": 1, "bias_shift": 0, "multiplier_shift": 0}
    halves = np.stack([small_bias.codes, small_multiplier.codes], axis=1)
    shifts = {"bias_shift": small_bias.shift, "multiplier_shift": small_multiplier.shift}
    return {"tables": Array("tables", "int16_t", "tables", halves), "wide": 0, **shifts}
