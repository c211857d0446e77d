"""Training of graphs: what it learns, what it must keep, and where it goes on after an interruption."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from digits import RELU, Net, network, trained
from dnnc.compress.budget import accuracy
from dnnc.compress.feed import ArrayFeed, Batch, LoaderFeed
from dnnc.compress.recalibrate import recalibrate
from dnnc.compress.train import Hooks, Params, Recipe, train
from dnnc.compress.trainable import head_layers, unclamped
from dnnc.errors import OptionError
from dnnc.evaluate import evaluate_batches
from dnnc.frontend import read
from dnnc.ir.graph import Graph
from dnnc.ops.elementwise import Add, Mul
from dnnc.ops.movement import Concat, Reshape
from dnnc.ops.pointwise import Pointwise
from dnnc.ops.pool import ReduceMean
from dnnc.quantise.dataset import Dataset
from models import tiny_cnn, tiny_conv1d, tiny_mlp
from random_graphs import random_graph

SHORT = Recipe(epochs=1, batch=32, max_steps=6, autocast=False)


def weights(graph: Graph) -> dict[str, np.ndarray]:
    return {f"{n.name}.{k}": p for n in graph.nodes for k, p in n.params.items()}


def same(a: Graph, b: Graph) -> bool:
    return all(np.array_equal(p, q) for p, q in zip(weights(a).values(), weights(b).values(), strict=True))


def random_data(graph: Graph, count: int = 96, classes: int | None = None, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    inputs = {i.name: rng.normal(0, 1, (count, *i.type.shape)).astype(np.float32) for i in graph.inputs}
    return Dataset(inputs, None if classes is None else rng.integers(0, classes, count))


def sparse(graph: Graph, share: float = 0.6, seed: int = 0) -> Graph:
    """With a share of all weights at 0, and a channel without any."""
    rng = np.random.default_rng(seed)
    nodes = []
    for node in graph.nodes:
        if "weight" in node.params:
            weight = node.params["weight"] * (rng.random(node.params["weight"].shape) > share)
            bias = np.array(node.params["bias"])
            if node.name not in head_layers(graph):
                weight[1], bias[1] = 0, 0
            node = replace(node, params={**node.params, "weight": weight, "bias": bias})
        nodes.append(node)
    return graph.with_nodes(nodes)


def test_it_learns_from_nothing() -> None:
    _, data, test = trained()
    found = train(network(seed=3), ArrayFeed(data), Recipe(epochs=6, batch=64, rate=0.3))
    assert accuracy(found, test) > 94


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize("normalise", [True, False])
def test_a_damaged_network_recovers(optimiser: Any, normalise: bool) -> None:
    graph, data, test = trained()
    damaged = sparse(graph, 0.5)
    assert accuracy(damaged, test) < 75
    rate = {"sgd": 0.2, "adamw": 0.01}[optimiser]
    recipe = Recipe(epochs=5, batch=64, optimiser=optimiser, rate=rate, normalise=normalise)
    found = train(damaged, ArrayFeed(data), recipe)
    assert accuracy(found, test) > 90


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("average", [0.0, 0.9])
def test_zeros_stay_and_all_else_moves(normalise: bool, average: float) -> None:
    _, data, _ = trained()
    graph = sparse(network())
    found = train(graph, ArrayFeed(data), replace(SHORT, normalise=normalise, average=average))
    for name, before in weights(graph).items():
        after = weights(found)[name]
        if name.endswith("weight"):
            assert np.array_equal(after == 0, before == 0), name
            assert not np.array_equal(after, before), name
        elif not name.startswith("fc"):
            assert after[1] == 0 and np.count_nonzero(after) == len(after) - 1, name
    free = train(graph, ArrayFeed(data), replace(SHORT, normalise=normalise), keep_zeros=False)
    assert np.count_nonzero(free.by_name["c2"].params["weight"]) > np.count_nonzero(
        graph.by_name["c2"].params["weight"]
    )


@pytest.mark.quick
@pytest.mark.parametrize("normalise", [True, False])
def test_nothing_learned_is_nothing_changed(normalise: bool) -> None:
    graph, data, test = trained()
    found = train(graph, ArrayFeed(data), replace(SHORT, rate=1e-12, normalise=normalise))
    a, b = (evaluate_batches(g, test.inputs)["probabilities"] for g in (graph, found))
    assert np.abs(a - b).max() < (0.03 if normalise else 1e-5)


def test_weights_of_any_size_train_alike() -> None:
    """A layer times 2**-8 and the next one times 2**8 is the same network, and stays the same one."""
    graph, data, _ = trained()
    nodes = []
    for node in graph.nodes:
        up, down = {"c1": (2.0**-8, 2.0**-8), "dw": (2.0**8, 1.0)}.get(node.name, (1.0, 1.0))
        params = {
            k: v * (up if k == "weight" else down) if k in ("weight", "bias") else v for k, v in node.params.items()
        }
        nodes.append(replace(node, params=params))
    other = graph.with_nodes(nodes)
    for normalise in (True, False):
        recipe = replace(SHORT, normalise=normalise, rate=0.05)
        a, b = (evaluate_batches(train(g, ArrayFeed(data), recipe), data.inputs) for g in (graph, other))
        assert np.abs(a["probabilities"] - b["probabilities"]).max() < 0.02


def test_the_same_seed_is_the_same_result() -> None:
    graph, data, _ = trained()
    feed = ArrayFeed(data)
    first = train(graph, feed, SHORT, seed=1)
    assert same(first, train(graph, feed, SHORT, seed=1))
    assert not same(first, train(graph, feed, SHORT, seed=2))


class Interrupt(Hooks):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def after_epoch(self, params: Params, epoch: int) -> bool:
        if epoch == self.epoch:
            raise KeyboardInterrupt
        return False


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_training_goes_on_where_it_was_interrupted(tmp_path: Path, average: float) -> None:
    graph, data, _ = trained()
    feed, recipe = ArrayFeed(data.first(256)), Recipe(epochs=4, batch=64, average=average, autocast=False)
    whole = train(graph, feed, recipe, hooks=[Interrupt(-1)])
    file = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        train(graph, feed, recipe, hooks=[Interrupt(2)], checkpoint=file)
    said: list[str] = []
    found = train(
        graph,
        feed,
        recipe,
        hooks=[Interrupt(-1)],
        checkpoint=file,
        progress=lambda stage, done, total: said.append(stage),
    )
    assert same(found, whole)
    assert said[0].startswith("training, epoch 3 of 4")
    train(graph, feed, recipe, hooks=[Interrupt(0)], checkpoint=file)  # done: nothing is left to interrupt


@pytest.mark.parametrize("damage", ["seed", "recipe", "graph", "bytes"])
def test_a_checkpoint_of_another_training_is_left(tmp_path: Path, damage: str) -> None:
    graph, data, _ = trained()
    feed, file = ArrayFeed(data.first(128)), tmp_path / "state.pt"
    train(graph, feed, SHORT, checkpoint=file)
    if damage == "bytes":
        file.write_bytes(file.read_bytes()[:-100])
    other = sparse(graph) if damage == "graph" else graph
    recipe = replace(SHORT, decay=1e-3) if damage == "recipe" else SHORT
    seed = 1 if damage == "seed" else 0
    said: list[str] = []
    found = train(
        other, feed, recipe, seed=seed, checkpoint=file, progress=lambda stage, done, total: said.append(stage)
    )
    assert said[0].startswith("training starts anew")
    assert same(found, train(other, feed, recipe, seed=seed))


def test_a_folder_holds_the_state_of_every_training(tmp_path: Path) -> None:
    graph, data, _ = trained()
    for seed in (0, 1, 0):
        train(graph, ArrayFeed(data.first(128)), SHORT, seed=seed, checkpoint=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_unlabelled_data_bring_a_damaged_network_back_to_its_teacher() -> None:
    graph, data, test = trained()
    damaged = sparse(graph, 0.5)
    feed = ArrayFeed(Dataset(data.inputs))
    found = train(damaged, feed, Recipe(epochs=5, batch=64, rate=0.2), teacher=graph)
    assert accuracy(found, test) > 92


def test_outputs_that_are_no_classes_are_matched() -> None:
    net = Net(6, 6, 2)
    x = net.conv("c", "x", 8)
    graph = net.graph(net.dense("d", net.add("flat", Reshape((288,)), [x]), 5), x)
    noise = np.random.default_rng(0)
    changed = [
        replace(n, params={k: p + noise.normal(0, 0.1, p.shape) for k, p in n.params.items()}) for n in graph.nodes
    ]
    damaged = graph.with_nodes(changed)
    data = random_data(graph, 256)
    found = train(damaged, ArrayFeed(data), Recipe(epochs=15, batch=32, optimiser="adamw", rate=0.01), teacher=graph)
    for name in ("d", "c"):
        wanted, before, after = (evaluate_batches(g, data.inputs)[name] for g in (graph, damaged, found))
        assert ((after - wanted) ** 2).mean() < 0.4 * ((before - wanted) ** 2).mean()


def test_distillation_pulls_towards_the_teacher() -> None:
    graph, data, _ = trained()
    student = network(seed=5)
    wrong = Dataset(data.inputs, (data.labels + 1) % 10)
    found = train(student, ArrayFeed(wrong), Recipe(epochs=5, batch=64, rate=0.3, distil=1.0), teacher=graph)
    assert accuracy(found, data) > 85


@pytest.mark.quick
@pytest.mark.parametrize("sigmoid", [True, False])
def test_one_logit(sigmoid: bool) -> None:
    net = Net(5)
    x = net.dense("a", "x", 8, RELU)
    x = net.dense("b", x, 1)
    graph = net.graph(net.add("s", Pointwise("sigmoid"), [x]) if sigmoid else x)
    data = random_data(graph, 256)
    data = Dataset(data.inputs, (data.inputs["x"][:, 0] > 0).astype(np.int64))
    found = train(graph, ArrayFeed(data), Recipe(epochs=8, batch=32, rate=0.1, distil=0.1))
    answers = next(iter(evaluate_batches(found, data.inputs).values()))[:, 0] > (0.5 if sigmoid else 0)
    assert (answers == data.labels).mean() > 0.9


@pytest.mark.quick
@pytest.mark.parametrize("model", [tiny_cnn, tiny_mlp, tiny_conv1d])
@pytest.mark.parametrize("labelled", [True, False])
def test_models_of_files(model: Callable[[], Any], labelled: bool) -> None:
    graph = read(model())
    classes = graph.types[graph.outputs[0].value].size if labelled else None
    found = train(graph, ArrayFeed(random_data(graph, 64, classes)), replace(SHORT, max_steps=2, distil=0.5))
    assert not same(graph, found) or not labelled
    assert [n.name for n in found.nodes] == [n.name for n in graph.nodes]


def test_branches_grouped_layers_and_gates() -> None:
    net = Net(6, 6, 4)
    a = net.conv("a", "x", 8)
    b = net.conv("b", a, 8, groups=4)
    gate = net.add(
        "gate",
        Pointwise("hard_sigmoid", 0.2, 0.5),
        [net.conv("squeeze", net.add("m", ReduceMean((0, 1), True), [b]), 8, 1)],
    )
    c = net.add("c", Mul(), [b, gate])
    d = net.add("d", Concat(2), [net.add("sum", Add(), [a, c]), a])
    graph = net.graph(net.dense("fc", net.add("mean", ReduceMean((0, 1)), [d]), 3))
    data = random_data(graph, 128)
    data = Dataset(data.inputs, data.inputs["x"].mean((1, 2))[:, :3].argmax(1))
    found = train(graph, ArrayFeed(data), Recipe(epochs=8, batch=32, rate=0.2))
    assert accuracy(found, data) > accuracy(graph, data) + 10


@pytest.mark.parametrize("normalise", [True, False])
def test_random_networks(normalise: bool) -> None:
    """Whatever the operations: it runs, stays finite, keeps structure and zeros, and recalibrates."""
    trained_ones = 0
    for seed in range(24):
        graph = random_graph(seed)
        if not any(k in n.params for n in graph.nodes for k in ("weight", "slope")):
            continue
        trained_ones += 1
        data = random_data(graph, 40)
        found = train(graph, ArrayFeed(data), replace(SHORT, batch=20, max_steps=2, normalise=normalise))
        assert [(n.name, n.type) for n in found.nodes] == [(n.name, n.type) for n in graph.nodes]
        for name, before in weights(graph).items():
            assert np.isfinite(weights(found)[name]).all(), (seed, name)
            if name.endswith("weight"):
                assert np.all(weights(found)[name][before == 0] == 0)
        assert all(np.isfinite(p).all() for p in weights(recalibrate(found, graph, data)).values())
    assert trained_ones > 10


@pytest.mark.quick
def test_a_loader_feeds_too() -> None:
    graph, data, _ = trained()
    x, y = torch.tensor(data.inputs["x"][:128]), torch.tensor(data.labels[:128])
    loader = [(x[i : i + 32], y[i : i + 32]) for i in range(0, 128, 32)]
    assert not same(train(graph, LoaderFeed(loader, graph), replace(SHORT, max_steps=3)), graph)


@pytest.mark.quick
def test_training_that_diverges_says_so() -> None:
    graph, data, _ = trained()
    recipe = replace(SHORT, normalise=False, clip=1e30, rate=1e20, schedule="constant", max_steps=None)
    with pytest.raises(OptionError, match=r"^training diverges at a rate of 1e\+20 [^\n]*smaller rate"):
        train(graph, ArrayFeed(data.first(128)), recipe)


@pytest.mark.quick
def test_a_rate_that_is_too_high_is_lowered() -> None:
    graph, data, test = trained()

    class Explode(Hooks):
        """Not finite in the second step, the first two times."""

        count = 0

        def penalty(self, params: Params, progress: float) -> torch.Tensor | None:
            self.count += 1
            return params["fc"]["weight"].sum() * float("nan") if self.count in (2, 4) else None

    found = train(graph, ArrayFeed(data.first(128)), SHORT, hooks=[Explode()])
    assert accuracy(found, test) > 90


@pytest.mark.quick
@pytest.mark.parametrize(
    ("options", "told"),
    [({"epochs": 0}, "epochs"), ({"rate": -1.0}, "rate"), ({"optimiser": "adam"}, "sgd, adamw"),
     ({"distil": 2.0}, "distil"),
     ({"schedule": "step"}, "one-cycle"), ({"average": 1.0}, "average"), ({"clip": 0.0}, "clip")],
)  # fmt: skip
def test_recipes_are_checked(options: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        Recipe(**options)


class Recorder(Hooks):
    """Takes part in everything."""

    def __init__(self) -> None:
        self.factor = torch.ones((), requires_grad=True)
        self.epochs: list[int] = []
        self.snapshots: list[Graph] = []
        self.seen: set[str] = set()

    def begin(self, snapshot: Callable[[], Graph]) -> None:
        self.snapshot = snapshot

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"factor": self.factor}

    def params(self, params: Params, progress: float) -> Params:
        fc = params["fc"] | {"weight": params["fc"]["weight"] * self.factor}
        return params | {"fc": fc}

    def value(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        self.seen.add(name)
        return tensor

    def penalty(self, params: Params, progress: float) -> torch.Tensor | None:
        return params["c1"]["weight"].square().sum()

    def after_step(self, params: Params, progress: float) -> None:
        params["c2"]["weight"].clamp_(-0.05, 0.05)

    def after_epoch(self, params: Params, epoch: int) -> bool:
        self.epochs.append(epoch)
        self.snapshots.append(self.snapshot())
        return epoch == 1


def test_hooks_take_part() -> None:
    graph, data, _ = trained()
    hook = Recorder()
    found = train(graph, ArrayFeed(data.first(256)), Recipe(epochs=5, batch=64, normalise=False), hooks=[hook])
    assert hook.epochs == [0, 1] and same(hook.snapshots[1], found) and not same(hook.snapshots[0], found)
    assert hook.seen == set(graph.types)
    assert float(hook.factor.detach()) != 1
    assert np.abs(found.by_name["c2"].params["weight"]).max() == np.float32(0.05)
    plain = train(graph, ArrayFeed(data.first(256)), Recipe(epochs=2, batch=64, normalise=False))
    size = [float((g.by_name["c1"].params["weight"] ** 2).sum()) for g in (found, plain)]
    assert size[0] < 0.9 * size[1]


class Grid(Hooks):
    """Weights on a grid, with straight-through gradients."""

    def params(self, params: Params, progress: float) -> Params:
        found = dict(params)
        for name, mine in params.items():
            w = mine["weight"]
            found[name] = mine | {"weight": w + ((w * 8).round() / 8 - w).detach()}
        return found


@pytest.mark.quick
def test_the_result_is_what_hooks_make_of_the_parameters() -> None:
    graph, data, _ = trained()
    found = train(graph, ArrayFeed(data.first(256)), replace(SHORT, normalise=False), hooks=[Grid()])
    for node in found.nodes:
        if "weight" in node.params:
            assert np.array_equal(node.params["weight"] * 8, np.round(node.params["weight"] * 8))


def test_batches_of_one_sample_train() -> None:
    graph, data, _ = trained()

    class Ones(ArrayFeed):
        def batches(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
            return super().batches(1, generator)

    assert np.isfinite(weights(train(graph, Ones(data.first(8)), SHORT))["fc.weight"]).all()


def without_channels(graph: Graph, name: str, follower: str, kept: np.ndarray) -> Graph:
    """The layer without channels, and its follower without those inputs."""
    nodes = []
    for node in graph.nodes:
        if node.name == name:
            params = {k: v[kept] if k in ("weight", "bias") else v for k, v in node.params.items()}
            node = replace(node, params=params, type=replace(node.type, shape=(*node.type.shape[:-1], len(kept))))
        elif node.name == follower:
            node = replace(node, params={**node.params, "weight": node.params["weight"][..., kept]})
        nodes.append(node)
    return graph.with_nodes(nodes).verify()


def pre_clamp(graph: Graph, name: str, data: Dataset) -> np.ndarray:
    found: dict[str, torch.Tensor] = {}

    def hook(value: str, y: torch.Tensor) -> torch.Tensor:
        if value in clamps:
            found[value] = y
            return clamps[value].real(y)
        return y

    plain, clamps = unclamped(graph, (n.name for n in graph.nodes if "weight" in n.params))
    evaluate_batches(plain, data.inputs, len(data), hook)
    return found[name].numpy().reshape(-1, found[name].shape[-1])


def chain() -> Graph:
    net = Net(8, 8, 2, seed=1)
    x = net.conv("c1", "x", 12)
    x = net.conv("c2", x, 10)
    x = net.conv("c3", x, 6)
    return net.graph(net.dense("fc", net.add("mean", ReduceMean((0, 1)), [x]), 4))


@pytest.mark.quick
def test_recalibration_gives_channels_their_statistics_back() -> None:
    graph = chain()
    data = random_data(graph, 128)
    kept = np.array([0, 2, 3, 6, 7, 10, 11])
    cut = without_channels(graph, "c1", "c2", kept)
    found = recalibrate(cut, graph, data)
    assert same(found, recalibrate(cut, graph, data, {"c1": kept}))
    for name in ("c1", "c2", "c3"):
        wanted, after = pre_clamp(graph, name, data), pre_clamp(found, name, data)
        wanted = wanted[:, kept] if name == "c1" else wanted
        np.testing.assert_allclose(after.mean(0), wanted.mean(0), atol=2e-4)
        np.testing.assert_allclose(after.std(0), wanted.std(0), rtol=2e-3)
    np.testing.assert_allclose(found.by_name["c1"].params["weight"], cut.by_name["c1"].params["weight"], rtol=1e-3)
    np.testing.assert_allclose(pre_clamp(found, "fc", data).mean(0), pre_clamp(graph, "fc", data).mean(0), atol=2e-4)


@pytest.mark.quick
def test_recalibration_finds_channels_by_what_they_do() -> None:
    """Weights and biases of the layer were changed, so that only its outputs tell which channels are left."""
    graph = chain()
    data = random_data(graph, 128)
    kept = np.array([1, 4, 5, 9])
    cut = without_channels(graph, "c1", "c2", kept)
    nodes = [
        replace(n, params={"weight": n.params["weight"] * 0.9, "bias": n.params["bias"] + 0.05})
        if n.name == "c1"
        else n
        for n in cut.nodes
    ]
    found = recalibrate(cut.with_nodes(nodes), graph, data)
    wanted = pre_clamp(graph, "c1", data)[:, kept]
    np.testing.assert_allclose(pre_clamp(found, "c1", data).mean(0), wanted.mean(0), atol=2e-4)
    np.testing.assert_allclose(pre_clamp(found, "c1", data).std(0), wanted.std(0), rtol=2e-3)


@pytest.mark.quick
def test_recalibration_keeps_zeros_and_improves_a_masked_network() -> None:
    graph, data, test = trained()
    damaged = sparse(graph, 0.5)
    found = recalibrate(damaged, graph, data.first(256))
    for name, before in weights(damaged).items():
        assert np.array_equal(weights(found)[name] == 0, before == 0), name
    assert accuracy(found, test) > accuracy(damaged, test) + 10
