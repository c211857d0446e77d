"""Bad models: one clear sentence each, and never anything but a DnncError."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from against_onnx import evaluate_model, kinds, random_inputs
from dnnc.errors import ModelError, UnsupportedError
from dnnc.frontend import inspect, read
from models import ModelBuilder, tiny_cnn, tiny_mlp

pytestmark = pytest.mark.quick


def refused(model: object, *words: str, shapes: dict[str, tuple[int, ...]] | None = None) -> None:
    """Reading raises a ModelError of one line that holds all the words."""
    with pytest.raises(ModelError) as caught:
        read(model, shapes)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    for word in words:
        assert word in message, message


def saved(folder: Path, data: bytes, name: str = "m.onnx") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


# --- files -----------------------------------------------------------------------------------------------------------


def test_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.onnx", "there is no file", "none.onnx")


def test_folder(tmp_path: Path) -> None:
    refused(tmp_path, "is no file")


def test_empty_file(tmp_path: Path) -> None:
    refused(saved(tmp_path, b""), "is empty")


def test_random_file(tmp_path: Path) -> None:
    refused(saved(tmp_path, np.random.default_rng(0).bytes(5000)), "cannot be decoded")


def test_zero_file(tmp_path: Path) -> None:
    refused(saved(tmp_path, bytes(100)), "cannot be decoded")


def test_text_file(tmp_path: Path) -> None:
    refused(saved(tmp_path, b"hello, this is no model\n" * 20), "m.onnx")


def test_truncated_file(tmp_path: Path) -> None:
    data = tiny_cnn().SerializeToString()
    for part in (0.1, 0.5, 0.9, 0.999):
        refused(saved(tmp_path, data[: int(part * len(data))]), "m.onnx")


def test_message_without_a_graph(tmp_path: Path) -> None:
    refused(saved(tmp_path, helper.make_opsetid("", 17).SerializeToString()), "m.onnx")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".tflite", ".h5"])
def test_other_formats(suffix: str, tmp_path: Path) -> None:
    refused(saved(tmp_path, b"x", f"m{suffix}"), "expected as .onnx or .pt2")


def test_damaged_exported_program(tmp_path: Path) -> None:
    refused(saved(tmp_path, b"PK no archive", "m.pt2"), "m.pt2", "damaged")


# --- weights ---------------------------------------------------------------------------------------------------------


def with_weight(value: object) -> onnx.ModelProto:
    b = ModelBuilder(17)
    w = np.ones((4, 3), np.float32)
    w[1, 1] = value
    return b.model(b.node("MatMul", [b.input("x", [1, 4]), b.constant(w, name="my.weight")]))


def test_nan_weight() -> None:
    refused(with_weight(np.nan), "initialiser 'my.weight'", "1 NaN of 12")


def test_infinite_weight() -> None:
    refused(with_weight(np.inf), "initialiser 'my.weight'", "infinite")


def test_nan_in_a_constant_node() -> None:
    b = ModelBuilder(17)
    value = numpy_helper.from_array(np.array([1, np.nan], np.float32))
    refused(b.model(b.node("Add", [b.input("x", [1, 2]), b.node("Constant", [], value=value)])), "NaN", "constant0")


def test_factors_that_overflow() -> None:
    b = ModelBuilder(17)
    x = b.gemm(b.input("x", [1, 4]), 4, 3)
    for _ in range(2):
        x = b.node("Mul", [x, b.constant([1e30, 2e30, 3e30])])
    refused(b.model(x), "infinite or NaN")


def test_negative_variance() -> None:
    b = ModelBuilder(17)
    parts = [b.constant(np.ones(3)) for _ in range(3)]
    refused(
        b.model(b.node("BatchNormalization", [b.input("x", [1, 3, 4, 4]), *parts, b.constant([1, -1, 1])])), "channel 1"
    )


def test_division_by_zero() -> None:
    b = ModelBuilder(17)
    with pytest.raises(UnsupportedError, match="divides by zero"):
        read(b.model(b.node("Div", [b.input("x", [1, 3]), b.constant([1, 0, 1])])))


def test_data_that_do_not_fit_their_shape() -> None:
    model = with_weight(1)
    model.graph.initializer[0].raw_data = b"\0" * 20
    refused(model, "my.weight", "do not fit its shape")


@pytest.mark.parametrize("dims", [[-1, 3], [2**40, 2**40], [2**31]])
def test_impossible_shapes_of_weights(dims: list[int]) -> None:
    model = with_weight(1)
    model.graph.initializer[0].dims[:] = dims
    refused(model, "my.weight", "impossible shape")


def test_unknown_element_type() -> None:
    model = with_weight(1)
    model.graph.initializer[0].data_type = 99
    refused(model, "my.weight", "unknown element type 99")


def test_sparse_weights() -> None:
    model = with_weight(1)
    model.graph.sparse_initializer.add()
    refused(model, "sparse")


# --- the graph -------------------------------------------------------------------------------------------------------


def test_cycle() -> None:
    b = ModelBuilder(17)
    x = b.input("x", [1, 4])
    b.node("Add", [x, "late"], ["early"])
    b.node("Relu", ["early"], ["late"])
    refused(b.model("late", check=False), "cycle", "add0", "relu1")


def test_nodes_out_of_order_are_sorted() -> None:
    model = tiny_mlp()
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    assert kinds(read(model)) == ["Dense", "Dense", "Softmax"]


def test_missing_initialiser() -> None:
    model = with_weight(1)
    del model.graph.initializer[:]
    refused(model, "matmul0", "'my.weight'", "no initialiser")


def test_undefined_output() -> None:
    model = tiny_mlp()
    model.graph.output[0].name = "elsewhere"
    refused(model, "'elsewhere'", "made by no node")


def test_no_outputs() -> None:
    model = tiny_mlp()
    del model.graph.output[:]
    refused(model, "no outputs")


@pytest.mark.parametrize("field", ["initializer", "input", "output"])
def test_names_used_twice(field: str) -> None:
    model = tiny_mlp()
    entries = getattr(model.graph, field)
    entries.append(entries[0])
    refused(model, "more than one", "called")


def test_tensor_made_twice() -> None:
    model = tiny_mlp()
    model.graph.node.append(model.graph.node[0])
    refused(model, "made more than once")


def test_unsupported_things_are_named_at_once() -> None:
    b = ModelBuilder(17)
    b.opset = 17
    x = b.conv(b.input("x", [1, 3, 8, 8]), 3, 4, (3, 3), name="first")
    x = b.node("Conv", [x, b.node("Neg", [b.weight(4, 4, 3, 3)])], name="fine")
    y = b.node("LogSoftmax", [x], name="second")
    z = b.node("Acos", [y], name="third")
    w = b.node("Resize", [z, "", b.constant([1, 1, 2, 2])], mode="linear", name="fourth")
    v = b.node("Strange", [w], domain="my.domain", name="fifth")
    with pytest.raises(UnsupportedError) as caught:
        read(b.model(v, check=False))
    assert [(i.node, i.op) for i in caught.value.items] == [
        ("second", "LogSoftmax"), ("third", "Acos"), ("fourth", "Resize"), ("fifth", "Strange"),
    ]  # fmt: skip
    assert "only nearest" in caught.value.items[2].reason
    assert "my.domain" in caught.value.items[3].reason


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda b, x: b.node("MatMul", [x, b.node("Relu", [x])]), "both of its operands are computed"),
        (lambda b, x: b.node("MatMul", [b.weight(4, 4), x]), "left operand"),
        (lambda b, x: b.node("Div", [x, b.node("Exp", [x])]), "both of its operands are computed"),
        (lambda b, x: b.node("Sqrt", [x]), "inside of known functions"),
        (lambda b, x: b.node("Max", [x, b.node("Neg", [x])]), "scalar constants"),
        (lambda b, x: b.node("Pad", [x, b.constant([0, 1, 0, 1], np.int64)], mode="reflect"), "mode 'reflect'"),
        (lambda b, x: b.node("Expand", [x, b.constant([3, 4, 4], np.int64)]), "repeats"),
        (lambda b, x: b.node("Cast", [x], to=TensorProto.INT64), "to integers"),
        (lambda b, x: b.node("Gather", [x, b.constant([0, 3, 1], np.int64)], axis=1), "evenly spaced"),
        (lambda b, x: b.node("RandomUniformLike", [x]), "no such operation"),
        (lambda b, x: b.node("Add", [x, b.node("RandomUniform", [], shape=[4, 4])]), "at compile time"),
    ],
)  # fmt: skip
def test_unsupported_forms(build: Callable[[ModelBuilder, str], str], reason: str) -> None:
    b = ModelBuilder(17)
    model = b.model(build(b, b.input("x", [4, 4])), check=False)
    with pytest.raises(UnsupportedError, match=reason):
        read(model)
    found = inspect(model)
    assert found.graph is None
    assert reason in found.unsupported[0].reason


@pytest.mark.parametrize("version", [0, 1, 8, 26, 10**9])
def test_opsets_outside(version: int) -> None:
    model = tiny_mlp()
    model.opset_import[0].version = version
    refused(model, f"opset {version}", "9 to 25")


def test_no_opset() -> None:
    model = tiny_mlp()
    del model.opset_import[:]
    refused(model, "opset")


def test_old_ir() -> None:
    model = tiny_mlp()
    model.ir_version = 2
    refused(model, "IR version 2")


# --- sizes -----------------------------------------------------------------------------------------------------------


def test_symbolic_sizes_need_a_value() -> None:
    b = ModelBuilder(17)
    model = b.model(b.conv(b.input("picture", ["N", 3, "height", "width"]), 3, 4, (3, 3)))
    refused(model, "'picture'", "height, width", "--input-shape picture=1,3,32,32")
    assert read(model, {"picture": (1, 3, 8, 9)}).inputs[0].type.shape == (8, 9, 3)
    refused(model, "has no input 'x'", "picture", shapes={"x": (1, 3, 8, 8)})
    refused(model, "1x4x8x8", shapes={"picture": (1, 4, 8, 8)})
    refused(model, "3x8", shapes={"picture": (3, 8)})


def test_a_batch_that_is_fixed_can_be_changed() -> None:
    b = ModelBuilder(17)
    model = b.model(b.conv(b.input("x", [8, 3, 6, 6]), 3, 4, (3, 3)))
    with pytest.raises(UnsupportedError, match=r"its batch is 8.*--input-shape"):
        read(model)
    assert read(model, {"x": (1, 3, 6, 6)}).nodes[0].type.shape == (4, 4, 4)


@pytest.mark.parametrize("shape", [[1, 0, 4, 4], [1, 3, 2**20, 2**20], [1, -5, 3, 3]])
def test_impossible_inputs(shape: list[int]) -> None:
    b = ModelBuilder(17)
    refused(b.model(b.node("Relu", [b.input("x", shape)]), check=False), "'x'", "impossible shape")


def test_input_without_a_shape() -> None:
    model = tiny_mlp()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    refused(model, "'features'", "no shape")


def test_kernel_larger_than_the_image() -> None:
    b = ModelBuilder(17)
    refused(b.model(b.conv(b.input("x", [1, 3, 4, 4]), 3, 4, (5, 5)), check=False), "conv0", "does not fit")


@pytest.mark.parametrize(
    "attributes", [{"strides": [0, 1]}, {"dilations": [1, -1]}, {"group": 0}, {"strides": [2**40, 1]}]
)
def test_impossible_windows(attributes: dict[str, object]) -> None:
    b = ModelBuilder(17)
    x = b.input("x", [1, 3, 8, 8])
    refused(b.model(b.node("Conv", [x, b.weight(4, 3, 3, 3)], **attributes), check=False), "conv0", "impossible")


def test_pads_beyond_all_measure() -> None:
    b = ModelBuilder(17)
    x = b.conv(b.input("x", [1, 3, 8, 8]), 3, 4, (3, 3), pads=[0, 0, 2**40, 0])
    refused(b.model(x, check=False), "conv0", "shape")


def test_constants_beyond_all_measure() -> None:
    b = ModelBuilder(17)
    x = b.input("x", [1, 4])
    big = b.node("ConstantOfShape", [b.constant([2**20, 2**20], np.int64)])
    refused(
        b.model(b.node("Add", [x, b.node("ReduceMax", [big])]), check=False), "constantofshape0", "would have the shape"
    )


def test_wrong_reshape() -> None:
    b = ModelBuilder(17)
    x = b.node("Reshape", [b.input("x", [1, 4]), b.constant([1, 5], np.int64)])
    refused(b.model(x, check=False), "reshape0", "(1, 4)", "(1, 5)")


def test_weights_of_another_width() -> None:
    b = ModelBuilder(17)
    with pytest.raises(UnsupportedError, match=r"weights of shape \(3, 5\) for 4 features"):
        read(b.model(b.gemm(b.input("x", [1, 4]), 5, 3), check=False))


# --- external data ---------------------------------------------------------------------------------------------------


def external(folder: Path, location: str, **extra: int) -> Path:
    """A model in `folder` whose weights lie at `location`."""
    model = with_weight(1)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **extra}.items():
        tensor.external_data.add(key=key, value=str(value))
    return saved(folder, model.SerializeToString())


def test_external_data_beside_the_model(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.bin").write_bytes(b"\0" * 8 + np.arange(12, dtype=np.float32).tobytes())
    graph = read(external(tmp_path, "sub/w.bin", offset=8, length=48))
    np.testing.assert_array_equal(graph.nodes[0].params["weight"], np.arange(12).reshape(4, 3).T)


@pytest.mark.parametrize(
    "location", ["../w.bin", "sub/../../w.bin", "/etc/hostname", "C:\\w.bin", "..\\w.bin", "", "a\0b"]
)
def test_external_data_elsewhere(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(b"\0" * 48)
    refused(external(folder, location), "my.weight", "own folder")


@pytest.mark.skipif(sys.platform == "win32", reason="needs symbolic links")
def test_external_data_behind_a_link(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(b"\0" * 48)
    (folder / "w.bin").symlink_to(tmp_path / "w.bin")
    refused(external(folder, "w.bin"), "my.weight", "link out of")


def test_external_data_that_are_missing_or_short(tmp_path: Path) -> None:
    refused(external(tmp_path, "w.bin"), "my.weight", "no such file")
    (tmp_path / "w.bin").write_bytes(b"\0" * 40)
    refused(external(tmp_path, "w.bin"), "my.weight", "do not fit")
    refused(external(tmp_path, "w.bin", offset=8, length=48), "my.weight", "has 40 bytes")
    refused(external(tmp_path, "w.bin", offset=-8), "my.weight")


def test_external_data_of_a_message(tmp_path: Path) -> None:
    model = onnx.load(external(tmp_path, "w.bin"), load_external_data=False)
    refused(model, "give the model as a path")


# --- names -----------------------------------------------------------------------------------------------------------

HOSTILE = [
    "../../x",
    "int",
    "x; rm -rf /",
    "名前",
    "a" * 10_000,
    "*/ int x; /*",
    'a"b',
    "a\nb\r\t",
    "\u202eevil",
    "%s%n",
    "a??/",
    " ",
]


def test_hostile_names() -> None:
    b = ModelBuilder(17)
    x = b.input(HOSTILE[0], [1, 4])
    for i, name in enumerate(HOSTILE):
        x = b.node("Gemm", [x, b.constant(np.eye(4), name=f"{name} w")], [f"{name} out{i}"], name=name)
    graph = read(b.model(x, check=False))
    assert len(graph.nodes) == len(HOSTILE)
    for value in [*graph.types, graph.name]:
        assert 0 < len(value) <= 80
        assert value.isascii()
        assert value.isprintable()
        assert not set(value) & set("*\"'\\?%;\n ")
    feeds = random_inputs(graph)
    np.testing.assert_allclose(*evaluate_model(graph, feeds).values(), *feeds.values())


def test_empty_and_equal_names() -> None:
    b = ModelBuilder(17)
    x = b.input("x", [1, 4])
    for name in ("", "", "same", "same", "x"):
        x = b.node("Tanh", [x], name=name)
    assert [n.name for n in read(b.model(x)).nodes] == ["t0", "t1", "same", "same_2", "x_2"]


def test_hostile_model_name(tmp_path: Path) -> None:
    graph = read(saved(tmp_path, tiny_mlp().SerializeToString(), "a b;c$(d).onnx"))
    assert graph.name == "a_b_c_d_"
