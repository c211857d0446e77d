"""What the outputs of a network mean: the metric in which a change of them counts, and draws from it.

For a classifier it is the Fisher information of the softmax, diag(p) - p p^T over the logits, in nats. For any other
output it is the Gauss-Newton form: squared error, in units of the output's own variance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from dnnc.ir.graph import Graph
from dnnc.ops.movement import Reshape
from dnnc.ops.softmax import Softmax

#: Up to this many cotangents are enumerated, which makes the expectation exact; beyond it is sampled.
EXACT_LIMIT = 16
#: Draws for each sample where the expectation is sampled.
_DRAWS = 4


@dataclass(frozen=True)
class Head:
    """One output: the value that gradients start from, and whether it holds logits (over its last axis)."""

    value: str
    logits: bool


def heads(graph: Graph, labelled: bool) -> tuple[Head, ...]:
    """The heads of a graph. A Softmax is skipped: its input are the logits. The first output of a model with labels
    holds logits too; all others are plain values.
    """
    found = []
    for index, output in enumerate(graph.outputs):
        shape = graph.types[output.value].shape
        classes = labelled and index == 0 and bool(shape) and shape[-1] > 1
        behind = head(graph, output.value)
        found.append(behind if behind.logits else Head(output.value, classes))
    return tuple(dict.fromkeys(found))


def head(graph: Graph, value: str) -> Head:
    """The head behind an output value: the logits in front of a Softmax, or the value itself."""
    node = graph.by_name.get(value)
    while node is not None and isinstance(node.op, Reshape):
        node = graph.by_name.get(node.inputs[0])
    return Head(node.inputs[0], True) if node is not None and isinstance(node.op, Softmax) else Head(value, False)


def cotangent_count(graph: Graph, of: Sequence[Head]) -> int:
    """How many backward passes `cotangents` asks for."""
    total = sum(graph.types[h.value].size for h in of)
    return total if total <= EXACT_LIMIT else _DRAWS


def cotangents(
    of: Sequence[Head],
    values: Mapping[str, torch.Tensor],
    variances: Mapping[str, float],
    generator: torch.Generator,
    temperature: float = 1.0,
) -> list[list[torch.Tensor]]:
    """Vectors v, one tensor [N, *shape] a head, such that the sum over them of (J^T v)^2 is the diagonal of J^T M J, M
    being the metric: exactly where the heads have few elements, else in expectation.

    variances: of each plain head, summed over its elements. temperature: what logits are divided by before they become
    probabilities; above 1, a network that is sure of everything still tells which outputs are near one another.
    """
    if sum(values[h.value][0].numel() for h in of) <= EXACT_LIMIT:
        return _enumerated(of, values, variances, temperature)
    draws = []
    for _ in range(_DRAWS):
        vectors = []
        for head in of:
            y = values[head.value]
            if head.logits:
                p = (y / temperature).softmax(dim=-1)
                flat = p.reshape(-1, p.shape[-1])
                label = torch.multinomial(flat, 1, generator=generator)
                v = (flat.scatter_add(1, label, torch.full_like(flat[:, :1], -1.0))).reshape(y.shape)
            else:
                signs = torch.randint(0, 2, y.shape, generator=generator).to(y.dtype) * 2 - 1
                v = signs * variances[head.value] ** -0.5
            vectors.append(v * _DRAWS**-0.5)
        draws.append(vectors)
    return draws


def _enumerated(
    of: Sequence[Head], values: Mapping[str, torch.Tensor], variances: Mapping[str, float], temperature: float
) -> list[list[torch.Tensor]]:
    """The columns of a square root of the metric: sqrt(p_c) (e_c - p) for logits, unit vectors for plain values."""
    found = []
    for index, head in enumerate(of):
        y = values[head.value]
        flat = y.reshape(len(y), -1)
        for element in range(flat.shape[1]):
            v = torch.zeros_like(y)
            if head.logits:
                p = (y / temperature).softmax(dim=-1)
                rows, classes = v.reshape(len(y), -1, y.shape[-1]), p.reshape(len(y), -1, y.shape[-1])
                row, c = divmod(element, y.shape[-1])
                rows[:, row] = -classes[:, row]
                rows[:, row, c] += 1
                rows[:, row] *= classes[:, row, c : c + 1].sqrt()
            else:
                v.reshape(len(y), -1)[:, element] = variances[head.value] ** -0.5
            found.append([v if i == index else torch.zeros_like(values[h.value]) for i, h in enumerate(of)])
    return found
