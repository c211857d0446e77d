"""OLMP (Li, Qian, Jiang, Lu and Tang, IJCAI 2018): pruning and splicing while training, with thresholds of the layers
found by a derivative-free search under an accuracy constraint.

What differs from the authors' code, which searches on one batch of 64 and, by a slip, never moves its candidates: a
candidate is judged by the loss on 2,048 training samples (the same for all) after a short training of a copy (the same
batches for all), so that what training repairs does not count, and the live mask stays as it is; the search shares a
given number of parameters among layers; and accuracy on held-out samples decides how small that number may be.

Splicing finds a good mask of a few times as many parameters as are aimed at; below that, parameters that return crowd
out those that matter, and whole layers die. So the last parameters go in rounds, each with training at a high rate
under a fixed mask (Han 2015, arXiv 1506.02626; high rates again: Renda 2020, arXiv 2003.02389).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from dnnc.compress import checkpoint as stored
from dnnc.compress.budget import DEFAULT_DROP, DEFAULT_PARAMS, accuracy, weight_count
from dnnc.compress.method import Compressed, Method, Setting
from dnnc.compress.olmp_run import Kept, Run
from dnnc.compress.splicing import Scores
from dnnc.compress.stream import stream
from dnnc.errors import OptionError
from dnnc.ir.graph import Graph
from dnnc.quantise.bytes import linear_nodes
from dnnc.quantise.dataset import Dataset


@dataclass(frozen=True)
class Olmp(Method):
    """Sets to zero all parameters but the few that a threshold for every layer leaves; training goes on meanwhile.

    max_drop: points of accuracy on held-out samples; params: fraction of parameters to keep. Default: max_drop=0.5,
    without labels params=0.5. least: with max_drop alone, the fraction below which it is not tried. epochs: of pruning
    and splicing, to `spare` times the number aimed at; rounds: that take the rest, of `each` epochs (0: splicing takes
    all); tune: epochs at the final number, with a rate that falls to 0. search: who finds the layers' thresholds,
    in `searches` searches of `evaluations` candidates each; none: one threshold for all. scores: what is compared with
    thresholds. biases: prune them too. structure: how much whole channels are preferred (0: not at all). distil: how
    much of the loss is the divergence from the original network, at `temperature`. rate, decay, batch: of training.
    """

    name: ClassVar[str] = "olmp"
    max_drop: float | None = None
    params: float | None = None
    least: float = 0.005
    epochs: int = 5
    spare: float = 3.0
    rounds: int = 8
    each: int = 1
    tune: int = 8
    search: Literal["ncs", "cma", "coordinate", "none"] = "cma"
    searches: int = 4
    evaluations: int = 24
    scores: Scores = "fisher"
    biases: bool = True
    structure: float = 0.0
    distil: float = 0.5
    temperature: float = 2.0
    rate: float = 0.02
    decay: float = 5e-4
    batch: int = 64

    def __post_init__(self) -> None:
        positive = [(key, 0, math.inf) for key in ("temperature", "rate")]
        for key, low, high in [("params", 0, 1), ("least", 0, 1), ("distil", -1e-9, 1), *positive]:
            value = getattr(self, key)
            if value is not None and not low < value <= high:
                raise OptionError(
                    f"compression method 'olmp': option '{key}' expects a number above {max(low, 0)} and up to {high}; "
                    f"found {value:g}"
                )
        for key in ("epochs", "spare", "each", "batch", "evaluations"):
            if getattr(self, key) < 1:
                raise OptionError(f"compression method 'olmp': option '{key}' expects 1 or more")
        for key in ("max_drop", "structure", "tune", "searches", "rounds", "decay"):
            value = getattr(self, key)
            if value is not None and value < 0:
                raise OptionError(f"compression method 'olmp': option '{key}' expects 0 or more, found {value:g}")

    def apply(self, graph: Graph, setting: Setting) -> Compressed:
        """The graph with zeros, channels that died taken out."""
        if not linear_nodes(graph.nodes):
            return Compressed(graph, ("olmp: no layer has weights",))
        if self.max_drop is not None:
            held_out: Dataset | None = setting.labelled("max_drop")
        else:
            held_out = setting.held_out
        labelled = setting.train.labelled and held_out is not None and held_out.labels is not None
        drop, params = self.max_drop, self.params
        if drop is None and params is None:
            drop, params = (DEFAULT_DROP, None) if labelled else (None, DEFAULT_PARAMS)
        teacher = graph if self.distil > 0 or not setting.train.labelled else None
        lots = stream(setting.train, teacher, self.batch, setting.seed, setting.device)
        per_epoch = max(len(setting.train) // self.batch, 1)
        total = weight_count(graph)
        goal = max(int((params if params is not None else self.least) * total), 1)
        bound = None if drop is None or held_out is None else accuracy(graph, held_out) - drop
        parts = (self, goal, bound, setting.seed, len(setting.train))
        kept = None if setting.checkpoint is None else Kept(setting.checkpoint, stored.digest([graph], *parts))
        run = Run(self, lots, per_epoch, setting.seed, setting.device, setting.progress, kept)
        found, missed = run.compress(graph, goal, bound, held_out, must=params is not None)
        left = weight_count(found)
        notes = [f"olmp: {left:,} of {total:,} parameters are left ({total / max(left, 1):.1f}x)", *run.notes]
        return Compressed(found, tuple(notes), missed)
