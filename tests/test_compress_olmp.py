"""OLMP: masks that change while training, thresholds of layers, budgets, and what it does to odd networks."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import digits
from dnnc.compress import METHODS, parse_method
from dnnc.compress.budget import accuracy, weight_count
from dnnc.compress.feed import ArrayFeed
from dnnc.compress.method import Setting
from dnnc.compress.narrow import narrow
from dnnc.compress.olmp import Olmp
from dnnc.compress.sparsest import State, sparsest
from dnnc.compress.splicing import Rule, Spliced, train
from dnnc.compress.stream import Loss, Lot, lot_of, stream
from dnnc.cost.loader import load_target
from dnnc.errors import OptionError
from dnnc.evaluate import evaluate_batches
from dnnc.ir.graph import Graph
from dnnc.ops.elementwise import Add
from dnnc.ops.movement import Reshape
from dnnc.quantise.dataset import Dataset


def random_lot(graph: Graph, count: int = 64, labels: bool = True, seed: int = 0) -> Lot:
    rng = np.random.default_rng(seed)
    inputs = {i.name: rng.random((count, *i.type.shape), np.float32) for i in graph.inputs}
    return lot_of(Dataset(inputs, rng.integers(0, 10, count) if labels else None), None if labels else graph)


def setting(graph: Graph, train_on: Dataset, held_out: Dataset | None, seed: int = 0) -> Setting:
    return Setting(ArrayFeed(train_on), train_on.first(200), held_out, load_target("cortex-m7"), seed=seed)


@pytest.mark.quick
def test_select_leaves_the_count_and_the_live_mask() -> None:
    net = Spliced(digits.network(softmax=False))
    before = net.mask.clone()
    for count in (1, 100, 1000, len(net.weights)):
        assert int(net.select(net.scores(), net.offsets, count).sum()) == count
    assert torch.equal(net.mask, before)
    net.remask(100)
    assert net.count == 100 == sum(net.alive().values()) == weight_count(net.result())


@pytest.mark.quick
def test_offsets_share_the_count() -> None:
    """A layer whose threshold is raised keeps fewer parameters, and the others keep more."""
    net = Spliced(digits.network(softmax=False))
    net.remask(500)
    equal = net.alive()
    net = Spliced(digits.network(softmax=False))
    net.offsets[net.names.index("c2")] = 1.0
    net.remask(500)
    assert net.count == 500 and net.alive()["c2"] < equal["c2"]
    assert all(net.alive()[n] >= equal[n] for n in net.names if n != "c2")


@pytest.mark.quick
def test_hysteresis() -> None:
    """Of parameters within 10 % of the threshold those stay that lived; far above it a dead one returns."""
    net = Spliced(digits.network(softmax=False))
    net.weights[:] = 0.0
    net.weights[:4] = torch.tensor([1.00, 1.05, 1.10, 2.0])
    net.mask[:] = False
    net.mask[0] = True
    kept = net.select(net.scores(), net.offsets, 2)
    assert kept.nonzero().flatten().tolist() == [0, 3]


@pytest.mark.quick
def test_biases_can_be_left_alone() -> None:
    net = Spliced(digits.network(softmax=False), biases=False)
    net.remask(100)
    assert all(np.all(n.params["bias"] != 0) for n in net.result().nodes if "bias" in n.params)


@pytest.mark.quick
def test_masked_parameters_learn_and_return() -> None:
    """What is masked gets the gradient of the masked network, and comes back once that made it large."""
    graph = digits.network(softmax=False)
    net, lot = Spliced(graph), random_lot(graph)
    net.remask(300)
    dead, before = ~net.mask, net.weights.clone()
    train(net, [lot] * 60, Loss(), 60, Rule(rate=0.2, every=8), lambda p: 1.0, lambda p: 300)
    assert not torch.equal(net.weights[dead], before[dead])
    assert bool((net.mask & dead).any()) and net.count == 300
    zeros = sum(int((n.params["weight"] == 0).sum()) for n in net.result().nodes if "weight" in n.params)
    assert zeros >= len(before) - 300 - sum(len(n.params["bias"]) for n in graph.nodes if "bias" in n.params)


@pytest.mark.quick
def test_frozen_masks_stay() -> None:
    graph = digits.network(softmax=False)
    net, lot = Spliced(graph), random_lot(graph)
    net.remask(300)
    mask = net.mask.clone()
    train(net, [lot] * 40, Loss(), 40, Rule(rate=0.2, every=8, freeze=0.0), lambda p: 1.0, lambda p: 300)
    assert torch.equal(net.mask, mask)


@pytest.mark.quick
@pytest.mark.parametrize("scores", ["magnitude", "fisher"])
def test_a_copy_trains_by_itself(scores: str) -> None:
    graph = digits.network(softmax=False)
    net, lot = Spliced(graph, scores), random_lot(graph)  # type: ignore[arg-type]
    train(net, [lot] * 10, Loss(), 10, Rule(), lambda p: 1.0, lambda p: 1000)
    weights, mask = net.weights.clone(), net.mask.clone()
    trial = net.copy()
    assert torch.equal(trial.scores(), net.scores())
    train(trial, [lot] * 10, Loss(), 10, Rule(), lambda p: 1.0, lambda p: 300)
    assert torch.equal(net.weights, weights) and torch.equal(net.mask, mask) and trial.count == 300


@pytest.mark.quick
def test_structure_lets_channels_die() -> None:
    """At the same count, fewer rows are alive."""
    rows = []
    for structure in (0.0, 1.0):
        graph = digits.network(softmax=False)
        net, lot = Spliced(graph, structure=structure), random_lot(graph)
        train(net, [lot] * 40, Loss(), 40, Rule(every=4), lambda p: 1.0, lambda p: round(2000 * 0.1**p))
        weights = [n.params["weight"] for n in net.result().nodes if "weight" in n.params]
        rows.append(sum(int(np.any(w.reshape(len(w), -1), axis=1).sum()) for w in weights))
    assert rows[1] < rows[0]


@pytest.mark.quick
def test_loss_of_probabilities_is_that_of_their_logits() -> None:
    plain, softmax = digits.network(softmax=False), digits.network(softmax=True)
    lot = random_lot(plain)
    assert Spliced(plain).loss(lot, Loss()) == pytest.approx(Spliced(softmax).loss(lot, Loss()), rel=1e-5)


@pytest.mark.quick
def test_stream_is_repeatable() -> None:
    graph = digits.network(softmax=False)
    lot = random_lot(graph, 100)
    data = Dataset({k: v.numpy() for k, v in lot.inputs.items()}, lot.labels.numpy())  # type: ignore[union-attr]
    twice = [[next(s) for _ in range(4)] for s in (stream(ArrayFeed(data), graph, 32, seed=5) for _ in range(2))]
    for one, two in zip(*twice, strict=True):
        assert torch.equal(one.inputs["x"], two.inputs["x"]) and torch.equal(one.soft, two.soft)  # type: ignore[arg-type]


@pytest.mark.quick
@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("distil", [0.0, 0.6, 1.0])
def test_gradient_of_the_loss(distil: float, labels: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(16, 10, generator=rng, requires_grad=True)
    soft = 3 * torch.randn(16, 10, generator=rng)
    lot = Lot({"x": soft}, torch.randint(0, 10, (16,), generator=rng) if labels else None, soft)
    loss = Loss(distil, 3.0)
    loss(logits, lot).backward()  # type: ignore[no-untyped-call]
    assert torch.allclose(logits.grad, loss.gradient(logits.detach(), lot), atol=1e-7)  # type: ignore[arg-type]


def flattened(seed: int = 0, shape: tuple[int, ...] = (4, 4, 2)) -> Graph:
    """Two dense layers over a flattened image, of which a quarter of the inputs are read."""
    net = digits.Net(*shape, seed=seed)
    flat = net.add("flat", Reshape((32,)), ["x"]) if len(shape) > 1 else "x"
    graph = net.graph(net.dense("b", net.dense("a", flat, 8, clamp=digits.RELU), 10))
    weight = np.array(graph.by_name["a"].params["weight"])
    weight[:, np.arange(32) % 4 != 1] = 0
    node = replace(graph.by_name["a"], params={**graph.by_name["a"].params, "weight": weight})
    return graph.with_nodes([node if n.name == "a" else n for n in graph.nodes])


@pytest.mark.quick
@pytest.mark.parametrize("shape", [(4, 4, 2), (32,)])
def test_narrowed_networks_compute_the_same(shape: tuple[int, ...]) -> None:
    graph = flattened(shape=shape)
    found = narrow(graph)
    assert found.graph.inputs[0].type.shape == (8,) and weight_count(found.graph) == weight_count(graph)
    lot = random_lot(graph, 20)
    (less,) = found.lots([lot])
    shown = {k: v.numpy() for k, v in lot.inputs.items()}
    wanted = evaluate_batches(graph, shown)["b"]
    assert np.allclose(
        wanted, evaluate_batches(found.graph, {k: v.numpy() for k, v in less.inputs.items()})["b"], atol=1e-6
    )
    back = found.widened(found.graph)
    assert back.inputs == graph.inputs and np.array_equal(wanted, evaluate_batches(back, shown)["b"])


@pytest.mark.quick
def test_what_is_not_flattened_stays_whole() -> None:
    """Neither an image that a convolution reads, nor a vector that is an output too or read by a sum."""
    net = digits.Net(32)
    dense = net.dense("a", "x", 32)
    both = net.add("sum", Add(), [dense, "x"])
    shown = digits.Net(4, 4, 2)
    flat = shown.add("flat", Reshape((32,)), ["x"])
    for graph in (residual(), net.graph(both), shown.graph(shown.dense("b", flat, 10), flat)):
        masked = Spliced(graph)
        masked.mask[:] = False
        masked.remask(20)
        found = narrow(masked.result())
        assert found.kept == {} and found.graph.inputs == graph.inputs


@pytest.mark.quick
@pytest.mark.parametrize("least", [95, 130, 400, 999])
def test_the_sparsest_is_found_to_three_per_cent(least: int) -> None:
    """States are 13 % apart; what lies between two is cut from the denser one. None is found only where none fits."""
    counts = [round(1000 * 0.87**i) for i in range(20)]
    asked: list[int] = []

    def tune(state: State) -> Graph:
        asked.append(state.count)
        return digits.network()

    found = sparsest([State(digits.network(), c) for c in counts], tune, lambda graph: asked[-1] >= least)
    best = min(c for c in asked if c >= least)
    assert found is not None and best <= max(least / 0.97, least + 1) and len(asked) <= 12
    assert sparsest([State(digits.network(), c) for c in counts], tune, lambda graph: False) is None


@lru_cache
def perceptron() -> tuple[Graph, Dataset, Dataset]:
    """64-48-10 on handwritten digits (graph, training samples, test samples): some 97 % right, trained in a second."""
    x, y = digits.images()
    net = digits.Net(64)
    net.dense("a", "x", 48, clamp=digits.RELU)
    net.dense("b", "a", 10)
    data = Dataset({"x": x.reshape(-1, 64)}, y)
    trained = Spliced(net.graph("b"))
    lots = stream(ArrayFeed(data.take(slice(0, digits.TRAINED))), None, 64, seed=0)
    train(trained, lots, Loss(), 600, Rule(rate=0.1), lambda p: 1 - p, lambda p: len(trained.weights))
    return trained.result(), data.take(slice(0, digits.TRAINED)), data.take(slice(digits.TRAINED, None))


def test_params_budget() -> None:
    graph, data, test = perceptron()
    found = Olmp(params=0.15, epochs=15, tune=15, searches=0).apply(graph, setting(graph, data, None))
    assert found.missed is None
    assert 0.13 * weight_count(graph) < weight_count(found.graph) <= 0.15 * weight_count(graph)
    assert accuracy(found.graph, test) > accuracy(graph, test) - 4


def test_search_is_repeatable() -> None:
    """Candidates train on several threads; the thresholds and weights come out the same."""
    graph, data, _ = perceptron()
    method = Olmp(params=0.3, epochs=1, tune=1, searches=1, evaluations=4)
    one, two = (method.apply(graph, setting(graph, data, None)) for _ in range(2))
    assert one.notes == two.notes and any("thresholds" in note for note in one.notes)
    for a, b in zip(one.graph.nodes, two.graph.nodes, strict=True):
        assert all(np.array_equal(a.params[k], b.params[k]) for k in a.params)


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    """From the last round: what was drawn is drawn again, and the result is that of a run that nothing stopped."""
    graph, data, _ = perceptron()
    method = Olmp(params=0.1, epochs=2, rounds=3, tune=2, search="none")
    told: list[str] = []

    def stop(stage: str, done: int, total: int) -> None:
        if stage.startswith("round 3"):
            raise KeyboardInterrupt

    def run(**others: Any) -> Graph:
        return method.apply(graph, replace(setting(graph, data, None), **others)).graph

    whole = run()
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=tmp_path, progress=stop)
    again = run(checkpoint=tmp_path, progress=lambda stage, done, total: told.append(stage))
    assert told[0].startswith("round 3 of 3")
    for a, b in zip(whole.nodes, again.nodes, strict=True):
        assert all(np.array_equal(a.params[k], b.params[k]) for k in a.params)
    run(checkpoint=tmp_path, seed=1)
    assert len(list(tmp_path.iterdir())) == 2


def test_without_rounds_splicing_goes_all_the_way() -> None:
    graph, data, test = perceptron()
    found = Olmp(params=0.15, epochs=10, rounds=0, tune=10, search="none", scores="magnitude").apply(
        graph, setting(graph, data, None)
    )
    assert weight_count(found.graph) <= 0.15 * weight_count(graph)
    assert accuracy(found.graph, test) > accuracy(graph, test) - 4


def test_max_drop_is_kept_on_held_out_samples() -> None:
    graph, data, test = perceptron()
    held_out, final = test.halves()
    method = Olmp(max_drop=1.0, least=0.03, epochs=10, tune=5, search="none")
    found = method.apply(graph, setting(graph, data, held_out))
    assert found.missed is None
    assert accuracy(found.graph, held_out) >= accuracy(graph, held_out) - 1.0
    assert weight_count(found.graph) < 0.4 * weight_count(graph)
    assert accuracy(found.graph, final) > 90


def test_a_bound_out_of_reach_is_said() -> None:
    graph, data, test = perceptron()
    found = Olmp(max_drop=0.0, params=0.01, epochs=2, tune=1, search="none").apply(graph, setting(graph, data, test))
    assert found.missed is not None and "max_drop" in found.missed
    assert weight_count(found.graph) <= 0.01 * weight_count(graph)


def residual(seed: int = 0) -> Graph:
    """A residual sum of two branches, and two outputs."""
    net = digits.Net(6, 6, 2, seed=seed)
    a = net.conv("a", "x", 8)
    b = net.conv("b", a, 8)
    s = net.add("sum", Add(), [a, b])
    c = net.conv("c", s, 4, stride=(2, 2))
    return net.graph(c, s)


def test_without_labels() -> None:
    """Two outputs, a residual sum and no labels: half of the parameters go, the teacher is followed."""
    graph = residual()
    rng = np.random.default_rng(0)
    data = Dataset({"x": rng.random((256, 6, 6, 2), np.float32)})
    found = Olmp(epochs=2, tune=2, searches=1, evaluations=4).apply(graph, setting(graph, data, None))
    assert found.missed is None and weight_count(found.graph) <= 0.5 * weight_count(graph)
    assert [o.model_name for o in found.graph.outputs] == [o.model_name for o in graph.outputs]


@pytest.mark.quick
@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("olmp{params=0}", "params"),
        ("olmp{max_drop=-1}", "max_drop"),
        ("olmp{epochs=0}", "epochs"),
        ("olmp{rate=0}", "rate"),
        ("olmp{temperature=0}", "temperature"),
        ("olmp{spare=0.5}", "spare"),
        ("olmp{each=0}", "each"),
        ("olmp{rounds=-1}", "rounds"),
        ("olmp{search=cme}", "did you mean 'cma'"),
        ("olmp{max_dorp=1}", "max_drop"),
    ],
)
def test_wrong_options(text: str, word: str) -> None:
    with pytest.raises(OptionError, match=word):
        parse_method(text)


@pytest.mark.quick
def test_text() -> None:
    assert METHODS["olmp"] is Olmp
    method = parse_method("olmp{max_drop=0,search=ncs}")
    assert method == replace(Olmp(), max_drop=0.0, search="ncs") and parse_method(str(method)) == method
