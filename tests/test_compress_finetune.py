"""Fine-tuning: what it wins back, what it reports, and what it never makes worse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digits import Net, trained
from dnnc.compress.budget import accuracy
from dnnc.compress.feed import ArrayFeed
from dnnc.compress.finetune import finetune
from dnnc.compress.method import Setting
from dnnc.cost.loader import load_target
from dnnc.errors import OptionError
from dnnc.evaluate import evaluate_batches
from dnnc.ir.graph import Graph
from dnnc.quantise.dataset import Dataset


def setting(data: Dataset, labelled: bool = True, **others: Any) -> Setting:
    """The last 300 samples decide."""
    fed, held_out = data.take(slice(0, -300)), data.take(slice(-300, None))
    if not labelled:
        fed = Dataset(fed.inputs)
    return Setting(ArrayFeed(fed), fed.first(128), held_out if labelled else None, load_target("host"), **others)


def masked(graph: Graph, share: float) -> Graph:
    """Without the smallest weights of every layer but the last."""
    nodes = []
    for node in graph.nodes:
        if "weight" in node.params and node.name != "fc":
            weight = np.array(node.params["weight"])
            weight[np.abs(weight) < np.quantile(np.abs(weight), share)] = 0
            node = replace(node, params={**node.params, "weight": weight})
        nodes.append(node)
    return graph.with_nodes(nodes)


@pytest.mark.parametrize("labelled", [True, False])
def test_it_wins_back_what_was_lost(labelled: bool) -> None:
    graph, data, test = trained()
    damaged = masked(graph, 0.75)
    found = finetune(damaged, graph, setting(data, labelled), 4)
    before, after = accuracy(damaged, test), accuracy(found.graph, test)
    assert before < 75 and after > before + 12
    for node in damaged.nodes:
        if "weight" in node.params:
            kept = found.graph.by_name[node.name].params["weight"]
            assert np.array_equal(kept == 0, node.params["weight"] == 0)
    (note,) = found.notes
    assert note.startswith("4 epochs") and note.endswith(("after epoch 4", "after epoch 3"))
    if labelled:
        held_out = data.take(slice(-300, None))
        assert f"{accuracy(damaged, held_out):.2f} % of 300 held-out samples before" in note
        assert f"{accuracy(found.graph, held_out):.2f} % after" in note
        assert f"the original {accuracy(graph, held_out):.2f} %" in note
    else:
        assert "whose distance on 128 samples was" in note


def test_where_no_epoch_is_better_the_network_stays() -> None:
    graph, data, _ = trained()
    rng = np.random.default_rng(0)
    best = setting(data)
    assert best.held_out is not None
    wrong = replace(best, train=ArrayFeed(Dataset(data.inputs, rng.integers(0, 10, len(data)))))
    answers = evaluate_batches(graph, best.held_out.inputs)["probabilities"].argmax(1)
    perfect = replace(wrong, held_out=Dataset(best.held_out.inputs, answers))
    found = finetune(graph, graph, perfect, 2)
    assert accuracy(found.graph, perfect.held_out) == 100  # type: ignore[arg-type]
    if found.notes[0].endswith("no epoch was better"):
        for node in graph.nodes:
            for key, value in node.params.items():
                assert np.array_equal(found.graph.by_name[node.name].params[key], value)


def test_an_interruption_does_not_lose_the_best_epoch(tmp_path: Path) -> None:
    graph, data, _ = trained()
    damaged = masked(graph, 0.75)
    whole = finetune(damaged, graph, setting(data), 3)
    epochs: list[str] = []

    def interrupt(stage: str, done: int, total: int) -> None:
        epochs.append(stage)
        if "epoch 3" in stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(damaged, graph, setting(data, checkpoint=tmp_path, progress=interrupt), 3)
    found = finetune(damaged, graph, setting(data, checkpoint=tmp_path), 3)
    assert found.notes == whole.notes
    for a, b in zip(whole.graph.nodes, found.graph.nodes, strict=True):
        assert all(np.array_equal(a.params[k], b.params[k]) for k in a.params)


@pytest.mark.quick
def test_several_outputs_without_labels() -> None:
    net = Net(6, 6, 2)
    x = net.conv("c", "x", 4)
    y = net.conv("d", x, 3, clamp=net.nodes[0].op.clamp)
    graph = net.graph(x, y)
    rng = np.random.default_rng(0)
    data = Dataset({"x": rng.normal(0, 1, (400, 6, 6, 2)).astype(np.float32)})
    nodes = [replace(n, params={k: p + rng.normal(0, 0.1, p.shape) for k, p in n.params.items()}) for n in graph.nodes]
    found = finetune(graph.with_nodes(nodes), graph, setting(data, labelled=False), 1)
    assert [o.model_name for o in found.graph.outputs] == ["c", "d"]


@pytest.mark.quick
def test_no_epochs_are_refused() -> None:
    graph, data, _ = trained()
    with pytest.raises(OptionError, match="epochs >= 1, found 0"):
        finetune(graph, graph, setting(data), 0)
