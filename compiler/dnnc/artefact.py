"""What the compiler makes: files in memory and their manifest. Only `Artefact.write` touches the disk.

c/               C99 to drop into a firmware tree
model/           float.npz and integer.npz: the network before and after quantisation
vectors.npz      stored test vectors: input codes and the output codes that the simulator gives for them
manifest.json    names, layouts, scales, layers, sizes; `files` holds the SHA-256 of every other file
report.json      the figures for machines, report.md the same for people
README.md        for the firmware engineer
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc import __version__, ops
from dnnc.errors import ArtefactError
from dnnc.ir.graph import Graph
from dnnc.ir.serial import dump_arrays, load_arrays, load_graph

Array = NDArray[Any]

MANIFEST = "manifest.json"
FLOAT_GRAPH = "model/float.npz"
INTEGER_GRAPH = "model/integer.npz"
VECTORS = "vectors.npz"
#: An edit of these would silently change what the others are compared with, so `load` refuses it.
SEALED = (FLOAT_GRAPH, INTEGER_GRAPH, VECTORS)


@dataclass(frozen=True)
class Vectors:
    """Codes int32 [N, *shape] in the graph's layout: inputs by graph input name, outputs by model name."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]

    @property
    def count(self) -> int:
        return len(next(iter(self.inputs.values())))

    def take(self, index: Sequence[int]) -> Vectors:
        """The vectors at `index`."""
        picked = list(index)
        return Vectors(
            {name: codes[picked] for name, codes in self.inputs.items()},
            {name: codes[picked] for name, codes in self.outputs.items()},
        )

    def dump(self) -> bytes:
        """An npz of `input_<i>` and `output_<i>`, in the order of the manifest."""
        arrays = {f"input_{i}": np.asarray(v, np.int32) for i, v in enumerate(self.inputs.values())}
        arrays |= {f"output_{i}": np.asarray(v, np.int32) for i, v in enumerate(self.outputs.values())}
        return dump_arrays(arrays)

    @classmethod
    def load(cls, data: bytes, graph: Graph) -> Vectors:
        """Inverse of dump for the graph that the vectors belong to. Raises ArtefactError where they do not fit it."""
        arrays = load_arrays(data)
        try:
            return cls(
                {source.name: arrays[f"input_{i}"] for i, source in enumerate(graph.inputs)},
                {output.model_name: arrays[f"output_{i}"] for i, output in enumerate(graph.outputs)},
            )
        except KeyError as error:
            raise ArtefactError(f"{VECTORS} lacks the array {error}") from error


