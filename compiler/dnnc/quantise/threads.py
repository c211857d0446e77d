"""One thread for everything that decides: sums then come out the same whatever the number of cores.

It is hardly slower, for most tensors here are small; and where other programs share the cores, several threads that
wait for each other at every operation take many times longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes on one thread inside, and as before outside. Also a decorator: `@one_thread()`."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
