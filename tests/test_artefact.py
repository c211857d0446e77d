"""Artefacts: whole or not at all on the disk, never over something else, and never read back damaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dnnc.artefact import FLOAT_GRAPH, INTEGER_GRAPH, MANIFEST, VECTORS, Artefact, Vectors
from dnnc.errors import ArtefactError
from dnnc.ir.graph import Graph, Input, Node, Output, make_node
from dnnc.ir.printer import print_graph
from dnnc.ir.serial import dump_graph
from dnnc.ir.types import Layout, Quant, TensorType
from dnnc.naming import check_network_name, network_name
from dnnc.ops import Pointwise

pytestmark = pytest.mark.quick

LAYOUT = Layout((1, 4), 0, (0,))


def graphs() -> tuple[Graph, Graph]:
    """One Relu as float and as integer graph."""
    x = TensorType((4,))
    node = make_node("y", Pointwise(function="relu"), ["x"], {"x": x})
    real = Graph("tiny", (Input("x", x, "in put/0", LAYOUT),), (node,), (Output("y", "out", LAYOUT),))
    q = TensorType((4,), Quant(8, 0.5, 3))
    params = node.op.quantise({}, [q], q)
    integer = Node("y", node.op, ("x",), params, q)  # type: ignore[arg-type]
    return real, Graph("tiny", (Input("x", q, "in put/0", LAYOUT),), (integer,), real.outputs)


def artefact() -> Artefact:
    real, integer = graphs()
    codes = np.arange(8, dtype=np.int32).reshape(2, 4)
    vectors = Vectors({"x": codes}, {"out": codes + 1})
    files = {
        "c/tiny.c": b"int tiny;\n",
        FLOAT_GRAPH: dump_graph(real),
        INTEGER_GRAPH: dump_graph(integer),
        VECTORS: vectors.dump(),
    }
    return Artefact.create("tiny", "host", files, {"layers": [], "warnings": []})


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    made = artefact()
    folder = made.write(tmp_path / "deep" / "out")
    read = Artefact.load(folder)
    assert dict(read.files) == dict(made.files)
    assert (read.name, read.target, read.edited) == ("tiny", "host", ())
    assert print_graph(read.integer_graph) == print_graph(graphs()[1])
    assert np.array_equal(read.vectors.outputs["out"], made.vectors.inputs["x"] + 1)
    assert read.manifest["dnnc"] == json.loads((folder / MANIFEST).read_text())["dnnc"]
    assert tree(tmp_path / "deep") == ["out", *(f"out/{p}" for p in tree(folder))]


def test_same_input_same_bytes() -> None:
    assert dict(artefact().files) == dict(artefact().files)


def test_a_folder_that_exists_is_refused(tmp_path: Path) -> None:
    folder = artefact().write(tmp_path / "out")
    with pytest.raises(ArtefactError, match="--overwrite"):
        artefact().write(folder)
    (folder / "left over").write_text("from before")
    artefact().write(folder, overwrite=True)
    assert "left over" not in tree(folder)


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    assert Artefact.load(artefact().write(tmp_path)).name == "tiny"


@pytest.mark.parametrize("stranger", ["notes.txt", MANIFEST])
def test_what_is_no_artefact_is_never_replaced(tmp_path: Path, stranger: str) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / stranger).write_text("{}")
    with pytest.raises(ArtefactError, match="did not write"):
        artefact().write(folder, overwrite=True)
    assert tree(folder) == [stranger]


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ArtefactError, match="no folder"):
        artefact().write(tmp_path / "out", overwrite=True)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("before", [True, False])
def test_nothing_half_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException, before: bool
) -> None:
    folder = tmp_path / "out"
    if before:
        artefact().write(folder)
    there = tree(tmp_path)
    real_write, written = Path.write_bytes, []

    def write_two(self: Path, data: bytes) -> int:
        if len(written) == 2:
            raise stop
        written.append(self)
        return real_write(self, data)

    monkeypatch.setattr(Path, "write_bytes", write_two)
    with pytest.raises((KeyboardInterrupt, ArtefactError)):
        artefact().write(folder, overwrite=True)
    assert len(written) == 2
    assert tree(tmp_path) == there


def test_an_interrupt_between_the_renames_puts_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = artefact().write(tmp_path / "out")
    there = tree(tmp_path)
    real_rename = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise KeyboardInterrupt
        return real_rename(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        artefact().write(folder, overwrite=True)
    assert tree(tmp_path) == there


@pytest.mark.parametrize("path", [FLOAT_GRAPH, INTEGER_GRAPH, VECTORS])
def test_damage_is_found(tmp_path: Path, path: str) -> None:
    folder = artefact().write(tmp_path / "out")
    data = bytearray((folder / path).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / path).write_bytes(data)
    with pytest.raises(ArtefactError, match="compile the model again"):
        Artefact.load(folder)


@pytest.mark.parametrize("path", [FLOAT_GRAPH, "c/tiny.c", MANIFEST])
def test_a_missing_file_is_named(tmp_path: Path, path: str) -> None:
    folder = artefact().write(tmp_path / "out")
    (folder / path).unlink()
    with pytest.raises(ArtefactError, match=path.rpartition("/")[2]):
        Artefact.load(folder)


def test_edited_c_is_read_and_told(tmp_path: Path) -> None:
    folder = artefact().write(tmp_path / "out")
    (folder / "c/tiny.c").write_text("int tiny = 1;\n")
    assert Artefact.load(folder).edited == ("c/tiny.c",)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"dnnc": 1}', '{"dnnc": "0", "name": "a", "target": "b", "files": {"../../etc": ""}}']
)
def test_a_strange_manifest_is_refused(tmp_path: Path, text: str) -> None:
    folder = artefact().write(tmp_path / "out")
    (folder / MANIFEST).write_text(text)
    with pytest.raises(ArtefactError, match=MANIFEST):
        Artefact.load(folder)


@pytest.mark.parametrize("folder", ["missing", "."])
def test_no_artefact(tmp_path: Path, folder: str) -> None:
    with pytest.raises(ArtefactError, match="dnnc compile"):
        Artefact.load(tmp_path / folder)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ResNet-8 (v2)", "resnet_8_v2"),
        ("2layer", "net_2layer"),
        ("", "network"),
        ("../../etc/passwd", "etc_passwd"),
        ("int", "int_net"),
        ("stdint", "stdint_net"),
        ("dnnc_kernels", "net_dnnc_kernels"),
        ("harness_1", "net_harness_1"),
        ("größe\n\0", "gr_e"),
        ("x" * 99, "x" * 40),
        ('"; system("rm -rf /"); //', "system_rm_rf"),
    ],
)
def test_names_become_identifiers(text: str, name: str) -> None:
    assert network_name(text) == name
    assert check_network_name(name) == name