@dataclass(frozen=True, eq=False)
class Artefact:
    """`files` maps POSIX paths inside the artefact to bytes and includes the manifest; make one with `create`."""

    name: str
    target: str
    files: Mapping[str, bytes]
    manifest: Mapping[str, Any]

    @classmethod
    def create(cls, name: str, target: str, files: Mapping[str, bytes], manifest: Mapping[str, Any]) -> Artefact:
        """Seal `files`: adds manifest.json with the version, the names and every file's digest."""
        contents = dict(sorted(files.items()))
        full = {"dnnc": __version__, "name": name, "target": target, **manifest}
        full["files"] = {path: _digest(data) for path, data in contents.items()}
        contents[MANIFEST] = (json.dumps(full, indent=1) + "\n").encode()
        return cls(name, target, MappingProxyType(contents), MappingProxyType(json.loads(contents[MANIFEST])))

    @cached_property
    def float_graph(self) -> Graph:
        return load_graph(self.files[FLOAT_GRAPH], ops.BY_KIND)

    @cached_property
    def integer_graph(self) -> Graph:
        return load_graph(self.files[INTEGER_GRAPH], ops.BY_KIND)

    @cached_property
    def vectors(self) -> Vectors:
        return Vectors.load(self.files[VECTORS], self.integer_graph)

    @property
    def edited(self) -> tuple[str, ...]:
        """Files whose bytes are no longer those that the compiler wrote."""
        digests = self.manifest["files"]
        return tuple(path for path, data in self.files.items() if path in digests and _digest(data) != digests[path])

    def write(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write all files to `folder`, which appears whole or not at all, also on an error or an interrupt.

        A folder that exists is refused unless it is empty, or is an artefact and `overwrite` is set.
        """
        folder = Path(folder)
        check_destination(folder, overwrite)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=".dnnc-", dir=folder.parent))
            try:
                self._write_files(staging / "new")
                _swap(staging, folder)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
        except OSError as error:
            raise ArtefactError(f"cannot write '{folder}': {error.strerror or error}") from error
        return folder

    def _write_files(self, folder: Path) -> None:
        for path, data in self.files.items():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)

    @classmethod
    def load(cls, folder: str | Path) -> Artefact:
        """Read an artefact back. Raises ArtefactError where the folder is none, or a file is missing or damaged.

        Edited C is no damage: `verify` exists to tell whether it still computes the same.
        """
        folder = Path(folder)
        manifest = _read_manifest(folder)
        files = {path: _read(folder, path) for path in manifest["files"]}
        files[MANIFEST] = _read(folder, MANIFEST)
        artefact = cls(manifest["name"], manifest["target"], MappingProxyType(files), MappingProxyType(manifest))
        damaged = sorted(set(artefact.edited) & set(SEALED))
        if damaged:
            raise ArtefactError(f"'{folder / damaged[0]}' is not what the compiler wrote: compile the model again")
        return artefact


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def check_destination(folder: Path, overwrite: bool) -> None:
    """Raise ArtefactError where `Artefact.write` would refuse `folder`; asked before the work, so that none is lost."""
    try:
        _check_destination(folder, overwrite)
    except OSError as error:
        raise ArtefactError(f"cannot write '{folder}': {error.strerror or error}") from error


def _check_destination(folder: Path, overwrite: bool) -> None:
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_symlink() or not folder.is_dir():
        raise ArtefactError(f"'{folder}' exists and is no folder: choose another name")
    if folder.samefile(Path.cwd()):
        raise ArtefactError(f"'{folder}' is the current folder, which cannot be replaced: choose another name")
    if not any(folder.iterdir()):
        return
    if not overwrite:
        raise ArtefactError(f"'{folder}' exists: choose another folder, or pass --overwrite to replace it")
    try:
        _read_manifest(folder)
    except ArtefactError as error:
        raise ArtefactError(f"'{folder}' holds something that dnnc did not write, so it is not replaced") from error


def _swap(staging: Path, folder: Path) -> None:
    """Put staging/new in the place of `folder`; what was there goes to staging/old, or back if that fails."""
    old = staging / "old"
    if not folder.exists():
        (staging / "new").rename(folder)
        return
    folder.rename(old)
    try:
        (staging / "new").rename(folder)
    except BaseException:
        old.rename(folder)
        raise


def _read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, checked as far as `load` relies on it."""
    if not folder.is_dir():
        raise ArtefactError(f"'{folder}' is no folder: give the folder that `dnnc compile` wrote")
    if not (folder / MANIFEST).is_file():
        raise ArtefactError(f"'{folder}' has no {MANIFEST}: give the folder that `dnnc compile` wrote")
    try:
        manifest = json.loads(_read(folder, MANIFEST))
    except ValueError as error:
        raise ArtefactError(f"'{folder / MANIFEST}' is damaged: {error}") from error
    wrong = f"'{folder / MANIFEST}' is no manifest of dnnc"
    if not isinstance(manifest, dict) or not {"dnnc", "name", "target", "files"} <= manifest.keys():
        raise ArtefactError(wrong)
    files = manifest["files"]
    if not isinstance(files, dict) or not files.keys() >= set(SEALED) or not all(map(_inside, files)):
        raise ArtefactError(wrong)
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", str(manifest["name"])):
        raise ArtefactError(wrong)
    return manifest


def _inside(path: str) -> bool:
    """True for a relative path that stays in its folder."""
    pure = PurePosixPath(path)
    return not pure.is_absolute() and ".." not in pure.parts and "\\" not in path


def _read(folder: Path, path: str) -> bytes:
    try:
        return (folder / path).read_bytes()
    except OSError as error:
        raise ArtefactError(f"cannot read '{folder / path}': {error.strerror or error}") from error
