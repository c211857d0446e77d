"""Fine-tuning: what a network lost by compression, learned back from labels and from the network that it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from dnnc.compress.budget import accuracy
from dnnc.compress.method import Compressed, Setting
from dnnc.compress.train import Hooks, Params, Recipe, train
from dnnc.errors import OptionError
from dnnc.ir.graph import Graph
from dnnc.quantise.heads import heads
from dnnc.quantise.measure import changed, float_outputs

#: Of resnet8 (CIFAR-10) without three tenths of its channels, 60 steps of 64 images win back 32.1 points at this rate,
#: 25.1 at 0.05, and AdamW at 0.002 31.5: short runs, so no proof of what is best for long ones.
_RATE, _DISTIL = 0.02, 0.5
_BATCHES, _BATCH = 16, (16, 128)


def finetune(graph: Graph, original: Graph, setting: Setting, epochs: int) -> Compressed:
    """The graph trained for `epochs`, with its zero weights and its shapes as they are.

    The loss is half of the labels and half of the answers of `original`; without labels, all of these. With held-out
    samples the best epoch is kept, the graph as it came among them; without, the last one. Raises OptionError where
    `epochs` is below 1, or training diverges.
    """
    if epochs < 1:
        raise OptionError(f"fine-tuning expects a whole number of epochs >= 1, found {epochs}")
    batch = int(np.clip(len(setting.train) // _BATCHES, *_BATCH))
    recipe = Recipe(epochs, batch, rate=_RATE, distil=_DISTIL)
    best = _Best(graph, original, setting)
    before = best.score
    train(
        graph,
        setting.train,
        recipe,
        teacher=original,
        hooks=[best],
        seed=setting.seed,
        device=setting.device,
        progress=setting.progress,
        checkpoint=setting.checkpoint,
    )
    return Compressed(best.graph(), (best.told(before, epochs),))


class _Best(Hooks):
    """Keeps the best network at the end of an epoch. score: per cent right of held-out samples; without labels, minus
    the distance of the answers to the original's (see dnnc.quantise.measure.changed).
    """

    def __init__(self, graph: Graph, original: Graph, setting: Setting) -> None:
        self._start, self._original = graph, original
        self._held_out = setting.judges
        self._sample = setting.sample
        self._probabilities = [h.logits and h.value != o.value for h, o in self._pairs(original)]
        self._wanted = {} if self._held_out is not None else float_outputs(original, self._sample)
        self.epoch, self.score = 0, self._measure(graph)
        self._kept = self._tensors(graph)

    @staticmethod
    def _pairs(graph: Graph) -> list[tuple[Any, Any]]:
        of = heads(graph, False)
        return list(zip(of, graph.outputs, strict=True)) if len(of) == len(graph.outputs) else []

    def begin(self, snapshot: Callable[[], Graph]) -> None:
        self._snapshot = snapshot

    def after_epoch(self, params: Params, epoch: int) -> bool:
        found = self._snapshot()
        score = self._measure(found)
        # Equal scores go to the later epoch: it has seen more.
        if score >= self.score:
            self.epoch, self.score, self._kept = epoch + 1, score, self._tensors(found)
        return False

    def graph(self) -> Graph:
        nodes = [
            replace(n, params={**n.params, **{k: v.cpu().numpy() for k, v in self._kept.get(n.name, {}).items()}})
            for n in self._start.nodes
        ]
        return self._start.with_nodes(nodes).verify()

    def told(self, before: float, epochs: int) -> str:
        kept = f"as it was after epoch {self.epoch}" if self.epoch else "as it came, for no epoch was better"
        if self._held_out is None:
            return (
                f"{epochs} epochs on the original's answers, whose distance on {len(self._sample)} "
                f"samples was {-before:.4f} and is {-self.score:.4f}; kept {kept}"
            )
        whole = accuracy(self._original, self._held_out)
        return (
            f"{epochs} epochs: {before:.2f} % of {len(self._held_out)} held-out samples before, "
            f"{self.score:.2f} % after, the original {whole:.2f} %; kept {kept}"
        )

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "score": self.score, "kept": self._kept}

    def load_state(self, state: dict[str, Any]) -> None:
        self.epoch, self.score, self._kept = state["epoch"], state["score"], state["kept"]

    def _measure(self, graph: Graph) -> float:
        if self._held_out is not None:
            return accuracy(graph, self._held_out)
        found = float_outputs(graph, self._sample)
        probabilities = self._probabilities or [False] * len(found)
        parts = [changed(self._wanted[name], y, p) for (name, y), p in zip(found.items(), probabilities, strict=True)]
        return -sum(parts) / len(parts)

    @staticmethod
    def _tensors(graph: Graph) -> dict[str, dict[str, torch.Tensor]]:
        return {
            n.name: {k: torch.tensor(np.array(v)) for k, v in n.params.items() if k in ("weight", "bias", "slope")}
            for n in graph.nodes
            if n.params
        }
