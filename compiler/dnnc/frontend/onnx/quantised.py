"""QuantizeLinear and DequantizeLinear: a pair prescribes a tensor's scale and zero point, and vanishes."""

from __future__ import annotations

from math import isfinite

import numpy as np

from dnnc.errors import ModelError
from dnnc.frontend.onnx.context import Codes, Context
from dnnc.frontend.onnx.source import Array, Const, NotSupported, SourceNode
from dnnc.ir.types import Quant

#: type of the codes -> (bits, what is added to make them signed)
CODES: dict[str, tuple[int, int]] = {
    "int8": (8, 0), "uint8": (8, -128), "int16": (16, 0), "uint16": (16, -32768), "int4": (4, 0), "uint4": (4, -8),
}  # fmt: skip

#: ONNX element types that QuantizeLinear's output_dtype may name.
OUTPUT_TYPES = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 21: "uint4", 22: "int4"}


def _quant(context: Context, node: SourceNode) -> Quant:
    """The quantisation that a node's scale and zero point mean."""
    scales = context.need_const(node.input(1), "scale")
    zeros = context.need_const(node.input(2), "zero point") if node.input(2) else None
    if scales.size != 1 or (zeros is not None and zeros.size != 1):
        raise NotSupported("a computed tensor with a scale per axis; only one scale a tensor is supported")
    kind = OUTPUT_TYPES.get(node.attribute("output_dtype", 2), "") if zeros is None else zeros.dtype.name
    if kind not in CODES:
        raise NotSupported(f"codes of type {kind or node.attribute('output_dtype', 0)}; known: {', '.join(CODES)}")
    bits, offset = CODES[kind]
    scale = float(scales.reshape(-1)[0])
    _check_scale(scales)
    return Quant(bits, scale, (0 if zeros is None else int(zeros.reshape(-1)[0])) + offset)


def _check_scale(scales: Array) -> None:
    worst = float(scales.reshape(-1).min()) if scales.size else 0.0
    if not (worst > 0 and isfinite(float(scales.astype(np.float64).sum()))):
        raise ModelError(f"its scale {worst} is not a positive number")


def quantize(context: Context, node: SourceNode) -> None:
    view = context.view(node.input(0))
    context.set(node.outputs[0], Codes(view, _quant(context, node)))


def dequantize(context: Context, node: SourceNode) -> None:
    """Codes back to reals: of a computed tensor, or of stored weights and biases."""
    found = context.tensors.get(node.input(0))
    if isinstance(found, Const):
        context.set(node.outputs[0], _dequantized(context, node, found.array))
        return
    if not isinstance(found, Codes):
        raise NotSupported("it reads an integer tensor that no QuantizeLinear makes")
    quant = _quant(context, node)
    if quant != found.quant:
        raise NotSupported(f"its quantisation ({quant}) differs from its QuantizeLinear's ({found.quant})")
    context.set(node.outputs[0], context.set_quant(found.view, quant))


def _dequantized(context: Context, node: SourceNode, codes: Array) -> Const:
    """scale * (codes - zero point), with the scale kept where the shifted codes fit 8 bits."""
    scales = context.need_const(node.input(1), "scale").astype(np.float64)
    zeros = context.need_const(node.input(2), "zero point") if node.input(2) else np.zeros(())
    _check_scale(scales)
    axis = node.attribute("axis", 1)
    block = node.attribute("block_size", 0)
    if codes.dtype.kind not in "iu" and codes.dtype.name not in CODES:
        raise NotSupported(f"codes of type {codes.dtype}")
    if scales.size == 1:
        scales, zeros = scales.reshape(()), zeros.reshape(-1)[:1].reshape(())
        laid_scale, laid_zero = scales, zeros
    else:
        if not -codes.ndim <= axis < codes.ndim:
            raise ModelError(f"axis {axis} of codes of shape {codes.shape}")
        axis %= codes.ndim
        if block:
            laid_scale, laid_zero = (_blocks(a, axis, block, codes.shape) for a in (scales, zeros))
        else:
            if scales.shape != (codes.shape[axis],) or zeros.shape not in ((), scales.shape):
                raise ModelError(f"{scales.size} scales for axis {axis} of codes of shape {codes.shape}")
            shape = [1] * codes.ndim
            shape[axis] = -1
            laid_scale, laid_zero = scales.reshape(shape), zeros.reshape(shape if zeros.ndim else ())
    shifted = codes.astype(np.int64) - laid_zero.astype(np.int64)
    keeps = not block and shifted.size > 0 and shifted.min() >= -128 and shifted.max() <= 127
    return Const((shifted * laid_scale).astype(np.float32), scales if keeps else None, axis)


def _blocks(array: Array, axis: int, block: int, shape: tuple[int, ...]) -> Array:
    """Scales of blocks along an axis, one for each code."""
    if not array.ndim:
        return array
    repeated = np.repeat(array, min(block, shape[axis]), axis=axis)[(slice(None),) * axis + (slice(shape[axis]),)]
    if repeated.shape != shape:
        raise ModelError(f"scales of shape {array.shape} in blocks of {block} for codes of shape {shape}")
    return repeated
