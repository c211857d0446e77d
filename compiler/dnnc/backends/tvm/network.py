"""An integer graph to one IRModule: a PrimFunc a node, and `main` in Relax that calls them in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax, te, tirx

from dnnc.backends.tvm.call import Call, storage
from dnnc.backends.tvm.dot import PLAIN, Dot
from dnnc.backends.tvm.schedule import Choice, Chooser, first
from dnnc.backends.tvm.table import LOWERINGS, check
from dnnc.ir.graph import Graph, Node
from dnnc.ops.movement import Reshape

Array = NDArray[Any]


@dataclass(frozen=True)
class Step:
    """One kernel, whose arguments are the values `inputs`, the `constants` (each with its name), and the output.

    plain: the kernel as loops that nobody arranged; choices: the ways to arrange it.
    """

    node: Node
    function: str
    inputs: tuple[str, ...]
    constants: tuple[tuple[str, Array], ...]
    kernel: tirx.PrimFunc
    plain: tirx.PrimFunc
    choices: tuple[Choice, ...] = ()

    @property
    def weight_bytes(self) -> int:
        return sum(value.nbytes for name, value in self.constants if "plane" in name)

    @property
    def table_bytes(self) -> int:
        return sum(value.nbytes for _, value in self.constants) - self.weight_bytes


@dataclass(frozen=True)
class Program:
    """steps in order; constants: values known now, [1, *shape], by name; views: Reshapes, value by its source."""

    graph: Graph
    steps: tuple[Step, ...]
    constants: Mapping[str, Array]
    views: Mapping[str, str]


def lower(graph: Graph, dot: Dot | Callable[[Node], Dot] = PLAIN, batch: Any = 1, choose: Chooser = first) -> Program:
    """Kernels of all nodes. dot: of all, or by node. batch: samples, a number or a TIR variable.

    Raises UnsupportedError.
    """
    check(graph)
    constants: dict[str, Array] = {}
    views: dict[str, str] = {}
    steps: list[Step] = []
    for node in graph.nodes:
        types = graph.input_types(node)
        if all(name in constants for name in node.inputs):
            values = [constants[name].astype(np.int32) for name in node.inputs]
            made = node.op.integer(values, node.params, types, node.type)
            constants[node.name] = np.ascontiguousarray(made).astype(storage(node.type))
        elif isinstance(node.op, Reshape):
            views[node.name] = node.inputs[0]
        else:
            own = dot if isinstance(dot, Dot) else dot(node)
            steps.append(_step(graph, node, len(steps), constants, own, batch, choose))
    return Program(graph, tuple(steps), constants, views)


def _step(
    graph: Graph, node: Node, number: int, constants: Mapping[str, Array], dot: Dot, batch: Any, choose: Chooser
) -> Step:
    types = graph.input_types(node)
    names = tuple(dict.fromkeys(node.inputs))
    known = {name: name in constants for name in names}
    tensors = {
        name: te.placeholder(
            (1 if known[name] else batch, *graph.types[name].shape), dtype=storage(graph.types[name]), name=f"x{index}"
        )
        for index, name in enumerate(names)
    }
    call = Call(node, types, batch, [tensors[n] for n in node.inputs], tuple(known[n] for n in node.inputs))
    result = LOWERINGS[type(node.op)](call, dot)
    arguments = [*tensors.values(), *(tensor for tensor, _ in call.constants), result]
    function = f"k{number}_{node.op.kind.lower()}"
    plain = te.create_prim_func(arguments)
    kernel = choose(node.name, plain, call.choices) if call.choices else plain
    kernel = kernel.with_attr("global_symbol", function).with_attr("tirx.noalias", True)
    named = tuple((tensor.op.name, value) for tensor, value in call.constants)
    return Step(node, function, names, named, kernel, plain, tuple(call.choices))


def module(program: Program, batch: Any = 1, largest: int = 1, function: str = "main") -> tvm.IRModule:
    """The program as a Relax function over its kernels; outputs are a tuple in the graph's order.

    batch: as in `lower`; largest: the most samples that a variable batch may have.
    """
    builder = relax.BlockBuilder()
    add_function(builder, program, batch, largest, function)
    return builder.finalize()


def add_function(
    builder: relax.BlockBuilder, program: Program, batch: Any, largest: int, function: str, prefix: str = ""
) -> None:
    graph = program.graph
    values: dict[str, Any] = {
        source.name: relax.Var(f"x{i}", _type(batch, source.type)) for i, source in enumerate(graph.inputs)
    }
    parameters = list(values.values())
    attributes = {} if isinstance(batch, int) else {"tir_var_upper_bound": {batch.name: largest}}
    by_node = {step.node.name: step for step in program.steps}
    values |= {name: relax.const(value) for name, value in program.constants.items()}
    with builder.function(function, parameters, attrs=attributes):
        with builder.dataflow():
            for node in graph.nodes:
                if node.name in program.views:
                    shape = relax.ShapeExpr([batch, *node.type.shape])
                    values[node.name] = builder.emit(relax.op.reshape(values[program.views[node.name]], shape))
                elif node.name in by_node:
                    step = by_node[node.name]
                    kernel = builder.add_func(step.kernel.without_attr("global_symbol"), prefix + step.function)
                    arguments = [
                        *(values[n] for n in step.inputs),
                        *(relax.const(value) for _, value in step.constants),
                    ]
                    values[node.name] = builder.emit(relax.call_tir(kernel, arguments, _type(batch, node.type)))
            results = [_whole(values[o.value], program, o.value, batch) for o in graph.outputs]
            output = builder.emit_output(relax.Tuple(results))
        builder.emit_func_output(output)


def _whole(value: Any, program: Program, name: str, batch: Any) -> Any:
    """A constant that is an output has as many samples as all others."""
    if name not in program.constants:
        return value
    return relax.op.broadcast_to(value, relax.ShapeExpr([batch, *program.graph.types[name].shape]))


def _type(batch: Any, kind: Any) -> Any:
    return relax.TensorType([batch, *kind.shape], storage(kind))
