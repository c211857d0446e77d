"""Calibration data: what is accepted, what is refused and how, and what is made up where there are none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digits import Net, network
from dnnc.errors import DataError
from dnnc.evaluate import evaluate_batches
from dnnc.ir.graph import Graph, Output, make_node
from dnnc.ir.types import Layout, Quant, TensorType
from dnnc.ops.conv import Conv2D
from dnnc.ops.elementwise import Add
from dnnc.quantise.data import Dataset, load_data, synthesise

quick = pytest.mark.quick
RNG = np.random.default_rng(0)


def channels_first() -> Graph:
    """A network over [4, 6, 3] whose model file is channels first."""
    graph = single_conv(4, 6, 3)
    layout = Layout((1, 3, 4, 6), 0, (1, 2, 0))
    return replace(graph, inputs=(replace(graph.inputs[0], model_name="image:0", layout=layout),))


def single_conv(*shape: int) -> Graph:
    net = Net(*shape)
    return net.graph(net.dense("fc", net.conv("c", "x", 4), 5))


def classifier() -> Graph:
    return network()


@quick
def test_npz_in_the_models_layout(tmp_path: Path) -> None:
    x = RNG.standard_normal((7, 3, 4, 6))
    np.savez(tmp_path / "d.npz", x=x)
    data = load_data(tmp_path / "d.npz", channels_first())
    assert data.labels is None and len(data) == 7
    assert data.inputs["x"].dtype == np.float32
    np.testing.assert_array_equal(data.inputs["x"], x.astype(np.float32).transpose(0, 2, 3, 1))


@quick
def test_npy_is_mapped_and_bytes_stay_bytes(tmp_path: Path) -> None:
    x = RNG.integers(0, 256, (9, 3, 4, 6)).astype(np.uint8)
    np.save(tmp_path / "d.npy", x)
    data = load_data(tmp_path / "d.npy", channels_first())
    assert data.inputs["x"].dtype == np.uint8 and isinstance(data.inputs["x"], np.memmap)
    np.testing.assert_array_equal(data.inputs["x"], x.transpose(0, 2, 3, 1))


@quick
def test_arrays_pairs_and_names() -> None:
    graph = classifier()
    x, y = RNG.random((6, 8, 8, 1)).astype(np.float32), np.arange(6)
    for source in ((x, y), {"x": x, "y": y}, {"x": x, "y": y[:, None]}, (x, y.astype(np.float64)), x):
        data = load_data(source, graph)
        np.testing.assert_array_equal(data.inputs["x"], x)
        if data.labels is not None:
            np.testing.assert_array_equal(data.labels, y)
    assert load_data(load_data((x, y), graph), graph).labels is not None
    named = replace(graph, inputs=(replace(graph.inputs[0], model_name="image:0"),))
    np.testing.assert_array_equal(load_data({"image:0": x}, named).inputs["x"], x)


@quick
def test_several_inputs_by_name() -> None:
    types = {"a": TensorType((3,)), "b": TensorType((3,))}
    node = make_node("sum", Add(), ["a", "b"], types)
    inputs = tuple(
        replace(network().inputs[0], name=n, model_name=f"model_{n}", type=types[n], layout=Layout((1, 3), 0, (0,)))
        for n in types
    )
    graph = Graph("two", inputs, (node,), (Output("sum", "sum", Layout((1, 3), 0, (0,))),)).verify()
    a, b = RNG.random((2, 5, 3)).astype(np.float32)
    data = load_data({"model_a": a, "b": b}, graph)
    np.testing.assert_array_equal(data.inputs["b"], b)
    with pytest.raises(DataError, match=r"expected arrays named \['model_a', 'model_b'\], found \['x'\]"):
        load_data(a, graph)
    with pytest.raises(DataError, match="same number of samples"):
        load_data({"a": a, "b": b[:2]}, graph)


X = np.zeros((6, 8, 8, 1), np.float32)


def _with(value: float) -> Any:
    x = X.copy()
    x[3, 2, 1, 0] = value
    return x


@quick
@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((6, 1, 8, 8)), r"expected shape \[N, 8, 8, 1\], found \[6, 1, 8, 8\]; x.transpose\(0, 2, 3, 1\)"),
        (np.zeros((6, 64)), r"found \[6, 64\]; x.reshape\(-1, 8, 8, 1\) would fit"),
        (np.zeros((8, 8, 1)), "put a sample axis in front"),
        (np.zeros((6, 8, 8)), r"x.reshape\(-1, 8, 8, 1\) would fit"),
        (np.zeros((6, 9, 8, 1)), r"expected shape \[N, 8, 8, 1\], found \[6, 9, 8, 1\]$"),
        (np.float32(3), "expected shape"),
        (_with(np.nan), r"must be finite, found nan at \[3, 2, 1, 0\]"),
        (_with(-np.inf), "must be finite, found -inf"),
        (X.astype(str), "expected numbers"),
        (X.astype(complex), "expected numbers"),
        (X[:0], r"at least 1 sample\(s\) are needed, found 0"),
        ((X, np.arange(5)), r"expected labels y of shape \[6\], one for each sample, found \[5\]"),
        ((X, np.arange(6) + 5), r"expected labels in 0..9 .* found 5..10"),
        ((X, np.arange(6) - 1), r"found -1..4"),
        ((X, np.arange(6) + 0.5), "expected whole class indices"),
        ((X, np.eye(10)[:6]), "expected labels y of shape"),
        ({"images": X}, r"expected arrays named \['x'\], found \['images'\]"),
    ],
)
def test_refusals_say_what_was_expected_and_found(source: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data(source, classifier())


@quick
def test_files_that_are_no_data(tmp_path: Path) -> None:
    graph = classifier()
    (tmp_path / "junk.npz").write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / "junk.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.savez(tmp_path / "object.npz", x=np.array([{}], object))
    (tmp_path / "x.csv").write_text("1,2")
    for name in ("junk.npz", "junk.npy", "empty.npz", "object.npz", "x.csv", "missing.npz"):
        with pytest.raises(DataError, match=name):
            load_data(tmp_path / name, graph)
    with pytest.raises(DataError, match="at least 7"):
        load_data(X, graph, minimum=7)


@quick
def test_halves_are_disjoint_and_balanced() -> None:
    data = Dataset({"x": np.arange(40).reshape(40, 1)}, np.repeat(np.arange(4), 10))
    first, second = data.halves(seed=3)
    assert sorted([*first.inputs["x"][:, 0], *second.inputs["x"][:, 0]]) == list(range(40))
    assert first.labels is not None and second.labels is not None
    assert np.bincount(first.labels).tolist() == np.bincount(second.labels).tolist() == [5] * 4
    assert np.bincount(data.spread(8).labels).tolist() == [2] * 4 and data.spread(99) is data  # type: ignore[arg-type]
    again, _ = data.halves(seed=3)
    np.testing.assert_array_equal(first.inputs["x"], again.inputs["x"])


def with_statistics(graph: Graph, x: Any) -> Graph:
    """Tells the means and deviations that the convolutions' outputs have on `x`, before their clamps."""
    seen: dict[str, Any] = {}
    bare = graph.with_nodes(
        replace(n, op=replace(n.op, clamp=type(n.op.clamp)())) if isinstance(n.op, Conv2D) else n for n in graph.nodes
    )
    clamps = {n.name: n.op.clamp for n in graph.nodes if isinstance(n.op, Conv2D)}

    def hook(name: str, value: Any) -> Any:
        if name in clamps:
            flat = value.reshape(-1, value.shape[-1])
            seen[name] = (flat.mean(0).numpy(), flat.std(0).numpy())
            return clamps[name].real(value)
        return value

    evaluate_batches(bare, {"x": x}, batch_size=len(x), hook=hook)
    nodes = [
        replace(n, params={**n.params, "bn_mean": seen[n.name][0], "bn_std": seen[n.name][1]}) if n.name in seen else n
        for n in graph.nodes
    ]
    return graph.with_nodes(nodes)


