"""Which channels to keep so that several budgets are met at once and exactly: most value within all of them.

Bundles of channels (one channel, or as many as the target's kernels compute at a time) go in the order of value by
weighted cost. The weights between the budgets are searched (the dual of a knapsack with several limits) until each is
used up to within a tolerance; what still fits then comes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from dnnc.compress.cost_model import CostModel
from dnnc.compress.surgery import Group

Reals = NDArray[np.float64]

#: Share of a budget that may be left unused.
TOLERANCE = 0.01
#: Of each removal, the share of the bundles that goes before costs are looked at again.
_SHARE = 0.02
#: Bundles that may turn out not to fit before the search for one that does ends.
_REFUSED = 12
#: Exchanges between groups at the end.
_EXCHANGES = 12


@dataclass(frozen=True, eq=False)
class Fit:
    """keep: bool by id. used: by resource, the share of its limit. met: whether no limit is exceeded."""

    keep: NDArray[np.bool_]
    used: Mapping[str, float]
    met: bool

    @property
    def tight(self) -> bool:
        """Whether every budget is met to within the tolerance."""
        return self.met and all(v >= 1 - TOLERANCE for v in self.used.values())


def fit_budget(
    values: Reals,
    model: CostModel,
    groups: tuple[Group, ...],
    limits: Mapping[str, float],
    tile: int = 1,
    trials: int = 24,
    polish: bool = True,
) -> Fit:
    """The channels to keep. values: what each is worth, >= 0, by id. limits: by resource of the model, what may be
    left. tile: channels of a group go in steps that leave multiples of it, unless budgets cannot be used up like that;
    one step of each group stays. trials: weights between the budgets that are tried, for each size of steps. polish:
    whether to exchange channels between groups where budgets are not used up at last.
    """
    best: Fit | None = None
    single = _bundles(values, groups, 1)
    for bundles in (_bundles(values, groups, tile), single) if tile > 1 else (single,):
        weights = dict.fromkeys(limits, 1.0)
        for trial in range(trials if len(limits) > 1 else 1):
            found = _greedy(values, model, bundles, limits, weights)
            if best is None or _rank(found, values) > _rank(best, values):
                best = found
            if best.tight or not found.met:
                break
            # a budget that is not used up counts less
            weights = {k: v * float(np.exp(8.0 / (1 + trial / 4) * (found.used[k] - 1))) for k, v in weights.items()}
        assert best is not None
        if best.met and not best.tight and bundles is not single:
            # steps are too large for what is left of a budget: a few groups get what still fits
            gone = [(ids, step) for ids, step in single if not best.keep[ids].any()]
            keep = best.keep.copy()
            best = Fit(keep, _fill(values, model, keep, gone, limits), True)
        if best.tight:
            break
    assert best is not None
    return best if best.tight or not best.met or not polish else _polish(best, values, model, groups, limits)


def _polish(fit: Fit, values: Reals, model: CostModel, groups: tuple[Group, ...], limits: Mapping[str, float]) -> Fit:
    """The best that exchanges of a few channels between two groups lead to: small networks have few combinations."""
    best = fit
    for _ in range(_EXCHANGES):
        found = best
        for take, give in product(groups, groups):
            for more, less in ((1, 1), (2, 1), (1, 2), (3, 1), (1, 3)) if take is not give else ():
                kept = take.ids[best.keep[take.ids]]
                gone = give.ids[~best.keep[give.ids]]
                if len(kept) <= less or len(gone) < more:
                    continue
                keep = best.keep.copy()
                keep[kept[np.argsort(values[kept], kind="stable")[:less]]] = False
                keep[gone[np.argsort(-values[gone], kind="stable")[:more]]] = True
                used = share_used(model, keep, limits)
                tried = Fit(keep, used, max(used.values()) <= 1)
                if _rank(tried, values) > _rank(found, values):
                    found = tried
        if found is best:
            break
        best = found
        if best.tight:
            break
    return best


def _rank(fit: Fit, values: Reals) -> tuple[bool, float, float]:
    slack = sum(max(0.0, 1 - TOLERANCE - v) for v in fit.used.values())
    return fit.met, -round(slack, 4), float(values[fit.keep].sum())


def _bundles(values: Reals, groups: tuple[Group, ...], tile: int) -> list[tuple[NDArray[np.int64], int]]:
    """(channels, which step of its group) of all that may go; a group's step 0 is the least valuable one."""
    found = []
    for group in groups:
        order = group.ids[np.argsort(values[group.ids], kind="stable")]
        first = len(order) % tile if len(order) > tile else 0
        cuts = [0, *([first] if first else []), *range(first + tile, len(order), tile)]
        found += [(order[a:b], step) for step, (a, b) in enumerate(pairwise(cuts))]
    return found


def _greedy(
    values: Reals,
    model: CostModel,
    bundles: list[tuple[NDArray[np.int64], int]],
    limits: Mapping[str, float],
    weights: Mapping[str, float],
) -> Fit:
    keep = np.ones(len(values), np.bool_)
    left = list(range(len(bundles)))
    out: list[int] = []
    worth = np.array([values[ids].sum() for ids, _ in bundles])
    while True:
        used, slopes = share_used(model, keep, limits), _slopes(model, keep, limits)
        over = {k: v for k, v in used.items() if v > 1}
        if not over or not left:
            break
        price = sum((weights[k] * slopes[k] for k in over), np.zeros(len(values)))
        ratio = np.array([worth[i] / max(price[bundles[i][0]].sum(), 1e-30) for i in left])
        # a bundle of a group goes after those below it: equal ratios in order of steps
        order = np.lexsort((np.array([bundles[i][1] for i in left]), ratio))
        some = max(1, int(_SHARE * len(left))) if max(over.values()) > 1.03 else 1
        for i in [left[o] for o in order[:some]]:
            keep[bundles[i][0]] = False
            out.append(i)
        left = [i for i in left if i not in set(out[-some:])]
    if max(used.values()) <= 1:
        used = _fill(values, model, keep, [bundles[i] for i in out], limits)
    return Fit(keep, used, max(used.values()) <= 1)


def _fill(
    values: Reals,
    model: CostModel,
    keep: NDArray[np.bool_],
    gone: list[tuple[NDArray[np.int64], int]],
    limits: Mapping[str, float],
) -> dict[str, float]:
    """Puts back into `keep` what fits of `gone`, the most valuable first; the share of each limit that is then used."""
    used, refused = share_used(model, keep, limits), 0
    for ids, _ in sorted(gone, key=lambda bundle: (-values[bundle[0]].sum(), -bundle[1])):
        keep[ids] = True
        tried = share_used(model, keep, limits)
        if max(tried.values()) <= 1:
            used = tried
            continue
        keep[ids] = False
        refused += 1
        if refused == _REFUSED:
            break
    return used


def share_used(model: CostModel, keep: NDArray[np.bool_], limits: Mapping[str, float]) -> dict[str, float]:
    """The share of each limit that the channels `keep` take."""
    cost = model.exact(keep)
    return {k: cost[k] / limit for k, limit in limits.items()}


def _slopes(model: CostModel, keep: NDArray[np.bool_], limits: Mapping[str, float]) -> dict[str, Reals]:
    """What one more channel would add to each share, by id."""
    slopes = model.slopes(keep)
    return {k: slopes[k] / limit for k, limit in limits.items()}
