"""A run of OLMP: pruning and splicing, rounds, and the search for the sparsest network that is accurate enough."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from dnnc import ops
from dnnc.compress import checkpoint as stored
from dnnc.compress import search
from dnnc.compress.budget import accuracy, weight_count
from dnnc.compress.constants import fold_constants
from dnnc.compress.narrow import narrow
from dnnc.compress.sparsest import State, sparsest
from dnnc.compress.splicing import Rule, Spliced, train
from dnnc.compress.stream import Loss, Lot
from dnnc.ir.graph import Graph
from dnnc.ir.serial import dump_graph, load_graph
from dnnc.progress import Progress, silent
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.threads import one_thread

if TYPE_CHECKING:
    from dnnc.compress.olmp import Olmp

_STATE, _NEXT = 0.87, 0.9  # a state is kept whenever so much of the last one's parameters is left; part that prunes
_SAMPLES, _RECOVER, _STEP = 2048, 48, 0.3  # of the search: samples, steps of a candidate's training, first distance
_HOPELESS = 8.0  # points of accuracy below the bound at which pruning stops, before any tuning
_FEW = 1000  # held-out samples that say so
_WARM, _REST = 0.12, 0.3  # part of a training in which the rate rises; what is left of it at the end of a round
_SEEN = 64  # batches that "fisher" sees before it compares


@dataclass(frozen=True)
class Kept:
    """Where states are stored, and what tells this run from others. path: a file, or a folder to make one in."""

    path: Path
    digest: str


class Run:
    """One run of the method; `notes` fills with what the searches found.

    kept: states are stored after pruning and splicing and after every round, and a run that was interrupted goes on
    from there, with the batches that would have come: it gives what it would have given.
    """

    def __init__(
        self,
        options: Olmp,
        lots: Iterator[Lot],
        per_epoch: int,
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
        kept: Kept | None = None,
    ) -> None:
        self.options, self.per_epoch = options, per_epoch
        self.seed, self.device, self.progress = seed, device, progress
        self.kept = None if kept is None else Kept(stored.place(kept.path, kept.digest), kept.digest)
        self.drawn = 0
        self.lots = self._counted(lots)
        self.loss = Loss(options.distil, options.temperature)
        self.rule = Rule(rate=options.rate, decay=options.decay)
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
        found = sparsest(states, self.tune, lambda tuned: accuracy(tuned, held_out) >= bound - 1e-9)
        if found is None:
            return graph, f"max_drop: no pruned network has {bound:.2f} % of held-out samples right; nothing is pruned"
        return found, None

    def prune(self, graph: Graph, goal: int, hopeless: float | None, held_out: Dataset | None) -> list[State]:
        """Ever fewer parameters while training; stops at `goal`, or where accuracy is hopeless."""
        rounds = self.options.rounds
        whole = weight_count(graph)
        start = min(round(goal * self.options.spare), whole) if rounds else goal

        few = None if held_out is None else held_out.spread(_FEW)

        def lost(state: State) -> bool:
            return hopeless is not None and few is not None and accuracy(state.graph, few) < hopeless

        states, first = self._restored()
        if not states:
            states = [State(graph, whole)] if start == whole else self._splice(graph, start, lost)
            self._store(states, 0)
        for index in range(first, rounds):
            before = states[-1]
            if before.count > start or lost(before):
                break
            trained = self._frozen(
                before, self.options.each, _round_rate, f"round {index + 1} of {rounds}, {before.count:,} parameters"
            )
            count = min(round(start * (goal / start) ** ((index + 1) / rounds)), before.count)
            states[-1:] = [State(trained, before.count), State(trained, count)]
            self._store(states, index + 1)
        return states

    def _store(self, states: list[State], rounds: int) -> None:
        if self.kept is not None:
            graphs = [torch.frombuffer(bytearray(dump_graph(s.graph)), dtype=torch.uint8) for s in states]
            counts = [s.count for s in states]
            state = {"graphs": graphs, "counts": counts, "rounds": rounds, "drawn": self.drawn, "notes": self.notes}
            stored.save(self.kept.path, self.kept.digest, state)

    def _restored(self) -> tuple[list[State], int]:
        """The states that were stored, none where nothing was, and the rounds; batches until then are passed over."""
        if self.kept is None:
            return [], 0
        state, why = stored.load(self.kept.path, self.kept.digest, "cpu")
        if why is not None:
            self.progress(f"pruning starts anew: {why}", 0, 1)
        if state is None:
            return [], 0
        for _ in range(state["drawn"]):
            next(self.lots)
        self.notes[:] = state["notes"]
        graphs = (load_graph(g.numpy().tobytes(), ops.BY_KIND) for g in state["graphs"])
        return [State(g, count) for g, count in zip(graphs, state["counts"], strict=True)], state["rounds"]

    def _counted(self, lots: Iterable[Lot]) -> Iterator[Lot]:
        for lot in lots:
            self.drawn += 1
            yield lot

    def _splice(self, graph: Graph, goal: int, lost: Callable[[State], bool]) -> list[State]:
        """Pruning and splicing, fast at first."""
        options, steps = self.options, self.options.epochs * self.per_epoch
        net = self._spliced(graph)
        whole = net.count
        searches = {round(steps * (i + 1) / (options.searches + 1)) for i in range(options.searches)}
        if options.search == "none" or len(net.names) < 2:
            searches = set()
        states = [State(graph, whole)]
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
                states.append(State(net.result(), net.count))
                if done < steps and lost(states[-1]):
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

    def tune(self, state: State) -> Graph:
        """Trained at the state's number of parameters, and dead channels taken out."""
        return fold_constants(self._frozen(state, self.options.tune, _last_rate, f"tuning {state.count:,} parameters"))

    def _frozen(self, state: State, epochs: int, scale: Callable[[float], float], stage: str) -> Graph:
        """Pruned to the state's number of parameters in one go, then trained with a mask that stays.

        Without rounds masks change for the first 60 %. Dead channels are taken out.
        """
        steps = epochs * self.per_epoch
        narrowed = narrow(fold_constants(state.graph))
        net, lots = self._spliced(narrowed.graph), narrowed.lots(self.lots)
        if net.kind == "fisher" and state.count < net.count:
            for _ in range(_SEEN):
                net.backward(next(lots), self.loss)
        if state.count < net.count:
            net.remask(state.count)
        train(
            net,
            lots,
            self.loss,
            steps,
            replace(self.rule, freeze=0.0 if self.options.rounds else 0.6),
            scale,
            lambda p: state.count,
            lambda step: self.progress(stage, step, steps),
        )
        return narrowed.widened(net.result())

    def _spliced(self, graph: Graph) -> Spliced:
        options = self.options
        autocast = _autocast(graph, self.device)
        return Spliced(graph, options.scores, options.biases, options.structure, autocast, self.device)

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


def _round_rate(done: float) -> float:
    """Of the rate, in a round: up, as pruning has just been, and down to a part of it."""
    return min(done / _WARM + 0.1, 1.0) * (_REST + (1 - _REST) * (1 + math.cos(math.pi * done)) / 2)


def _last_rate(done: float) -> float:
    """Of the rate, in tuning: up, and down to 0."""
    return min(done / _WARM + 0.1, 1.0) * (1 + math.cos(math.pi * done)) / 2


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
