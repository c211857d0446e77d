"""What a cost model is told of a layer: its shape, the widths of its tensors, its zeros; of one inference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np

from dnnc.ir.graph import Graph, Node
from dnnc.ir.types import Shape, TensorType
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.lifetimes import lifetimes
from dnnc.ops.movement import Reshape
from dnnc.ops.pool import AvgPool2D, MaxPool2D, ReduceMean

#: Height, width, channels.
Image = tuple[int, int, int]

#: What layers a cost model tells apart; operations that are none of these are "move".
KINDS = (
    "conv", "depthwise", "dense", "add", "multiply", "max-pool", "average-pool", "table", "prelu", "softmax", "move",
    "constant",
)  # fmt: skip
_KIND_OF = MappingProxyType(
    {
        "Conv2D": "conv",
        "Dense": "dense",
        "Add": "add",
        "Mul": "multiply",
        "MaxPool2D": "max-pool",
        "AvgPool2D": "average-pool",
        "ReduceMean": "average-pool",
        "Pointwise": "table",
        "PRelu": "prelu",
        "Softmax": "softmax",
        "Constant": "constant",
    }
)


@dataclass(frozen=True)
class Gemm:
    """A matrix product [rows, depth] x [depth, columns]: output positions, products a sum, output channels."""

    rows: int
    depth: int
    columns: int


@dataclass(frozen=True)
class LayerWork:
    """One layer. kind: of KINDS; inputs, output: (height, width, channels), of a vector (1, 1, n).

    kernel, stride, dilation: (vertical, horizontal); padding: (top, left, bottom, right); of a dense layer all ones.
    channel_bits: (bits of a weight, output channels of that width), widest first; empty without weights. input_bits: of
    each input. nonzero: share of the weights that are not zero. live_bits: of all activations that exist while the
    layer runs, its inputs and output among them. implementation: the kernel chosen, where a program has been made.
    entropy_bits: of a weight, if the codes of each width were entropy-coded (order 0), at most its width.
    """

    name: str
    op: str
    kind: str
    inputs: tuple[Image, ...]
    output: Image
    input_bits: tuple[int, ...]
    output_bits: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    macs: int = 0
    weights: int = 0
    channel_bits: tuple[tuple[int, int], ...] = ()
    nonzero: float = 1.0
    live_bits: int = 0
    implementation: str | None = None
    entropy_bits: float = 0.0

    @property
    def linear(self) -> bool:
        """A layer with weights that are multiplied: conv, depthwise, dense."""
        return self.kind in ("conv", "depthwise", "dense")

    @property
    def weight_bits(self) -> int:
        """The widest weights; 0 without any."""
        return max((bits for bits, _ in self.channel_bits), default=0)

    @property
    def total_weight_bits(self) -> int:
        """Bits of all weights, packed without gaps."""
        channels = sum(count for _, count in self.channel_bits)
        return sum(bits * count for bits, count in self.channel_bits) * self.weights // max(channels, 1)

    @property
    def input_elements(self) -> int:
        return sum(prod(image) for image in self.inputs)

    @property
    def output_elements(self) -> int:
        return prod(self.output)

    @property
    def total_input_bits(self) -> int:
        return sum(prod(image) * bits for image, bits in zip(self.inputs, self.input_bits, strict=True))

    @property
    def total_output_bits(self) -> int:
        return self.output_elements * self.output_bits

    @property
    def activation_bits(self) -> int:
        """The widest input."""
        return max(self.input_bits, default=self.output_bits)

    @property
    def gemm(self) -> Gemm:
        """Of one group of a linear layer; a layer of several groups is as many of these."""
        height, width, channels = self.output
        depth = self.kernel[0] * self.kernel[1] * self.inputs[0][2] // self.groups
        return Gemm(height * width, depth, channels // self.groups)


def layers_of(
    graph: Graph,
    weight_bits: Mapping[str, Sequence[int]] | int | None = None,
    activation_bits: Mapping[str, int] | int | None = None,
    implementations: Mapping[str, str] | None = None,
) -> tuple[LayerWork, ...]:
    """The layers of a graph in its order, without those that only rename bytes (Reshape).

    weight_bits: node -> a width for each output channel, as in an Allocation, or one for all; activation_bits: value ->
    bits, or one for all. Without them an integer graph has its own, and a float graph 8. implementations: node ->
    kernel.
    """
    widths = _value_bits(graph, activation_bits)
    live = _live_bits(graph, widths)
    return tuple(
        _layer(graph, node, _weight_bits(node, weight_bits), widths, live[step], (implementations or {}).get(node.name))
        for step, node in enumerate(graph.nodes)
        if not isinstance(node.op, Reshape)
    )


def _layer(
    graph: Graph, node: Node, bits: Sequence[int], widths: Mapping[str, int], live: int, implementation: str | None
) -> LayerWork:
    work = graph.work(node)
    return LayerWork(
        name=node.name,
        op=node.op.kind,
        kind=_kind(node),
        inputs=tuple(_image(t.shape) for t in graph.input_types(node)),
        output=_image(node.type.shape),
        input_bits=tuple(widths[value] for value in node.inputs),
        output_bits=widths[node.name],
        macs=work.macs,
        weights=work.weights if len(bits) else 0,
        channel_bits=tuple(sorted(Counter(int(b) for b in bits).items(), reverse=True)),
        nonzero=_nonzero(node) if len(bits) else 1.0,
        live_bits=live,
        implementation=implementation,
        entropy_bits=_entropy_bits(node, bits) if len(bits) else 0.0,
        **_window(graph, node),
    )


def _kind(node: Node) -> str:
    if isinstance(node.op, Conv2D) and node.op.depthwise(node.params):
        return "depthwise"
    return _KIND_OF.get(node.op.kind, "move")


def _window(graph: Graph, node: Node) -> dict[str, Any]:
    op = node.op
    if isinstance(op, Conv2D):
        kernel = node.params["weight"].shape[1:3]
        return {
            "kernel": (int(kernel[0]), int(kernel[1])),
            "stride": op.stride,
            "dilation": op.dilation,
            "padding": op.padding,
            "groups": op.groups,
        }
    if isinstance(op, (MaxPool2D, AvgPool2D)):
        return {"kernel": op.kernel, "stride": op.stride, "padding": op.padding}
    if isinstance(op, ReduceMean):  # one window, of what is averaged
        (height, width, _), (rows, columns, _) = _image(graph.types[node.inputs[0]].shape), _image(node.type.shape)
        return {"kernel": (height // rows, width // columns), "stride": (height // rows, width // columns)}
    return {}


def _image(shape: Shape) -> Image:
    """Leading axes beyond height count as height; those that are missing are 1."""
    if not shape:
        return 1, 1, 1
    if len(shape) == 1:
        return 1, 1, shape[0]
    return prod(shape[:-2]), shape[-2], shape[-1]


def _weight_bits(node: Node, given: Mapping[str, Sequence[int]] | int | None) -> Sequence[int]:
    if not isinstance(node.op, (Conv2D, Dense)):
        return ()
    channels = len(node.params["weight"])
    if isinstance(given, int):
        return (given,) * channels
    if given is not None and node.name in given:
        return given[node.name]
    own = node.params.get("weight_bits")
    return (8,) * channels if own is None else tuple(int(b) for b in own)


def _value_bits(graph: Graph, given: Mapping[str, int] | int | None) -> dict[str, int]:
    def width(name: str, found: TensorType) -> int:
        if isinstance(given, int):
            return given
        if given is not None and name in given:
            return given[name]
        return 8 if found.quant is None else found.quant.bits

    return {name: width(name, found) for name, found in graph.types.items()}


def _live_bits(graph: Graph, widths: Mapping[str, int]) -> list[int]:
    """For each step the bits of the values that exist: made, or an input of the graph, and still to be read."""
    bits = [0] * (len(graph.nodes) + 1)
    for name, (first, last) in lifetimes(graph).items():
        # Inputs are there at the first step, read or not.
        for step in range(max(first, 0), min(max(last, 0), len(graph.nodes) - 1) + 1):
            bits[step] += graph.types[name].size * widths[name]
    return bits


def _entropy_bits(node: Node, bits: Sequence[int]) -> float:
    """Of the codes; those of a float layer are taken to be symmetric in the largest weight of their channel."""
    weight = node.params["weight"]
    rows = weight.reshape(len(weight), -1)
    if weight.dtype.kind == "f":
        reach = np.maximum(np.abs(rows).max(axis=1), np.finfo(np.float32).tiny)
        steps = (2.0 ** (np.asarray(bits, np.float64) - 1) - 0.5) / reach
        rows = np.rint(rows * steps[:, None].astype(rows.dtype))
    counts = np.bincount((rows.astype(np.int16) + 256).reshape(-1))
    shares = counts[counts > 0] / max(rows.size, 1)
    return min(float(-(shares * np.log2(shares)).sum()), float(max(bits)))


def _nonzero(node: Node) -> float:
    weight = node.params["weight"]
    return float(np.count_nonzero(weight)) / max(weight.size, 1)
