"""How much each weight matters to a trained network: its size, and two estimates of the diagonal of the Fisher.

"adam" is what Adam's second moment says (Tu et al., "Reducing the Model Order of Deep Neural Networks Using Information
Theory", ISVLSI 2016): the mean of squared gradients of mini-batches, with the true labels. It costs one backward pass a
batch, but it measures Var(g) / batch + E[g]^2 rather than E[g^2], and true labels make it vanish where the network fits
them. "true" squares the gradients of single samples, with labels from the network's own distribution (see
dnnc.quantise.fisher). Times w^2, either is the second-order loss of setting the weight to zero: 1/2 F w^2 (LeCun et
al., "Optimal Brain Damage", NIPS 1989).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc.compress.feed import Batch, Feed
from dnnc.compress.method import Setting
from dnnc.errors import DataError, OptionError
from dnnc.evaluate import evaluate, parameters
from dnnc.ir.graph import Graph
from dnnc.progress import Progress, silent
from dnnc.quantise.bytes import linear_nodes
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.fisher import weight_fisher
from dnnc.quantise.heads import cotangent_count, heads
from dnnc.quantise.threads import one_thread

#: By node name, an array of the weight's own shape, float64 >= 0.
Scores = Mapping[str, NDArray[np.float64]]
Kind = Literal["magnitude", "adam", "adam-w2", "true", "true-w2"]

#: Adam's decay of second moments, and the batches after which the moment has forgotten where it began: 3 / (1 - beta).
_BETA, STEPS = 0.999, 3000
#: Samples of the true Fisher.
SAMPLES = 1024
_BATCH = 64
#: Multiply-accumulates that Adam's moment may take (a minute or two on one core); it needs three passes a sample.
_MAC_BUDGET = 1.5e12
_FEWEST_STEPS = 100
#: Multiply-accumulates of the true Fisher.
_FISHER_MACS, _FEWEST_SAMPLES = 3e11, 64


def magnitude(graph: Graph) -> Scores:
    """|w| of every linear layer."""
    return {n.name: np.abs(np.asarray(n.params["weight"], np.float64)) for n in linear_nodes(graph.nodes)}


def weight_scores(
    graph: Graph,
    kind: Kind,
    setting: Setting,
    samples: int = SAMPLES,
    steps: int = STEPS,
    temperature: float = 1.0,
) -> Scores:
    """Scores of every linear layer's weights by `kind`.

    samples: how many of `setting.sample` the true Fisher is taken over. steps: batches of 64 of `setting.train` that
    Adam's moment takes. A large network gets fewer of either. temperature: of the true Fisher (`heads.cotangents`).
    Raises OptionError where "adam" lacks labels.
    """
    if kind == "magnitude":
        return magnitude(graph)
    if kind.startswith("adam"):
        found = adam_moment(graph, setting.train, adam_steps(graph, steps), setting.seed, setting.progress)
    else:
        found = true_fisher(graph, setting, samples, temperature)
    return times_squares(graph, found) if kind.endswith("-w2") else found


def true_fisher(graph: Graph, setting: Setting, samples: int, temperature: float = 1.0) -> Scores:
    """The Fisher of single samples, over `samples` of `setting.sample` or fewer of a large network."""
    count = fisher_samples(graph, setting.sample, samples)
    return weight_fisher(graph, setting.sample, count, setting.seed, setting.progress, temperature).weights


def fisher_samples(graph: Graph, dataset: Dataset, wanted: int) -> int:
    """How many samples a Fisher is taken over."""
    passes = 1 + 2 * cotangent_count(graph, heads(graph, dataset.labels is not None))
    return min(wanted, max(_FEWEST_SAMPLES, int(_FISHER_MACS / (passes * max(graph.macs, 1)))))


def times_squares(graph: Graph, information: Scores) -> Scores:
    """F w^2."""
    return {n: f * np.asarray(graph.by_name[n].params["weight"], np.float64) ** 2 for n, f in information.items()}


def adam_steps(graph: Graph, wanted: int = STEPS) -> int:
    """Batches that Adam's second moment is followed for: those wanted, or fewer of a large network's."""
    return min(wanted, max(_FEWEST_STEPS, int(_MAC_BUDGET / (3 * _BATCH * max(graph.macs, 1)))))


@one_thread()
def adam_moment(graph: Graph, feed: Feed, steps: int, seed: int = 0, progress: Progress = silent) -> Scores:
    """Adam's bias-corrected second moment of the cross-entropy's mini-batch gradients, the weights held fixed."""
    if not feed.labelled:
        raise OptionError("score 'adam' needs labels: give data with 'y', or take score=true-w2")
    params = parameters(graph)
    leaves = {n.name: params[n.name]["weight"].requires_grad_(True) for n in linear_nodes(graph.nodes)}
    moments = {name: torch.zeros_like(w) for name, w in leaves.items()}
    for step, batch in enumerate(_endless(feed, seed)):
        if step == steps:
            break
        if step % 50 == 0:
            progress("Adam's second moment", step, steps)
        loss = cross_entropy(graph, params, batch)
        for name, gradient in zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True):
            moments[name].mul_(_BETA).addcmul_(gradient, gradient, value=1 - _BETA)
    return {name: m.double().numpy() / (1 - _BETA**steps) for name, m in moments.items()}


def cross_entropy(graph: Graph, params: Mapping[str, Mapping[str, torch.Tensor]], batch: Batch) -> torch.Tensor:
    """The mean loss of a labelled batch, in nats; differentiable in `params`."""
    head = heads(graph, labelled=True)[0]
    seen: dict[str, torch.Tensor] = {}

    def record(name: str, value: torch.Tensor) -> torch.Tensor:
        if name == head.value:
            seen[name] = value
        return value

    evaluate(graph, batch.inputs, params, record)
    logits = seen[head.value].reshape(len(batch), -1)
    if not head.logits or logits.shape[1] != graph.types[head.value].shape[-1] or batch.labels is None:
        raise DataError(
            f"labels are classes of the first output, but '{graph.outputs[0].model_name}' of shape "
            f"{list(graph.types[head.value].shape)} is no row of classes"
        )
    return torch.nn.functional.cross_entropy(logits, batch.labels)


def _endless(feed: Feed, seed: int) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from feed.batches(_BATCH, generator)
