"""Trained networks to graphs: `read` takes ONNX files and messages, torch modules and exported programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dnnc.errors import ModelError, Unsupported, UnsupportedError
from dnnc.ir.graph import Graph
from dnnc.ir.types import Shape

if TYPE_CHECKING:
    from dnnc.frontend.onnx.source import SourceModel


@dataclass(frozen=True)
class Inspection:
    """What a model holds: its graph, or everything that dnnc lacks for it; `op_counts` are the source's operators."""

    name: str
    graph: Graph | None
    unsupported: tuple[Unsupported, ...]
    op_counts: Mapping[str, int]


def read(model: Any, input_shapes: Mapping[str, Shape] | None = None, name: str | None = None) -> Graph:
    """A verified float graph, simplified and channels last.

    model: path to an .onnx or .pt2 file, onnx.ModelProto, torch.nn.Module (with example shapes in `input_shapes`, by
    parameter name of its forward) or torch.export.ExportedProgram. input_shapes: by input name, for symbolic sizes.
    name: the graph's name instead of the file's. Values of a QDQ model carry `quant`; its Conv2D and Dense nodes the
    param `weight_scale` [O]; Conv2D and Dense with a folded BatchNormalization the params `bn_mean`, `bn_std` [O] (of
    the output before its clamp). Raises ModelError, UnsupportedError (everything that is missing, at once).
    """
    from dnnc.frontend.build import build

    return build(source(model, input_shapes, name), _onnx_shapes(model, input_shapes), name)


def inspect(model: Any, input_shapes: Mapping[str, Shape] | None = None, name: str | None = None) -> Inspection:
    """Like `read`, but a model that is not supported is described instead of refused. Raises ModelError."""
    from dnnc.frontend.build import build

    found = source(model, input_shapes, name)
    try:
        graph = build(found, _onnx_shapes(model, input_shapes), name)
    except UnsupportedError as error:
        return Inspection(found.name, None, error.items, found.op_counts())
    return Inspection(graph.name, graph, (), found.op_counts())


def source(model: Any, input_shapes: Mapping[str, Shape] | None = None, name: str | None = None) -> SourceModel:
    """The checked ONNX form of any model that `read` takes. Raises ModelError."""
    if isinstance(model, str | Path):
        path = Path(model)
        if not path.exists():
            raise ModelError(f"there is no file '{path}'")
        if not path.is_file():
            raise ModelError(f"'{path}' is no file; a model (.onnx, .pt2) was expected")
        if path.suffix == ".pt2":
            from dnnc.frontend.torch import export_file

            return _checked(export_file(path), path.stem)
        if path.suffix in (".pt", ".pth", ".tflite", ".h5", ".keras", ".pb"):
            raise ModelError(f"'{path}' is a {path.suffix} file; a model is expected as .onnx or .pt2 (torch.export)")
        from dnnc.frontend.onnx.reader import load

        return load(path)
    if type(model).__module__.split(".")[0].startswith("onnx") and hasattr(model, "graph"):
        return _checked(model, name or "model")
    from dnnc.frontend.torch import export

    return _checked(export(model, input_shapes or {}), name or type(model).__name__)


def _checked(model: Any, name: str) -> SourceModel:
    from dnnc.frontend.onnx.reader import check

    return check(model, "the model", name, None)


def _onnx_shapes(model: Any, input_shapes: Mapping[str, Shape] | None) -> Mapping[str, Shape]:
    """Shapes still to be applied: those of a torch module are used up by its export."""
    is_onnx = isinstance(model, str | Path) or (hasattr(model, "graph") and hasattr(model, "opset_import"))
    return dict(input_shapes or {}) if is_onnx else {}
