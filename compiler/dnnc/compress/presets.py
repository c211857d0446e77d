"""`--preset small|fast|balanced`: methods, fine-tuning and bits for who does not want to choose among them."""

from __future__ import annotations

from dataclasses import dataclass

from dnnc.cost.target import Target
from dnnc.errors import OptionError
from dnnc.options import nearest


@dataclass(frozen=True)
class Preset:
    """prune: compression methods in order; finetune: epochs after them; bits: the bit policy."""

    prune: tuple[str, ...]
    finetune: int
    bits: str


#: With labels accuracy can be measured and trained for: budgets are generous, and what they cost is learned back.
LABELLED = {
    "small": Preset(("hfp{params=0.3,macs=0.45}",), 20, "fisher{max_drop=0.5}"),
    "fast": Preset(("hfp{macs=0.35}",), 20, "int8"),
    "balanced": Preset(("hfp{params=0.6,macs=0.6}",), 20, "fisher{max_drop=0.5}"),
}
#: Without labels nothing is trained: what can be taken out in one shot, and bits by how far outputs move.
UNLABELLED = {
    "small": Preset(("squeeze{params=0.6}",), 0, "fisher"),
    "fast": Preset(("squeeze{macs=0.6}",), 0, "int8"),
    "balanced": Preset(("squeeze{params=0.8}",), 0, "fisher"),
}


def preset(name: str, target: Target, labelled: bool) -> Preset:
    """Raises OptionError for an unknown name, naming the known ones."""
    if name not in LABELLED:
        raise OptionError(f"unknown preset '{name}'{nearest(name, list(LABELLED))}; allowed: {', '.join(LABELLED)}")
    chosen = (LABELLED if labelled else UNLABELLED)[name]
    if chosen.bits != "int8" and not set(target.weight_bits) - {8}:
        return Preset(chosen.prune, chosen.finetune, "int8")
    return chosen
