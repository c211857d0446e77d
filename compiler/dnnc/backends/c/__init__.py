"""The C back end: an integer graph to C99 files."""

from __future__ import annotations

from dnnc.backends.c.emit import emit
from dnnc.backends.c.lower import lower, simplification
from dnnc.backends.c.program import Program, Step

__all__ = ["Program", "Step", "emit", "lower", "simplification"]
