"""Training of float graphs: the loop that fine-tuning, soft quantisation and learned pruning share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dnnc.compress import checkpoint as stored
from dnnc.compress.feed import Batch, Feed
from dnnc.compress.loss import Objective
from dnnc.compress.recalibrate import recalibrate
from dnnc.compress.recipe import Hooks, Params, Recipe
from dnnc.compress.trainable import Statistics, Trainable, parameters_on
from dnnc.errors import DataError, OptionError
from dnnc.ir.graph import Graph
from dnnc.progress import Progress, silent
from dnnc.quantise.threads import one_thread

__all__ = ["Hooks", "Params", "Recipe", "recalibrate", "train"]

#: Batches that statistics are taken of, at the start and for the result.
_STATISTICS_BATCHES = 20
#: How often training that diverges is tried again, at a quarter of the rate each time.
_ATTEMPTS = 3
#: Share of a one-cycle schedule in which the rate rises, and what it starts from.
_RISE, _FIRST = 0.25, 0.04
_LAST = 1e-3


@one_thread()
def train(
    graph: Graph,
    feed: Feed,
    recipe: Recipe,
    *,
    teacher: Graph | None = None,
    hooks: Sequence[Hooks] = (),
    keep_zeros: bool = True,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = silent,
    checkpoint: Path | None = None,
) -> Graph:
    """The graph with learned weights: same nodes, same shapes.

    Labels are learned, where the feed has them; `teacher` (None: the graph as it is given) is matched by the share
    `recipe.distil`, and in whatever labels do not tell. keep_zeros: weights that are 0 stay 0, and so do biases of
    channels without weights; where nothing is normalised, all zero biases of layers with zero weights. checkpoint: a
    file, or a folder to make one in; training goes on from there if graph, recipe and seed are the same. The same seed
    gives the same result on the same machine. Raises OptionError where training diverges.
    """
    return _Training(graph, feed, recipe, teacher, hooks, keep_zeros, seed, device, progress).run(checkpoint)


class _Training:
    def __init__(
        self,
        graph: Graph,
        feed: Feed,
        recipe: Recipe,
        teacher: Graph | None,
        hooks: Sequence[Hooks],
        keep_zeros: bool,
        seed: int,
        device: str,
        progress: Progress,
    ) -> None:
        self.feed, self.recipe, self.hooks, self.seed = feed, recipe, tuple(hooks), seed
        self.device, self.progress = device, progress
        batches = self._some()
        if not batches:
            raise DataError("training needs at least one batch of samples, found none")
        self.net = Trainable(graph, batches, recipe.normalise, keep_zeros)
        self.objective = Objective(
            graph, teacher or graph, recipe, feed.labelled, batches, parameters_on(teacher or graph, device)
        )
        self.extra = [t for hook in self.hooks for t in hook.tensors().values()]
        self.leaves = [*self.net.leaves.values(), *self.extra]
        self.optimiser = self._optimiser()
        self.average: list[torch.Tensor] | None = None
        self.steps, self.epoch, self.factor, self.stopped = 0, 0, 1.0, False
        self.bf16 = recipe.autocast and self.objective.classifier and _fast_bf16(device, graph)
        names = [str(h) for h in self.hooks]
        self.digest = stored.digest([graph, teacher or graph], recipe, seed, keep_zeros, names, len(feed))

    def run(self, path: Path | None) -> Graph:
        for hook in self.hooks:
            hook.begin(self.snapshot)
        if path is not None:
            path = stored.place(path, self.digest)
            state, why = stored.load(path, self.digest, self.device)
            if why is not None:
                self.progress(f"training starts anew: {why}", 0, self.recipe.epochs)
            if state is not None:
                self._restore(state)
        attempts = 0
        while self.epoch < self.recipe.epochs and not self.stopped:
            before = self._state()
            if not self._epoch():
                attempts += 1
                if attempts > _ATTEMPTS:
                    rate = self.recipe.peak_rate
                    raise OptionError(
                        f"training diverges at a rate of {rate:g} and at {rate * self.factor:g} still: {_HINT}"
                    )
                self._restore(before)
                self.factor /= 4
                continue
            params = self._detached()
            for hook in self.hooks:
                self.stopped |= hook.after_epoch(params, self.epoch)
            if self.hooks:
                self.net.assign(params)
            self.epoch += 1
            if path is not None:
                stored.save(path, self.digest, self._state())
        found = self.snapshot()
        if not all(np.isfinite(p).all() for n in found.nodes for p in n.params.values()):
            raise OptionError(f"training diverges at a rate of {self.recipe.peak_rate * self.factor:g}: {_HINT}")
        return found

    def _epoch(self) -> bool:
        """One pass over the feed; False where the loss or a gradient is not finite."""
        generator = self._generator(self.epoch)
        total, count, seen = 0.0, 0, 0
        for batch in self.feed.batches(self.recipe.batch, generator):
            done = min(1.0, (self.epoch + seen / max(len(self.feed), 1)) / self.recipe.epochs)
            if self.recipe.max_steps is not None:
                done = max(done, self.steps / self.recipe.max_steps)
            found = self._step(batch.to(self.device), done)
            if found is None:
                return False
            total, count, seen, self.steps = total + found, count + 1, seen + len(batch), self.steps + 1
            if count % 10 == 1:
                stage = f"training, epoch {self.epoch + 1} of {self.recipe.epochs}, loss {total / count:.4f}"
                self.progress(stage, int(1000 * done), 1000)
            if self.recipe.max_steps is not None and self.steps >= self.recipe.max_steps:
                self.stopped = True
                break
        if count == 0:
            raise DataError("training needs at least one batch of samples, found none")
        return True

    def _step(self, batch: Batch, done: float) -> float | None:
        """The loss; None where it or its gradient is not finite."""
        rate = self.recipe.peak_rate * self.factor * _schedule(self.recipe.schedule, done)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["multiple"]
        self.optimiser.zero_grad()
        raw = self.net.params()
        params = raw
        for hook in self.hooks:
            params = hook.params(params, done)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.bf16):
            taught = self.objective.teach(batch)
            found = self.net.values(batch.inputs, params, self.objective.wanted, self._change if self.hooks else None)
        objective = self.objective.loss(found, batch.labels, taught)
        reported = objective.item()
        for hook in self.hooks:
            penalty = hook.penalty(raw, done)
            objective = objective if penalty is None else objective + penalty
        objective.backward()  # type: ignore[no-untyped-call]
        self.net.mask(gradients=True)
        norm = torch.nn.utils.clip_grad_norm_(self.leaves, self.recipe.clip)
        if not (math.isfinite(reported) and math.isfinite(float(norm))):
            return None
        self.optimiser.step()
        if self.hooks:
            changed = self._detached()
            for hook in self.hooks:
                hook.after_step(changed, done)
            self.net.assign(changed)
        self.net.mask(gradients=False)
        self._average()
        return reported

    def _change(self, name: str, value: torch.Tensor) -> torch.Tensor:
        for hook in self.hooks:
            value = hook.value(name, value)
        return value

    def snapshot(self) -> Graph:
        """The network as it stands, in float32, with statistics over some batches folded in."""
        leaves = None if self.average is None else dict(zip(self.net.leaves, self.average, strict=False))
        with torch.no_grad():
            params = self.net.params(leaves)
            for hook in self.hooks:
                params = hook.params(params, 1.0)
            statistics: dict[str, Statistics] = {}
            if self.net.normalised:
                statistics = self.net.measure(self._some(), params, self._change if self.hooks else None)
            return self.net.fold(params, statistics)

    def _some(self) -> list[dict[str, torch.Tensor]]:
        """Inputs of some batches, always the same ones."""
        found = []
        for batch in self.feed.batches(self.recipe.batch, self._generator(-1)):
            found.append(batch.to(self.device).inputs)
            if len(found) == _STATISTICS_BATCHES:
                break
        return found

    def _generator(self, epoch: int) -> torch.Generator:
        """Chance of one epoch: where training goes on does not depend on where it was interrupted."""
        entropy = np.random.SeedSequence([self.seed, epoch + 1]).generate_state(1)[0]
        return torch.Generator().manual_seed(int(entropy))

    @torch.no_grad()
    def _detached(self) -> Params:
        return {node: {k: v.detach() for k, v in params.items()} for node, params in self.net.params().items()}

    @torch.no_grad()
    def _average(self) -> None:
        if self.recipe.average == 0:
            return
        if self.average is None:
            self.average = [leaf.detach().clone() for leaf in self.net.leaves.values()]
        # The first steps count less than a fixed share would let them.
        share = min(self.recipe.average, (1 + self.steps) / (10 + self.steps))
        for kept, leaf in zip(self.average, self.net.leaves.values(), strict=True):
            kept.lerp_(leaf, 1 - share)

    def _optimiser(self) -> torch.optim.Optimizer:
        weights = [leaf for (_, key), leaf in self.net.leaves.items() if key == "weight"]
        others = [leaf for (_, key), leaf in self.net.leaves.items() if key != "weight"]
        groups: list[dict[str, Any]] = [
            {"params": weights, "weight_decay": self.recipe.decay, "multiple": 1.0},
            {"params": others, "weight_decay": 0.0, "multiple": 1.0},
        ]
        for hook in self.hooks:
            if tensors := list(hook.tensors().values()):
                groups.append({"params": tensors, "weight_decay": 0.0, "multiple": hook.rate()})
        groups = [g for g in groups if g["params"]]
        if not groups:
            raise OptionError("there is nothing to train: the network has no weights")
        if self.recipe.optimiser == "adamw":
            return torch.optim.AdamW(groups, lr=self.recipe.peak_rate)
        return torch.optim.SGD(groups, lr=self.recipe.peak_rate, momentum=0.9, nesterov=True)

    def _state(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "steps": self.steps,
            "factor": self.factor,
            "stopped": self.stopped,
            "leaves": [leaf.detach().clone() for leaf in self.leaves],
            "average": None if self.average is None else [a.clone() for a in self.average],
            "optimiser": _copied(self.optimiser.state_dict()),
            "hooks": [hook.state() for hook in self.hooks],
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.epoch, self.steps = state["epoch"], state["steps"]
        self.factor, self.stopped = state["factor"], state["stopped"]
        with torch.no_grad():
            for leaf, value in zip(self.leaves, state["leaves"], strict=True):
                leaf.copy_(value)
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        for hook, of_hook in zip(self.hooks, state["hooks"], strict=True):
            hook.load_state(of_hook)


_HINT = "give a smaller rate, and look for extreme values in the data"


def _schedule(name: str, done: float) -> float:
    """The rate in units of the highest one, 0 <= done <= 1 (one-cycle: Smith and Topin, 2018)."""
    if name == "constant":
        return 1.0
    if name == "cosine":
        return _LAST + (1 - _LAST) * (1 + math.cos(math.pi * done)) / 2
    if done < _RISE:
        return _FIRST + (1 - _FIRST) * (1 - math.cos(math.pi * done / _RISE)) / 2
    return _LAST + (1 - _LAST) * (1 + math.cos(math.pi * (done - _RISE) / (1 - _RISE))) / 2


def _copied(tree: Any) -> Any:
    if isinstance(tree, torch.Tensor):
        return tree.clone()
    if isinstance(tree, dict):
        return {k: _copied(v) for k, v in tree.items()}
    return [_copied(v) for v in tree] if isinstance(tree, list) else tree


def _fast_bf16(device: str, graph: Graph) -> bool:
    """Whether convolutions in bfloat16 pay: on GPUs that have them, and on CPUs with matrix tiles (AMX)."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return torch.device(device).type == "cpu" and supported is not None and bool(supported())
