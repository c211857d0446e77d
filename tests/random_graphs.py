"""Small random networks over every operation, and a plain way to integers that does not go through dnnc.quantise.

`graphs()` is the hypothesis strategy (it shrinks), `random_graph(seed)` the same without hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, TypeVar

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from dnnc.errors import ModelError
from dnnc.evaluate import evaluate
from dnnc.fixed import INT32_MAX, weight_range
from dnnc.ir.graph import Graph, Input, Node, Output, make_node
from dnnc.ir.op import Op
from dnnc.ir.types import Layout, Quant, Shape, TensorType
from dnnc.ops.activation import NO_CLAMP, Clamp
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.elementwise import Add, Mul
from dnnc.ops.movement import Concat, Constant, Pad, Reshape, Resize, Slice, Transpose
from dnnc.ops.pointwise import FUNCTION_NAMES, Pointwise, PRelu
from dnnc.ops.pool import AvgPool2D, MaxPool2D, ReduceMean
from dnnc.ops.softmax import Softmax

Array = NDArray[Any]
T = TypeVar("T")
Pick = Callable[[Sequence[Any]], Any]

#: Values beyond this, or smaller nets than one finite number, are not worth quantising: the node is left out.
LARGEST = 1000.0
SAMPLES = 4
ATTEMPTS = 3
WIDENINGS = 100

CLAMPS = (NO_CLAMP, NO_CLAMP, Clamp(0.0, None), Clamp(0.0, 6.0), Clamp(-1.0, 1.0), Clamp(None, 0.5))
PARAMETERS = {
    "affine": (-1.5, 0.25),
    "clip": (-0.75, 1.25),
    "leaky_relu": (0.1, 0.0),
    "hard_sigmoid": (0.2, 0.5),
    "elu": (1.0, 0.0),
    "selu": (1.67326, 1.0507),
}


@dataclass(frozen=True)
class _Step:
    """One node to be: its operation, its input values, its float parameters."""

    op: Op
    inputs: tuple[str, ...]
    params: Mapping[str, Array]


class _Builder:
    """Grows a graph and, with it, the values of a few samples, so that a bad choice is noticed at once."""

    def __init__(self, pick: Pick, seed: int) -> None:
        self.pick, self.rng = pick, np.random.default_rng(seed)
        self.inputs: list[Input] = []
        self.nodes: list[Node] = []
        self.types: dict[str, TensorType] = {}
        self.values: dict[str, torch.Tensor] = {}
        self.fixed: set[str] = set()  # values whose quantisation Softmax prescribes

    def weights(self, *shape: int, spread: float = 1.0) -> Array:
        fan_in = max(prod(shape[1:]), 1)
        return (self.rng.standard_normal(shape) * spread / np.sqrt(fan_in)).astype(np.float32)

    def add_input(self, shape: Shape) -> None:
        name = f"in{len(self.inputs)}"
        layout = Layout((1, *shape), 0, tuple(range(len(shape))))
        self.inputs.append(Input(name, TensorType(shape), name, layout))
        self.types[name] = TensorType(shape)
        data = self.rng.standard_normal((SAMPLES, *shape)) * self.pick([1.0, 0.1, 4.0]) + self.pick([0.0, 0.5])
        self.values[name] = torch.tensor(data, dtype=torch.float32)

    def try_step(self, step: _Step) -> bool:
        """Append the node if it is well-formed and its values are worth having."""
        fixed = step.op.keeps_quant and any(v in self.fixed for v in step.inputs)
        if fixed and isinstance(step.op, (Concat, Pad)):
            return False
        name = f"n{len(self.nodes)}_{step.op.kind.lower()}"
        try:
            node = make_node(name, step.op, step.inputs, self.types, step.params)
        except ModelError:
            return False
        if node.type.size > 2000:
            return False
        params = {k: torch.tensor(np.asarray(v)) for k, v in node.params.items()}
        value = node.op.real([self.values[v] for v in node.inputs], params)
        if not node.inputs:
            value = value.expand(SAMPLES, *value.shape[1:])
        if not bool(torch.isfinite(value).all()) or float(value.abs().max()) > LARGEST:
            return False
        self.nodes.append(node)
        self.types[name], self.values[name] = node.type, value
        if fixed or isinstance(step.op, Softmax):
            self.fixed.add(name)
        return True

    def source(self) -> str:
        """A value with at least one axis, mostly a recent one."""
        names = [name for name, type_ in self.types.items() if type_.shape]
        return str(self.pick([*names, *names[-2:], *names[-1:] * 2]))

    # --- one method a family: a step over the value x of shape s, or None where it does not apply ---

    def conv(self, x: str, s: Shape) -> _Step | None:
        if len(s) != 3:
            return None
        kernel = (self.pick([1, 2, 3]), self.pick([1, 3, 2]))
        groups = self.pick([g for g in range(1, s[2] + 1) if s[2] % g == 0])
        if self.pick([False, False, True]):
            groups = s[2]
        multiplier = 1 if self.pick([True, False]) else self.pick([2, 3])
        outputs = groups * multiplier if groups > 1 else self.pick([1, 2, 3, 4, 5, 8])
        op = Conv2D(
            stride=(self.pick([1, 2]), self.pick([1, 2])),
            padding=tuple(self.pick([0, 1, 2]) for _ in range(4)),  # type: ignore[arg-type]
            dilation=(self.pick([1, 1, 2]), self.pick([1, 1, 2])),
            groups=groups,
            clamp=self.pick(CLAMPS),
        )
        weight = self.weights(outputs, *kernel, s[2] // groups)
        return _Step(op, (x,), {"weight": weight, "bias": self.weights(outputs, spread=0.3)})

    def dense(self, x: str, s: Shape) -> _Step | None:
        outputs = self.pick([1, 2, 5, 8, 10])
        params = {"weight": self.weights(outputs, s[-1]), "bias": self.weights(outputs, spread=0.3)}
        return _Step(Dense(clamp=self.pick(CLAMPS)), (x,), params)

    def arithmetic(self, x: str, s: Shape) -> _Step | None:
        others = [n for n, t in self.types.items() if _broadcasts(s, t.shape)]
        other = self.pick([*others, None])
        if other is None:  # a constant operand, or a mean over the image as in squeeze and excite
            shape = tuple(self.pick([1, n]) for n in s)[self.pick([0, max(len(s) - 1, 0)]) :]
            constant = self.weights(*shape) if shape else np.float32(self.rng.standard_normal())
            if not self.try_step(_Step(Constant(), (), {"value": constant})):
                return None
            other = self.nodes[-1].name
        clamp = self.pick(CLAMPS)
        op = self.pick([Add(clamp=clamp), Add(subtract=True, clamp=clamp), Mul(clamp=clamp)])
        return _Step(op, (x, other) if self.pick([True, False]) else (other, x), {})

    def pointwise(self, x: str, s: Shape) -> _Step | None:
        name = self.pick(FUNCTION_NAMES)
        alpha, beta = PARAMETERS.get(name, (0.0, 0.0))
        return _Step(Pointwise(name, alpha, beta), (x,), {})

    def prelu(self, x: str, s: Shape) -> _Step | None:
        return _Step(PRelu(), (x,), {"slope": self.weights(self.pick([1, s[-1]]), spread=0.3)})

    def pool(self, x: str, s: Shape) -> _Step | None:
        if len(s) != 3:
            return None
        kernel = (self.pick([1, 2, 3]), self.pick([1, 2, 3]))
        stride = (self.pick([1, 2, 3]), self.pick([1, 2, 3]))
        top, left = self.pick([0, kernel[0] - 1]), self.pick([0, kernel[1] - 1])
        bottom, right = self.pick([0, kernel[0] - 1]), self.pick([0, kernel[1] - 1])
        padding = (top, left, bottom, right)
        overhang = (self.pick([0, stride[0] - 1]), self.pick([0, stride[1] - 1]))
        average = AvgPool2D(kernel, stride, padding, overhang, self.pick([False, True]))
        try:
            average.infer((s,), {})
        except ModelError:
            return None
        counts = replace(average, count_padding=False).counts(s)
        if self.pick([True, False]):
            return _Step(average, (x,), {}) if counts.min() else None
        largest = MaxPool2D(kernel, stride, average.full_padding)
        return _Step(largest, (x,), {}) if counts.min() else None

    def dilated_max(self, x: str, s: Shape) -> _Step | None:
        return _Step(MaxPool2D((2, 2), (1, 1), (0, 0, 0, 0), (self.pick([1, 2]), 2)), (x,), {})

    def mean(self, x: str, s: Shape) -> _Step | None:
        axes = self.pick([tuple(range(len(s)))[: max(len(s) - 1, 1)], (len(s) - 1,), (0,)])
        return _Step(ReduceMean(axes, self.pick([True, False])), (x,), {})

    def softmax(self, x: str, s: Shape) -> _Step | None:
        return _Step(Softmax(), (x,), {})

    def reshape(self, x: str, s: Shape) -> _Step | None:
        shape = self.pick([(prod(s),), (1, *s), tuple(reversed(s)), (1, 1, prod(s))])
        return _Step(Reshape(shape), (x,), {}) if len(shape) <= 4 else None

    def transpose(self, x: str, s: Shape) -> _Step | None:
        axes = list(range(len(s)))
        rotated = axes[1:] + axes[:1]
        return _Step(Transpose(tuple(self.pick([axes[::-1], rotated, axes[-1:] + axes[:-1]]))), (x,), {})

    def concat(self, x: str, s: Shape) -> _Step | None:
        axis = self.pick(range(len(s)))
        fits = [
            n
            for n, t in self.types.items()
            if len(t.shape) == len(s) and all(i == axis or t.shape[i] == s[i] for i in range(len(s)))
        ]
        return _Step(Concat(axis), (x, *(self.pick(fits) for _ in range(self.pick([1, 2])))), {})

    def slice(self, x: str, s: Shape) -> _Step | None:
        start = tuple(self.pick([0, n // 2]) for n in s)
        stop = tuple(self.pick([n, a + 1]) for n, a in zip(s, start, strict=True))
        return _Step(Slice(start, stop, tuple(self.pick([1, 1, 2]) for _ in s)), (x,), {})

    def pad(self, x: str, s: Shape) -> _Step | None:
        before, after = (tuple(self.pick([0, 1]) for _ in s) for _ in range(2))
        return _Step(Pad(before, after, self.pick([0.0, 0.0, 0.5])), (x,), {})

    def resize(self, x: str, s: Shape) -> _Step | None:
        if len(s) != 3:
            return None
        rows = tuple(sorted(self.pick(range(s[0])) for _ in range(self.pick([1, 2, 5]))))
        columns = tuple(j // 2 for j in range(2 * s[1]))
        return _Step(Resize(rows, columns), (x,), {})


def _broadcasts(a: Shape, b: Shape) -> bool:
    return all(x == y or 1 in (x, y) for x, y in zip(reversed(a), reversed(b), strict=False))


FAMILIES = (
    "conv", "conv", "conv", "dense", "arithmetic", "arithmetic", "pointwise", "pointwise", "prelu", "pool", "pool",
    "dilated_max", "mean", "softmax", "reshape", "transpose", "concat", "slice", "pad", "resize",
)  # fmt: skip


def build(pick: Pick, seed: int, largest: int = 8) -> Graph:
    """A float graph of up to `largest` nodes; `pick` makes every structural choice, `seed` the numbers."""
    builder = _Builder(pick, seed)
    for _ in range(pick([1, 1, 1, 2])):
        image = (pick([4, 5, 8, 1]), pick([4, 7, 6]), pick([3, 1, 2, 4, 8]))
        builder.add_input(pick([image, image, (pick([6, 10, 16]),)]))
    for _ in range(pick(range(1, largest + 1))):
        for _ in range(ATTEMPTS):
            x = builder.source()
            step = getattr(builder, pick(FAMILIES))(x, builder.types[x].shape)
            if step is not None and builder.try_step(step):
                break
    made = [n.name for n in builder.nodes if n.inputs] or [i.name for i in builder.inputs]
    read = {value for node in builder.nodes for value in node.inputs}
    ends = [name for name in made if name not in read] or made[-1:]
    if pick([False, False, True]):
        ends.append(pick(made))
    layouts = {name: Layout((1, *t.shape), 0, tuple(range(len(t.shape)))) for name, t in builder.types.items()}
    outputs = tuple(Output(value, f"out{i}", layouts[value]) for i, value in enumerate(ends))
    return Graph(f"random{seed}", tuple(builder.inputs), tuple(builder.nodes), outputs).prune_dead().verify()


@st.composite
def graphs(draw: st.DrawFn, largest: int = 8) -> Graph:
    """Hypothesis strategy: float graphs that shrink to fewer and simpler nodes."""
    return build(lambda options: draw(st.sampled_from(list(options))), draw(st.integers(0, 999)), largest)


def random_graph(seed: int, largest: int = 8) -> Graph:
    """The same family of graphs from a seed alone."""
    rng = np.random.default_rng([seed, 1])
    return build(lambda options: options[int(rng.integers(len(options)))], seed, largest)


def random_data(graph: Graph, count: int = SAMPLES, seed: int = 0) -> dict[str, Array]:
    """Float inputs [count, *shape] by graph input name."""
    rng = np.random.default_rng([seed, 2])
    return {i.name: rng.standard_normal((count, *i.type.shape)).astype(np.float32) for i in graph.inputs}


def single(op: Op, shapes: Sequence[Shape], params: Mapping[str, Array] | None = None) -> Graph:
    """The graph of one operation, its inputs called x0, x1, ..., its node and output y."""

    def plain(shape: Shape) -> Layout:
        return Layout((1, *shape), 0, tuple(range(len(shape))))

    inputs = tuple(Input(f"x{i}", TensorType(shape), f"x{i}", plain(shape)) for i, shape in enumerate(shapes))
    node = make_node("y", op, [i.name for i in inputs], {i.name: i.type for i in inputs}, params)
    return Graph("single", inputs, (node,), (Output("y", "y", plain(node.type.shape)),)).verify()


# --- to integers ---------------------------------------------------------------------------------------------------


def quantise_weights(weight: Array, bits: Array) -> tuple[Array, Array]:
    """Codes and scales of weights [O, ...] by their largest absolute value, `bits` [O] each."""
    flat = np.asarray(weight, np.float64).reshape(len(weight), -1)
    codes, scales = np.zeros(flat.shape, np.int64), np.ones(len(flat))
    for o, width in enumerate(np.asarray(bits).tolist()):
        lo, hi = weight_range(width)
        largest = max(float(np.abs(flat[o]).max()), 1e-5)  # a channel of zeros still has a bias
        if width == 1:
            scales[o] = float(np.abs(flat[o]).mean()) or 1.0
            codes[o] = np.where(flat[o] >= 0, 1, -1)
        else:
            scales[o] = largest / hi
            codes[o] = np.clip(np.floor(flat[o] / scales[o] + 0.5), lo, hi)
    return codes.reshape(weight.shape), scales


def quantise_simply(
    graph: Graph,
    data: Mapping[str, Array],
    activation_bits: int = 8,
    weight_bits: int | Mapping[str, Sequence[int] | int] = 8,
) -> Graph:
    """The integer graph with the ranges seen on `data`; weight_bits: for all nodes, or by node (one or one a channel).

    Values tied by an operation that keeps its quantisation share a range; an output whose accumulator would not fit
    32 bits gets a coarser scale.
    """
    ranges: dict[str, tuple[float, float]] = {}

    def record(name: str, x: torch.Tensor) -> torch.Tensor:
        ranges[name] = (min(float(x.min()), 0.0), max(float(x.max()), 0.0))
        return x

    evaluate(graph, {k: torch.tensor(np.asarray(v, np.float32)) for k, v in data.items()}, hook=record)
    leader = _ties(graph)
    groups: dict[str, list[str]] = {}
    for name in graph.types:
        groups.setdefault(leader[name], []).append(name)
    fixed = {leader[n.name] for n in graph.nodes if isinstance(n.op, Softmax)}
    quants: dict[str, Quant] = {}
    for head, members in groups.items():
        if head in fixed:
            quants[head] = Softmax.output_quant(activation_bits)
        else:
            lo, hi = min(ranges[m][0] for m in members), max(ranges[m][1] for m in members)
            quants[head] = range_quant(lo, hi, activation_bits)
    for _ in range(WIDENINGS):
        types = {name: TensorType(t.shape, quants[leader[name]]) for name, t in graph.types.items()}
        nodes = []
        for node in graph.nodes:
            made = _quantise_node(node, types, weight_bits)
            if made is None:
                head = leader[node.name]
                wide = quants[head]
                quants[head] = replace(
                    wide, scale=2 * wide.scale, zero_point=(wide.zero_point - wide.lo) // 2 + wide.lo
                )
                break
            nodes.append(made)
        else:
            inputs = tuple(replace(i, type=types[i.name]) for i in graph.inputs)
            return replace(graph, inputs=inputs, nodes=tuple(nodes)).verify()
    raise AssertionError("no output scale makes the accumulators of this graph fit 32 bits")


def range_quant(lo: float, hi: float, bits: int) -> Quant:
    """The quantisation that covers lo..hi (zero included) with 2**bits codes; 16 bits are symmetric.

    (A product of two 16-bit codes fits 32 bits only without their zero points.)
    """
    if bits > 8:
        return Quant(bits, max(-lo, hi, 1e-5) / (2 ** (bits - 1) - 1), 0)
    scale = max((hi - lo) / (2**bits - 1), 1e-5)
    first = -(2 ** (bits - 1))
    return Quant(bits, scale, int(np.clip(np.floor(first - lo / scale + 0.5), first, -first - 1)))


def _ties(graph: Graph) -> dict[str, str]:
    """value -> the value that stands for its group."""
    leader = {name: name for name in graph.types}
    for node in graph.nodes:
        if node.op.keeps_quant:
            joined = {leader[v] for v in (*node.inputs, node.name)}
            first = min(joined, key=list(graph.types).index)
            leader = {name: first if head in joined else head for name, head in leader.items()}
    return leader


def _quantise_node(
    node: Node, types: Mapping[str, TensorType], weight_bits: int | Mapping[str, Sequence[int] | int]
) -> Node | None:
    """The integer node, or None where its arithmetic does not fit 32 bits."""
    ins, out = tuple(types[v] for v in node.inputs), types[node.name]
    params: dict[str, Array] = dict(node.params)
    if "weight" in params:
        outputs = len(params["weight"])
        width = weight_bits if isinstance(weight_bits, int) else weight_bits[node.name]
        bits = np.broadcast_to(np.asarray(width, np.uint8), (outputs,))
        codes, scales = quantise_weights(params["weight"], bits)
        params = {"bias": params["bias"], "weight": codes, "weight_scale": scales, "weight_bits": bits}
    try:
        made = Node(node.name, node.op, node.inputs, node.op.quantise(params, ins, out), out)
    except ValueError:  # Add: scales too far apart
        return None
    bounds = node.op.accumulator(made.params, ins)
    fits = bounds is None or (bounds[0].min() >= -INT32_MAX - 1 and bounds[1].max() <= INT32_MAX)
    return made if fits else None
