"""What a network would take if only some of its channels were left: differentiable in one gate a channel.

Parameters and multiplications are exact for gates of 0 and 1 (Enderich et al., "Holistic Filter Pruning", WACV 2021:
P = sum k^2 c_in c_out, M = sum k^2 c_in c_out h w). Flash and cycles on a target are a model that measurements
calibrate: what a layer takes follows its multiplications, outputs and inputs in proportions that are fitted over all
layers, and is set right, layer by layer, at the last network that was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls

from dnnc.compress.method import Usage
from dnnc.compress.surgery import ChannelMap
from dnnc.ir.graph import Graph, Node

Reals = NDArray[np.float64]
Number = TypeVar("Number", float, torch.Tensor)

#: Names of what is modelled, as in `dnnc.compress.budget.Budget`.
RESOURCES = ("params", "macs", "flash_bytes", "cycles")
#: Bytes of tables that an output channel takes at 8 bits: bias, multiplier and shift, before they are shared.
_TABLE_BYTES = 6.0


@dataclass(frozen=True, eq=False)
class Layer:
    """One node. inputs [G, D], outputs [G, R]: ids of its channels, group by group, `pinned` where they stay. taps: of
    its window; positions: of its output. weighted: whether it has weights. follows: its outputs are its inputs.
    """

    name: str
    inputs: torch.Tensor
    outputs: torch.Tensor
    taps: int
    positions: int
    weighted: bool
    follows: bool

    def numbers(self, gates: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(products of one position, live outputs, live inputs), each one number."""
        inside, outside = gates[self.inputs].sum(1), gates[self.outputs].sum(1)
        pairs = outside * len(self.inputs[0]) if self.follows else inside * outside
        return self.taps * pairs.sum(), outside.sum(), inside.sum()

    def alive(self, keep: NDArray[np.bool_]) -> tuple[float, float, float]:
        """`numbers` of gates that are 0 or 1."""
        inside, outside = (np.count_nonzero(keep[ids.numpy()], axis=1) for ids in (self.inputs, self.outputs))
        pairs = outside * len(self.inputs[0]) if self.follows else inside * outside
        return float(self.taps * pairs.sum()), float(outside.sum()), float(inside.sum())

    def gradients(self, keep: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], Reals, Reals]:
        """(ids of inputs, of outputs, what one more input adds to the products of one position, and one more output),
        the latter two by group, at gates that are 0 or 1.
        """
        ins, outs = self.inputs.numpy(), self.outputs.numpy()
        inside, outside = (np.count_nonzero(keep[ids], axis=1) for ids in (ins, outs))
        if self.follows:
            by_in, by_out = np.zeros(len(ins)), np.full(len(ins), float(self.taps * ins.shape[1]))
        else:
            by_in, by_out = self.taps * outside.astype(float), self.taps * inside.astype(float)
        return ins.reshape(-1), outs.reshape(-1), by_in, by_out


