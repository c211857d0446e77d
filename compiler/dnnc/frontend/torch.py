"""PyTorch modules and exported programs to ONNX messages, through torch's own exporter."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from dnnc.errors import ModelError
from dnnc.ir.types import Shape

#: What both exporters write well.
OPSET = 18


def export(model: Any, input_shapes: Mapping[str, Shape]) -> Any:
    """A torch.nn.Module or torch.export.ExportedProgram as onnx.ModelProto. Raises ModelError.

    input_shapes: for a module, the shape of every argument of its forward, by name (or in order), batch included.
    """
    if isinstance(model, torch.export.ExportedProgram):
        return _export_program(model)
    if isinstance(model, torch.nn.Module):
        return _export_module(model, _examples(model, input_shapes))
    raise ModelError(
        f"a model of type {type(model).__name__} cannot be read; expected are a path, an onnx.ModelProto, "
        "a torch.nn.Module or a torch.export.ExportedProgram"
    )


def export_file(path: Path) -> Any:
    """A .pt2 file as onnx.ModelProto. Raises ModelError."""
    try:
        with _quietly():
            program = torch.export.load(path)
    except Exception as error:  # torch raises what zipfile, json and pickle raise
        raise ModelError(f"'{path}' is no program of torch.export, or it is damaged: {_first_line(error)}") from error
    return _export_program(program)


def _examples(module: torch.nn.Module, input_shapes: Mapping[str, Shape]) -> tuple[torch.Tensor, ...]:
    """Zero tensors for the arguments of forward, in their order."""
    parameters = [
        p.name
        for p in inspect.signature(module.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if not input_shapes:
        shown = parameters[0] if parameters else "x"
        raise ModelError(
            f"a torch module does not say the shapes of its inputs: give input_shapes={{'{shown}': (1, 3, 32, 32)}}"
        )
    if set(input_shapes) <= set(parameters):
        ordered = [input_shapes[name] for name in parameters if name in input_shapes]
    else:
        ordered = list(input_shapes.values())
    return tuple(torch.zeros(tuple(shape)) for shape in ordered)


def _export_module(module: torch.nn.Module, examples: tuple[torch.Tensor, ...]) -> Any:
    training = module.training
    module.eval()
    try:
        with _quietly(), torch.no_grad():
            if importlib.util.find_spec("onnxscript"):
                # Unoptimised, so that BatchNormalization and its statistics are still there.
                program = torch.onnx.export(module, examples, dynamo=True, opset_version=OPSET, optimize=False)
                return _proto(program)
            return _trace(module, examples)
    except Exception as error:  # the exporter runs the model's own code
        raise ModelError(f"the module cannot be exported to ONNX: {_first_line(error)}") from error
    finally:
        module.train(training)


def _export_program(program: torch.export.ExportedProgram) -> Any:
    try:
        with _quietly(), torch.no_grad():
            if importlib.util.find_spec("onnxscript"):
                exported = torch.onnx.export(program, (), dynamo=True, opset_version=OPSET, optimize=False)
                return _proto(exported)
            examples, named = program.example_inputs or ((), {})
            if not examples or named:
                raise ModelError("the program holds no example inputs, and onnxscript, which needs none, is missing")
            return _trace(program.module(), tuple(examples))
    except ModelError:
        raise
    except Exception as error:  # the exporter raises its own many kinds
        raise ModelError(f"the program cannot be exported to ONNX: {_first_line(error)}") from error


def _trace(module: torch.nn.Module, examples: tuple[Any, ...]) -> Any:
    """Through the older exporter, which needs no onnxscript."""
    from dnnc.frontend.onnx.reader import parse

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "module.onnx"
        # Unfolded and as it is, so that BatchNormalization and its statistics are still there.
        preserve = torch.onnx.TrainingMode.PRESERVE
        torch.onnx.export(
            module, examples, path, dynamo=False, opset_version=17, training=preserve, do_constant_folding=False
        )
        return parse(path.read_bytes(), "the exported module")


def _proto(program: Any) -> Any:
    if program is None:
        raise ModelError("torch's exporter returned nothing")
    return program.model_proto


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The exporters talk on stdout, in warnings and in logs; what goes wrong they raise."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
