"""Initialisers as arrays; external data only from the model's own folder."""

from __future__ import annotations

from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import onnx
from onnx import helper, numpy_helper

from dnnc.errors import ModelError
from dnnc.frontend.onnx.source import MAX_ELEMENTS, Array


def tensor_array(tensor: onnx.TensorProto, what: str, folder: Path | None) -> Array:
    """A tensor's elements. `what` names it in errors; `folder` holds the model file, None where there is no file.

    Raises ModelError for sizes that do not fit the data, NaN, infinite elements (a lone scalar may be infinite: it is a
    limit), and external data outside of the folder.
    """
    dims = tuple(tensor.dims)
    if any(d < 0 for d in dims) or prod(dims) >= MAX_ELEMENTS:
        raise ModelError(f"{what} has the impossible shape {dims}")
    if tensor.data_type not in helper.get_all_tensor_dtypes() or tensor.data_type == onnx.TensorProto.UNDEFINED:
        raise ModelError(f"{what} has the unknown element type {tensor.data_type}")
    if tensor.data_type == onnx.TensorProto.STRING:
        return np.empty(dims, object)
    external = tensor.data_location == onnx.TensorProto.EXTERNAL
    try:
        array = np.asarray(numpy_helper.to_array(_load_external(tensor, what, folder) if external else tensor))
    except ModelError:
        raise
    except Exception as error:  # numpy and onnx raise whatever they please on sizes that do not fit the data
        raise ModelError(f"{what} of shape {dims} is damaged: its data do not fit its shape") from error
    if array.shape != dims:
        raise ModelError(f"{what} of shape {dims} is damaged: it holds data of shape {array.shape}")
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        array = array.astype(np.float32) if array.dtype != np.float64 else _narrow(array)
        _check_finite(array, what)
    return array


def _narrow(array: Array) -> Array:
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _check_finite(array: Array, what: str) -> None:
    if np.isnan(array).any():
        raise ModelError(f"{what} holds {int(np.isnan(array).sum())} NaN of {array.size} elements")
    if array.size > 1 and np.isinf(array).any():
        raise ModelError(f"{what} holds {int(np.isinf(array).sum())} infinite values of {array.size} elements")


def _load_external(tensor: onnx.TensorProto, what: str, folder: Path | None) -> onnx.TensorProto:
    """A copy of the tensor with its data read from the file beside the model."""
    entries = {e.key: e.value for e in tensor.external_data}
    location = entries.get("location", "")
    if folder is None:
        raise ModelError(f"{what} lies in the file '{location}'; give the model as a path, so that it can be found")
    path = external_path(location, what, folder)
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
    except ValueError:
        raise ModelError(f"{what} has an offset or a length that is no number") from None
    size = path.stat().st_size
    if length < 0:
        length = size - offset
    if offset < 0 or length < 0 or offset + length > size:
        raise ModelError(f"{what} lies at {offset}..{offset + length} of '{location}', which has {size} bytes")
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(length)
    loaded = onnx.TensorProto()
    loaded.CopyFrom(tensor)
    del loaded.external_data[:]
    loaded.data_location = onnx.TensorProto.DEFAULT
    loaded.raw_data = data
    return loaded


def external_path(location: str, what: str, folder: Path) -> Path:
    """The file of external data. Raises ModelError unless it lies in the model's folder, without links out of it."""
    relative = PurePosixPath(location)
    outside = (
        not location
        or "\0" in location
        or relative.is_absolute()
        or PureWindowsPath(location).is_absolute()
        or bool(PureWindowsPath(location).drive)
        or ".." in PureWindowsPath(location).parts
    )
    if outside:
        raise ModelError(f"{what} lies in '{location[:200]}'; external data must be in the model's own folder")
    root = folder.resolve()
    path = (root / relative).resolve()
    if not path.is_relative_to(root):
        raise ModelError(f"{what} lies in '{location[:200]}', a link out of the model's own folder")
    if not path.is_file():
        raise ModelError(f"{what} lies in '{location[:200]}', but there is no such file beside the model")
    return path
