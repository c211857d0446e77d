"""Quantisation-aware training with learned steps.

Esser, McKinstry, Bablani, Appuswamy, Modha, "Learned step size quantization", ICLR 2020; power-of-two steps after Jain,
Gural, Wu, Dick, "Trained quantization thresholds", MLSys 2020. Rounding passes gradients straight through.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc import fixed
from dnnc.compress.budget import accuracy
from dnnc.compress.grid import TrainedPolicy, fitted_scales, on_grid
from dnnc.compress.method import Compressed, Setting
from dnnc.compress.train import Hooks, Params, Recipe, train
from dnnc.errors import OptionError
from dnnc.ir.graph import Graph
from dnnc.ir.types import Quant
from dnnc.quantise.allocation import Allocation
from dnnc.quantise.bits.fisher import Fisher
from dnnc.quantise.bits.policy import require_width
from dnnc.quantise.bits.uniform import Uniform
from dnnc.quantise.bytes import is_linear, linear_nodes
from dnnc.quantise.calibrate import Calibration, calibrate
from dnnc.quantise.integer import select_codes
from dnnc.quantise.ranges import represent
from dnnc.quantise.weights import WeightCodes

#: A weight starts at most this far, in steps, from the code that post-training quantisation chose: it rounds to it.
_INSIDE = 0.45
#: Values of as many bits keep their calibrated steps.
_FIXED_BITS = 8


@dataclass(frozen=True)
class Lsq(TrainedPolicy):
    """Weights of `weights` bits, or of `average` bits on average, each layer's width chosen by the Fisher information
    (`bits.fisher`), with a learned step for every output channel. Exact zeros stay.

    Training starts from the network that post-training quantisation makes, computes with rounded weights and with
    activations as the integer program rounds them, and learns from the labels and, with a share of `distil`, from the
    float network. Layers are normalised in training, as BatchNorm would, and that factor becomes part of the scales;
    for targets that only shift they are not, and steps are powers of two. epochs, rate: of training (see `Recipe`).
    """

    name: ClassVar[str] = "lsq"
    weights: int = 4
    average: float | None = None
    activations: int = 8
    epochs: int = 10
    rate: float = 0.001
    distil: float = 0.5

    def __post_init__(self) -> None:
        if not 2 <= self.weights <= 8:
            raise OptionError(f"bit policy 'lsq': option 'weights' expects 2 to 8 bits, found {self.weights}")
        if self.average is not None and not 2 <= self.average <= 8:
            raise OptionError(f"bit policy 'lsq': option 'average' expects 2 to 8 bits, found {self.average:g}")
        if self.activations not in (4, 8):
            raise OptionError(f"bit policy 'lsq': option 'activations' expects 4 or 8 bits, found {self.activations}")
        self.recipe(True)

    def activation_width(self) -> int:
        return self.activations

    def recipe(self, normalise: bool) -> Recipe:
        return Recipe(
            epochs=self.epochs,
            rate=self.rate,
            optimiser="adamw",
            schedule="cosine",
            decay=0.0,
            distil=self.distil,
            normalise=normalise,
        )

    def prepare(self, graph: Graph, setting: Setting) -> Compressed:
        if self.average is None:
            require_width("weight", self.weights, setting.target)
        calibration = calibrate(graph, setting.sample, setting.target, setting.seed, setting.progress)
        policy = (
            Uniform(weights=self.weights, activations=self.activations)
            if self.average is None
            else Fisher(average=self.average, activations=self.activations)
        )
        allocation = policy.allocate(calibration, setting.target, None, setting.seed, setting.progress)
        return self.at(graph, calibration, allocation, setting)

    def at(self, graph: Graph, calibration: Calibration, allocation: Allocation, setting: Setting) -> Compressed:
        """`prepare` at given widths, from whatever policy."""
        codes = {n.name: select_codes(n, calibration, allocation) for n in linear_nodes(graph.nodes)}
        quants = {v: calibration.quant(v, allocation.activation_bits[v]) for v in graph.types}
        started = start(graph, codes)
        rounding = Rounding(started, codes, quants, calibration.ties.group_of, calibration.power_of_two)
        trained = train(
            started,
            setting.train,
            self.recipe(normalise=not calibration.power_of_two),
            teacher=setting.teacher(graph),
            hooks=[rounding],
            seed=setting.seed,
            device=setting.device,
            progress=setting.progress,
            checkpoint=setting.checkpoint,
        )
        result = rounding.on_grid(trained)
        if not calibration.power_of_two:
            result = prescribe(result, rounding.narrow_quants())
        average = allocation.average_bits({n.name: n.params["weight"][0].size for n in linear_nodes(graph.nodes)})
        notes = [f"lsq: weights of {average:.2f} bits on average, their steps learned in {self.epochs} epochs"]
        if (judges := setting.judges) is not None:
            notes.append(
                f"lsq: accuracy {accuracy(graph, judges):.2f} % before, with weights of few bits "
                f"{accuracy(result, judges):.2f} %, on held-out samples"
            )
        return Compressed(result, tuple(notes))


def start(graph: Graph, codes: Mapping[str, WeightCodes]) -> Graph:
    """The graph with every weight moved to where it rounds to its code: as little as that takes. Zeros stay zeros."""
    nodes = []
    for node in graph.nodes:
        if node.name in codes:
            weight = np.asarray(node.params["weight"], np.float64)
            of = codes[node.name]
            step = of.scale.reshape(-1, *(1,) * (weight.ndim - 1))
            moved = np.clip(weight, (of.codes - _INSIDE) * step, (of.codes + _INSIDE) * step)
            # Codes at the ends of the grid serve all weights beyond.
            lowest, highest = _limits(of.bits, weight.ndim)
            moved = np.where((of.codes == highest) & (weight > moved), weight, moved)
            moved = np.where((of.codes == lowest) & (weight < moved), weight, moved)
            node = replace(node, params={**node.params, "weight": np.where(weight == 0, 0, moved).astype(np.float32)})
        nodes.append(node)
    return graph.with_nodes(nodes)


def prescribe(graph: Graph, quants: Mapping[str, Quant]) -> Graph:
    """The graph with the quantisation of these values prescribed, as a QDQ model would."""
    nodes = [replace(n, type=replace(n.type, quant=quants.get(n.name, n.type.quant))) for n in graph.nodes]
    inputs = [replace(i, type=replace(i.type, quant=quants.get(i.name, i.type.quant))) for i in graph.inputs]
    return replace(graph, inputs=tuple(inputs), nodes=tuple(nodes)).verify()


def _limits(bits: NDArray[np.uint8], dimensions: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest code [O, 1, ...]."""
    ends = np.array([fixed.code_range(int(b)) for b in bits], np.float64)
    shape = (-1, *(1,) * (dimensions - 1))
    return ends[:, 0].reshape(shape), ends[:, 1].reshape(shape)


