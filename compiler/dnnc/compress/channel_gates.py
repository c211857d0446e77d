"""Gates on channels that training closes: by the gradient of a global budget, or by what each channel is worth.

One gate serves a channel through all layers that share it (residual sums); it multiplies the scale and shift of the
normalisation that training puts back, or weights and biases where there is none. Two rules close gates:

"gates" (Enderich et al., "Holistic Filter Pruning", WACV 2021): the loss is L + lambda * sum over budgets b of
relu((B - B*) / B_0)^2, where B counts gates above a threshold and passes its gradient straight through to them. So all
gates of a layer are pushed by what a channel of it costs, and fall where the loss holds them least. lambda is steered,
so that B keeps to a schedule.

"taylor" (Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, the squared gradient of a
gate): along the same schedule, the channels of least value for their cost are closed for good.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dnnc.compress.cost_model import CostModel, cost_model
from dnnc.compress.fit_budget import fit_budget, share_used
from dnnc.compress.recipe import Hooks, Params
from dnnc.compress.surgery import ChannelMap, channel_map
from dnnc.ir.graph import Graph

Finish = Callable[[NDArray[np.float64], CostModel], NDArray[np.bool_]]
Rule = Literal["gates", "taylor"]

#: A gate below is closed: 0.
THRESHOLD = 0.05
#: Of the training, the part in which values are learnt before anything closes, and that by which budgets are to be met;
#: the rest lets the network recover.
_WARM_UP, _CLOSED_BY = 0.1, 0.75
#: Closings between these two ("taylor"), and weights between budgets tried at each: the exact last step takes its time.
_CLOSINGS, _TRIALS = 40, 4
#: What a closed gate's value counts, against that which it had when it closed.
_CLOSED = 0.01
#: Memory of averages over steps; momentum of gates; how far a gate gets over the whole training by gradients that all
#: have the usual size and the same sign ("gates").
_MEMORY, _MOMENTUM, _REACH = 0.98, 0.9, 6.0


class Gates(Hooks):
    """limits: by resource, what may be left at the end. epochs: of the training. finish(values, model) says after the
    last of them which channels stay. calibrate(model, gates) is called after every one, to set the model right at the
    network as it is; None where nothing is measured. tile: see `fit_budget`.
    """

    def __init__(
        self,
        graph: Graph,
        limits: Mapping[str, float],
        rule: Rule,
        epochs: int,
        finish: Finish | None = None,
        model: CostModel | None = None,
        calibrate: Callable[[CostModel, torch.Tensor], CostModel] | None = None,
        tile: int = 1,
    ) -> None:
        self.cmap: ChannelMap = channel_map(graph)
        self.model = cost_model(graph, self.cmap) if model is None else model
        self.limits, self.rule, self.tile = dict(limits), rule, tile
        self._epochs, self._finish, self._calibrate = epochs, finish, calibrate
        count = self.model.channels
        self.gates = torch.ones(count, requires_grad=True)
        self.open = torch.ones(count)
        self.square = torch.zeros(count)
        self._speed = torch.zeros(count)
        self._last, self._closings, self._push = 0.0, 0, 1.0
        self._start = {k: float(v) for k, v in self.model.cost(torch.ones(count, dtype=torch.float64)).items()}
        self._rows = {
            node.name: torch.from_numpy(np.where(self.cmap.of[node.name] < 0, count, self.cmap.of[node.name]))
            for node in graph.nodes
            if "weight" in node.params and bool(np.any(self.cmap.of[node.name] >= 0))
        }

    def values(self) -> NDArray[np.float64]:
        """What each channel is worth: the mean squared effect of its gate on the loss, next to 0 of closed ones."""
        effect = self.gates.detach().clamp_min(THRESHOLD) * torch.where(self.open > 0, 1.0, _CLOSED)
        return np.asarray((self.square * effect.square()).double().numpy(), np.float64)

    def params(self, params: Params, progress: float) -> Params:
        device = next(iter(next(iter(params.values())).values())).device
        hard = torch.cat([self.open, torch.ones(1)]).to(device)
        soft = torch.cat([self.gates * self.open, torch.ones(1)]).to(device)
        found = dict(params)
        for name, rows in self._rows.items():
            # a layer that only follows its input is gated there already; here its constants are taken away
            factor = (hard if name in self.cmap.followers else soft)[rows.to(device)]
            node = params[name]
            if "gamma" in node:
                found[name] = {**node, "gamma": node["gamma"] * factor, "beta": node["beta"] * factor}
            else:
                weight = node["weight"]
                found[name] = {
                    **node,
                    "weight": weight * factor.reshape(-1, *(1,) * (weight.dim() - 1)),
                    "bias": node["bias"] * factor,
                }
        return found

    def after_step(self, params: Params, progress: float) -> None:
        gradient = self.gates.grad
        self.gates.grad = None
        if gradient is None:
            return
        part, self._last = max(progress - self._last, 0.0), progress
        share = (1 - _MEMORY) * self.open
        self.square.mul_(1 - share).add_(share * gradient.square())
        if progress < _WARM_UP:
            return
        if self.rule == "gates":
            self._descend(gradient, progress, part)
        elif progress >= _WARM_UP + (_CLOSED_BY - _WARM_UP) * min(self._closings + 1, _CLOSINGS) / _CLOSINGS:
            self._closings = int((progress - _WARM_UP) / (_CLOSED_BY - _WARM_UP) * _CLOSINGS)
            self._close(self._limits(progress))

    def after_epoch(self, params: Params, epoch: int) -> bool:
        if self._calibrate is not None:
            self.model = self._calibrate(self.model, self.open)
        if epoch == self._epochs - 1 and self._finish is not None:
            self.open = torch.from_numpy(self._finish(self.values(), self.model)).float()
            self.gates.data.clamp_(min=THRESHOLD)
        return False

    def state(self) -> dict[str, Any]:
        return {
            "gates": self.gates.detach().clone(),
            "open": self.open.clone(),
            "square": self.square.clone(),
            "speed": self._speed.clone(),
            "last": self._last,
            "closings": self._closings,
            "push": self._push,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.gates = state["gates"].clone().requires_grad_(True)
        self.open, self.square, self._speed = (state[k].clone() for k in ("open", "square", "speed"))
        self._last, self._closings, self._push = float(state["last"]), int(state["closings"]), float(state["push"])

    def _limits(self, progress: float) -> dict[str, float]:
        """What may be left at this point of the training: from all to the limits, by equal factors."""
        done = min(1.0, (progress - _WARM_UP) / (_CLOSED_BY - _WARM_UP))
        return {k: self._start[k] * (v / self._start[k]) ** done for k, v in self.limits.items()}

    def _close(self, limits: Mapping[str, float]) -> None:
        """Closes for good what is worth least for its cost, until the limits are kept to."""
        fit = fit_budget(self.values(), self.model, self.cmap.groups, limits, self.tile, _TRIALS, polish=False)
        self.open = torch.minimum(self.open, torch.from_numpy(fit.keep).float())

    def _descend(self, gradient: torch.Tensor, progress: float, part: float) -> None:
        """One step of the gates along the gradients of the loss, as autograd gave it, and of the budgets. part: of the
        whole training, what the step is.
        """
        leaf = self.open.clone().requires_grad_(True)
        cost = self.model.cost(leaf)
        limits = self._limits(progress)
        excess = {k: (cost[k] - limit) / self._start[k] for k, limit in limits.items()}
        loss = torch.stack([torch.relu(e).square() for e in excess.values()]).sum()
        worst = max(float(e.detach()) for e in excess.values())
        total = gradient / (self.square.mean().sqrt() + 1e-12)
        if worst > 0:
            (budget,) = torch.autograd.grad(loss, leaf)
            self._push = min(self._push * 1.02, 1e3)
            total = total + self._push * budget / (budget.abs().mean() + 1e-12)
        else:
            self._push = max(self._push / 1.02, 1e-2)
        with torch.no_grad():
            self._speed.mul_(_MOMENTUM).add_(total)
            self.gates.sub_(_REACH * part * (1 - _MOMENTUM) * self._speed).clamp_(0, 2)
        self._fall(limits)

    def _fall(self, limits: Mapping[str, float]) -> None:
        """Closes gates below the threshold, the lowest first, as long as a limit is exceeded; one of a group stays."""
        gates = self.gates.detach().numpy()
        for i in np.argsort(gates, kind="stable"):
            if gates[i] > THRESHOLD or all(
                v <= 1 for v in share_used(self.model, self.open.numpy() > 0, limits).values()
            ):
                return
            (ids,) = (g.ids for g in self.cmap.groups if i in g.ids)
            if self.open[torch.from_numpy(ids)].sum() > 1:
                self.open[i] = 0
