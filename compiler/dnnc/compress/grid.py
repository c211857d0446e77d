"""Weights on a grid: steps and codes of layers, and graphs whose weights the quantiser takes as they are.

A node whose weights lie on a grid has the params `weight_scale` float64 [O] and `weight_bits` uint8 [O]: each weight is
its channel's scale times a code of that many bits (see `dnnc.quantise.calibrate.Calibration.prescribed`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc.compress.method import Compressed, Setting
from dnnc.cost.target import Target
from dnnc.errors import OptionError
from dnnc.ir.graph import Graph
from dnnc.progress import Progress, silent
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.bits.activations import activation_widths
from dnnc.quantise.bits.policy import Policy, Programs, require_width
from dnnc.quantise.bytes import linear_nodes
from dnnc.quantise.calibrate import Calibration
from dnnc.quantise.dataset import Dataset

Array = NDArray[Any]

#: Exponents below the one that reaches the largest weight that are tried for power-of-two steps.
_SHORTER = 7
#: Scales below this share of the layer's largest belong to channels that do nothing.
_NEGLIGIBLE = 1e-6


@dataclass(frozen=True)
class TrainedPolicy(Policy):
    """A bit policy that trains: `prepare` puts the weights on a grid, `allocate` then asks for the grid's widths."""

    @abstractmethod
    def prepare(self, graph: Graph, setting: Setting) -> Compressed:
        """The graph, trained, with every layer's weights on a grid. Called before calibration."""

    def activation_width(self) -> int:
        """Bits of all activations."""
        return 8

    def allocate(
        self,
        calibration: Calibration,
        target: Target,
        held_out: Dataset | None = None,
        seed: int = 0,
        progress: Progress = silent,
        programs: Programs | None = None,
    ) -> Allocation:
        require_width("activation", self.activation_width(), target)
        widths = {}
        for node in linear_nodes(calibration.graph.nodes):
            codes = calibration.prescribed(node)
            if codes is None:
                raise OptionError(
                    f"bit policy '{self.name}': layer '{node.name}' has no trained codes that target '{target.name}' "
                    f"can have; the network has to be trained for this target first (TrainedPolicy.prepare)"
                )
            for bits in np.unique(codes.bits).tolist():
                require_width("weight", bits, target)
            widths[node.name] = codes.bits
        return Allocation(widths, activation_widths(calibration, self.activation_width()))


def largest_code(bits: int) -> int:
    """Of a grid that is symmetric around 0."""
    return (1 << (bits - 1)) - 1


def nearest(weight: torch.Tensor, step: torch.Tensor, lowest: Any, highest: Any) -> torch.Tensor:
    """Codes of weights [O, ...]; step and, where they are no numbers, the limits broadcast to them."""
    return torch.floor(weight / step + 0.5).clamp(lowest, highest)


def power_of_two_steps(weight: torch.Tensor, bits: int, by_channel: bool) -> torch.Tensor:
    """The steps 2**-f [O, 1, ...] of least squared error of symmetric codes, one for the layer or one for each channel;
    zeros, which every grid holds, do not count.
    """
    rows = weight.detach().flatten(1).double() if by_channel else weight.detach().double().reshape(1, -1)
    top = largest_code(bits)
    largest = rows.abs().amax(dim=1, keepdim=True)
    largest = torch.where(largest > 0, largest, largest.max().clamp_min(1e-30))
    exponent = torch.ceil(torch.log2(largest / top))
    best, chosen = torch.full_like(exponent, torch.inf), exponent
    for shorter in range(_SHORTER + 1):
        step = torch.exp2(exponent - shorter)
        error = ((rows - nearest(rows, step, -top, top) * step) ** 2).sum(dim=1, keepdim=True)
        better = error < best
        best, chosen = torch.where(better, error, best), torch.where(better, exponent - shorter, chosen)
    shape = (len(weight), *(1,) * (weight.dim() - 1))
    return torch.exp2(chosen).to(weight.dtype).expand(len(weight), 1).reshape(shape)


def fitted_scales(weight: Array, codes: Array) -> NDArray[np.float64]:
    """The scale [O], with its sign, that brings each channel's scale * codes nearest to its weights; 0 for no codes."""
    rows, of = (np.asarray(a, np.float64).reshape(len(a), -1) for a in (weight, codes))
    scale: NDArray[np.float64] = (rows * of).sum(axis=1) / np.maximum((of * of).sum(axis=1), 1.0)
    return scale


def on_grid(
    graph: Graph,
    codes: Mapping[str, Array],
    scales: Mapping[str, Array],
    bits: Mapping[str, Array],
) -> Graph:
    """The graph with the weights of these nodes replaced by scale * code, and marked as such.

    codes: of the weights' shapes; scales [O]: negative ones turn their codes around; bits [O]. Channels of no codes, or
    of next to no scale, get the layer's largest scale, the latter with codes of 0.
    """
    nodes = []
    for node in graph.nodes:
        if node.name in codes:
            scale, code = np.asarray(scales[node.name], np.float64), np.asarray(codes[node.name], np.int64)
            shape = (-1, *(1,) * (code.ndim - 1))
            code = code * np.where(scale < 0, -1, 1).reshape(shape)
            scale = np.abs(scale)
            alive = scale > _NEGLIGIBLE * scale.max(initial=0)
            code = code * alive.reshape(shape)
            scale = np.where(alive, scale, scale.max() if alive.any() else 1.0)
            params = {
                **node.params,
                "weight": (code * scale.reshape(shape)).astype(np.float32),
                "weight_scale": scale,
                "weight_bits": np.asarray(bits[node.name], np.uint8),
            }
            node = replace(node, params=params)
        nodes.append(node)
    return graph.with_nodes(nodes).verify()
