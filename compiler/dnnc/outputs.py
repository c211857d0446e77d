"""Outputs of an execution in the model's own terms: real numbers, names and layout as the model's file has them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnc.errors import DataError, OptionError
from dnnc.ir.graph import Graph
from dnnc.ir.layout import to_model
from dnnc.simulate import dequantise_outputs

Array = NDArray[Any]


def model_outputs(graph: Graph, codes: Mapping[str, Array]) -> dict[str, Array]:
    """Output codes int32 [N, *shape] of an integer graph to float32 [N, *sample shape of the model], by model name."""
    reals = dequantise_outputs(graph, codes)
    return {output.model_name: to_model(reals[output.model_name], output.layout) for output in graph.outputs}


def save_outputs(path: Path, outputs: Mapping[str, Array]) -> None:
    """Write a .npy of the only output, or a .npz of all by model name. Raises OptionError, DataError."""
    buffer = io.BytesIO()
    if path.suffix == ".npz":
        np.savez(buffer, **outputs)  # type: ignore[arg-type]
    elif path.suffix != ".npy":
        raise OptionError(f"--output '{path}' must end in .npy, or in .npz for several outputs")
    elif len(outputs) > 1:
        raise OptionError(f"--output '{path}' must end in .npz: the model has {len(outputs)} outputs, {list(outputs)}")
    else:
        np.save(buffer, next(iter(outputs.values())))
    try:
        path.write_bytes(buffer.getvalue())
    except OSError as error:
        raise DataError(f"cannot write '{path}': {error.strerror or error}") from error