@dataclass(frozen=True, eq=False)
class CostModel:
    """Resources of a graph as functions of gates [channels], float 0..1 by id. See `cost_model` and `calibrated`.

    shape: cycles of a product, an output and an input of a layer, relative to each other. ratio: by node name, what
    those are multiplied by. base_flash: bytes besides weights and tables. plain: of the original network.
    """

    layers: tuple[Layer, ...]
    channels: int
    shape: tuple[float, float, float] = (1.0, 4.0, 1.0)
    ratio: Mapping[str, float] | None = None
    base_flash: float = 0.0

    def cost(self, gates: torch.Tensor) -> dict[str, torch.Tensor]:
        """By name of RESOURCES; flash and cycles only once they are calibrated."""
        gates = torch.cat([gates, gates.new_ones(1)])
        weights = biases = macs = cycles = gates.new_zeros(())
        for layer in self.layers:
            products, outputs, inputs = layer.numbers(gates)
            if layer.weighted:
                weights, biases = weights + products, biases + outputs
                macs = macs + layer.positions * products
            if self.ratio is not None:
                cycles = cycles + self.ratio.get(layer.name, 0.0) * self._work(layer, products, outputs, inputs)
        found = {"params": weights + biases, "macs": macs}
        if self.ratio is not None:
            found |= {"flash_bytes": self.base_flash + weights + _TABLE_BYTES * biases, "cycles": cycles}
        return found

    def calibrated(self, gates: torch.Tensor, usage: Usage) -> CostModel:
        """The model that agrees with a measurement of the network whose channels `gates` (0 or 1) keeps.

        The proportions are fitted to the layers with weights, relative errors alike, where there are enough of them.
        """
        padded = torch.cat([gates, gates.new_ones(1)]).double()
        rows, names = [], []
        for layer in self.layers:
            if layer.weighted and not layer.follows and usage.layer_cycles.get(layer.name, 0) > 0:
                products, outputs, inputs = (float(v) for v in layer.numbers(padded))
                rows.append((layer.positions * products, layer.positions * outputs, layer.positions * inputs))
                names.append(layer.name)
        shape = self.shape
        if len(rows) > 3:
            measured = np.array([usage.layer_cycles[name] for name in names], float)
            fitted = nnls(np.array(rows) / measured[:, None], np.ones(len(rows)))[0]
            shape = (float(fitted[0]), float(fitted[1]), float(fitted[2])) if fitted[0] > 0 else shape
        model = replace(self, shape=shape, base_flash=0.0)
        work = {layer.name: float(model._work(layer, *layer.numbers(padded))) for layer in self.layers}
        measured_total = sum(usage.layer_cycles.values())
        # what belongs to no layer (entry and exit) is shared by all, so that the sum is the measured one
        share = usage.cycles / measured_total if measured_total else 1.0
        ratio = {k: share * usage.layer_cycles.get(k, 0) / v for k, v in work.items() if v > 0}
        model = replace(model, ratio=ratio)
        return replace(model, base_flash=usage.flash_bytes - float(model.cost(gates.double())["flash_bytes"]))

    def exact(self, keep: NDArray[np.bool_]) -> dict[str, float]:
        """`cost` of gates that are 0 or 1, without gradients and quickly."""
        alive = np.append(keep, True)
        pairs = [(layer, layer.alive(alive)) for layer in self.layers]
        weights = sum(n[0] for layer, n in pairs if layer.weighted)
        biases = sum(n[1] for layer, n in pairs if layer.weighted)
        found = {
            "params": float(weights + biases),
            "macs": float(sum(layer.positions * n[0] for layer, n in pairs if layer.weighted)),
        }
        if self.ratio is not None:
            cycles = sum(self.ratio.get(layer.name, 0.0) * self._work(layer, *n) for layer, n in pairs)
            found |= {"flash_bytes": self.base_flash + weights + _TABLE_BYTES * biases, "cycles": float(cycles)}
        return found

    def slopes(self, keep: NDArray[np.bool_]) -> dict[str, NDArray[np.float64]]:
        """The gradient of `cost` by gate, at gates that are 0 or 1, quickly."""
        alive = np.append(keep, True)
        found = {k: np.zeros(len(alive)) for k in (RESOURCES if self.ratio is not None else RESOURCES[:2])}
        for layer in self.layers:
            ins, outs, by_in, by_out = layer.gradients(alive)
            ratio = 0.0 if self.ratio is None else self.ratio.get(layer.name, 0.0) * layer.positions
            a, b, c = self.shape if layer.weighted else (0.0, 1.0, 0.0)
            parts = [("cycles", ratio * (a * by_in + c), ratio * (a * by_out + b))] if self.ratio is not None else []
            if layer.weighted:
                parts.append(("macs", layer.positions * by_in, layer.positions * by_out))
                parts.append(("params", by_in, by_out + 1))
                parts += [("flash_bytes", by_in, by_out + _TABLE_BYTES)] if self.ratio is not None else []
            for name, of_in, of_out in parts:
                found[name] += np.bincount(ins, np.repeat(of_in, len(ins) // len(of_in)), len(alive))
                found[name] += np.bincount(outs, np.repeat(of_out, len(outs) // len(of_out)), len(alive))
        return {k: v[:-1] for k, v in found.items()}

    def _work(self, layer: Layer, products: Number, outputs: Number, inputs: Number) -> Number:
        """In arbitrary units."""
        a, b, c = self.shape if layer.weighted else (0.0, 1.0, 0.0)
        return layer.positions * (a * products + b * outputs + c * inputs)


def cost_model(graph: Graph, cmap: ChannelMap) -> CostModel:
    """The model of a float graph, of parameters and multiplications alone until it is calibrated."""
    channels = sum(len(g.ids) for g in cmap.groups)
    layers = (_layer(graph, cmap, node, channels) for node in graph.nodes)
    return CostModel(tuple(layer for layer in layers if layer is not None), channels)


def _layer(graph: Graph, cmap: ChannelMap, node: Node, pinned: int) -> Layer | None:
    def ids(value: str) -> NDArray[np.int64]:
        return np.where(cmap.of[value] < 0, pinned, cmap.of[value])

    if not node.type.shape or not node.inputs:
        return None
    groups = int(getattr(node.op, "groups", 1))
    weight = node.params.get("weight")
    weighted = weight is not None
    inputs, outputs = (torch.from_numpy(ids(v).reshape(groups, -1)) for v in (node.inputs[0], node.name))
    taps = 1 if weight is None else weight.size // (weight.shape[0] * weight.shape[-1])
    positions = node.type.size // len(ids(node.name))
    return Layer(node.name, inputs, outputs, taps, positions, weighted, node.name in cmap.followers)


def live(cmap: ChannelMap, gone: NDArray[np.int64]) -> torch.Tensor:
    """Gates of a map: 0 for the channels `gone`, 1 for the others."""
    gates = torch.ones(sum(len(g.ids) for g in cmap.groups))
    gates[torch.from_numpy(np.asarray(gone, np.int64))] = 0
    return gates
