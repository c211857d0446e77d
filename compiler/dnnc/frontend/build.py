"""From a checked model to the verified graph: shapes, translation, simplification."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dnnc.frontend.names import clean
from dnnc.frontend.onnx.reader import concrete_shapes
from dnnc.frontend.onnx.source import SourceModel
from dnnc.frontend.onnx.translate import translate
from dnnc.frontend.simplify.pipeline import simplify
from dnnc.ir.graph import Graph
from dnnc.ir.types import Shape


def build(model: SourceModel, input_shapes: Mapping[str, Shape], name: str | None = None) -> Graph:
    """The model as a graph. Raises ModelError, UnsupportedError."""
    shapes = concrete_shapes(model, input_shapes)
    with np.errstate(all="ignore"):  # what is not finite in the end is found and named in the end
        return simplify(translate(model, shapes, clean(name or model.name, "model"))).verify()