def test_synthetic_inputs_have_the_statistics_that_the_model_tells() -> None:
    net = Net(8, 8, 2, seed=4)
    graph = net.graph(net.dense("fc", net.conv("c2", net.conv("c1", "x", 8), 8), 3))
    real = (RNG.random((64, 8, 8, 2)) * 255).astype(np.float32)
    told = with_statistics(graph, real)
    made = synthesise(told, 32, seed=1)
    assert made.synthetic and made.labels is None and "BatchNorm" in made.warnings[0]

    def distance(x: Any) -> float:
        found = with_statistics(graph, x)
        off = []
        for name in ("c1", "c2"):
            params, wanted = found.by_name[name].params, told.by_name[name].params
            off += [np.abs(params[k] - wanted[k]).mean() / wanted["bn_std"].mean() for k in ("bn_mean", "bn_std")]
        return float(np.mean(off))

    gaussian = synthesise(graph, 32, seed=1).inputs["x"]
    assert distance(made.inputs["x"]) < 0.2 < distance(gaussian)
    np.testing.assert_array_equal(made.inputs["x"], synthesise(told, 32, seed=1).inputs["x"])


@quick
def test_gaussian_inputs_stay_in_the_declared_range() -> None:
    graph = network()
    declared = Quant(8, 0.1, -28)
    told = replace(graph, inputs=(replace(graph.inputs[0], type=TensorType((8, 8, 1), declared)),))
    made = synthesise(told, 20)
    assert "-10..15.5 as the model declares" in made.warnings[0] and "weaker" in made.warnings[0]
    lowest, highest = made.inputs["x"].min(), made.inputs["x"].max()
    assert -10 - 1e-6 <= lowest < -9 and 14.5 < highest <= 15.5 + 1e-6
    assert not np.array_equal(made.inputs["x"], synthesise(told, 20, seed=1).inputs["x"])


@quick
def test_biases_tell_pixels_from_normalised_inputs() -> None:
    """A first layer that hardly responds to unit inputs, measured by its biases, was trained on larger ones."""
    for channels, expected in ((3, "pixels in 0..255"), (5, "deviation 64")):
        net = Net(12, 12, channels)
        graph = net.graph(net.conv("c", "x", 8))
        node = graph.nodes[0]
        assert "deviation 1" in synthesise(graph, 8).warnings[0]
        params = {"weight": node.params["weight"] / 64, "bias": np.full(8, 1.4, np.float32)}
        raw = synthesise(graph.with_nodes([replace(node, params=params)]), 8)
        assert expected in raw.warnings[0]
        if channels == 3:
            x = raw.inputs["x"]
            np.testing.assert_array_equal(x, np.round(x))
            assert x.min() >= 0 and 200 < x.max() <= 255


@quick
def test_made_up_images_are_smooth() -> None:
    net = Net(16, 16, 3)
    x = synthesise(net.graph(net.conv("c", "x", 8)), 16).inputs["x"]
    assert x.std() == pytest.approx(1, abs=0.05)
    assert np.corrcoef(x[:, 1:].ravel(), x[:, :-1].ravel())[0, 1] > 0.5