class Rounding(Hooks):
    """Rounds weights, and values of fewer than 8 bits, at learned steps, other values at those of `quants`. Steps are
    learned as their logarithms; values of one group (of `groups`) share theirs.
    """

    def __init__(
        self,
        graph: Graph,
        codes: Mapping[str, WeightCodes],
        quants: Mapping[str, Quant],
        groups: Mapping[str, str],
        power_of_two: bool,
    ) -> None:
        self.bits = {name: of.bits for name, of in codes.items()}
        self.quants, self.groups, self.power_of_two = quants, groups, power_of_two
        self._free = {n.name for n in graph.nodes if not n.op.keeps_quant} | {i.name for i in graph.inputs}
        self._value_logs = {
            groups[v]: torch.tensor(math.log2(q.scale)).requires_grad_(True)
            for v, q in quants.items()
            if q.bits < _FIXED_BITS and not power_of_two
        }
        self._logs: dict[str, torch.Tensor] = {}
        self._limits: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self._codes: dict[str, torch.Tensor] = {}
        for node in graph.nodes:
            if is_linear(node):
                dimensions = node.params["weight"].ndim
                scale = codes[node.name].scale
                used = scale > 0
                scale = np.where(used, scale, scale[used].mean() if used.any() else 1.0)
                logs = torch.tensor(np.log2(scale), dtype=torch.float32).reshape(-1, *(1,) * (dimensions - 1))
                self._logs[node.name] = logs.requires_grad_(True)
                lowest, highest = _limits(self.bits[node.name], dimensions)
                self._limits[node.name] = torch.tensor(lowest).float(), torch.tensor(highest).float()

    def __str__(self) -> str:
        widths = {name: bits.tolist() for name, bits in self.bits.items()}
        return f"Rounding({widths}, {[str(q) for q in self.quants.values()]})"

    def tensors(self) -> dict[str, torch.Tensor]:
        return self._logs | {f"value {group}": log for group, log in self._value_logs.items()}

    def params(self, params: Params, progress: float) -> Params:
        found = dict(params)
        for name, logs in self._logs.items():
            weight = params[name]["weight"]
            lowest, highest = (limit.to(weight.device) for limit in self._limits[name])
            exponent = logs.to(weight.device)
            if self.power_of_two:
                exponent = _straight(exponent, exponent.round())
            step = torch.exp2(exponent)
            inside = torch.minimum(torch.maximum(weight / step, lowest), highest)
            codes = _straight(inside, torch.floor(inside + 0.5))
            if progress >= 1:
                self._codes[name] = codes.detach().round()
            found[name] = {**params[name], "weight": codes * step}
        return found

    def value(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        if name not in self._free:
            return tensor
        quant, log = self.quants[name], self._value_logs.get(self.groups[name])
        if log is not None:
            step = torch.exp2(log.to(tensor.device))
            codes = (tensor.float() / step + quant.zero_point).clamp(quant.lo, quant.hi)
            return ((_straight(codes, torch.floor(codes + 0.5)) - quant.zero_point) * step).to(tensor.dtype)
        x = tensor.float().clamp(quant.real_lo, quant.real_hi)
        return _straight(x, represent(x.detach(), quant)).to(tensor.dtype)

    def narrow_quants(self) -> dict[str, Quant]:
        """Of the values whose steps were learned."""
        return {
            v: replace(q, scale=2.0 ** float(self._value_logs[self.groups[v]].detach()))
            for v, q in self.quants.items()
            if self.groups[v] in self._value_logs
        }

    def after_step(self, params: Params, progress: float) -> None:
        """Scales stay positive: the codes of an even number of levels cannot be turned around."""
        for name in self._logs:
            if "gamma" in params[name]:
                params[name]["gamma"].clamp_min_(0.0)

    def on_grid(self, trained: Graph) -> Graph:
        """What training returned, its codes prescribed to the quantiser."""
        codes: dict[str, NDArray[Any]] = {name: of.cpu().numpy() for name, of in self._codes.items()}
        scales = {name: fitted_scales(trained.by_name[name].params["weight"], of) for name, of in codes.items()}
        return on_grid(trained, codes, scales, self.bits)


def _straight(x: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """`rounded`, with the gradient of x."""
    return x + (rounded - x).detach()
