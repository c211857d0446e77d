"""Rows of the kernels for Armv7E-M and Armv8-M with the DSP extension."""

from __future__ import annotations

from dnnc.backends.c.table import Kernel

ARMV7EM: tuple[Kernel, ...] = ()
