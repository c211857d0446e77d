"""Pruning by the Fisher information (Tu et al., ISVLSI 2016): single weights, or whole channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import numpy as np

from dnnc.compress.budget import Budget, accuracy, solve, weight_count
from dnnc.compress.channel_order import ChannelOrder, ChannelScores, channel_order, written
from dnnc.compress.gates import gate_information
from dnnc.compress.importance import (
    SAMPLES,
    STEPS,
    Kind,
    Scores,
    fisher_samples,
    magnitude,
    weight_scores,
)
from dnnc.compress.method import Compressed, Method, Setting
from dnnc.compress.surgery import ChannelMap, channel_map, mask, remove
from dnnc.compress.weight_masks import Masks, Order, Ranking, masked, order
from dnnc.errors import OptionError
from dnnc.ir.graph import Graph
from dnnc.quantise.bytes import linear_nodes

Score = Literal["true-w2", "true", "adam-w2", "adam", "magnitude", "magnitude-then-adam", "magnitude-then-true", "gate"]
_THEN = "magnitude-then-"


@dataclass(frozen=True)
class Fisher(Method):
    """Takes out what matters least to the outputs: weights become zeros, or channels go altogether.

    structure: weight or channel. score: "true" is the diagonal Fisher of single samples, "adam" Adam's second moment
    (needs labels); either also times w^2, the loss of leaving the weight out; "magnitude" |w|; "magnitude-then-adam" is
    the paper's order: small weights first, then those of the survivors that Adam's moment finds unimportant. A
    channel's score is the sum over its weights, or "gate": the Fisher of the channel as one. Default: true-w2, gate for
    channels. split: how much of magnitude-then-... is magnitude's (1: all, 0: nothing; a half takes a density of d down
    to sqrt(d) by magnitude). ranking: all layers in one order, or the same fraction of every layer.
    rounds: how often scores are taken anew on what is left: after each halving of the weights, or after each of as many
    equal parts of the channels; 1 is one-shot. temperature: what logits are divided by before the true Fisher asks for
    probabilities; 1 is the network's own distribution, which a network that fits its data has hardly any of.
    samples: how many the true Fisher is taken over; steps: how many batches Adam's moment is.

    density: fraction of weights (or channels) that stay; params, macs: fraction of all parameters (biases, which masks
    spare, included) and multiplications; flash_bytes and cycles on the target; max_drop: points of accuracy on held-out
    samples. Default: max_drop=0.5, without labels params=0.5.
    """

    name: ClassVar[str] = "fisher"
    score: Score | None = None
    density: float | None = None
    params: float | None = None
    macs: float | None = None
    flash_bytes: int | None = None
    cycles: int | None = None
    max_drop: float | None = None
    structure: Literal["weight", "channel"] = "weight"
    ranking: Ranking = "global"
    rounds: int = 5
    temperature: float = 4.0
    split: float = 0.5
    samples: int = SAMPLES
    steps: int = STEPS

    def __post_init__(self) -> None:
        what = f"compression method '{self.name}'"
        budget = self._budget().check(what)
        if self.density is not None and not 0 < self.density <= 1:
            raise OptionError(
                f"{what}: option 'density' is the fraction to keep, 0 < density <= 1; found {self.density:g}"
            )
        if self.density is not None and budget.resources:
            raise OptionError(f"{what} takes density or a budget of resources, found both")
        if self.macs is not None and self.structure == "weight":
            raise OptionError(f"{what}: zeros leave all multiplications; option 'macs' needs structure=channel")
        if self.structure == "channel" and self._score.startswith(_THEN):
            raise OptionError(f"{what}: score={self._score} ranks weights; structure=channel takes another score")
        if self.structure == "weight" and self._score == "gate":
            raise OptionError(f"{what}: score=gate ranks channels; it needs structure=channel")
        if not 0 <= self.split <= 1:
            raise OptionError(f"{what}: option 'split' expects 0..1, found {self.split:g}")
        if not self.temperature > 0:
            raise OptionError(f"{what}: option 'temperature' expects a number > 0, found {self.temperature:g}")
        for key in ("rounds", "samples", "steps"):
            if getattr(self, key) < 1:
                raise OptionError(f"{what}: option '{key}' expects 1 or more, found {getattr(self, key)}")

    @property
    def _score(self) -> Score:
        return self.score or ("gate" if self.structure == "channel" else "true-w2")

    def _budget(self) -> Budget:
        return Budget(self.params, self.macs, self.flash_bytes, self.cycles, self.max_drop)

    def apply(self, graph: Graph, setting: Setting) -> Compressed:
        channels = self.structure == "channel"
        cmap = channel_map(graph)
        if not linear_nodes(graph.nodes) or (channels and not cmap.groups):
            return Compressed(graph, (f"fisher: there is no {self.structure} to take out",))
        make = self._channel_maker(graph, cmap, setting) if channels else self.weight_maker(graph, setting)
        if self.density is not None:
            found, missed = make(self.density), None
            if self.max_drop is not None:
                held_out = setting.labelled("max_drop")
                drop = accuracy(graph, held_out) - accuracy(found, held_out)
                if drop > self.max_drop + 1e-9:
                    missed = f"max_drop={self.max_drop:g}: accuracy drops by {drop:.2f} points"
        else:
            budget = self._budget().or_default(setting)
            count = sum(n.params["weight"].size for n in linear_nodes(graph.nodes))
            # Weights in equal ratios, channels in equal parts.
            solved = solve(lambda s: make(1 - s if channels else float(count) ** -s), budget, graph, setting)
            found, missed = solved.graph, solved.missed
        notes = (
            f"fisher: {self.structure}s ranked by {self._score}, {self.ranking}",
            f"fisher: {weight_count(found):,} of {weight_count(graph):,} parameters are left",
        )
        return Compressed(found, notes, missed)

    def _weights(self, graph: Graph, setting: Setting) -> Scores:
        kind = cast(Kind, self._score.removeprefix(_THEN))
        scores = weight_scores(graph, kind, setting, self.samples, self.steps, self.temperature)
        return {n: np.where(graph.by_name[n].params["weight"] == 0, -1.0, s) for n, s in scores.items()}

    def weight_maker(self, graph: Graph, setting: Setting) -> Callable[[float], Graph]:
        """The graph of a density. Weights that are zero already go first."""
        if self._score.startswith(_THEN):
            first, second = magnitude(graph), self._weights(graph, setting)
            return lambda density: masked(graph, two_steps(first, second, density, self.split, self.ranking))
        rounds = 1 if self._score == "magnitude" else self.rounds
        ranked = _halving(graph, lambda g: self._weights(g, setting), self.ranking, rounds)
        return lambda density: masked(graph, ranked.keep(max(round(density * ranked.count), 1)))

    def _channels(self, graph: Graph, cmap: ChannelMap, setting: Setting) -> ChannelScores:
        if self._score == "gate":
            count = fisher_samples(graph, setting.sample, self.samples)
            return gate_information(
                graph, cmap, setting.sample, count, setting.seed, setting.progress, self.temperature
            )
        kind = cast(Kind, self._score)
        return written(graph, cmap, weight_scores(graph, kind, setting, self.samples, self.steps, self.temperature))

    def _channel_maker(self, graph: Graph, cmap: ChannelMap, setting: Setting) -> Callable[[float], Graph]:
        rounds = 1 if self._score == "magnitude" else self.rounds
        ranked = _parts(graph, cmap, lambda g: self._channels(g, cmap, setting), self.ranking, rounds)
        return lambda density: remove(graph, ranked.gone(1 - density))


def two_steps(first: Scores, second: Scores, density: float, split: float, ranking: Ranking) -> Masks:
    """A share `density` of all: by `first` down to density^split, of these the best by `second`."""
    count = sum(s.size for s in first.values())
    survivors = order(first, ranking).keep(round(count * density**split))
    return order({n: np.where(survivors[n], s, -2.0) for n, s in second.items()}, ranking).keep(
        max(round(density * count), 1)
    )


def _halving(graph: Graph, score: Callable[[Graph], Scores], ranking: Ranking, rounds: int) -> Order:
    """The order of weights whose worse half goes by the first scores, the worse half of the others by scores taken on
    what is left, and so on; the last scores order all that is then left.
    """
    found = order(score(graph), ranking)
    for step in range(1, rounds):
        kept = found.count // 2**step
        found = found.refined(kept, order(score(masked(graph, found.keep(kept))), ranking))
    return found


def _parts(
    graph: Graph, cmap: ChannelMap, score: Callable[[Graph], ChannelScores], ranking: Ranking, rounds: int
) -> ChannelOrder:
    """Likewise of channels, in as many equal parts; what has gone is masked while the rest is scored."""
    found = channel_order(cmap, score(graph), ranking)
    for step in range(1, rounds):
        gone = found.gone(step / rounds)
        scores = score(mask(graph, gone))
        scores[gone] = -np.inf
        found = found.refined(step / rounds, channel_order(cmap, scores, ranking))
    return found
