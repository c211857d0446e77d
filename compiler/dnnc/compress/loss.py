"""What training minimises: errors of labels, and distance to what a teacher answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F

from dnnc.compress.feed import Batch
from dnnc.compress.recipe import Params, Recipe
from dnnc.errors import OptionError
from dnnc.evaluate import evaluate
from dnnc.ir.graph import Graph
from dnnc.ops.pointwise import Pointwise
from dnnc.quantise.heads import Head, heads

Values = Mapping[str, torch.Tensor]


class Objective:
    """The loss of a graph. wanted: the values that it is taken of; classifier: all of them are logits.

    Labels are of the first output; `recipe.distil` of the loss is distance to the teacher there. What labels do not
    tell (all outputs where there are none, else all but the first) is matched to the teacher.
    """

    def __init__(
        self, graph: Graph, teacher: Graph, recipe: Recipe, labelled: bool, batches: Sequence[Values], params: Params
    ) -> None:
        """batches: inputs; params: the teacher's parameters, on the same device. Raises OptionError where the teacher
        has other outputs than the graph.
        """
        self._student, self._of_teacher = _heads(graph, labelled), _heads(teacher, labelled)
        sizes = [[g.types[h.value].size for h in of] for g, of in ((graph, self._student), (teacher, self._of_teacher))]
        if sizes[0] != sizes[1]:
            raise OptionError(f"the teacher has outputs of {sizes[1]} numbers, the network of {sizes[0]}")
        self._recipe, self._labelled = recipe, labelled
        self._binary = labelled and sizes[0][0] == 1
        self._teacher = teacher if not labelled or len(sizes[0]) > 1 or recipe.distil > 0 else None
        self._params = params
        self.wanted = tuple(h.value for h in self._student)
        self.classifier = all(h.logits or (self._binary and i == 0) for i, h in enumerate(self._student))
        self._variances = [1.0] * len(sizes[0])
        if self._teacher is not None and not self.classifier:
            answers = [self.teach(Batch(dict(inputs), None)) for inputs in batches]
            for index, head in enumerate(self._of_teacher):
                y = _rows(torch.cat([a[head.value] for a in answers])).double()
                self._variances[index] = max(float(y.var(dim=0, unbiased=False).sum()), 1e-12)

    @torch.no_grad()
    def teach(self, batch: Batch) -> dict[str, torch.Tensor]:
        """What the teacher answers; nothing where it is not needed."""
        found: dict[str, torch.Tensor] = {}
        wanted = {h.value for h in self._of_teacher}

        def hook(name: str, value: torch.Tensor) -> torch.Tensor:
            if name in wanted:
                found[name] = value
            return value

        if self._teacher is not None:
            evaluate(self._teacher, batch.inputs, self._params, hook)
        return found

    def loss(self, found: Values, labels: torch.Tensor | None, taught: Values) -> torch.Tensor:
        """One number, the mean over the batch. found: the graph's values; taught: what `teach` gave."""
        parts: list[torch.Tensor] = []
        start = 0
        if self._labelled and labels is not None:
            start = 1
            y = _rows(found[self.wanted[0]].float())
            share = self._recipe.distil
            if share < 1:
                parts.append((1 - share) * self._of_labels(y, labels))
            if share > 0:
                parts.append(share * self._divergence(y, _rows(taught[self._of_teacher[0].value].float())))
        if self._teacher is not None:
            for index in range(start, len(self._student)):
                y, t = found[self.wanted[index]].float(), taught[self._of_teacher[index].value].float()
                if self._student[index].logits:
                    parts.append(self._divergence(y, t))
                else:
                    parts.append(_rows((y - t).square()).sum(1).mean() / self._variances[index])
        return torch.stack(parts).sum()

    def _of_labels(self, y: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        smoothing = self._recipe.label_smoothing
        if not self._binary:
            return F.cross_entropy(y, labels, label_smoothing=smoothing)
        share = labels.float() if labels.dim() == 1 else labels[:, 1].float()
        return F.binary_cross_entropy_with_logits(y[:, 0], share * (1 - smoothing) + smoothing / 2)

    def _divergence(self, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if y.shape[-1] == 1:  # one logit stands for two classes
            y, t = (torch.cat([torch.zeros_like(v), v], -1) for v in (y, t))
        return divergence(y, t, self._recipe.temperature)


def divergence(y: torch.Tensor, t: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL(teacher || student) of logits [..., C] at a temperature, times its square so that gradients keep their size
    (Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2).
    """
    classes = y.shape[-1]
    log_p = F.log_softmax(y.reshape(-1, classes) / temperature, dim=1)
    log_q = F.log_softmax(t.reshape(-1, classes) / temperature, dim=1)
    return F.kl_div(log_p, log_q, reduction="batchmean", log_target=True) * temperature**2


def _heads(graph: Graph, labelled: bool) -> tuple[Head, ...]:
    """As dnnc.quantise.heads; a labelled output of one number is the logit in front of its sigmoid."""
    found = heads(graph, labelled)
    first = graph.by_name.get(found[0].value)
    if labelled and first is not None and isinstance(first.op, Pointwise) and first.op.function == "sigmoid":
        return (Head(first.inputs[0], found[0].logits), *found[1:])
    return found


def _rows(y: torch.Tensor) -> torch.Tensor:
    """[N, everything else]; outputs may be lone numbers."""
    return y.reshape(len(y), -1)
