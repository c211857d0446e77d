"""dnnc: a hardware-aware deployment compiler for trained neural networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Artefact", "compile", "compress_model"]

if TYPE_CHECKING:
    from dnnc.artefact import Artefact
    from dnnc.driver import compile
    from dnnc.driver import compress as compress_model


def __getattr__(name: str) -> Any:
    """Heavy packages are imported when first used, so that `dnnc --help` is quick."""
    if name == "compile":
        from dnnc.driver import compile

        return compile
    if name == "compress_model":  # `dnnc.compress` is the package of its methods
        from dnnc.driver import compress

        return compress
    if name == "Artefact":
        from dnnc.artefact import Artefact

        return Artefact
    raise AttributeError(f"module 'dnnc' has no attribute '{name}'")
