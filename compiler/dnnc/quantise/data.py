"""Calibration and evaluation data: .npz and .npy files or arrays, checked against the model before it is run.

`x` is [N, *sample shape] in the model's own layout, float or uint8; a model of several inputs takes one array for each,
named after it. `y` is optional: class indices [N].
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc.errors import DataError
from dnnc.ir.graph import Graph, Input
from dnnc.ir.types import Shape
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.synthesise import synthesise

__all__ = ["Dataset", "load_data", "synthesise"]

Array = NDArray[Any]
Source = str | Path | Array | Sequence[Any] | Mapping[str, Any] | Dataset

#: Samples checked for NaN and infinity at a time.
_CHUNK = 256


def load_data(source: Source, graph: Graph, minimum: int = 1) -> Dataset:
    """Samples for `graph` from a path, an array x, a pair (x, y), or a mapping such as {"x": ..., "y": ...}.

    Raises DataError saying what was expected and what was found where the file cannot be read, a shape or type does not
    fit, a value is not finite, a label is outside the classes, or there are fewer than `minimum` samples.
    """
    if isinstance(source, Dataset):
        return source
    what, arrays, labels = _read(source)
    inputs = _match(arrays, graph, what)
    counts = {name: len(values) for name, values in inputs.items()}
    if len(set(counts.values())) > 1:
        raise DataError(f"{what}: every input needs the same number of samples, found {counts}")
    count = next(iter(counts.values()))
    if count < minimum:
        raise DataError(f"{what}: at least {minimum} sample(s) are needed, found {count}")
    return Dataset(inputs, None if labels is None else _labels(labels, count, graph, what))


def _read(source: Source) -> tuple[str, dict[str, Array], Array | None]:
    """(what to call it, arrays by name, labels). A lone array is called x."""
    if isinstance(source, (str, Path)):
        return _read_file(Path(source))
    if isinstance(source, Mapping):
        arrays = {str(k): np.asarray(v) for k, v in source.items()}
        return "the data", arrays, arrays.pop("y", None)
    if isinstance(source, tuple) and len(source) == 2:
        x, y = source
        arrays = {k: np.asarray(v) for k, v in x.items()} if isinstance(x, Mapping) else {"x": np.asarray(x)}
        return "the data", arrays, None if y is None else np.asarray(y)
    return "the data", {"x": np.asarray(source)}, None


def _read_file(path: Path) -> tuple[str, dict[str, Array], Array | None]:
    what = f"data file '{path}'"
    if not path.is_file():
        raise DataError(f"{what} does not exist")
    try:
        if path.suffix == ".npy":
            return what, {"x": np.load(path, mmap_mode="r", allow_pickle=False)}, None
        if path.suffix != ".npz":
            raise DataError(f"{what}: expected a .npz file with an array 'x' (and 'y' for labels), or a .npy file")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{what} cannot be read as numpy arrays without pickles: {error}") from error
    return what, arrays, arrays.pop("y", None)


def _match(arrays: dict[str, Array], graph: Graph, what: str) -> dict[str, Array]:
    """The array of every graph input, in the graph's layout."""
    found: dict[str, Array] = {}
    for source in graph.inputs:
        names = [n for n in (source.model_name, source.name) if n in arrays]
        if len(graph.inputs) == 1:
            names += ["x"] if "x" in arrays else []
        if not names:
            expected = ["x"] if len(graph.inputs) == 1 else [i.model_name for i in graph.inputs]
            raise DataError(f"{what}: expected arrays named {expected}, found {sorted(arrays)}")
        found[source.name] = _samples(arrays[names[0]], source, f"{what}, array '{names[0]}'")
    return found


def _samples(x: Array, source: Input, what: str) -> Array:
    sample = source.layout.sample_shape
    if x.dtype.kind not in "fuib":
        raise DataError(f"{what}: expected numbers (float or uint8), found {x.dtype}")
    if x.ndim == 0 or x.shape[1:] != sample:
        raise DataError(f"{what}: expected shape {_shown(sample)}, found {list(x.shape)}{_hint(x.shape, sample)}")
    if x.dtype.kind == "f":
        for start in range(0, len(x), _CHUNK):
            bad = ~np.isfinite(x[start : start + _CHUNK])
            if bad.any():
                index = np.argwhere(bad)[0]
                where = [start + int(index[0]), *map(int, index[1:])]
                raise DataError(f"{what}: every value must be finite, found {x[tuple(where)]} at {where}")
    if x.dtype != np.uint8:
        x = np.asarray(x, np.float32)
    return x.transpose(0, *(p + 1 for p in source.layout.perm))


def _shown(sample: Shape) -> str:
    return "[" + ", ".join(["N", *map(str, sample)]) + "]"


def _hint(found: Shape, sample: Shape) -> str:
    """What the user probably meant."""
    if found == sample:
        return "; put a sample axis in front"
    if len(found) == len(sample) + 1:
        for order in permutations(range(len(sample))):
            if order != tuple(range(len(sample))) and tuple(found[1 + p] for p in order) == sample:
                return f"; x.transpose(0, {', '.join(str(p + 1) for p in order)}) has the model's layout"
    if len(found) == len(sample) and sorted((*found[1:], 1)) == sorted(sample):
        return f"; x.reshape(-1, {', '.join(map(str, sample))}) would fit"
    if int(np.prod(found[1:])) == int(np.prod(sample)) and found:
        return f"; x.reshape(-1, {', '.join(map(str, sample))}) would fit, if the order is the same"
    return ""


def _labels(y: Array, count: int, graph: Graph, what: str) -> NDArray[np.int64]:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.shape != (count,):
        raise DataError(f"{what}: expected labels y of shape [{count}], one for each sample, found {list(y.shape)}")
    if y.dtype.kind not in "uib" and not (y.dtype.kind == "f" and np.array_equal(y, np.floor(y))):
        raise DataError(f"{what}: expected whole class indices in y, found {y.dtype}")
    classes = graph.types[graph.outputs[0].value].shape
    limit = classes[-1] if classes else 1
    labels = y.astype(np.int64)
    if labels.size and (labels.min() < 0 or labels.max() >= limit):
        raise DataError(
            f"{what}: expected labels in 0..{limit - 1} (the model's output '{graph.outputs[0].model_name}' has "
            f"{limit} elements), found {labels.min()}..{labels.max()}"
        )
    return labels
