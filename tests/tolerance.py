"""How far an operation's integers may lie from its reals, derived from the scales and the roundings it makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc.ir.graph import Graph, Node
from dnnc.ir.types import Quant, TensorType
from dnnc.ops.common import quant_of
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.elementwise import Add
from dnnc.ops.movement import Constant, Pad
from dnnc.ops.pointwise import Pointwise, functions
from dnnc.ops.softmax import Softmax
from dnnc.ops.tables import LARGEST_ERROR, LARGEST_SPARSE_SHIFT, exact_halves

Array = NDArray[Any]


def real_params(node: Node, integer: Node) -> dict[str, torch.Tensor]:
    """Float64 parameters of `node`, with the weights that the integer node really has."""
    params = {name: np.asarray(value, np.float64) for name, value in node.params.items()}
    if "weight" in params:
        scale = integer.params["weight_scale"].reshape(-1, *(1,) * (params["weight"].ndim - 1))
        params["weight"] = integer.params["weight"] * scale
    return {name: torch.tensor(value) for name, value in params.items()}


def dequantise(codes: Array, quant: Quant) -> torch.Tensor:
    """Codes to float64."""
    return torch.tensor(quant.scale * (np.asarray(codes, np.float64) - quant.zero_point))


def steps(node: Node, ins: tuple[TensorType, ...]) -> float:
    """Largest |integer - real| of an integer node, in steps of its output scale, given exact inputs.

    The roundings: of the result (1/2), of the multiplier (1/2 in its last place, times the largest accumulator), of
    biases and multipliers to 16 bits, and what the operation rounds besides.
    """
    op, params, out = node.op, node.params, quant_of(node.type)
    if op.keeps_quant:
        return 0.5 if isinstance(op, Pad) and op.value else 0.0
    if isinstance(op, Constant):
        return 0.5
    if isinstance(op, Softmax):
        return 0.5 + 2**out.bits * (0.5 + 0.5 * ins[0].shape[-1]) / 65535
    if isinstance(op, Pointwise):
        return 0.5 if quant_of(ins[0]).bits <= 8 else 1.0 + _interpolation(op, quant_of(ins[0]), out)
    if isinstance(op, Add):
        reach = sum(2.0 ** quant_of(t).bits for t in ins)
        return 0.5 + 0.5 * reach / 2.0 ** int(params["shift"])
    bounds = op.accumulator(params, ins)
    assert bounds is not None
    # Bounds hold for the accumulator after its left shift, where the multiplier counts in units of 2**-32.
    largest = float(max(np.abs(bounds[0]).max(), np.abs(bounds[1]).max()))
    result = 0.5 + 0.5 * largest / 2.0**32
    if isinstance(op, (Conv2D, Dense)):
        result += 0.5 * float(np.max(params["weight_scale"])) * quant_of(ins[0]).scale / out.scale  # the bias
        if all(exact_halves(params[table], LARGEST_SPARSE_SHIFT) is not None for table in ("bias", "multiplier")):
            result += LARGEST_ERROR
    return result


def _interpolation(op: Pointwise, x: Quant, y: Quant) -> float:
    """How far 256 straight segments stray from the function, saturated as the output is, in steps."""
    segment = 2 ** (x.bits - 8)
    codes = np.arange(x.lo, x.hi + 2)
    reals = functions()[op.function](torch.tensor(x.scale * (codes - x.zero_point)), op.alpha, op.beta).numpy()
    exact = np.clip(reals, y.real_lo, y.real_hi)
    straight = np.interp(codes, codes[::segment], exact[::segment])
    return float(np.abs(exact - straight).max() / y.scale)


def check_node(node: Node, integer: Node, ins: tuple[TensorType, ...], xs: list[Array], codes: Array) -> None:
    """Assert that `codes`, the integer node's output for input codes `xs`, are as near to the real ones as promised."""
    out = quant_of(integer.type)
    assert codes.shape[1:] == integer.type.shape
    assert codes.min(initial=out.hi) >= out.lo and codes.max(initial=out.lo) <= out.hi
    reals = [dequantise(x, quant_of(t)) for x, t in zip(xs, ins, strict=True)]
    expected = node.op.real(reals, real_params(node, integer)).numpy()
    expected = np.clip(expected, out.real_lo, out.real_hi) / out.scale
    found = np.asarray(codes, np.float64) - out.zero_point
    error = float(np.abs(found - expected).max(initial=0))
    allowed = steps(integer, ins) + 1e-6 * (1 + float(np.abs(expected).max(initial=0)) / 1000)
    assert error <= allowed, f"{node.op}: {error:.6f} steps from the real value, at most {allowed:.6f} are allowed"


def check_graph(graph: Graph, integer: Graph, values: Mapping[str, Array]) -> None:
    """Every node of an integer graph against the float one, each from its own integer inputs."""
    for node, twin in zip(graph.nodes, integer.nodes, strict=True):
        check_node(node, twin, integer.input_types(twin), [values[v] for v in twin.inputs], values[twin.name])
