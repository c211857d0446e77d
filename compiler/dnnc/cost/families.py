"""Every family of hardware: the figures that a target file gives of it, and the model that they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from dnnc.cost.accelerator import Accelerator
from dnnc.cost.assemble import next_width
from dnnc.cost.bit_serial import SERIAL, BitSerial, BitSerialModel
from dnnc.cost.bitfusion import BitFusion, BitFusionModel, products_per_cycle
from dnnc.cost.estimate import CostModel
from dnnc.cost.ethos_u55 import MACS, EthosU55, EthosU55Model
from dnnc.cost.roofline import Roofline, RooflineModel
from dnnc.cost.systolic import DATAFLOWS, Systolic, SystolicModel
from dnnc.cost.target import Target
from dnnc.errors import TargetError


@dataclass(frozen=True)
class Family:
    """array: the dataclass of the target file's table that has the family's name; peak: MACs a cycle that such an
    array reaches at most, at 8 bits; allowed: values of its fields.
    """

    array: type
    model: Callable[[Accelerator], CostModel]
    peak: Callable[[Any], float]
    allowed: Mapping[str, tuple[str | int, ...]] = field(default_factory=dict)


def _bit_serial_peak(array: BitSerial) -> float:
    return array.rows * array.columns * array.depth / (64 if array.serial == "both" else 8)


def _bitfusion_peak(array: BitFusion) -> float:
    return float(array.rows * array.columns * products_per_cycle(array, 8, 8))


def _roofline_peak(array: Roofline) -> float:
    return array.macs_per_cycle[next_width(8, tuple(array.macs_per_cycle))]


#: Adding a family of accelerators: its file, its row here, a target and its anchors in tests/test_cost_*.py.
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "systolic": Family(Systolic, SystolicModel, lambda a: a.rows * a.columns, {"dataflow": DATAFLOWS}),
        "bit-serial": Family(BitSerial, BitSerialModel, _bit_serial_peak, {"serial": SERIAL}),
        "bitfusion": Family(BitFusion, BitFusionModel, _bitfusion_peak),
        "ethos-u55": Family(EthosU55, EthosU55Model, lambda a: a.macs, {"macs": MACS}),
        "roofline": Family(Roofline, RooflineModel, _roofline_peak),
    }
)


def has_model(hardware: Target | Accelerator) -> bool:
    """Whether costs of it can be foreseen from a network's layers."""
    return isinstance(hardware, Accelerator)


def model_of(hardware: Target | Accelerator) -> CostModel:
    """The cost model of some hardware. Raises TargetError where its costs are measured, not modelled."""
    if isinstance(hardware, Accelerator):
        return FAMILIES[hardware.family].model(hardware)
    raise TargetError(
        f"what a network costs there is measured: run `dnnc compile --target {hardware.name}`, and "
        f"`dnnc estimate` on the folder that it writes"
    )


def peak_macs_per_cycle(hardware: Target | Accelerator) -> float | None:
    """MACs a cycle at most, at 8 bits; None where no one says."""
    return FAMILIES[hardware.family].peak(hardware.array) if isinstance(hardware, Accelerator) else None
