"""The sparsest network that is accurate enough, of those on the way down and of some between two of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dnnc.ir.graph import Graph

_NEAR = 0.97  # the search ends where one that does not fit has this part of the parameters of one that does


@dataclass(frozen=True, eq=False)
class State:
    """Where pruning is: `graph` shall have `count` parameters. It may have more; then tuning begins with a cut."""

    graph: Graph
    count: int


def sparsest(states: Sequence[State], tune: Callable[[State], Graph], fits: Callable[[Graph], bool]) -> Graph | None:
    """The sparsest network found that fits when tuned; None where no state does.

    states: with ever fewer parameters; of the last one it is known that it does not fit. Mostly one that does is not
    far: one state back, then two, four, ...; from the first that fits towards the sparsest state, and then between two
    states, by cutting the denser one once more.
    """
    last = fails = len(states) - 1
    holds, found, step = 0, None, 1
    while found is None and fails > 0:
        holds = max(last - step, 0)
        tuned = tune(states[holds])
        if fits(tuned):
            found = tuned
        else:
            fails, step = holds, 2 * step
    while found is not None and fails - holds > 1:
        middle = (holds + fails) // 2
        tuned = tune(states[middle])
        if fits(tuned):
            found, holds = tuned, middle
        else:
            fails = middle
    if found is None:
        return None
    least, most = states[fails].count, states[holds].count
    while least < _NEAR * most:
        count = round(math.sqrt(least * most))
        tuned = tune(State(states[holds].graph, count))
        if fits(tuned):
            found, most = tuned, count
        else:
            least = count
    return found
