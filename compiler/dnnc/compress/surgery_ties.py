"""Which channels are one: removing a channel of one value removes it from others. One rule an operation.

Every position of the last axis of every value has a slot. Rules join slots that can only go together, and pin those
that cannot go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dnnc.compress.surgery_held import mixes_channels
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
        edges = coo_array((np.ones(len(a)), (a, b)), shape=(self._count, self._count))
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
        slots = TIES[type(node.op)](ties, node, [ties.slots[value] for value in node.inputs], shapes)
        if not node.type.shape:
            ties.pin(slots)
        ties.slots[node.name] = slots
    for output in graph.outputs:
        ties.pin(ties.slots[output.value])
    return ties


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


def _unless_mixed(ties: Ties, node: Node, xs: Sequence[Slots], shapes: Sequence[Shape]) -> Slots:
    return (_pin_all if mixes_channels(node, shapes[0]) else _same)(ties, node, xs, shapes)


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


Rule = Callable[[Ties, Node, Sequence[Slots], Sequence[Shape]], Slots]
#: (ties, node, slots of its inputs, their shapes) -> slots of its output.
TIES: dict[type[Op], Rule] = {
    Conv2D: _conv,
    Dense: _fresh,
    Constant: _fresh,
    Add: _channelwise,
    Mul: _channelwise,
    Pointwise: _same,
    PRelu: _same,
    MaxPool2D: _same,
    AvgPool2D: _same,
    ReduceMean: _unless_mixed,
    Softmax: _pin_all,
    Reshape: _reshape,
    Transpose: _unless_mixed,
    Concat: _concat,
    Slice: _slice,
    Pad: _pad,
    Resize: _same,
}
