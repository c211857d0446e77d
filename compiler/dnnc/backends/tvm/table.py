"""THE table of lowerings: which operation becomes which tensor expression. An op gets its row here, and only here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dnnc.backends.tvm import simple
from dnnc.backends.tvm.call import Call
from dnnc.backends.tvm.depthwise import lower_linear
from dnnc.backends.tvm.dot import Dot
from dnnc.errors import Unsupported, UnsupportedError
from dnnc.ir.graph import Graph
from dnnc.ir.op import Op
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.elementwise import Add, Mul
from dnnc.ops.movement import Concat, Constant, Pad, Reshape, Resize, Slice, Transpose
from dnnc.ops.pointwise import Pointwise, PRelu
from dnnc.ops.pool import AvgPool2D, MaxPool2D, ReduceMean
from dnnc.ops.softmax import Softmax

#: From a call, and the product that the machine is good at, to the node's output.
Lowering = Callable[[Call, Dot], Any]


def _plain(lowering: Callable[[Call], Any]) -> Lowering:
    return lambda call, dot: lowering(call)


LOWERINGS: Mapping[type[Op], Lowering] = {
    Conv2D: lower_linear,
    Dense: lower_linear,
    Add: _plain(simple.add),
    Mul: _plain(simple.mul),
    Pointwise: _plain(simple.pointwise),
    PRelu: _plain(simple.prelu),
    Softmax: _plain(simple.softmax),
    MaxPool2D: _plain(simple.max_pool),
    AvgPool2D: _plain(simple.avg_pool),
    ReduceMean: _plain(simple.mean),
    Transpose: _plain(simple.transpose),
    Concat: _plain(simple.concat),
    Slice: _plain(simple.cut),
    Pad: _plain(simple.pad),
    Resize: _plain(simple.resize),
    Reshape: _plain(simple.reshape),
}
#: Never computed: values known when the network is compiled.
FOLDED: tuple[type[Op], ...] = (Constant,)


def check(graph: Graph, lowerings: Mapping[type[Op], Lowering] = LOWERINGS) -> None:
    """Raise UnsupportedError naming every node without a lowering; asked before anything is built."""
    lacking = [
        Unsupported(node.name, node.op.kind, f"the TVM back end has no lowering of {node.op.kind}")
        for node in graph.nodes
        if type(node.op) not in lowerings and type(node.op) not in FOLDED
    ]
    if lacking:
        raise UnsupportedError(lacking, f"the TVM module of '{graph.name}'")
