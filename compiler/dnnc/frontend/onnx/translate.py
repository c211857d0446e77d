"""Node by node from a checked ONNX model to a float graph, everything unsupported collected on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dnnc.errors import ModelError, Unsupported, UnsupportedError
from dnnc.frontend.names import clean
from dnnc.frontend.onnx.context import Blocked, Codes, Context, Unknown, place_units
from dnnc.frontend.onnx.fold import fold, infer_shapes
from dnnc.frontend.onnx.source import Const, NotSupported, SourceModel, SourceNode
from dnnc.frontend.onnx.table import DOMAINS, HANDLERS, ORDINARY
from dnnc.frontend.onnx.view import View
from dnnc.ir.graph import Graph, Input, Output
from dnnc.ir.types import Layout, Shape
from dnnc.ops.movement import Transpose
from dnnc.ops.pointwise import Pointwise

Orders = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Translation:
    """A translated graph and what would have been a better memory order of its inputs (by model name)."""

    graph: Graph
    hints: Orders

    @property
    def moved(self) -> int:
        """Elements that pass through a Transpose in one inference."""
        return sum(n.type.size for n in self.graph.nodes if isinstance(n.op, Transpose))


def translate(model: SourceModel, shapes: Mapping[str, Shape], name: str) -> Graph:
    """The model as a graph. Shapes: every input's, concrete. Raises UnsupportedError, ModelError.

    The memory order of the inputs is found by translating more than once: in the model's own order first, then in the
    order that the first node that had to move an input wished for, as long as that moves no more elements.
    """
    best = _attempt(model, shapes, name, {})
    orders: Orders = {}
    while fresh := {n: perm for n, perm in best.hints.items() if n not in orders}:
        orders = {**orders, **fresh}
        found = _attempt(model, shapes, name, orders)
        if found.moved > best.moved:
            break
        best = found
    return best.graph


def _attempt(model: SourceModel, shapes: Mapping[str, Shape], name: str, orders: Orders) -> Translation:
    context = Context()
    inputs: list[Input] = []
    for source in model.inputs:
        shape = shapes[source.name]
        batched = len(shape) > 1 and shape[0] == 1
        sample = shape[1:] if batched else shape
        perm = orders.get(source.name, tuple(range(len(sample))))
        value = context.add_input(source.name, sample, perm)
        inverse = {p: i for i, p in enumerate(perm)}
        axes = tuple((inverse[i],) for i in range(len(sample)))
        context.set(source.name, View(value, context.types[value].shape, ((), *axes) if batched else axes))
        inputs.append(Input(value, context.types[value], source.name, Layout(shape, 0 if batched else None, perm)))
    context.tensors.update((n, Const(array)) for n, array in model.constants.items())
    problems: list[Unsupported] = []
    for node in model.nodes:
        problem = _attempt_node(context, node)
        if problem is not None:
            problems.append(problem)
    outputs = [] if problems else _outputs(context, model, problems)
    if problems:
        raise UnsupportedError(problems)
    nodes = tuple(replace(n, type=replace(n.type, quant=context.quants.get(n.name))) for n in context.nodes)
    inputs = [replace(i, type=replace(i.type, quant=context.quants.get(i.name))) for i in inputs]
    named = {i.name: i.model_name for i in inputs}
    hints = {named[value]: perm for value, perm in context.hints.items()}
    return Translation(Graph(name, tuple(inputs), nodes, tuple(outputs)), hints)


def _attempt_node(context: Context, node: SourceNode) -> Unsupported | None:
    """Translate one node; None, or what keeps it from being supported."""
    try:
        _translate_node(context, node)
    except Blocked:
        _spoil(context, node)
    except NotSupported as reason:
        _spoil(context, node)
        return Unsupported(node.name, node.op, str(reason))
    except ModelError as error:
        raise ModelError(f"node '{node.name}' ({node.op}): {error}") from error
    return None


def _translate_node(context: Context, node: SourceNode) -> None:
    context.scope(node.name)
    if node.domain not in DOMAINS.get(node.op, ORDINARY):
        raise NotSupported(f"its domain '{node.domain}' is unknown" if node.domain else "it is unknown to dnnc")
    if node.op == "Shape" and not isinstance(context.tensors.get(node.input(0)), Const):
        HANDLERS["Shape"](context, node)
        return
    tensors = [context.tensors.get(name) for name in node.inputs]
    if all(t is None or isinstance(t, Const) for t in tensors) and not (tensors and all(t is None for t in tensors)):
        if node.op == "DequantizeLinear":
            HANDLERS[node.op](context, node)
            return
        arrays = fold(node, [t.array if isinstance(t, Const) else None for t in tensors])
        for output, array in zip(node.outputs, arrays, strict=False):
            context.set(output, Const(array))
        return
    handler = HANDLERS.get(node.op)
    if handler is None:
        raise NotSupported("dnnc has no such operation")
    handler(context, node)
    missing = [name for name in node.outputs if name and name not in context.tensors]
    if missing:
        raise NotSupported(f"its output '{clean(missing[0], '?')}'")


def _spoil(context: Context, node: SourceNode) -> None:
    """Give the outputs of a node that is not translated their shapes where they are known, so that reading goes on."""
    shapes = [context.known_shape(name) for name in node.inputs]
    tensors = [context.tensors.get(name) for name in node.inputs]
    inferred = infer_shapes(node, shapes, [t.array if isinstance(t, Const) else None for t in tensors])
    for output, shape in zip(node.outputs, inferred, strict=True):
        if output:
            context.set(output, Unknown(shape))


def _outputs(context: Context, model: SourceModel, problems: list[Unsupported]) -> list[Output]:
    outputs: list[Output] = []
    taken = {context.roots.get(i, i) for i in context.input_shapes}
    for name in model.outputs:
        if isinstance(context.tensors[name], Codes):
            problems.append(Unsupported(name, "output", "it is an integer tensor; end the model with DequantizeLinear"))
            continue
        context.scope(name)
        view = context.view(name)
        value, perm = _place(context, view)
        root = context.roots.get(value, value)
        if root in taken or context.is_constant(root):
            # Outputs have memory of their own: what is an input, a constant or another output as well is copied.
            copied = context.emit(Pointwise("identity"), (value,))
            if value in context.quants:
                context.quants[copied] = context.quants[value]
            value, root = copied, copied
        taken.add(root)
        shape = view.shape
        batch_axis = 0 if len(shape) > 1 and shape[0] == 1 else None
        outputs.append(Output(value, name, Layout(shape, batch_axis, perm)))
    return outputs


def _place(context: Context, view: View) -> tuple[str, tuple[int, ...]]:
    """A value that holds an output, and the permutation of the ONNX sample's axes that its shape is."""
    sample = replace(view, axes=view.axes[1:]) if len(view.axes) > 1 and view.shape[0] == 1 else view
    current = context.types[sample.value].shape
    solid = [i for i, group in enumerate(sample.axes) if sample.solid(group)]
    ranked = sorted(solid, key=lambda i: sample.solid(sample.axes[i])[0])
    memory = [a for i in ranked for a in sample.solid(sample.axes[i])]
    if memory != sorted(memory):
        return context.arrange(sample, sample.order, sample.shape), tuple(range(len(sample.axes)))
    perm = place_units(sample.shape, tuple(ranked), current)
    return context.reshape(sample.value, tuple(sample.shape[p] for p in perm)), perm
