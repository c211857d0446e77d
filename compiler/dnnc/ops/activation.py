"""The clamp that a producer applies to its own output: Relu, Relu6 and Clip fused into Conv, Dense, Add, Mul."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dnnc.ir.types import Quant

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Clamp:
    """Limits in real numbers; None means no limit."""

    lo: float | None = None
    hi: float | None = None

    def real(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.lo is None and self.hi is None else x.clamp(self.lo, self.hi)

    def codes(self, quant: Quant) -> np.ndarray:
        """[lowest, highest] code, int32."""
        lo = quant.lo if self.lo is None else max(quant.lo, quant.code(self.lo))
        hi = quant.hi if self.hi is None else min(quant.hi, quant.code(self.hi))
        return np.array([lo, max(lo, hi)], np.int32)

    def __str__(self) -> str:
        return f"[{self.lo}, {self.hi}]"


NO_CLAMP = Clamp()
