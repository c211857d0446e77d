"""One float pass over the calibration samples: what every value takes and what every layer's weights multiply.

The result answers, for any width, which quantisation of a value and which codes of a layer's weights lose least.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc import fixed
from dnnc.cost.target import Target
from dnnc.errors import DataError, ModelError
from dnnc.evaluate import evaluate, parameters
from dnnc.ir.graph import Graph, Node
from dnnc.ir.types import Quant
from dnnc.progress import Progress, silent
from dnnc.quantise.bytes import is_linear, linear_nodes
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.moments import Moments, MomentSum
from dnnc.quantise.ranges import choose_quant, fixed_quant, is_bytes
from dnnc.quantise.threads import one_thread
from dnnc.quantise.ties import Ties, tie
from dnnc.quantise.weights import WeightCodes, quantise_weights

Array = NDArray[Any]

#: Samples looked at; more do not change a range or a covariance noticeably.
CALIBRATION_SAMPLES = 512
MINIMUM_SAMPLES = 4
#: Elements kept of each value.
_KEPT = 8192
_BATCH = 64


@dataclass(frozen=True, eq=False)
class ValueSample:
    """Some of the elements that a value took, and the least and greatest of all of them."""

    kept: NDArray[np.float32]
    lo: float
    hi: float


@dataclass(frozen=True, eq=False)
class Calibration:
    """What calibration learnt of a float graph. `ties.graph` is the graph to quantise (requantisation nodes included).

    samples: by value; moments: by linear node; dataset: the samples it was learnt from.
    """

    ties: Ties
    samples: Mapping[str, ValueSample]
    moments: Mapping[str, Moments]
    dataset: Dataset
    power_of_two: bool
    notes: tuple[str, ...] = ()
    # Answers already given; asking again gives the same.
    _quants: dict[tuple[str, int], Quant] = field(default_factory=dict, repr=False)
    _codes: dict[tuple[str, int], WeightCodes] = field(default_factory=dict, repr=False)

    @property
    def graph(self) -> Graph:
        return self.ties.graph

    def quant(self, value: str, bits: int) -> Quant:
        """The quantisation of a value, the same for all values tied to it. A prescribed one ignores `bits`."""
        group = self.ties.group_of[value]
        if group in self.ties.prescribed:
            return self.ties.prescribed[group]
        if (group, bits) not in self._quants:
            self._quants[group, bits] = self._choose(self.ties.members()[group], bits)
        return self._quants[group, bits]

    def _choose(self, members: Sequence[str], bits: int) -> Quant:
        graph = self.graph
        producers = [graph.by_name[m] for m in members if m in graph.by_name and not graph.by_name[m].op.keeps_quant]
        inputs = [i.name for i in graph.inputs if i.name in members]
        known = dict.fromkeys(fixed_quant(n.op, bits, self.power_of_two) for n in producers)
        if len(known) == 1 and not inputs:
            (quant,) = known
            if quant is not None:
                return quant
        samples = [self.samples[m] for m in members]
        lo, hi = min(s.lo for s in samples), max(s.hi for s in samples)
        if (
            bits == 8
            and not producers
            and all(is_bytes(self.samples[i].kept) for i in inputs)
            and lo >= 0
            and hi <= 255
        ):
            return Quant(8, 1.0, -128)
        return choose_quant(np.concatenate([s.kept for s in samples]), lo, hi, bits, self.power_of_two)

    def weights(self, node: Node, widths: Sequence[int]) -> dict[int, WeightCodes]:
        """The codes of a linear node's weights at each of `widths`: the prescribed ones where these fit."""
        missing = [b for b in widths if (node.name, b) not in self._codes]
        fixed_codes = self.prescribed(node) if missing else None
        if fixed_codes is not None:
            for b in [b for b in missing if np.all(fixed_codes.bits <= b)]:
                self._codes[node.name, b] = replace(fixed_codes, bits=np.full_like(fixed_codes.bits, b))
                missing.remove(b)
        if missing:
            found = quantise_weights(node.params["weight"], missing, self.moments.get(node.name), self.power_of_two)
            self._codes.update(((node.name, b), codes) for b, codes in found.items())
        return {b: self._codes[node.name, b] for b in widths}

    def prescribed(self, node: Node) -> WeightCodes | None:
        """The codes that a linear node's params prescribe: scales `weight_scale` [O] of a QDQ model (8 bits) or of
        training, which adds its widths `weight_bits` [O]. None where there are none, or where a target that only shifts
        cannot have these scales.
        """
        if "weight_scale" not in node.params:
            return None
        weight = np.asarray(node.params["weight"], np.float64)
        scale = np.asarray(node.params["weight_scale"], np.float64)
        if self.power_of_two and not is_power_of_two(scale):
            return None
        bits = np.asarray(node.params.get("weight_bits", np.full(len(weight), 8)), np.uint8)
        codes = np.floor(weight / scale.reshape(-1, *(1,) * (weight.ndim - 1)) + 0.5)
        lowest, highest = (np.array(ends) for ends in zip(*map(fixed.weight_range, bits.tolist()), strict=True))
        rows = codes.reshape(len(codes), -1)
        if rows.size and (np.any(rows.min(axis=1) < lowest) or np.any(rows.max(axis=1) > highest)):
            widths = " or ".join(map(str, sorted(set(bits.tolist()))))
            raise ModelError(f"layer '{node.name}': its prescribed weight scales do not give codes of {widths} bits")
        return WeightCodes(codes.astype(np.int8), scale, bits, prescribed=True)


