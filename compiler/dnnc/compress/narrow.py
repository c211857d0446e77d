"""Training without inputs that no weight reads: what is flattened and goes into dense layers only.

A mask leaves a perceptron half of its pixels; those others cost most of the work that its few weights take.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc.compress.stream import Lot
from dnnc.compress.surgery import read_columns
from dnnc.ir.graph import Graph, Input, Node, freeze
from dnnc.ir.types import Layout, TensorType
from dnnc.ops.dense import Dense
from dnnc.ops.movement import Reshape

Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Narrowed:
    """`graph` computes what `whole` does from fewer inputs. kept: by input name, where these lie in a flat sample;
    inputs that are not named stay as they are.
    """

    whole: Graph
    graph: Graph
    kept: Mapping[str, Ids]

    def lots(self, lots: Iterable[Lot]) -> Iterator[Lot]:
        """Batches for `graph` from those for `whole`."""
        places = {name: torch.from_numpy(kept) for name, kept in self.kept.items()}
        for lot in lots:
            inputs = {
                k: x.flatten(1).index_select(1, places[k].to(x.device)) if k in places else x
                for k, x in lot.inputs.items()
            }
            yield Lot(inputs, lot.labels, lot.soft)

    def widened(self, graph: Graph) -> Graph:
        """`graph`, trained or cut smaller, with the inputs of `whole` again; weights that this adds are 0."""
        nodes = []
        for node in graph.nodes:
            for name, kept in self.kept.items():
                if node.name in _flattened(self.whole, name):
                    node = replace(node, op=self.whole.by_name[node.name].op, type=self.whole.by_name[node.name].type)
                elif node in _readers(graph, name):
                    weight = node.params["weight"]
                    wide = np.zeros((len(weight), _size(self.whole, name)), weight.dtype)
                    wide[:, kept] = weight
                    node = replace(node, params=freeze({**node.params, "weight": wide}))
            nodes.append(node)
        return replace(graph, inputs=self.whole.inputs, nodes=tuple(nodes)).verify()


def narrow(graph: Graph) -> Narrowed:
    """Without the inputs that no weight reads, as far as these are vectors that dense layers alone read.

    Weights that are 0 count as not reading. An input that nothing reads stays whole, and so does one that something
    else than a Reshape to a vector or a dense layer reads.
    """
    kept: dict[str, Ids] = {}
    for source in graph.inputs:
        readers = _readers(graph, source.name)
        if readers:
            read = np.flatnonzero(np.any([read_columns(n) for n in readers], axis=0)).astype(np.int64)
            if 0 < len(read) < _size(graph, source.name):
                kept[source.name] = read
    nodes = []
    for node in graph.nodes:
        for name, places in kept.items():
            if node.name in _flattened(graph, name):
                node = replace(node, op=Reshape((len(places),)), type=replace(node.type, shape=(len(places),)))
            elif node in _readers(graph, name):
                node = replace(node, params=freeze({**node.params, "weight": node.params["weight"][:, places]}))
        nodes.append(node)
    inputs = tuple(_vector(i, len(kept[i.name])) if i.name in kept else i for i in graph.inputs)
    return Narrowed(graph, replace(graph, inputs=inputs, nodes=tuple(nodes)).verify(), kept)


def _vector(source: Input, size: int) -> Input:
    return replace(source, type=TensorType((size,)), layout=Layout((1, size), 0, (0,)))


def _size(graph: Graph, name: str) -> int:
    return graph.types[name].size


def _flattened(graph: Graph, name: str) -> list[str]:
    """The names of the Reshape nodes that make vectors of an input."""
    return [n.name for n in graph.consumers[name] if isinstance(n.op, Reshape) and len(n.op.shape) == 1]


def _readers(graph: Graph, name: str) -> list[Node]:
    """The dense layers that read an input, flattened or a vector itself; none where anything else does."""
    vectors = _flattened(graph, name)
    consumers = [n for n in graph.consumers[name] if n.name not in vectors]
    consumers += [n for v in vectors for n in graph.consumers[v]]
    shown = {o.value for o in graph.outputs} & {name, *vectors}
    if len(graph.types[name].shape) != 1 and not vectors:
        return []
    return consumers if not shown and all(isinstance(n.op, Dense) and len(n.type.shape) == 1 for n in consumers) else []
