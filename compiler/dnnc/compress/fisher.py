"""Pruning by the Fisher information (Tu et al., ISVLSI 2016), one-shot: single weights, or whole channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import numpy as np

from dnnc.compress.budget import Budget, accuracy, solve, weight_count
from dnnc.compress.importance import SAMPLES, STEPS, Kind, Scores, magnitude, weight_scores
from dnnc.compress.method import Compressed, Method, Setting
from dnnc.compress.weight_masks import Masks, Ranking, masked, order
from dnnc.errors import OptionError
from dnnc.ir.graph import Graph
from dnnc.quantise.bytes import linear_nodes

Score = Literal["true-w2", "true", "adam-w2", "adam", "magnitude", "magnitude-then-adam", "magnitude-then-true"]
#: Defaults: points with labels, fraction of parameters without.
_DROP, _PARAMS = 0.5, 0.5


@dataclass(frozen=True)
class Fisher(Method):
    """Sets the weights to zero that matter least.

    score: "true" is the diagonal Fisher of single samples, "adam" Adam's second moment (needs labels); either also
    times w^2, the loss of leaving the weight out; "magnitude" |w|; "magnitude-then-adam" is the paper's order: small
    weights first, then those of the survivors that Adam's moment finds unimportant. split: how much of that is
    magnitude's (1: all, 0: nothing; a half takes a density of d down to sqrt(d) by magnitude).
    density: fraction of weights that stay; params: fraction of all parameters, biases (which stay) included;
    flash_bytes and cycles on the target; max_drop: points of accuracy on held-out samples. Default: max_drop=0.5,
    without labels params=0.5. ranking: all layers' weights in one order, or the same fraction of every layer.
    samples: how many the true Fisher is taken over; steps: how many batches Adam's moment is.
    """

    name: ClassVar[str] = "fisher"
    score: Score = "true-w2"
    density: float | None = None
    params: float | None = None
    flash_bytes: int | None = None
    cycles: int | None = None
    max_drop: float | None = None
    ranking: Ranking = "global"
    split: float = 0.5
    samples: int = SAMPLES
    steps: int = STEPS

    def __post_init__(self) -> None:
        self._budget().check(f"compression method '{self.name}'")
        if self.density is not None and not 0 < self.density <= 1:
            raise OptionError(
                f"compression method 'fisher': option 'density' is the fraction of weights to keep, 0 < density <= 1; "
                f"found {self.density:g}"
            )
        if self.density is not None and self._budget().resources:
            raise OptionError("compression method 'fisher' takes density or a budget of resources, found both")
        if not 0 <= self.split <= 1:
            raise OptionError(f"compression method 'fisher': option 'split' expects 0..1, found {self.split:g}")
        for key in ("samples", "steps"):
            if getattr(self, key) < 1:
                raise OptionError(
                    f"compression method 'fisher': option '{key}' expects 1 or more, found {getattr(self, key)}"
                )

    def _budget(self) -> Budget:
        return Budget(self.params, None, self.flash_bytes, self.cycles, self.max_drop)

    def apply(self, graph: Graph, setting: Setting) -> Compressed:
        if not linear_nodes(graph.nodes):
            return Compressed(graph, ("fisher: no layer has weights",))
        make, count = self._maker(graph, setting)
        notes = [f"fisher: weights ranked by {self.score}, {self.ranking}"]
        if self.density is not None:
            found, missed = make(max(round(self.density * count), 1)), None
            if self.max_drop is not None:
                drop = accuracy(graph, setting.labelled("max_drop")) - accuracy(found, setting.labelled("max_drop"))
                if drop > self.max_drop + 1e-9:
                    missed = f"max_drop={self.max_drop:g}: accuracy drops by {drop:.2f} points"
        else:
            budget = self._budget()
            if budget == Budget():
                labelled = setting.held_out is not None and setting.held_out.labels is not None
                budget = Budget(max_drop=_DROP) if labelled else Budget(params=_PARAMS)
            solved = solve(lambda strength: make(round(count ** (1 - strength))), budget, graph, setting)
            found, missed = solved.graph, solved.missed
        notes.append(f"fisher: {weight_count(found):,} of {weight_count(graph):,} parameters are left")
        return Compressed(found, tuple(notes), missed)

    def _maker(self, graph: Graph, setting: Setting) -> tuple[Callable[[int], Graph], int]:
        """(the graph with so many weights left, how many there are). Weights that are zero already go first."""
        two = self.score.startswith("magnitude-then-")
        kind = cast(Kind, self.score.removeprefix("magnitude-then-"))
        second = _zeros_last(graph, weight_scores(graph, kind, setting, self.samples, self.steps))
        count = sum(s.size for s in second.values())
        if two:
            first = magnitude(graph)
            return lambda kept: masked(graph, two_steps(first, second, kept, self.split, self.ranking)), count
        ranked = order(second, self.ranking)
        return lambda kept: masked(graph, ranked.keep(kept)), count


def two_steps(first: Scores, second: Scores, kept: int, split: float, ranking: Ranking) -> Masks:
    """`kept` weights: by `first` down to a density of (kept / all)^split, of these the best by `second`."""
    count = sum(s.size for s in first.values())
    survivors = order(first, ranking).keep(round(count * (kept / count) ** split))
    return order({n: np.where(survivors[n], s, -2.0) for n, s in second.items()}, ranking).keep(kept)


def _zeros_last(graph: Graph, scores: Scores) -> Scores:
    """Scores are not negative: -1 for what is zero already."""
    return {n: np.where(np.asarray(graph.by_name[n].params["weight"]) == 0, -1.0, s) for n, s in scores.items()}