def is_power_of_two(scale: NDArray[np.float64]) -> bool:
    """Whether a target that only shifts can have all of these scales."""
    return bool(np.all(np.frexp(scale)[0] == 0.5))


@one_thread()
def calibrate(
    graph: Graph, dataset: Dataset, target: Target, seed: int = 0, progress: Progress = silent
) -> Calibration:
    """Run the float graph once over at most CALIBRATION_SAMPLES samples, drawn by `seed`.

    On a target that only shifts, all scales become powers of two, and what a QDQ model prescribes is dropped.
    Raises DataError where there are too few samples, or where the network's own values are not finite on them.
    """
    if len(dataset) < MINIMUM_SAMPLES:
        raise DataError(f"calibration needs at least {MINIMUM_SAMPLES} samples, found {len(dataset)}")
    power_of_two = target.requantise == "shift"
    ties = tie(graph, keep_prescribed=not power_of_two)
    notes: tuple[str, ...] = ()
    if power_of_two and (
        any("weight_scale" in n.params and not is_power_of_two(n.params["weight_scale"]) for n in graph.nodes)
        or any(t.quant for t in graph.types.values())
    ):
        notes = (f"target '{target.name}' only shifts: the model's own scales were replaced by powers of two",)
    if len(dataset) > CALIBRATION_SAMPLES:
        picked = np.random.default_rng(seed).permutation(len(dataset))[:CALIBRATION_SAMPLES]
        dataset = dataset.take(np.sort(picked))
    samples, moments = _observe(ties.graph, dataset, seed, progress)
    return Calibration(ties, samples, moments, dataset, power_of_two, notes)


def _observe(
    graph: Graph, dataset: Dataset, seed: int, progress: Progress
) -> tuple[dict[str, ValueSample], dict[str, Moments]]:
    generator = torch.Generator().manual_seed(seed)
    batches = -(-len(dataset) // _BATCH)
    quota = -(-_KEPT // batches)
    kept: dict[str, list[torch.Tensor]] = {v: [] for v in graph.types}
    lows = dict.fromkeys(graph.types, float("inf"))
    highs = dict.fromkeys(graph.types, -float("inf"))
    sums = {n.name: MomentSum(n, batches) for n in linear_nodes(graph.nodes)}
    readers = {v: [n for n in graph.consumers[v] if is_linear(n)] for v in graph.types}

    def hook(name: str, value: torch.Tensor) -> torch.Tensor:
        lo, hi = float(value.min()), float(value.max())
        if not (np.isfinite(lo) and np.isfinite(hi)):
            raise DataError(f"value '{name}' of the float network is not finite on the calibration data")
        lows[name], highs[name] = min(lows[name], lo), max(highs[name], hi)
        flat = value.reshape(-1)
        pick = torch.randint(len(flat), (quota,), generator=generator) if len(flat) > quota else slice(None)
        kept[name].append(flat[pick].clone())
        for node in readers[name]:
            sums[node.name].add(value, generator)
        return value

    params = parameters(graph)
    with torch.inference_mode():
        for batch in range(batches):
            progress("calibrate", batch, batches)
            part = dataset.take(slice(batch * _BATCH, (batch + 1) * _BATCH))
            evaluate(graph, {k: torch.as_tensor(np.array(v, np.float32)) for k, v in part.inputs.items()}, params, hook)
    samples = {v: ValueSample(torch.cat(kept[v]).numpy(), lows[v], highs[v]) for v in graph.types}
    return samples, {name: total.finish() for name, total in sums.items()}
