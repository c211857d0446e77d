"""A graph as text, one line a node: what tests compare and people read."""

from __future__ import annotations

from dnnc.ir.graph import Graph


def print_graph(graph: Graph) -> str:
    """The whole graph; deterministic."""
    lines = [f"graph {graph.name}"]
    lines += [f"  input {source.name}: {source.type}" for source in graph.inputs]
    for node in graph.nodes:
        params = " ".join(
            f"{name}:{'x'.join(map(str, array.shape))}" for name, array in sorted(node.params.items()) if array.ndim
        )
        extra = " ".join(part for part in (node.op.describe(), f"{{{params}}}" if params else "") if part)
        arguments = ", ".join(node.inputs)
        lines.append(f"  {node.name} = {node.op.kind}({arguments}){' ' + extra if extra else ''}: {node.type}")
    lines += [f"  output {output.model_name} = {output.value}" for output in graph.outputs]
    return "\n".join(lines) + "\n"
