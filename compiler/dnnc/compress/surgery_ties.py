"""Which channels are one: removing a channel of one value removes it from others. One rule an operation.

Every position of the last axis of every value has a slot. Rules join slots that can only go together, and pin those
that cannot go. `carried` says what a channel holds once the layers that make it are zeroed: mostly 0, but sigmoid(0) is
0.5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dnnc.ir.channels import channel_count
from dnnc.ir.graph import Graph, Node
from dnnc.ir.op import Op
from dnnc.ir.types import Shape
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.elementwise import Add, Mul
from dnnc.ops.movement import Concat, Constant, Pad, Reshape, Resize, Slice, Transpose
from dnnc.ops.pointwise import Pointwise, PRelu
from dnnc.ops.pool import AvgPool2D, MaxPool2D, ReduceMean
from dnnc.ops.softmax import Softmax

Slots = NDArray[np.int64]
Reals = NDArray[np.float64]

#: The slot of all that cannot be removed.
PINNED = 0


@dataclass
class Ties:
    """Slots of values, and which are joined, while a graph is walked."""

    slots: dict[str, Slots] = field(default_factory=dict)
    followers: set[str] = field(default_factory=set)
    _count: int = 1
    _pairs: list[tuple[Slots, Slots]] = field(default_factory=list)

    def fresh(self, count: int) -> Slots:
        """Slots that are joined to nothing yet."""
        self._count += count
        return np.arange(self._count - count, self._count, dtype=np.int64)

    def join(self, a: Slots, b: Slots) -> None:
        self._pairs.append((a.ravel(), b.ravel()))

    def pin(self, slots: Slots) -> None:
        self.join(slots, np.full_like(slots, PINNED))

    def labels(self) -> Slots:
        """Of every slot, the number of its class."""
        a, b = (
            np.concatenate([np.zeros(0, np.int64), *side]) for side in ([p[i] for p in self._pairs] for i in (0, 1))
        )
        edges = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(self._count, self._count))
        return np.asarray(connected_components(edges, directed=False)[1], np.int64)

    def pinned(self, slots: Slots) -> bool:
        """Whether any of the slots is known to be pinned by now."""
        labels = self.labels()
        return bool(np.any(labels[slots] == labels[PINNED]))


def tie(graph: Graph) -> Ties:
    """The slots of every value, joined and pinned as the operations, inputs and outputs of the graph demand."""
    ties = Ties()
    for source in graph.inputs:
        ties.slots[source.name] = np.full(channel_count(source.type.shape), PINNED)
    for node in graph.nodes:
        shapes = [t.shape for t in graph.input_types(node)]
        slots = RULES[type(node.op)].tie(ties, node, [ties.slots[value] for value in node.inputs], shapes)
        if not node.type.shape:
            ties.pin(slots)
        ties.slots[node.name] = slots
    for output in graph.outputs:
        ties.pin(ties.slots[output.value])
    return ties


def carried(
    graph: Graph, made: Callable[[Node], Reals], movable: Mapping[str, NDArray[np.bool_]] | None = None
) -> dict[str, Reals]:
    """Of every value, what each channel holds wherever it stands; NaN where it varies.

    made: of a Conv2D, Dense or Constant node, what its channels hold. movable: by value, False where nothing is known.
    """
    found: dict[str, Reals] = {i.name: np.full(channel_count(i.type.shape), np.nan) for i in graph.inputs}
    for node in graph.nodes:
        shapes = [t.shape for t in graph.input_types(node)]
        rule = RULES[type(node.op)].held
        value = made(node) if rule is None else rule(node, [found[name] for name in node.inputs], shapes)
        value = np.broadcast_to(value, channel_count(node.type.shape))
        found[node.name] = value if movable is None else np.where(movable[node.name], value, np.nan)
    return found


def zeroed(node: Node) -> Reals:
    """What the channels of a Conv2D, Dense or Constant node hold whose weights and biases are 0."""
    value = np.zeros(channel_count(node.type.shape))
    return clamped(node.op, value) if isinstance(node.op, Conv2D | Dense) else value


def clamped(op: Conv2D | Dense | Add | Mul, value: Reals) -> Reals:
    """NaN stays NaN."""
    return np.asarray(op.clamp.real(torch.from_numpy(value)), np.float64)


# --- which slots an operation joins --------------------------------------------------------------------------------


def _pin_all(ties: Ties, node: Node, xs: Sequence[Slots], shapes: Sequence[Shape]) -> Slots:
    for x in xs:
        ties.pin(x)
    return np.full(channel_count(node.type.shape), PINNED)


def _same(ties: Ties, node: Node, xs: Sequence[Slots], shapes: Sequence[Shape]) -> Slots:
    return xs[0]


def _fresh(ties: Ties, node: Node, xs: Sequence[Slots], shapes: Sequence[Shape]) -> Slots:
    return ties.fresh(channel_count(node.type.shape))


def _conv(ties: Ties, node: Node, xs: Sequence[Slots], shapes: Sequence[Shape]) -> Slots:
    """Groups stay equal in size: either whole ones go, as in depthwise layers, or the same channels of each."""
    assert isinstance(node.op, Conv2D)
    groups, outputs = node.op.groups, len(node.params["weight"])
    if groups == 1:
        return ties.fresh(outputs)
    x = xs[0].reshape(groups, -1)
    rows = outputs // groups
    if groups >= min(x.shape[1], rows) and not (rows > 1 and ties.pinned(x)):
        ties.followers.add(node.name)
        ties.join(x[:, :-1], x[:, 1:])
        return np.repeat(x[:, 0], rows)
    ties.join(x[:-1], x[1:])
    return np.tile(ties.fresh(rows), groups)


def _channelwise(ties: Ties, node: Node, xs: Sequence[Slots], shapes: Sequence[Shape]) -> Slots:
    """A single channel that serves many stays."""
    count = channel_count(node.type.shape)
    wide = [x for x in xs if len(x) == count]
    for x in xs:
        if len(x) != count:
            ties.pin(x)
    for x in wide[1:]:
        ties.join(wide[0], x)
    return wide[0]


def _mixes(node: Node, shape: Shape) -> bool:
    """Whether the channels of a mean or a Transpose are not those of its input."""
    if isinstance(node.op, ReduceMean):
        return len(shape) - 1 in node.op.axes
    assert isinstance(node.op, Transpose)
    return bool(node.op.perm) and node.op.perm[-1] != len(node.op.perm) - 1


def _unless_mixed(ties: Ties, node: Node, xs: Sequence[Slots], shapes: Sequence[Shape]) -> Slots:
    return (_pin_all if _mixes(node, shapes[0]) else _same)(ties, node, xs, shapes)


def _reshape(ties: Ties, node: Node, xs: Sequence[Slots], shapes: Sequence[Shape]) -> Slots:
    """Element n is in channel n % C before and n % D after."""
    before, after = len(xs[0]), channel_count(node.type.shape)
    if after % before == 0:
        return np.tile(xs[0], after // before)
    if before % after:
        return _pin_all(ties, node, xs, shapes)
    rows: Slots = xs[0].reshape(-1, after)
    ties.join(rows[:-1], rows[1:])
    first: Slots = rows[0]
    return first


def _concat(ties: Ties, node: Node, xs: Sequence[Slots], shapes: Sequence[Shape]) -> Slots:
    assert isinstance(node.op, Concat)
    if node.op.axis == len(node.type.shape) - 1:
        return np.concatenate(xs)
    return _channelwise(ties, node, xs, shapes)


def _slice(ties: Ties, node: Node, xs: Sequence[Slots], shapes: Sequence[Shape]) -> Slots:
    assert isinstance(node.op, Slice)
    if not node.op.start:
        return xs[0]
    taken: Slots = xs[0][node.op.index[-1]]
    if node.op.step[-1] != 1:
        ties.pin(xs[0])
    return taken


def _pad(ties: Ties, node: Node, xs: Sequence[Slots], shapes: Sequence[Shape]) -> Slots:
    """Channels of zeros can go."""
    assert isinstance(node.op, Pad)
    if not node.op.before:
        return xs[0]
    ends = [ties.fresh(node.op.before[-1]), ties.fresh(node.op.after[-1])]
    if node.op.value != 0:
        for end in ends:
            ties.pin(end)
    return np.concatenate([ends[0], xs[0], ends[1]])


# --- what a masked channel holds ------------------------------------------------------------------------------------


def _nothing(node: Node, xs: Sequence[Reals], shapes: Sequence[Shape]) -> Reals:
    return np.full(channel_count(node.type.shape), np.nan)


def _first(node: Node, xs: Sequence[Reals], shapes: Sequence[Shape]) -> Reals:
    return xs[0]


def _first_unless_mixed(node: Node, xs: Sequence[Reals], shapes: Sequence[Shape]) -> Reals:
    return (_nothing if _mixes(node, shapes[0]) else _first)(node, xs, shapes)


def _sum(node: Node, xs: Sequence[Reals], shapes: Sequence[Shape]) -> Reals:
    assert isinstance(node.op, Add)
    return clamped(node.op, xs[0] - xs[1] if node.op.subtract else xs[0] + xs[1])


def _product(node: Node, xs: Sequence[Reals], shapes: Sequence[Shape]) -> Reals:
    assert isinstance(node.op, Mul)
    return clamped(node.op, np.where((xs[0] == 0) | (xs[1] == 0), 0.0, xs[0] * xs[1]))


def _function(node: Node, xs: Sequence[Reals], shapes: Sequence[Shape]) -> Reals:
    params = {k: torch.as_tensor(np.array(v, np.float64)) for k, v in node.params.items()}
    result = node.op.real([torch.from_numpy(np.array(xs[0]))[None]], params)
    return np.asarray(result[0], np.float64)


def _average(node: Node, xs: Sequence[Reals], shapes: Sequence[Shape]) -> Reals:
    """Windows that hang over the border hold less of a channel that is not 0."""
    assert isinstance(node.op, AvgPool2D)
    inside = replace(node.op, count_padding=False).counts(shapes[0])
    whole = inside.min() > 0 and np.array_equal(inside, node.op.counts(shapes[0]))
    return xs[0] if whole else np.where(xs[0] == 0, 0.0, np.nan)


def _tiled(node: Node, xs: Sequence[Reals], shapes: Sequence[Shape]) -> Reals:
    before, after = len(xs[0]), channel_count(node.type.shape)
    if after % before == 0:
        return np.tile(xs[0], after // before)
    return _agreed(list(xs[0].reshape(-1, after))) if before % after == 0 else np.full(after, np.nan)


def _agreed(parts: Sequence[Reals]) -> Reals:
    """What all parts hold, NaN where they differ."""
    same = np.all([part == parts[0] for part in parts], axis=0)
    return np.where(same, parts[0], np.nan)


def _joined(node: Node, xs: Sequence[Reals], shapes: Sequence[Shape]) -> Reals:
    assert isinstance(node.op, Concat)
    return np.concatenate(xs) if node.op.axis == len(node.type.shape) - 1 else _agreed(xs)


def _sliced(node: Node, xs: Sequence[Reals], shapes: Sequence[Shape]) -> Reals:
    assert isinstance(node.op, Slice)
    return xs[0][node.op.index[-1]] if node.op.start else xs[0]


def _padded(node: Node, xs: Sequence[Reals], shapes: Sequence[Shape]) -> Reals:
    op = node.op
    assert isinstance(op, Pad)
    if not op.before:
        return xs[0]
    around = any((*op.before[:-1], *op.after[:-1]))
    inner = np.where(xs[0] == op.value, xs[0], np.nan) if around else xs[0]
    return np.pad(inner, (op.before[-1], op.after[-1]), constant_values=op.value)


@dataclass(frozen=True)
class Rule:
    """tie(ties, node, slots of its inputs, their shapes) -> slots of its output; held likewise, of what they hold:
    None where that is the node's own affair."""

    tie: Callable[[Ties, Node, Sequence[Slots], Sequence[Shape]], Slots]
    held: Callable[[Node, Sequence[Reals], Sequence[Shape]], Reals] | None


RULES: dict[type[Op], Rule] = {
    Conv2D: Rule(_conv, None),
    Dense: Rule(_fresh, None),
    Add: Rule(_channelwise, _sum),
    Mul: Rule(_channelwise, _product),
    Pointwise: Rule(_same, _function),
    PRelu: Rule(_same, _function),
    MaxPool2D: Rule(_same, _first),
    AvgPool2D: Rule(_same, _average),
    ReduceMean: Rule(_unless_mixed, _first_unless_mixed),
    Softmax: Rule(_pin_all, _nothing),
    Reshape: Rule(_reshape, _tiled),
    Transpose: Rule(_unless_mixed, _first_unless_mixed),
    Concat: Rule(_concat, _joined),
    Slice: Rule(_slice, _sliced),
    Pad: Rule(_pad, _padded),
    Resize: Rule(_same, _first),
    Constant: Rule(_fresh, None),
}
