"""The TVM back end: an integer graph to a TVM module, bit for bit what the simulator computes.

Its modules need the package apache-tvm (pip install dnnc[tvm]); importing this one asks for nothing.
"""

from __future__ import annotations

from importlib.util import find_spec

from dnnc.errors import ToolchainError


def missing() -> str | None:
    """Why TVM cannot be used here; None where it can."""
    if find_spec("tvm") is None:
        return "the Python package 'apache-tvm' is not installed: pip install 'dnnc[tvm]'"
    return None


def require() -> None:
    """Raise ToolchainError where TVM is not installed."""
    reason = missing()
    if reason is not None:
        raise ToolchainError(reason)
