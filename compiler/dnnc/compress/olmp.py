"""OLMP (Li, Qian, Jiang, Lu and Tang, IJCAI 2018): pruning and splicing while training, with thresholds of the layers
found by a derivative-free search under an accuracy constraint.

What differs from the authors' code, which searches on one batch of 64 and, by a slip, never moves its candidates: a
candidate is judged by the loss on 2,048 training samples (the same for all) after a short training of a copy (the same
batches for all), so that what training repairs does not count, and the live mask stays as it is; the search shares a
given number of parameters among layers; and accuracy on held-out samples decides how small that number may be.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch

from dnnc.compress import search
from dnnc.compress.budget import DEFAULT_DROP, DEFAULT_PARAMS, accuracy, weight_count
from dnnc.compress.constants import fold_constants
from dnnc.compress.method import Compressed, Method, Setting
from dnnc.compress.splicing import Rule, Scores, Spliced, train
from dnnc.compress.stream import Loss, Lot, stream
from dnnc.errors import OptionError
from dnnc.ir.graph import Graph
from dnnc.progress import Progress, silent
from dnnc.quantise.bytes import linear_nodes
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.threads import one_thread

_STATE, _NEXT = 0.87, 0.9  # a state is kept whenever so much of the last one's parameters is left; part that prunes
_SAMPLES, _RECOVER, _STEP = 2048, 48, 0.3  # of the search: samples, steps of a candidate's training, first distance
_HOPELESS = 8.0  # points of accuracy below the bound at which pruning stops, before any tuning


@dataclass(frozen=True)
class Olmp(Method):
    """Sets to zero all parameters but the few that a threshold for every layer leaves; training goes on meanwhile.

    max_drop: points of accuracy on held-out samples; params: fraction of parameters to keep. Default: max_drop=0.5,
    without labels params=0.5. least: with max_drop alone, the fraction below which it is not tried. epochs: of pruning;
    tune: of training at the final number, with a rate that falls to 0. search: who finds the layers' thresholds, in
    `searches` searches of `evaluations` candidates each; none: one threshold for all. scores: what is compared with
    thresholds. biases: prune them too. structure: how much whole channels are preferred (0: not at all). distil: how
    much of the loss is the divergence from the original network. rate, batch: of training.
    """

    name: ClassVar[str] = "olmp"
    max_drop: float | None = None
    params: float | None = None
    least: float = 0.005
    epochs: int = 10
    tune: int = 8
    search: Literal["ncs", "cma", "coordinate", "none"] = "cma"
    searches: int = 4
    evaluations: int = 24
    scores: Scores = "magnitude"
    biases: bool = True
    structure: float = 0.0
    distil: float = 0.5
    rate: float = 0.01
    batch: int = 64

    def __post_init__(self) -> None:
        for key, low, high in (("params", 0, 1), ("least", 0, 1), ("distil", -1e-9, 1), ("rate", 0, math.inf)):
            value = getattr(self, key)
            if value is not None and not low < value <= high:
                raise OptionError(
                    f"compression method 'olmp': option '{key}' expects a number above {max(low, 0)} and up to {high}; "
                    f"found {value:g}"
                )
        for key in ("epochs", "batch", "evaluations"):
            if getattr(self, key) < 1:
                raise OptionError(f"compression method 'olmp': option '{key}' expects 1 or more")
        for key in ("max_drop", "structure", "tune", "searches"):
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
        run = Run(self, lots, per_epoch, setting.seed, setting.device, setting.progress)
        total = weight_count(graph)
        goal = max(int((params if params is not None else self.least) * total), 1)
        bound = None if drop is None or held_out is None else accuracy(graph, held_out) - drop
        found, missed = run.compress(graph, goal, bound, held_out, must=params is not None)
        left = weight_count(found)
        notes = [f"olmp: {left:,} of {total:,} parameters are left ({total / max(left, 1):.1f}x)", *run.notes]
        return Compressed(found, tuple(notes), missed)


@dataclass(frozen=True, eq=False)
class _State:
    """Where pruning was when `count` parameters were left."""

    net: Spliced
    count: int


class Run:
    """One run of the method; `notes` fills with what the searches found."""

    def __init__(
        self,
        options: Olmp,
        lots: Iterator[Lot],
        per_epoch: int,
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
        temperature: float = 2.0,
    ) -> None:
        self.options, self.lots, self.per_epoch = options, lots, per_epoch
        self.seed, self.device, self.progress = seed, device, progress
        self.loss = Loss(options.distil, temperature)
        self.rule = Rule(rate=options.rate)
        self.notes: list[str] = []

    @one_thread()
    def compress(
        self, graph: Graph, goal: int, bound: float | None, held_out: Dataset | None, must: bool = False
    ) -> tuple[Graph, str | None]:
        """The graph with as few as `goal` parameters, or with as few as keep `bound` (accuracy in per cent); and what
        is missed. must: `goal` is kept even where the bound is not.
        """
        states = self.prune(graph, goal, None if must or bound is None else bound - _HOPELESS, held_out)
        if bound is None or held_out is None:
            return self.tune(states[-1]), None
        best = self.tune(states[-1])
        reached = accuracy(best, held_out)
        if reached >= bound - 1e-9:
            return best, None
        if must:
            return best, f"max_drop: {reached:.2f} % of held-out samples are right, {bound:.2f} % are asked for"
        found = self._sparsest(states, lambda tuned: accuracy(tuned, held_out) >= bound - 1e-9)
        if found is None:
            return graph, f"max_drop: no pruned network has {bound:.2f} % of held-out samples right; nothing is pruned"
        return found, None

    def _sparsest(self, states: list[_State], fits: Callable[[Graph], bool]) -> Graph | None:
        """The sparsest state that fits when tuned; of the last one it is known that it does not.

        Mostly it is not far: one state back, then two, four, ...; and from the first that fits towards the sparsest.
        """
        last = fails = len(states) - 1
        holds, found, step = 0, None, 1
        while found is None and fails > 0:
            holds = max(last - step, 0)
            tuned = self.tune(states[holds])
            if fits(tuned):
                found = tuned
            else:
                fails, step = holds, 2 * step
        while found is not None and fails - holds > 1:
            middle = (holds + fails) // 2
            tuned = self.tune(states[middle])
            if fits(tuned):
                found, holds = tuned, middle
            else:
                fails = middle
        return found

    def prune(self, graph: Graph, goal: int, hopeless: float | None, held_out: Dataset | None) -> list[_State]:
        """Ever fewer parameters while training, fast at first; stops at `goal`, or where accuracy is hopeless."""
        options, steps = self.options, self.options.epochs * self.per_epoch
        net = Spliced(
            graph, options.scores, options.biases, options.structure, _autocast(graph, self.device), self.device
        )
        whole = net.count
        searches = {round(steps * (i + 1) / (options.searches + 1)) for i in range(options.searches)}
        if options.search == "none" or len(net.names) < 2:
            searches = set()
        states = [_State(net.copy(), whole)]
        chunk, done = max(steps // 40, 1), 0
        while done < steps:
            length = min(chunk, steps - done)
            if any(done <= s < done + length for s in searches):
                self._share(net, self._target(whole, goal, (done + 2 * length) / steps))
            start = done
            train(
                net,
                self.lots,
                self.loss,
                length,
                self.rule,
                lambda p: 1.0,
                lambda p: self._target(whole, goal, (start + p * length) / steps),  # noqa: B023
                lambda step: self.progress("pruning and splicing", start + step, steps),  # noqa: B023
            )
            done += length
            if done >= steps:
                net.remask(goal)  # the last of the training's own masks is some steps old
            net = self._smaller(net)
            if net.count <= _STATE * states[-1].count or done >= steps:
                states.append(_State(net.copy(), net.count))
                if hopeless is not None and held_out is not None and accuracy(net.result(), held_out) < hopeless:
                    break
        return states

    @staticmethod
    def _target(whole: int, goal: int, done: float) -> int:
        """Parameters left at `done` of all steps: their logarithm falls ever more slowly."""
        part = 1 - (1 - min(done / _NEXT, 1.0)) ** 3
        return round(whole * float((goal / whole) ** part))

    def _smaller(self, net: Spliced) -> Spliced:
        """Over a graph without dead channels, once that saves a quarter of the work."""
        cut = fold_constants(net.result())
        return net.on(cut) if cut.macs < 0.75 * net.graph.macs else net

    def tune(self, state: _State) -> Graph:
        """Trained at the state's number of parameters, spliced for the first 60 %, and dead channels taken out."""
        steps = self.options.tune * self.per_epoch
        net = state.net.copy()
        if steps:
            train(
                net,
                self.lots,
                self.loss,
                steps,
                replace(self.rule, freeze=0.6),
                lambda p: (1 + math.cos(math.pi * p)) / 2,
                lambda p: state.count,
                lambda step: self.progress(f"tuning {state.count:,} parameters", step, steps),
            )
        return fold_constants(net.result())

    def _share(self, net: Spliced, count: int) -> None:
        """Search the layers' offsets at `count` parameters; `net` changes in nothing else."""
        kind = self.options.search
        if kind == "none":
            return
        batches = [next(self.lots) for _ in range(_RECOVER)]
        judges = _joined([next(self.lots) for _ in range(-(-_SAMPLES // self.options.batch))])

        def value(offsets: search.Point) -> float:
            trial = net.copy()
            trial.offsets = offsets
            train(trial, batches, self.loss, _RECOVER, replace(self.rule, every=16), lambda p: 1 - p, lambda p: count)
            return trial.loss(judges, self.loss)

        workers = min(os.cpu_count() or 1, 4)
        found = search.minimise(
            kind, search.parallel(value, workers), net.offsets, _STEP, self.options.evaluations, self.seed
        )
        net.offsets = found.point - found.point.mean()
        shown = ", ".join(f"{n} {o:+.2f}" for n, o in zip(net.names, net.offsets, strict=True))
        self.notes.append(f"thresholds at {count:,} parameters (logarithms): {shown}")


def _joined(lots: list[Lot]) -> Lot:
    """One lot of several."""
    inputs = {k: torch.cat([lot.inputs[k] for lot in lots]) for k in lots[0].inputs}
    labels = [lot.labels for lot in lots if lot.labels is not None]
    soft = [lot.soft for lot in lots if lot.soft is not None]
    return Lot(inputs, torch.cat(labels) if labels else None, torch.cat(soft) if soft else None)


def _autocast(graph: Graph, device: str) -> bool:
    """Whether bfloat16 pays: convolutions, on a processor that multiplies it."""
    supported = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    convolution = any(n.op.kind == "Conv2D" for n in graph.nodes)
    return convolution and (device != "cpu" or bool(supported()))
