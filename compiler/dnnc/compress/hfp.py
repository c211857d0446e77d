"""Holistic filter pruning: channels go until global budgets are met, all of them at once and to within 1 %.

Enderich, Timm, Burgard, "Holistic Filter Pruning for Efficient Deep Neural Networks", WACV 2021 (arXiv 2009.08169):
parameters and multiplications as functions of learned gates (`channel_gates`, `cost_model`). Here a budget may also be
flash or modelled cycles of the target, from a model that measurements calibrate on the way; one gate serves a channel
through all layers that share it; and an exact last step (`fit_budget`) ends the search, whatever the gradient left.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc.compress.budget import Budget, accuracy, weight_count
from dnnc.compress.channel_gates import Gates, Rule
from dnnc.compress.cost_model import CostModel, cost_model
from dnnc.compress.fit_budget import Fit, fit_budget, share_used
from dnnc.compress.method import Compressed, Method, Setting, Usage
from dnnc.compress.recipe import Hooks, Recipe
from dnnc.compress.surgery import ChannelMap, channel_map, remove
from dnnc.compress.train import train
from dnnc.errors import OptionError
from dnnc.ir.graph import Graph

#: Channels that the kernels compute at a time (targets/README.md): fewer take as long.
_TILE = 4
#: Measurements that bring the exact last step into terms with the target.
_ROUNDS = 8
#: What limits are multiplied by where measurements exceed them after all.
_MARGIN = 0.985
#: Learning rate while gates close.
_GATE_RATE = 0.01
#: With max_drop alone: parameters and multiplications left, by trial, as a share of the trial's before.
_SHRINK, _TRIALS = 0.7, 5


@dataclass(frozen=True)
class Hfp(Method):
    """params, macs: fractions kept. flash_bytes, cycles: on the target at 8 bits. max_drop: points of accuracy on
    held-out samples. epochs: of training in which gates close; finetune: after that, 0 for none. distil: weight of the
    original network's answers. rule: what closes gates, see `dnnc.compress.channel_gates`.
    """

    name: ClassVar[str] = "hfp"
    params: float | None = None
    macs: float | None = None
    flash_bytes: int | None = None
    cycles: int | None = None
    max_drop: float | None = None
    epochs: int = 4
    finetune: int = 8
    distil: float = 0.5
    rule: Rule = "taylor"

    def __post_init__(self) -> None:
        self._budget.check(self.name)
        if self.epochs < 1:
            raise OptionError(f"hfp: option 'epochs' expects a whole number >= 1, found {self.epochs}")
        if self.finetune < 0:
            raise OptionError(f"hfp: option 'finetune' expects a whole number >= 0, found {self.finetune}")
        if not 0 <= self.distil <= 1:
            raise OptionError(f"hfp: option 'distil' expects a number from 0 to 1, found {self.distil:g}")

    @property
    def _budget(self) -> Budget:
        return Budget(self.params, self.macs, self.flash_bytes, self.cycles, self.max_drop)

    def apply(self, graph: Graph, setting: Setting) -> Compressed:
        budget = self._budget.or_default(setting)
        if budget.measured and setting.measure is None:
            raise OptionError(
                f"flash_bytes and cycles are measured on an emulated core, and target '{setting.target.name}' has none"
            )
        if not channel_map(graph).groups:
            missed = budget.shortfall(graph, graph, setting)
            return Compressed(graph, ("hfp: no channel of this network can be taken out",), missed)
        if not budget.resources:
            return self._by_accuracy(graph, setting, budget)
        found = self._within(graph, graph, setting, budget)
        if budget.max_drop is not None and found.missed is None:
            held_out = setting.labelled("hfp: max_drop")
            drop = accuracy(graph, held_out) - accuracy(found.graph, held_out)
            if drop > budget.max_drop + 1e-9:
                missed = f"max_drop={budget.max_drop:g}: accuracy drops by {drop:.2f} points"
                return Compressed(found.graph, found.notes, missed)
        return found

    def _by_accuracy(self, graph: Graph, setting: Setting, budget: Budget) -> Compressed:
        """The smallest of a row of ever smaller networks that keeps to max_drop."""
        held_out = setting.labelled("hfp: max_drop")
        assert budget.max_drop is not None
        reference = accuracy(graph, held_out)
        best = Compressed(graph, ("hfp: nothing could be taken out within max_drop",))
        for trial in range(1, _TRIALS + 1):
            setting.progress("searching the budget", trial - 1, _TRIALS)
            share = _SHRINK**trial
            found = self._within(best.graph, graph, setting, Budget(params=share, macs=share))
            drop = reference - accuracy(found.graph, held_out)
            if drop > budget.max_drop + 1e-9:
                break
            best = Compressed(found.graph, (*found.notes, f"hfp: {drop:.2f} points lost on held-out samples"))
            if found.missed is not None:
                break
        return best

    def _within(self, graph: Graph, original: Graph, setting: Setting, budget: Budget) -> Compressed:
        """`graph` with channels taken out until it keeps to the budget, which is in terms of `original`."""
        search = _search(graph, original, setting, budget)
        every = np.ones(search.model.channels, np.bool_)
        if all(share <= 1 for share in search.used(every).values()):
            return Compressed(graph, ("hfp: the budget is met without taking anything out",))
        distil = self.distil if setting.train.labelled else 1.0
        recipe = Recipe(epochs=self.epochs, rate=_GATE_RATE, schedule="constant", distil=distil)
        calibrate = search.calibrate if search.measured else None
        gates = Gates(graph, search.limits, self.rule, self.epochs, search.exact, search.model, calibrate, _TILE)
        trained = _trained(graph, original, recipe, setting, gates)
        keep = gates.open.numpy() > 0
        pruned = remove(trained, np.flatnonzero(~keep).tolist())
        if self.finetune:
            recipe = Recipe(epochs=self.finetune, distil=distil)
            pruned = _trained(pruned, original, recipe, setting)
        kept = ", ".join(f"{g.name} {int(keep[g.ids].sum())} of {len(g.ids)}" for g in search.cmap.groups)
        shares = ", ".join(f"{k} {100 * v:.1f} %" for k, v in search.taken(keep).items())
        notes = (f"hfp: channels left: {kept}", f"hfp: taken of each limit: {shares}")
        return Compressed(pruned, notes, budget.shortfall(pruned, original, setting))


@dataclass(frozen=True, eq=False)
class _Search:
    """What decides which channels of `graph` stay. limits: absolute, by resource. seen: what was measured, by channels
    kept.
    """

    graph: Graph
    setting: Setting
    cmap: ChannelMap
    model: CostModel
    limits: dict[str, float]
    measured: bool
    seen: dict[bytes, Usage] = field(default_factory=dict)

    def used(self, keep: NDArray[np.bool_]) -> dict[str, float]:
        """The share of each limit that those channels take, by the model."""
        return share_used(self.model, keep, self.limits)

    def usage(self, keep: NDArray[np.bool_]) -> Usage:
        assert self.setting.measure is not None
        key = keep.tobytes()
        if key not in self.seen:
            self.seen[key] = self.setting.measure(remove(self.graph, np.flatnonzero(~keep).tolist()))
        return self.seen[key]

    def calibrate(self, model: CostModel, gates: torch.Tensor) -> CostModel:
        """The model, right at the network as it is."""
        return model.calibrated(gates, self.usage(gates.numpy() > 0))

    def taken(self, keep: NDArray[np.bool_]) -> dict[str, float]:
        """The share of each limit that those channels take: measured, where a budget is."""
        cost = self.used(keep)
        if not self.measured:
            return cost
        usage = self.usage(keep)
        return {k: getattr(usage, k) / v if hasattr(usage, k) else cost[k] for k, v in self.limits.items()}

    def exact(self, values: NDArray[np.float64], model: CostModel) -> NDArray[np.bool_]:
        """The channels to keep, by measurements where budgets are in terms of the target: the best of some rounds."""
        if not self.measured:
            return fit_budget(values, model, self.cmap.groups, self.limits, _TILE).keep
        best: tuple[tuple[bool, float], Fit] | None = None
        margin = 1.0
        for round in range(_ROUNDS):
            limits = {k: margin * v for k, v in self.limits.items()}
            keep = fit_budget(values, model, self.cmap.groups, limits, _TILE).keep
            if best is not None and best[1].met and keep.tobytes() in self.seen:
                break  # what was learnt changes nothing any more
            self.setting.progress("measuring", round, _ROUNDS)
            taken = self.taken(keep)
            found = Fit(keep, taken, max(taken.values()) <= 1)
            rank = (found.met, sum(taken.values()) if found.met else -max(taken.values()))
            if best is not None and best[1].met and rank <= best[0]:
                break
            best = (rank, found) if best is None or rank > best[0] else best
            if found.tight:
                break
            model = model.calibrated(torch.from_numpy(keep.astype(np.float64)), self.usage(keep))
            margin *= 1.0 if found.met else _MARGIN
        assert best is not None
        return best[1].keep


def _search(graph: Graph, original: Graph, setting: Setting, budget: Budget) -> _Search:
    cmap = channel_map(graph)
    model = cost_model(graph, cmap)
    limits = {
        "params": budget.params and budget.params * weight_count(original),
        "macs": budget.macs and budget.macs * original.macs,
        "flash_bytes": budget.flash_bytes,
        "cycles": budget.cycles,
    }
    if budget.measured and setting.measure is not None:
        model = model.calibrated(torch.ones(model.channels), setting.measure(graph))
    asked = {k: float(v) for k, v in limits.items() if v is not None}
    return _Search(graph, setting, cmap, model, asked, budget.measured)


def _trained(graph: Graph, teacher: Graph, recipe: Recipe, setting: Setting, *hooks: Hooks) -> Graph:
    return train(
        graph,
        setting.train,
        recipe,
        teacher=teacher,
        hooks=hooks,
        seed=setting.seed,
        device=setting.device,
        progress=setting.progress,
        checkpoint=setting.checkpoint,
    )
