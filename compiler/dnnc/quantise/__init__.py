"""From a float graph to an integer one: data, calibration, bit allocation, quantisation."""

from __future__ import annotations

from dnnc.quantise.allocation import Allocation
from dnnc.quantise.calibrate import Calibration, calibrate
from dnnc.quantise.data import load_data, synthesise
from dnnc.quantise.dataset import Dataset
from dnnc.quantise.integer import quantise

__all__ = ["Allocation", "Calibration", "Dataset", "calibrate", "load_data", "quantise", "synthesise"]
