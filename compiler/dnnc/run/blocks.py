"""Codes as they lie in NAME_input_t and NAME_output_t: member after member, each padded to four bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc.errors import DataError
from dnnc.ir.graph import Graph
from dnnc.ir.types import TensorType
from dnnc.run.base import Array


def padded_bytes(kind: TensorType) -> int:
    """Bytes of one member."""
    return -(-kind.nbytes // 4) * 4


def input_bytes(graph: Graph) -> int:
    """sizeof(NAME_input_t)."""
    return sum(padded_bytes(i.type) for i in graph.inputs)


def output_bytes(graph: Graph) -> int:
    """sizeof(NAME_output_t)."""
    return sum(padded_bytes(graph.types[o.value]) for o in graph.outputs)


def pack_inputs(graph: Graph, inputs: Mapping[str, Array]) -> NDArray[np.uint8]:
    """Codes [N, *shape] by graph input name -> blocks uint8 [N, input_bytes]. DataError where they do not fit."""
    parts = [_to_bytes(i.type, _checked(i.name, i.type, inputs)) for i in graph.inputs]
    counts = {len(p) for p in parts}
    if len(counts) != 1:
        raise DataError(f"the inputs hold different numbers of samples: {sorted(counts)}")
    return np.concatenate(parts, axis=1)


def unpack_outputs(graph: Graph, blocks: NDArray[np.uint8]) -> dict[str, Array]:
    """Blocks uint8 [N, output_bytes] -> codes int32 [N, *shape] by model name."""
    values: dict[str, Array] = {}
    offset = 0
    for output in graph.outputs:
        kind = graph.types[output.value]
        values[output.model_name] = unpack_value(kind, blocks[:, offset : offset + kind.nbytes])
        offset += padded_bytes(kind)
    return values


def unpack_value(kind: TensorType, data: NDArray[np.uint8]) -> Array:
    """Bytes uint8 [N, nbytes] of one value -> codes int32 [N, *shape]."""
    if kind.packed:
        return _unpack_nibbles(kind, data)
    storage = np.dtype(_quant(kind).dtype).newbyteorder("<")
    codes: Array = np.ascontiguousarray(data).view(storage).reshape(len(data), *kind.shape)
    return codes.astype(np.int32)


def _unpack_nibbles(kind: TensorType, data: NDArray[np.uint8]) -> Array:
    words = data.reshape(len(data), -1, 4)
    nibbles = np.concatenate([words & 15, words >> 4], axis=2).astype(np.int32)
    signed = np.where(nibbles < 8, nibbles, nibbles - 16)
    return signed.reshape(len(data), -1)[:, : kind.size].reshape(len(data), *kind.shape)


def _checked(name: str, kind: TensorType, inputs: Mapping[str, Array]) -> Array:
    if name not in inputs:
        raise DataError(f"input '{name}' is missing; given: {', '.join(inputs) or 'none'}")
    codes = np.asarray(inputs[name])
    if codes.shape[1:] != kind.shape:
        raise DataError(f"input '{name}' must have the shape [N, {', '.join(map(str, kind.shape))}], not {codes.shape}")
    quant = _quant(kind)
    if codes.size and (codes.min() < quant.lo or codes.max() > quant.hi):
        raise DataError(
            f"input '{name}' holds codes from {codes.min()} to {codes.max()}, outside {quant.lo}..{quant.hi}"
        )
    return codes


def _to_bytes(kind: TensorType, codes: Array) -> NDArray[np.uint8]:
    storage = np.dtype(_quant(kind).dtype).newbyteorder("<")
    flat = np.ascontiguousarray(codes.reshape(len(codes), -1).astype(storage)).view(np.uint8)
    flat = flat.reshape(len(codes), kind.nbytes)
    padded: NDArray[np.uint8] = np.pad(flat, ((0, 0), (0, padded_bytes(kind) - kind.nbytes)))
    return padded


def _quant(kind: TensorType) -> Any:
    if kind.quant is None:
        raise TypeError("only integer graphs are executed as C")
    return kind.quant
