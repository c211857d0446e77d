"""Inputs out of nothing: Gaussian noise in the range that a model seems to expect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from dnnc.ir.graph import Graph, Input
from dnnc.ir.types import Shape
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense

#: Images from this size on get the spectrum of natural ones.
_SMALLEST_IMAGE = 8
#: A first layer whose response to unit inputs is this far below its biases expects larger inputs.
_FAINT = 0.1
#: Faint models of images with 1 or 3 channels and at least this scale expect pixels.
_PIXELS = 16


@dataclass(frozen=True, eq=False)
class Noise:
    """inputs [count, *shape] by name; limits: the range of those of known or assumed range; assumed: that, in words."""

    inputs: Mapping[str, torch.Tensor]
    limits: Mapping[str, tuple[float, float]]
    assumed: str


def gaussian_inputs(graph: Graph, count: int, generator: torch.Generator) -> Noise:
    """`count` samples of noise for every input.

    A range that the model prescribes is filled to two deviations on either side. Otherwise the inputs are standard
    normal, unless the first layer's biases are out of proportion to what it would make of them: then they are scaled,
    or taken to be pixels in 0..255 where they look like images.
    """
    inputs, limits, words = {}, {}, []
    for source in graph.inputs:
        noise = _noise(source.type.shape, count, generator)
        quant, scale = source.type.quant, _scale(graph, source)
        pixels = len(source.type.shape) == 3 and source.type.shape[2] in (1, 3) and scale >= _PIXELS
        if quant is not None:
            middle, spread = (quant.real_lo + quant.real_hi) / 2, (quant.real_hi - quant.real_lo) / 4
            limits[source.name] = (quant.real_lo, quant.real_hi)
            inputs[source.name] = (middle + spread * noise).clamp(*limits[source.name])
            words.append(f"'{source.model_name}' in {quant.real_lo:g}..{quant.real_hi:g} as the model declares")
        elif pixels:
            limits[source.name] = (0.0, 255.0)
            inputs[source.name] = (128 + 64 * noise).round().clamp(*limits[source.name])
            words.append(f"'{source.model_name}' taken to be pixels in 0..255, by the biases of its first layer")
        else:
            inputs[source.name] = scale * noise
            words.append(f"'{source.model_name}' of mean 0 and deviation {scale:g}")
    return Noise(inputs, limits, "; ".join(words))


def _noise(shape: Shape, count: int, generator: torch.Generator) -> torch.Tensor:
    """Normal with deviation 1. Images [H, W, C] have amplitudes that fall as 1 / frequency, as those of natural images
    do (Field, JOSA A 4, 1987).
    """
    noise = torch.randn((count, *shape), generator=generator)
    if len(shape) != 3 or min(shape[:2]) < _SMALLEST_IMAGE:
        return noise
    height, width, _ = shape
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    amplitude = 1 / np.maximum(np.hypot(rows, columns), 1 / max(height, width))
    spectrum = np.fft.rfft2(noise.numpy(), axes=(1, 2)) * amplitude[None, :, :, None]
    images = np.fft.irfft2(spectrum, s=(height, width), axes=(1, 2))
    return torch.tensor(images / images.std(), dtype=torch.float32)


def _scale(graph: Graph, source: Input) -> float:
    """1, or the power of two by which inputs must grow for the first layer to respond as strongly as its biases."""
    value = source.name
    while True:
        readers = graph.consumers[value]
        linear = [n for n in readers if isinstance(n.op, (Conv2D, Dense))]
        if linear:
            break
        if len(readers) != 1 or not readers[0].op.keeps_quant:
            return 1.0
        value = readers[0].name
    weight = np.asarray(linear[0].params["weight"], np.float64)
    response = float(np.median(np.sqrt((weight.reshape(len(weight), -1) ** 2).sum(axis=1))))
    bias = float(np.median(np.abs(linear[0].params["bias"])))
    if response <= 0 or response >= _FAINT * bias:
        return 1.0
    return float(2.0 ** np.clip(np.round(np.log2(bias / response)), 0, 8))
