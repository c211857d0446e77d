"""What a network lost by compression, learned back: `--finetune EPOCHS`."""

from __future__ import annotations

from dnnc.compress.budget import accuracy
from dnnc.compress.method import Compressed, Setting
from dnnc.compress.recipe import Recipe
from dnnc.compress.train import train
from dnnc.ir.graph import Graph

#: Half of what is learned are the answers of the network as it was (Hinton et al., arXiv 1503.02531).
_DISTIL = 0.5


def finetune(graph: Graph, original: Graph, setting: Setting, epochs: int) -> Compressed:
    """`graph` trained for `epochs`, with `original` as its teacher; weights that are exactly 0 stay so."""
    labelled = setting.train.labelled
    tuned = train(
        graph,
        setting.train,
        Recipe(epochs=epochs, distil=_DISTIL if labelled else 1.0),
        teacher=original,
        seed=setting.seed,
        device=setting.device,
        progress=setting.progress,
        checkpoint=setting.checkpoint,
    )
    if setting.held_out is None or setting.held_out.labels is None:
        return Compressed(tuned, (f"{epochs} epochs on the answers of the original network",))
    before, after = accuracy(graph, setting.held_out), accuracy(tuned, setting.held_out)
    if after < before:
        return Compressed(graph, (f"{epochs} epochs did not help ({before:.2f} % to {after:.2f} %): left as it was",))
    return Compressed(tuned, (f"{epochs} epochs: {before:.2f} % to {after:.2f} % of held-out samples",))
